//! `exec --cgroup`: a sub-cgroup of the container's that a new process is born in, which must be there already.

use rustix::io::Errno;

use super::Cgroup;
use super::dir::Dir;
use crate::error::{Error, Kind, Result};

/// `PATH`, in every hierarchy, or `CONTROLLER[,CONTROLLER...]:PATH`, in those of cgroup v1 that are named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubCgroup {
    /// None stands for all.
    controllers: Option<Vec<String>>,
    /// The components of the path below the container's cgroup.
    steps: Vec<String>,
}

impl SubCgroup {
    /// Reads what was typed.
    ///
    /// # Errors
    /// [`Kind::Usage`] for what leads out of the container's cgroup, or says nothing.
    pub fn parse(text: &str) -> Result<SubCgroup> {
        let refuse = |why: &str| Err(Error::new(Kind::Usage, format!("--cgroup `{text}`: {why}")));
        let (controllers, path) = match text.split_once(':') {
            Some((names, path)) => (Some(names.split(',').map(str::to_owned).collect::<Vec<_>>()), path),
            None => (None, text),
        };
        if path.is_empty() || controllers.iter().flatten().any(String::is_empty) {
            return refuse("PATH or CONTROLLER:PATH is expected");
        }
        let steps =
            path.split('/').filter(|step| !step.is_empty() && *step != ".").map(str::to_owned).collect::<Vec<_>>();
        if steps.iter().any(|step| step == "..") {
            return refuse("the path must lead downwards");
        }
        Ok(SubCgroup { controllers, steps })
    }

    fn covers(&self, controllers: &[String]) -> bool {
        self.controllers.as_ref().is_none_or(|names| controllers.iter().any(|c| names.contains(c)))
    }
}

impl Cgroup {
    /// The same with the sub-cgroups that are wanted, each in its hierarchies: in each the last that names it.
    ///
    /// # Errors
    /// A controller that the container has no v1 cgroup of; a sub-cgroup that is not there.
    pub fn within(self, wanted: &[SubCgroup]) -> Result<Cgroup> {
        let Cgroup { mut record, mut dirs, refused, notes } = self;
        // What is below it is the container's business, and no longer systemd's.
        record.unit = None;
        for sub in wanted {
            for name in sub.controllers.iter().flatten() {
                if record.v1(name).is_none() {
                    let message = format!("--cgroup: the container has no cgroup v1 of the controller `{name}`");
                    return Err(Error::new(Kind::Usage, message).advise("PATH alone is for all hierarchies"));
                }
            }
        }
        for (place, dir) in record.dirs.iter_mut().zip(&mut dirs) {
            let last = wanted.iter().rev().find(|sub| sub.covers(&place.controllers));
            let (Some(sub), Some(open)) = (last, dir.take_if(|_| last.is_some())) else { continue };
            *dir = Some(sub.steps.iter().try_fold(open, |dir, step| below(&dir, step))?);
            for step in &sub.steps {
                place.path = format!("{}/{step}", place.path);
            }
        }
        Ok(Cgroup { record, dirs, refused, notes })
    }
}

fn below(dir: &Dir, step: &str) -> Result<Dir> {
    dir.open_child(step).map_err(|errno| match errno {
        // Not the kernel's words: engines read them as a missing executable.
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => {
            Error::new(Kind::Usage, format!("--cgroup: there is no cgroup `{}`", dir.file(step)))
        }
        errno => Error::call(format!("open `{}`", dir.file(step)), errno),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_downwards_only() {
        let sub = SubCgroup::parse("/a//b/./c").unwrap();
        assert_eq!((sub.controllers.clone(), sub.steps.len()), (None, 3));
        assert!(sub.covers(&[]) && sub.covers(&["cpu".to_owned()]));
        let sub = SubCgroup::parse("cpu,memory:x").unwrap();
        assert!(sub.covers(&["memory".to_owned()]) && !sub.covers(&["pids".to_owned()]) && !sub.covers(&[]));
        assert!(SubCgroup::parse("/").unwrap().steps.is_empty());
        for text in ["", "a/../..", "..", "cpu:", ":x", "cpu,:x"] {
            assert!(SubCgroup::parse(text).is_err(), "{text}");
        }
    }
}
