//! Id-mapped mounts: which mapping a mount gets. config.md, "uidMappings" and the options `idmap` and `ridmap`;
//! mount_setattr(2), `MOUNT_ATTR_IDMAP`.
//!
//! In a mapping of a mount the container's ID is the one on the file system, and the host's the one that it is seen as.

use std::path::PathBuf;

use oci_spec::runtime::Mount;
use serde::Serialize;

use super::mounts::Surroundings;
use super::namespaces::{IdMap, IdMaps, Namespaces, flag, id_maps};
use super::options::{MappedBy, Options};
use crate::error::{Error, Result};

/// The mapping of one mount.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Idmapped {
    /// What maps the IDs.
    pub by: Mapping,
    /// Of the mounts below it, too.
    pub recursive: bool,
}

impl Idmapped {
    /// For the trace: the lines, as user_namespaces(7) has them, or whose they are.
    pub fn describe(&self) -> String {
        let lines = |maps: &[IdMap]| {
            let line = |map: &IdMap| format!("{} {} {}", map.container, map.host, map.size);
            maps.iter().map(line).collect::<Vec<_>>().join(", ")
        };
        match &self.by {
            Mapping::Lines(maps) => format!("users {}; groups {}", lines(&maps.uid), lines(&maps.gid)),
            Mapping::Joined(path) => format!("as `{}`", path.display()),
        }
    }
}

/// Where a mapping comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Mapping {
    /// These lines.
    Lines(IdMaps),
    /// Those of the user namespace that the container joins, at this path.
    Joined(PathBuf),
}

/// The container's user namespace, as mounts can be mapped by it.
#[derive(Debug)]
pub(super) struct OwnMaps<'a> {
    /// Of a new user namespace, or as engines repeat them for one that is joined.
    lines: IdMaps,
    joined: Option<&'a PathBuf>,
    new: bool,
}

impl OwnMaps<'_> {
    /// `lines` are the configuration's.
    pub(super) fn new(lines: IdMaps, namespaces: &Namespaces) -> OwnMaps<'_> {
        let joined = namespaces.join.iter().find(|join| join.flag == flag::USER).map(|join| &join.path);
        OwnMaps { lines, joined, new: namespaces.new & flag::USER != 0 }
    }

    fn mapping(&self) -> Option<Mapping> {
        match self.joined {
            Some(path) => Some(Mapping::Joined(path.clone())),
            None => self.new.then(|| Mapping::Lines(self.lines.clone())),
        }
    }
}

impl Idmapped {
    /// The mapping that a mount asks for; None if it asks for none.
    ///
    /// # Errors
    /// Half a mapping, a malformed one, or none where there is no user namespace to take one from.
    fn from_spec(mount: &Mount, by: Option<&MappedBy>, own: &OwnMaps<'_>, at: &str) -> Result<Option<Idmapped>> {
        let given = IdMaps {
            uid: id_maps(mount.uid_mappings().as_deref(), &format!("{at}.uidMappings"))?,
            gid: id_maps(mount.gid_mappings().as_deref(), &format!("{at}.gidMappings"))?,
        };
        let recursive = by.is_some_and(|by| by.recursive);
        let mapping = match (given.uid.is_empty(), given.gid.is_empty(), by) {
            (true, true, None) => return Ok(None),
            (true, true, Some(MappedBy { lines: Some(text), .. })) => parse(text, own, &format!("{at}.options"))?,
            (true, true, Some(_)) => own.mapping().ok_or_else(|| {
                let why = "`idmap` without a user namespace to take the mapping from";
                Error::at(format!("{at}.options"), why).advise("give the mount `uidMappings` and `gidMappings`")
            })?,
            (false, false, Some(MappedBy { lines: Some(_), .. })) => {
                let why = "`uidMappings` and a mapping in the options too";
                return Err(Error::at(at, why).about(format!("{at}.uidMappings")));
            }
            (false, false, _) => Mapping::Lines(given),
            _ => return Err(Error::at(at, "`uidMappings` and `gidMappings` must be given together")),
        };
        Ok(Some(Idmapped { by: mapping, recursive }))
    }
}

/// The mapping of a mount's IDs. Decided here, since the path-based way has none.
pub(super) fn of_mount(
    mount: &Mount,
    typ: &str,
    options: &Options,
    at: &str,
    around: &Surroundings<'_>,
) -> Result<Option<Idmapped>> {
    let Some(mapped) = Idmapped::from_spec(mount, options.mapped_by.as_ref(), around.own_maps, at)? else {
        return Ok(None);
    };
    let refuse = |why: String| Err(Error::at(at, format!("an id-mapped mount {why}")));
    let kernel = around.host.mount_api;
    match () {
        () if options.bind.is_none() && SHOW_PROCESSES_OR_KERNEL.contains(&typ) => {
            refuse(format!("must be of files: nothing maps the IDs of `{typ}`"))
        }
        () if !kernel.mount_setattr => {
            refuse("needs mount_setattr (Linux 5.12), which the kernel does not have".into())
        }
        () if !around.strategy.strategy.attaches() => {
            refuse(format!("can't be made by the mount strategy `{}`", around.strategy.strategy.name()))
        }
        () => Ok(Some(mapped)),
    }
}

/// File systems whose owners are no IDs of files that could be mapped.
const SHOW_PROCESSES_OR_KERNEL: [&str; 6] = ["proc", "sysfs", "cgroup", "cgroup2", "mqueue", "devpts"];

/// Parses crun's and podman's `uids=0-1-10#10-11-10;gids=@0-0-10`: first ID on the file system, first ID that it is seen
/// as, how many. With `@` the second is one inside the container's user namespace. A kind that is not named is mapped as
/// the container's own, or to itself.
fn parse(text: &str, own: &OwnMaps<'_>, at: &str) -> Result<Mapping> {
    let mut maps = IdMaps::default();
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (lines, list, inside) = match part.split_once('=') {
            Some(("uids", list)) => (&mut maps.uid, list, &own.lines.uid),
            Some(("gids", list)) => (&mut maps.gid, list, &own.lines.gid),
            _ => {
                return Err(Error::at(at, format!("`idmap`: `{part}` is neither `uids=` nor `gids=`")));
            }
        };
        for triple in list.split('#') {
            lines.push(one(triple, inside).map_err(|why| Error::at(at, format!("`idmap`: `{triple}`: {why}")))?);
        }
    }
    let whole = || vec![IdMap { container: 0, host: 0, size: u32::MAX }];
    let or_own = |lines: &mut Vec<IdMap>, inside: &Vec<IdMap>| {
        if lines.is_empty() {
            *lines = if inside.is_empty() { whole() } else { inside.clone() };
        }
    };
    or_own(&mut maps.uid, &own.lines.uid);
    or_own(&mut maps.gid, &own.lines.gid);
    Ok(Mapping::Lines(maps))
}

fn one(triple: &str, inside: &[IdMap]) -> std::result::Result<IdMap, &'static str> {
    let (relative, numbers) = match triple.strip_prefix('@') {
        Some(rest) => (true, rest),
        None => (false, triple),
    };
    let mut numbers = numbers.split('-').map(|number| number.parse::<u32>().map_err(|_| "it is not three numbers"));
    let mut next = || numbers.next().unwrap_or(Err("it is not three numbers"));
    let (container, mut host, size) = (next()?, next()?, next()?);
    if numbers.next().is_some() {
        return Err("it is not three numbers");
    }
    if size == 0 || container.checked_add(size).is_none() || host.checked_add(size).is_none() {
        return Err("the IDs are out of range");
    }
    if relative {
        let holds =
            |m: &&IdMap| m.container <= host && host - m.container < m.size && size <= m.size - (host - m.container);
        let line = inside.iter().find(holds).ok_or("no line of the container's own mapping holds these IDs")?;
        host = line.host + (host - line.container);
    }
    Ok(IdMap { container, host, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(container: u32, host: u32, size: u32) -> IdMap {
        IdMap { container, host, size }
    }

    fn own() -> OwnMaps<'static> {
        let lines = vec![line(0, 100_000, 1000), line(1000, 5000, 10)];
        OwnMaps { lines: IdMaps { uid: lines.clone(), gid: lines }, joined: None, new: true }
    }

    fn mapped(text: Option<&str>, mount: &str, own: &OwnMaps<'_>) -> Result<Option<Idmapped>> {
        let by = text.map(|text| MappedBy { recursive: true, lines: (!text.is_empty()).then(|| text.into()) });
        Idmapped::from_spec(&serde_json::from_str(mount).unwrap(), by.as_ref(), own, "mounts[0]")
    }

    const PLAIN: &str = r#"{"destination":"/d"}"#;
    const GIVEN: &str = r#"{"destination":"/d","uidMappings":[{"containerID":1,"hostID":2,"size":3}],
                            "gidMappings":[{"containerID":4,"hostID":5,"size":6}]}"#;

    #[test]
    fn triples_and_relative_ones() {
        let text = "uids=0-1-10#10-11-10;gids=@7-1003-2";
        let Some(Idmapped { by: Mapping::Lines(maps), recursive: true }) = mapped(Some(text), PLAIN, &own()).unwrap()
        else {
            panic!()
        };
        assert_eq!(maps.uid, [line(0, 1, 10), line(10, 11, 10)]);
        assert_eq!(maps.gid, [line(7, 5003, 2)]);
    }

    #[test]
    fn what_is_not_named_is_the_containers_own_or_itself() {
        let lines = |own: &OwnMaps<'_>| match mapped(Some("uids=0-1-10"), PLAIN, own).unwrap().unwrap().by {
            Mapping::Lines(maps) => maps.gid,
            Mapping::Joined(_) => panic!(),
        };
        assert_eq!(lines(&own()), own().lines.gid);
        let none = OwnMaps { lines: IdMaps::default(), joined: None, new: false };
        assert_eq!(lines(&none), [line(0, 0, u32::MAX)]);
    }

    #[test]
    fn the_mounts_own_lines_come_first_then_the_containers() {
        assert_eq!(mapped(None, PLAIN, &own()).unwrap(), None);
        let given = mapped(None, GIVEN, &own()).unwrap().unwrap();
        assert_eq!(given.by, Mapping::Lines(IdMaps { uid: vec![line(1, 2, 3)], gid: vec![line(4, 5, 6)] }));
        assert_eq!(mapped(Some(""), PLAIN, &own()).unwrap().unwrap().by, Mapping::Lines(own().lines));
        let path = PathBuf::from("/ns");
        let joined = OwnMaps { joined: Some(&path), new: false, ..own() };
        assert_eq!(mapped(Some(""), PLAIN, &joined).unwrap().unwrap().by, Mapping::Joined(path.clone()));
    }

    #[test]
    fn refuses_what_is_no_mapping() {
        let none = OwnMaps { lines: IdMaps::default(), joined: None, new: false };
        assert!(mapped(Some(""), PLAIN, &none).is_err());
        for text in ["0-1-2", "uids=0-1", "uids=0-1-2-3", "uids=-1-0-1", "uids=0-0-0", "uids=@0-1005-9", "pids=0-0-1"] {
            assert!(mapped(Some(text), PLAIN, &own()).is_err(), "{text}");
        }
        let half = r#"{"destination":"/d","uidMappings":[{"containerID":1,"hostID":2,"size":3}]}"#;
        assert!(mapped(None, half, &own()).is_err());
        assert!(mapped(Some("uids=0-1-2"), GIVEN, &own()).is_err());
    }
}
