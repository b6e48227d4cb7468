//! Containers that are made and removed at the same time below one parent.

use super::*;

/// How many at once, and how often each.
const AT_ONCE: usize = 6;
const ROUNDS: usize = 60;

/// A limit that this layout has, and the controller and file that tell it.
fn limit(hierarchies: &Hierarchies) -> (Resources, Option<[&'static str; 3]>) {
    let top = match hierarchies.layout() {
        Layout::V2 => std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap(),
        _ => "pids".to_owned(),
    };
    let has = |name| top.split_whitespace().any(|controller| controller == name);
    if has("pids") {
        (resources(json!({"pids": {"limit": 50}})), Some(["pids", "pids.max", "50"]))
    } else if has("hugetlb") && std::path::Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists() {
        let wanted = json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4_194_304}]});
        (resources(wanted), Some(["hugetlb", "hugetlb.2MB.max", "4194304"]))
    } else {
        (Resources::default(), None)
    }
}

fn at_once() {
    let proc = Proc::open().unwrap();
    let hierarchies = Hierarchies::detect(&proc).unwrap();
    let (wanted, told) = limit(&hierarchies);
    let parent = path();
    let made_and_removed = |n: usize| {
        for _ in 0..ROUNDS {
            // Two levels that the last to go takes away, and the next to come makes anew.
            let record = hierarchies.record(&parent.join(format!("deep/{n}")), &proc).unwrap();
            let cgroup = Cgroup::create(&record, &wanted, Tolerance::Strict).unwrap();
            if let Some([controller, file, limit]) = told {
                assert_eq!(value(&cgroup, controller, file), limit);
            }
            Cgroup::remove(cgroup.record()).unwrap();
        }
    };
    std::thread::scope(|scope| {
        (0..AT_ONCE).for_each(|n| drop(scope.spawn(move || made_and_removed(n))));
    });
    // Who found the parents there leaves them there.
    let record = hierarchies.record(&parent.join("deep/0"), &proc).unwrap();
    for dir in &record.dirs {
        RecordDir { made: dir.steps().len(), ..dir.clone() }.unmake(dir.steps().len()).unwrap();
    }
    assert_eq!(left(&record), Vec::<String>::new());
}

#[test]
fn all_are_made_whoever_makes_or_removes_the_parents() {
    if !is_root() {
        return eprintln!("skipped: needs root");
    }
    at_once();
    if std::env::var_os(LAYOUT).is_none() {
        unshared("races::all_are_made_whoever_makes_or_removes_the_parents", PURE_V1, "V1");
        unshared("races::all_are_made_whoever_makes_or_removes_the_parents", PURE_V2, "V2");
    }
}
