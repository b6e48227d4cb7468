//! Writes the id maps of a new user namespace; user_namespaces(7), newuidmap(1).

use std::process::Command;

use rustix::io::Errno;

use crate::error::{Context, Error, Result};
use crate::plan::namespaces::{IdMap, IdMaps};
use crate::procfs::Proc;

/// Maps users and groups of the user namespace that `pid` is in.
///
/// # Errors
/// The file or the helper program that refused.
pub(crate) fn write(pid: i32, maps: &IdMaps, proc: &Proc) -> Result<()> {
    let root = rustix::process::geteuid().is_root();
    if !root && !is_own(&maps.gid, rustix::process::getegid().as_raw()) {
        by_helper("newgidmap", pid, &maps.gid)?;
    } else {
        if !root {
            // The kernel's condition for a user who maps a group without privilege.
            proc.write_pid(pid, "setgroups", "deny")?;
        }
        proc.write_pid(pid, "gid_map", &text(&maps.gid)).map_err(explain)?;
    }
    if !root && !is_own(&maps.uid, rustix::process::geteuid().as_raw()) {
        by_helper("newuidmap", pid, &maps.uid)
    } else {
        proc.write_pid(pid, "uid_map", &text(&maps.uid)).map_err(explain)
    }
}

/// One id, the caller's own: the map that needs no privilege.
fn is_own(map: &[IdMap], id: u32) -> bool {
    matches!(map, [one] if one.size == 1 && one.host == id)
}

fn text(map: &[IdMap]) -> String {
    map.iter().map(|m| format!("{} {} {}\n", m.container, m.host, m.size)).collect()
}

fn explain(error: Error) -> Error {
    match error.errno() {
        Some(Errno::PERM) => error.advise("the host ids must be mapped in the runtime's own user namespace"),
        Some(Errno::INVAL) => error.advise("the mappings overlap, or have too many lines"),
        _ => error,
    }
}

fn by_helper(program: &str, pid: i32, map: &[IdMap]) -> Result<()> {
    let mut command = Command::new(program);
    command.arg(pid.to_string());
    for m in map {
        command.args([m.container, m.host, m.size].map(|n| n.to_string()));
    }
    let output = command.output().context(|| format!("run `{program}`"));
    let output = output.map_err(|e| e.advise("an ordinary user's mappings need the uidmap package"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().next().unwrap_or("no reason given").to_owned();
    Err(Error::system(said).context(format!("`{program}`")).advise("see /etc/subuid and /etc/subgid"))
}
