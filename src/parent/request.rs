//! What is asked of `create` and `run`, and the plan that comes of it.

use std::path::{Path, PathBuf};

use oci_spec::runtime::Spec;
use rustix::net::SocketAddrUnix;

use super::foreground::Signals;
use super::notify;
use super::trace::TraceFile;
use crate::cgroup::Tolerance;
use crate::error::{Context, Error, Kind, Result};
use crate::lint::{self, Finding, Mended, Severity};
use crate::plan::findings::Findings;
use crate::plan::host::Host;
use crate::plan::id::ContainerId;
use crate::plan::load::{self, UnknownCapability};
use crate::plan::process::Extras;
use crate::plan::{CgroupManager, Choices, Plan};
use crate::state::StateRoot;

/// What to create, and how.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The ID to be; checked by [`Request::plan`].
    pub id: &'a str,
    /// The bundle's directory.
    pub bundle: &'a Path,
    /// Another configuration than the bundle's.
    pub config: Option<&'a Path>,
    /// Where the state is to be.
    pub state: &'a StateRoot,
    /// Gets the pid, in the caller's pid namespace: decimal, without a newline.
    pub pid_file: Option<&'a Path>,
    /// A listening unix socket that gets the terminal's master (SCM_RIGHTS); needs `process.terminal`.
    pub console_socket: Option<&'a Path>,
    /// MS_MOVE in place of pivot_root(2), for a root on a ramfs.
    pub no_pivot: bool,
    /// The payload keeps the caller's session keyring; else it gets an own one (keyctl(2)).
    pub no_new_keyring: bool,
    /// How many fds from 3 on stay open in the payload.
    pub preserve_fds: u32,
    /// Where to send a pidfd of the first process.
    pub pidfd_socket: Option<&'a Path>,
    /// `--cgroup-manager`.
    pub cgroups: CgroupManager,
    /// `--rootless`; None where the host is to decide.
    pub tolerance: Option<Tolerance>,
    /// Do not wait for `start`.
    pub start_at_once: bool,
    /// The caller does not stay to relay a terminal.
    pub detached: bool,
    /// Held completely before the payload may run: from then on they are its.
    pub signals: Option<&'a Signals>,
    /// Where events go.
    pub trace: &'a TraceFile,
}

/// A plan, and what was read for it.
pub(super) struct Planned {
    pub(super) plan: Plan,
    pub(super) host: Host,
    /// The configuration as it is.
    pub(super) text: Vec<u8>,
    /// Where it is.
    pub(super) config: PathBuf,
    /// Who wants to be told when the service is ready.
    pub(super) caller: Option<SocketAddrUnix>,
}

impl<'a> Request<'a> {
    /// A container that waits for `start`, with what the commands have where no option says otherwise.
    pub fn new(id: &'a str, bundle: &'a Path, state: &'a StateRoot, trace: &'a TraceFile) -> Request<'a> {
        Request {
            id,
            bundle,
            config: None,
            state,
            pid_file: None,
            console_socket: None,
            no_pivot: false,
            no_new_keyring: false,
            preserve_fds: 0,
            pidfd_socket: None,
            cgroups: CgroupManager::default(),
            tolerance: None,
            start_at_once: false,
            detached: true,
            signals: None,
            trace,
        }
    }

    /// What would be made, and none of it made.
    ///
    /// # Errors
    /// What is wrong with the request or the bundle, or can't be had on this host.
    pub fn plan(&self) -> Result<Plan> {
        self.planned().map(|planned| planned.plan)
    }

    /// All that is wrong with the configuration, and what is legal and surely not meant. The ID does not matter.
    ///
    /// # Errors
    /// A bundle or a file that is not there, or a host that can't be looked at.
    pub fn lint(&self) -> Result<Vec<Finding>> {
        let id = ContainerId::parse(self.id)?;
        let (bundle, config) = self.files()?;
        let text = load::text(&config)?;
        let read = Mended::read(&text);
        let mut findings = Findings::default();
        if let Some(spec) = &read.spec {
            let host = Host::look_for_mounts(spec, self.state.proc())?;
            let plan = self.consider(spec, id, (&bundle, &host), notify::wanted()?.is_some(), &mut findings);
            let plan = findings.take(plan);
            let rootfs = plan.filter(|plan| plan.rootfs != bundle).map_or(Ok(()), |plan| check_rootfs(&plan.rootfs));
            findings.take(rootfs.map_err(|error| error.about("root.path")));
        }
        let errors = findings.into_list();
        let errors = read.of_the_rest(errors.iter().map(Finding::error));
        let told = read.findings.iter().chain(&errors).filter(|finding| finding.severity == Severity::Error);
        let refused: Vec<String> = told.map(|finding| finding.path.clone()).collect();
        // An error tells already what is missing.
        let of_text = lint::of_the_text(&text).into_iter().filter(|finding| !refused.contains(&finding.path));
        let of_text: Vec<Finding> = of_text.collect();
        let systemd = self.cgroups == CgroupManager::Systemd;
        let subject = read.spec.as_ref().map(|spec| lint::Subject { spec, bundle: &bundle, systemd, refused });
        let warnings = read.of_the_rest(subject.iter().flat_map(lint::warnings));
        Ok(read.findings.into_iter().chain(errors).chain(of_text).chain(warnings).collect())
    }

    /// The command that this is, as traces and recordings name it.
    pub(super) fn command(&self) -> &'static str {
        if self.start_at_once { "run" } else { "create" }
    }

    pub(super) fn planned(&self) -> Result<Planned> {
        let id = ContainerId::parse(self.id)?;
        self.state.must_be_free(&id)?;
        let (bundle, config) = self.files()?;
        let (load::Read { value: spec, unknown }, text) = load::spec(&config)?;
        let host = Host::look_for_mounts(&spec, self.state.proc())?;
        let caller = notify::wanted()?;
        let notified = caller.is_some();
        let plan = Findings::first(|findings| self.consider(&spec, id, (&bundle, &host), notified, findings));
        let plan = plan.and_then(|plan| plan).and_then(|plan| self.can_start(plan));
        let plan = plan.context(|| format!("`{}`", config.display()))?;
        check_rootfs(&plan.rootfs)?;
        unknown.iter().for_each(UnknownCapability::tell);
        Ok(Planned { plan, host, text, config, caller })
    }

    /// Refuses what `run` could not start.
    fn can_start(&self, plan: Plan) -> Result<Plan> {
        match self.start_at_once && plan.child.process.args.is_empty() {
            true => Err(Error::config("`process` is missing: there is nothing to start").about("process")),
            false => Ok(plan),
        }
    }

    /// The bundle, as an absolute path, and the configuration.
    fn files(&self) -> Result<(PathBuf, PathBuf)> {
        let bundle = absolute(self.bundle)?;
        let config = self.config.map_or_else(|| bundle.join(load::CONFIG), PathBuf::from);
        Ok((bundle, config))
    }

    /// `notified`: somebody wants to be told when the payload is ready.
    fn consider(
        &self,
        spec: &Spec,
        id: ContainerId,
        (bundle, host): (&Path, &Host),
        notified: bool,
        findings: &mut Findings,
    ) -> Result<Plan> {
        let keyring = format!("_ses.{id}");
        let notify = notified.then(|| self.state.notify_dir(&id));
        let choices = Choices {
            no_pivot: self.no_pivot,
            cgroups: self.cgroups,
            tolerance: self.tolerance,
            trace: self.trace.is_on(),
            notify: notify.as_deref(),
            extras: Extras {
                preserve_fds: self.preserve_fds,
                listen_fds: listen_fds(),
                keyring: (!self.no_new_keyring).then_some(&keyring),
            },
        };
        Plan::read(spec, id, bundle, host, choices, findings)
    }
}

fn absolute(path: &Path) -> Result<PathBuf> {
    let bundle = std::fs::canonicalize(path).context(|| format!("open the bundle `{}`", path.display()))?;
    match bundle.is_dir() {
        true => Ok(bundle),
        false => Err(Error::new(Kind::Usage, format!("the bundle `{}` is not a directory", path.display()))),
    }
}

fn check_rootfs(rootfs: &Path) -> Result<()> {
    let doing = || format!("open the rootfs `{}`", rootfs.display());
    match std::fs::metadata(rootfs) {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(Error::call(doing(), rustix::io::Errno::NOTDIR)),
        // Of an ordinary user's own making, behind a directory that only the container's root may enter.
        Err(e) if e.kind() == std::io::ErrorKind::PermissionDenied => Ok(()),
        Err(e) => Err(e).context(doing).map_err(|e| e.advise("unpack an image there, or set `root.path`")),
    }
}

/// How many listening sockets the caller passes to this very process; sd_listen_fds(3).
pub fn listen_fds() -> u32 {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u32>().ok());
    match number("LISTEN_PID") {
        Some(pid) if pid == std::process::id() => number("LISTEN_FDS").unwrap_or(0),
        _ => 0,
    }
}
