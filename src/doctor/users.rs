//! The IDs that may be mapped into a user namespace; subuid(5), newuidmap(1).

use std::fs::read_to_string;

use super::Check;
use crate::parent::idmap;
use crate::plan::host::Host;
use crate::plan::namespaces::{IdMap, IdMaps};
use crate::plan::user::{name_of, range_of};
use crate::procfs::Proc;
use crate::sys::userns::with_new;

pub(super) fn checks(host: &Host, proc: &Proc) -> Vec<Check> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let own = IdMaps { uid: vec![one(uid)], gid: vec![one(gid)] };
    let single = match mapped(&own, proc) {
        Ok(()) => Check::ok("own ID", "it can be mapped to the container's root"),
        Err(why) => {
            let follows = "no container with a user namespace can be made";
            let check = Check::missing("own ID", why, follows, "see `user` of the namespaces");
            if host.root { check } else { check.vital() }
        }
    };
    let ranges = match host.root {
        // Root writes any map by itself.
        true => of_root(proc),
        false => of_user(uid, &own, proc),
    };
    vec![single, ranges]
}

fn one(id: u32) -> IdMap {
    IdMap { container: 0, host: id, size: 1 }
}

/// Maps them in a user namespace that ends with it.
fn mapped(maps: &IdMaps, proc: &Proc) -> Result<(), String> {
    let written = with_new(|pid| idmap::write(pid, maps, proc)).map_err(super::words)?;
    written.map_err(|error| error.to_string())
}

const RANGES: &str = "range of IDs";

fn of_root(proc: &Proc) -> Check {
    let line = vec![IdMap { container: 0, host: 100_000, size: 65536 }];
    match mapped(&IdMaps { uid: line.clone(), gid: line }, proc) {
        Ok(()) => Check::ok(RANGES, "any can be mapped"),
        Err(why) => Check::partly(RANGES, why, "only IDs of the runtime's own user namespace can be mapped", ""),
    }
}

/// What the files give this user, mapped by the helpers as a container's are.
fn of_user(uid: u32, own: &IdMaps, proc: &Proc) -> Check {
    let follows = "a container has one user, its root";
    // Without NSS, which a static program has not.
    let name = read_to_string("/etc/passwd").ok().and_then(|passwd| name_of(uid, &passwd));
    let (uids, gids) = (range("/etc/subuid", uid, name.as_deref()), range("/etc/subgid", uid, name.as_deref()));
    let (Some(uids), Some(gids)) = (uids, gids) else {
        let lacking = if uids.is_none() { "/etc/subuid" } else { "/etc/subgid" };
        let who = name.unwrap_or_else(|| uid.to_string());
        let advice = format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {who}");
        return Check::missing(RANGES, format!("{lacking} has none for `{who}`"), follows, &advice);
    };
    let with = |own: &[IdMap], range: IdMap| [own, &[range]].concat();
    let maps = IdMaps { uid: with(&own.uid, uids), gid: with(&own.gid, gids) };
    match mapped(&maps, proc) {
        Ok(()) => Check::ok(RANGES, format!("{} from {} on, by newuidmap and newgidmap", uids.size, uids.host)),
        Err(why) => {
            Check::missing(RANGES, why, follows, "install the package uidmap, with its two programs setuid root")
        }
    }
}

/// The first range of a user's, from 1 on inside.
fn range(file: &str, uid: u32, name: Option<&str>) -> Option<IdMap> {
    let range = range_of(uid, name, &read_to_string(file).ok()?)?;
    Some(IdMap { container: 1, host: range.first, size: range.size })
}
