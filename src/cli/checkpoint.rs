//! `checkpoint` and `restore`: their options, which engines ask for, and a clear refusal.

use std::path::PathBuf;

use clap::Args;

use crate::error::{Error, Kind, Result};

/// What both are told of the files and of what CRIU is to cope with.
#[derive(Args, Debug)]
struct Shared {
    /// The directory of the image files
    #[arg(long, value_name = "DIR")]
    image_path: Option<PathBuf>,
    /// The directory of work files and logs
    #[arg(long, value_name = "DIR")]
    work_path: Option<PathBuf>,
    /// Allow open TCP connections
    #[arg(long)]
    tcp_established: bool,
    /// Leave out TCP connections that are not established yet
    #[arg(long)]
    tcp_skip_in_flight: bool,
    /// Allow links to files that are deleted
    #[arg(long)]
    link_remap: bool,
    /// Allow Unix sockets to the outside
    #[arg(long)]
    ext_unix_sk: bool,
    /// Allow a process with the caller's terminal
    #[arg(long)]
    shell_job: bool,
    /// Allow file locks
    #[arg(long)]
    file_locks: bool,
    /// Control groups: soft, full, strict or ignore
    #[arg(long, value_name = "MODE", value_parser = ["soft", "full", "strict", "ignore"])]
    manage_cgroups_mode: Option<String>,
    /// Make a namespace and leave it empty
    #[arg(long, value_name = "NAMESPACE")]
    empty_ns: Vec<String>,
    /// Keep one copy of equal memory pages
    #[arg(long)]
    auto_dedup: bool,
    /// Move memory pages when they are asked for, by userfaultfd
    #[arg(long)]
    lazy_pages: bool,
    /// How the network is locked: iptables, nftables or skip
    #[arg(long, value_name = "METHOD")]
    network_lock: Option<String>,
    /// The container
    id: String,
}

#[derive(Args, Debug)]
pub(super) struct Checkpoint {
    #[command(flatten)]
    shared: Shared,
    /// The image of an earlier --pre-dump, relative to --image-path
    #[arg(long, value_name = "DIR")]
    parent_path: Option<PathBuf>,
    /// Leave the container running (may be given more than once)
    #[arg(long, short = 'R', action = clap::ArgAction::Count)]
    leave_running: u8,
    /// Save memory alone and leave the container running
    #[arg(long, short = 'P')]
    pre_dump: bool,
    /// Send memory pages to this ADDRESS:PORT
    #[arg(long, value_name = "ADDRESS:PORT")]
    page_server: Option<String>,
    /// Write a zero byte to this fd once --lazy-pages is ready
    #[arg(long, value_name = "FD", allow_negative_numbers = true)]
    status_fd: Option<i32>,
}

impl Checkpoint {
    pub(super) fn run(&self) -> Result<()> {
        Err(unsupported("checkpoint", &self.shared.id))
    }
}

#[derive(Args, Debug)]
pub(super) struct Restore {
    #[command(flatten)]
    shared: Shared,
    /// The bundle: a directory with config.json
    #[arg(short, long, default_value = ".", value_name = "DIR")]
    bundle: PathBuf,
    /// Write the process ID here
    #[arg(long, value_name = "FILE")]
    pid_file: Option<PathBuf>,
    /// Send the terminal to this socket
    #[arg(long, value_name = "SOCKET")]
    console_socket: Option<PathBuf>,
    /// Return once the container runs
    #[arg(short, long)]
    detach: bool,
    /// Move the root over `/` instead of pivot_root
    #[arg(long)]
    no_pivot: bool,
    /// Do not adopt the container's orphans
    #[arg(long)]
    no_subreaper: bool,
    /// Close TCP connections
    #[arg(long)]
    tcp_close: bool,
    /// The processes' security label, as selinux:LABEL or apparmor:PROFILE
    #[arg(long, value_name = "LSM:LABEL")]
    lsm_profile: Option<String>,
    /// The SELinux label of mounts
    #[arg(long, value_name = "LABEL")]
    lsm_mount_context: Option<String>,
    /// Pass this many fds, from 3 on
    #[arg(long, value_name = "N", default_value_t = 0)]
    preserve_fds: u32,
}

impl Restore {
    pub(super) fn run(&self) -> Result<()> {
        Err(unsupported("restore", &self.shared.id))
    }
}

fn unsupported(what: &str, id: &str) -> Error {
    let message = format!("cannot {what} container `{id}`: this runtime does not support CRIU");
    Error::new(Kind::Usage, message).advise("crun and runc do")
}
