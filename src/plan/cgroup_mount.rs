//! Mounts of the types `cgroup` and `cgroup2`.

use std::path::Path;

use oci_spec::runtime::Mount;

use super::mounts::{Bind, CgroupEntry, CgroupV1, Surroundings, What, filesystem, host_tree};
use super::namespaces::flag;
use super::options::{Attrs, Options, attr};
use super::sources::{Source, Sources};
use crate::cgroup::Layout;

/// Options of cgroup v2, which are the whole machine's.
pub(super) const OPTIONS: [&str; 6] = [
    "favordynmods",
    "memory_hugetlb_accounting",
    "memory_localevents",
    "memory_recursiveprot",
    "nsdelegate",
    "pids_localevents",
];

/// Where the host has cgroup v2, if it has.
pub(super) fn of_host(layout: Layout) -> Option<&'static str> {
    match layout {
        Layout::V2 => Some("/sys/fs/cgroup"),
        Layout::Hybrid => Some("/sys/fs/cgroup/unified"),
        Layout::V1 | Layout::None => None,
    }
}

/// `cgroup` stands for whatever the host has, `cgroup2` for version 2, where that is beside version 1 too.
pub(super) fn plan(
    typ: &str,
    mount: &Mount,
    mut options: Options,
    attrs: &mut Attrs,
    around: &Surroundings<'_>,
    sources: &mut Sources,
) -> What {
    options.data.clear();
    // A new instance in the host's cgroup namespace is the host's own, and would set its options anew: systemd's `nsdelegate`
    // would be lost on the whole machine.
    let layout = around.host.cgroups.layout();
    if let Some(host) = of_host(layout)
        && (layout == Layout::V2 || typ == "cgroup2")
        && !around.namespaces.has(flag::CGROUP)
    {
        return What::Bind(host_tree(host, sources));
    }
    if matches!(layout, Layout::V2 | Layout::None) || typ == "cgroup2" {
        // The superblock is the machine's one and only: read-only is a matter of the mount.
        options.attrs.set &= !attr::RDONLY;
        return What::Filesystem(filesystem("cgroup2", mount, options, *attrs, around, (sources, None)));
    }
    // Every runtime makes the mounts of v1 so, whatever is asked for.
    attrs.set |= attr::NOSUID | attr::NODEV | attr::NOEXEC;
    let own_namespace = around.namespaces.new & flag::CGROUP != 0;
    let entries = around.host.cgroups.v1_controllers().into_iter().map(|controllers| {
        let data = controllers.join(",");
        let name = data.strip_prefix("name=").unwrap_or(&data).to_owned();
        let bind = (!own_namespace).then(|| {
            let source = Path::new("/sys/fs/cgroup").join(&name);
            let slot = sources.add(Source::Cgroup { controller: controllers[0].clone() });
            Bind { slot, source, recursive: false, nofollow: true, copy_symlink: false, idmapped: false }
        });
        let links = if controllers.len() > 1 { controllers } else { vec![] };
        CgroupEntry { name, data, links, bind }
    });
    What::CgroupV1(CgroupV1 { entries: entries.collect() })
}
