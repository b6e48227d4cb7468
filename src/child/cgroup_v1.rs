//! `/sys/fs/cgroup` on a host with cgroup v1: a tmpfs, one directory a hierarchy, links for joined controllers.

use std::os::fd::AsFd;
use std::path::Path;

use super::mounts::{Destination, Mounter};
use super::tree::Changes;
use crate::error::{Context, Result};
use crate::kernel::rustix;
use crate::plan::mounts::{CgroupEntry, CgroupV1, Filesystem};
use crate::plan::options::{Attrs, attr};

/// Mounts all hierarchies of the container.
pub(super) fn mount(mounter: &mut Mounter<'_>, cgroup: &CgroupV1, at: Destination<'_>, changes: Changes) -> Result<()> {
    let readonly = (changes.attrs.set | changes.recursive.set) & attr::RDONLY;
    let frame = Filesystem::tmpfs(Some("755"), mounter.label);
    // Writable while directories are made in it.
    let writable = |attrs: Attrs| Attrs { set: attrs.set & !attr::RDONLY, ..attrs };
    let open = Changes { attrs: writable(changes.attrs), recursive: writable(changes.recursive), ..changes };
    mounter.filesystem(&frame, at, open)?;
    for entry in &cgroup.entries {
        let place = at.path.join(&entry.name);
        mount_entry(mounter, entry, &place, changes).context(|| format!("hierarchy `{}`", entry.name))?;
        for link in &entry.links {
            let frame = mounter.reopen(at)?;
            rustix::fs::symlinkat(entry.name.as_str(), &frame, link.as_str())
                .context(|| format!("symlink `{link}`"))?;
        }
    }
    if readonly != 0 {
        let frame = mounter.reopen(at)?;
        super::tree::seal(frame.as_fd(), mounter.root.api, mounter.proc, &mut mounter.session.recorder)?;
    }
    Ok(())
}

fn mount_entry(mounter: &mut Mounter<'_>, entry: &CgroupEntry, at: &Path, changes: Changes) -> Result<()> {
    mounter.root.places.make_directory(at)?;
    if let Some(bind) = &entry.bind {
        return mounter.bind(bind, at.into(), changes).map(drop);
    }
    let (key, value) = match entry.data.split_once('=') {
        Some((key, value)) => (key.to_owned(), Some(value.to_owned())),
        None => (String::new(), None),
    };
    let data = match value {
        Some(value) => vec![(key, Some(value))],
        None => entry.data.split(',').map(|controller| (controller.to_owned(), None)).collect(),
    };
    let fs = Filesystem {
        fstype: "cgroup".into(),
        source: "cgroup".into(),
        superblock: vec![],
        data,
        root_label: None,
        tmpcopyup: false,
        instance: None,
        idmapped: false,
        or_bind: None,
    };
    mounter.filesystem(&fs, at.into(), changes).map(drop)
}
