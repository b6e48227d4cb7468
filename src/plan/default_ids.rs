//! The mapping of a new user namespace that the configuration gives none: made up as crun does it.

use oci_spec::runtime::Spec;

use super::host::{Host, Ids};
use super::namespaces::{IdMap, IdMaps};
use super::user::IdRange;

/// Fills in what is missing: of users, of groups, or of both.
pub(super) fn fill(maps: &mut IdMaps, spec: &Spec, host: &Host) {
    let Ids { uid, gid, uids, gids } = host.ids;
    let user = spec.process().as_ref().map(|process| process.user());
    if maps.uid.is_empty() {
        let inside = user.map_or(0, |user| user.uid());
        maps.uid = lines(inside, uid, uids, host.root.then(|| highest(spec, inside, "uid=")));
    }
    if maps.gid.is_empty() {
        let inside = user.map_or(0, |user| user.gid());
        let groups = user.into_iter().flat_map(|user| user.additional_gids().iter().flatten());
        let named = groups.fold(inside, |highest, gid| highest.max(*gid));
        maps.gid = lines(inside, gid, gids, host.root.then(|| highest(spec, named, "gid=")));
    }
}

/// The process's own ID is the runtime's, and those around it come from the range that the runtime's user may map. Root
/// without a range has each ID that the configuration names stand for itself; `upto` is the highest.
fn lines(inside: u32, own: u32, range: Option<IdRange>, upto: Option<u32>) -> Vec<IdMap> {
    let line = |container, host, size| IdMap { container, host, size };
    match (range, upto) {
        (Some(IdRange { first, size }), _) => {
            let below = inside.min(size);
            let rest = line(inside.saturating_add(1), first.saturating_add(below), size - below);
            let above = [line(0, first, below), line(inside, own, 1), rest];
            above.into_iter().filter(|line| line.size > 0).collect()
        }
        (None, Some(upto)) => vec![line(0, 0, upto.saturating_add(1))],
        (None, None) => vec![line(inside, own, 1)],
    }
}

/// The highest ID that a mount names as an owner, or this one.
fn highest(spec: &Spec, named: u32, option: &str) -> u32 {
    let words = spec.mounts().iter().flatten().flat_map(|mount| mount.options().iter().flatten());
    let ids = words.filter_map(|word| word.strip_prefix(option)?.parse::<u32>().ok());
    ids.filter(|id| *id < u32::MAX).fold(named, u32::max)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(maps: &[IdMap]) -> String {
        maps.iter().map(|m| format!("{} {} {}", m.container, m.host, m.size)).collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn the_process_is_the_runtimes_user_and_the_rest_of_the_range() {
        let range = Some(IdRange { first: 100_000, size: 10 });
        for (inside, own, range, upto, wanted) in [
            (0, 1000, range, None, "0 1000 1, 1 100000 10"),
            (4, 1000, range, None, "0 100000 4, 4 1000 1, 5 100004 6"),
            (50, 1000, range, None, "0 100000 10, 50 1000 1"),
            (0, 0, range, Some(5), "0 0 1, 1 100000 10"),
            (7, 1000, None, None, "7 1000 1"),
            (u32::MAX, 0, range, None, "0 100000 10, 4294967295 0 1"),
            (7, 0, None, Some(7), "0 0 8"),
        ] {
            assert_eq!(text(&lines(inside, own, range, upto)), wanted);
        }
    }

    #[test]
    fn root_has_what_the_configuration_names() {
        let spec = r#"{"ociVersion":"1.0.2","process":{"cwd":"/","user":{"uid":3,"additionalGids":[9]}},
            "mounts":[{"destination":"/dev/pts","type":"devpts","options":["mode=620,gid=5"]}]}"#;
        let spec = super::super::load::spec_from_text(spec.as_bytes()).unwrap();
        let mut maps = IdMaps { uid: vec![], gid: vec![IdMap { container: 0, host: 7, size: 1 }] };
        fill(&mut maps, &spec, &Host { root: true, ..Host::default() });
        assert_eq!((text(&maps.uid).as_str(), text(&maps.gid).as_str()), ("0 0 4", "0 7 1"));
        maps.gid.clear();
        fill(&mut maps, &spec, &Host { root: true, ..Host::default() });
        assert_eq!(text(&maps.gid), "0 0 10");
    }
}
