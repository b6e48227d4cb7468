//! `events`: what a container uses, at intervals, and when it runs out of memory; one JSON object a line, as runc's.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Args;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde_json::{Value, json};

use super::Context;
use crate::cgroup::{Cgroup, OomWatch};
use crate::error::{Context as _, Error, Kind, Result};
use crate::parent::lifecycle::Container;
use crate::state::Status;

#[derive(Args, Debug)]
pub(super) struct Events {
    /// Tell once what the container uses, and end
    #[arg(long)]
    stats: bool,
    /// Tell so often what it uses, as 5s, 500ms or 1m30s
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = interval)]
    interval: Duration,
    /// The container
    id: String,
}

fn interval(text: &str) -> Result<Duration, String> {
    const LONGEST: Duration = Duration::from_secs(366 * 24 * 60 * 60);
    match humantime::parse_duration(text) {
        Ok(time) if time.is_zero() => Err("it must be more than zero".into()),
        Ok(time) if time > LONGEST => Err("it must be a year at most".into()),
        Ok(time) => Ok(time),
        Err(e) => Err(e.to_string()),
    }
}

impl Events {
    pub(super) fn run(&self, context: &Context) -> Result<()> {
        let container = Container::open(&context.state, &self.id)?;
        let cgroup = container.running_cgroup("tell what it uses")?;
        if self.stats {
            return tell(&self.stats_of(&cgroup)?).map(drop);
        }
        let oom = cgroup.watch_oom()?;
        if oom.is_none() {
            log::warn!("the container has no memory controller: it will not be told when it runs out of memory");
        }
        // Whichever process has this number now: that it is the container's is asked afterwards.
        let process = Pid::from_raw(container.pid()).ok_or_else(not_running)?;
        let pidfd = pidfd_open(process, PidfdFlags::empty()).context(|| "open a pidfd of the first process")?;
        if container.dir.status(&container.record)? == Status::Stopped {
            return Err(not_running());
        }
        self.follow(&cgroup, oom, &pidfd)
    }

    fn stats_of(&self, cgroup: &Cgroup) -> Result<Value> {
        Ok(json!({"type": "stats", "id": self.id, "data": cgroup.stats()?}))
    }

    /// Tells until the container ends, or nobody reads any more.
    fn follow(&self, cgroup: &Cgroup, mut oom: Option<OomWatch>, pidfd: &std::os::fd::OwnedFd) -> Result<()> {
        let mut next = Instant::now() + self.interval;
        loop {
            let left = next.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).map_err(|e| Error::new(Kind::Usage, format!("--interval: {e}")))?;
            let mut fds = vec![
                PollFd::new(pidfd, PollFlags::IN),
                // A pipe that has no reader any more says so unasked.
                PollFd::from_borrowed_fd(rustix::stdio::stdout(), PollFlags::empty()),
            ];
            if let Some(oom) = &oom {
                let (fd, flags) = oom.waits_for();
                fds.push(PollFd::from_borrowed_fd(fd, flags));
            }
            rustix::io::retry_on_intr(|| poll(&mut fds, Some(&timeout))).context(|| "poll")?;
            let ended = !fds[0].revents().is_empty();
            if fds[1].revents().intersects(PollFlags::ERR | PollFlags::NVAL) {
                return Ok(());
            }
            drop(fds);
            // Before the end: it may be what ended it.
            for _ in 0..oom.as_mut().map_or(Ok(0), OomWatch::count)? {
                if !tell(&json!({"type": "oom", "id": self.id}))? {
                    return Ok(());
                }
            }
            if ended {
                return Ok(());
            }
            if Instant::now() >= next {
                next += self.interval;
                if !tell(&self.stats_of(cgroup)?)? {
                    return Ok(());
                }
            }
        }
    }
}

fn not_running() -> Error {
    Error::new(Kind::State, "container not running")
}

/// Writes one line; false if nobody reads it.
fn tell(event: &Value) -> Result<bool> {
    let mut out = std::io::stdout();
    match out.write_all(format!("{event}\n").as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(false),
        Err(e) => Err(e).context(|| "write to standard output"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_as_go_writes_them() {
        assert_eq!(interval("5s"), Ok(Duration::from_secs(5)));
        assert_eq!(interval("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(interval("500ms"), Ok(Duration::from_millis(500)));
        for text in ["", "0s", "-1s", "5", "x", "500000000000years"] {
            assert!(interval(text).is_err(), "{text}");
        }
    }
}
