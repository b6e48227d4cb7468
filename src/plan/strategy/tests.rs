use super::*;

const ALL: MountApi =
    MountApi { open_tree: true, move_mount: true, fsopen: true, mount_setattr: true, namespace: true };

fn choose(api: MountApi, namespaces: &Namespaces, change: impl FnOnce(&mut Host, &mut Hooks)) -> MountStrategy {
    let mut host = Host { root: true, initial_userns: true, mount_api: api, ..Host::default() };
    let mut hooks = Hooks::default();
    change(&mut host, &mut hooks);
    let wanted = Wanted { namespaces, host: &host, hooks: &hooks, mounts: &[], no_pivot: false };
    MountStrategy::choose(&wanted).unwrap()
}

fn own(flags: u32) -> Namespaces {
    Namespaces { new: flags | flag::MOUNT, ..Namespaces::default() }
}

#[test]
fn the_best_that_the_kernel_has() {
    let with = |api| choose(api, &own(0), |_, _| {}).strategy;
    assert_eq!(with(ALL), Strategy::Namespace);
    assert_eq!(with(MountApi { namespace: false, ..ALL }), Strategy::Pivot);
    assert_eq!(with(MountApi { namespace: false, mount_setattr: false, fsopen: false, ..ALL }), Strategy::Pivot);
    assert_eq!(with(MountApi { open_tree: false, ..ALL }), Strategy::Mount);
    assert_eq!(with(MountApi::default()), Strategy::Mount);
}

#[test]
fn the_trace_says_which_condition_failed() {
    let in_userns = choose(ALL, &own(0), |host, _| host.initial_userns = false);
    assert!(in_userns.describe().ends_with("the runtime is in a user namespace"), "{}", in_userns.describe());
    let old = choose(MountApi { namespace: false, ..ALL }, &own(0), |_, _| {});
    assert_eq!(old.describe(), "pivot: pivot_root, then the mounts; the kernel has no OPEN_TREE_NAMESPACE (Linux 7.0)");
}

#[test]
fn sources_of_a_user_namespace_are_locked_in_each_strategy() {
    let with = |api| choose(api, &own(flag::USER), |_, _| {}).sources;
    assert_eq!(with(ALL), SourcesFrom::Stage);
    assert_eq!(with(MountApi { namespace: false, ..ALL }), SourcesFrom::ChildsNamespace);
    assert_eq!(with(MountApi::default()), SourcesFrom::ChildsNamespace);
    assert_eq!(choose(ALL, &own(0), |_, _| {}).sources, SourcesFrom::Here);
}

#[test]
fn a_file_system_made_of_the_hosts_paths_is_the_parents() {
    let mount = |json: &str| serde_json::from_str::<Mount>(json).unwrap();
    let overlay = mount(r#"{"destination":"/o","type":"overlay","source":"overlay","options":["lowerdir=/a:/b"]}"#);
    assert!(names_host(&overlay));
    assert!(names_host(&mount(r#"{"destination":"/d","type":"ext4","source":"/dev/sda"}"#)));
    assert!(!names_host(&mount(r#"{"destination":"/t","type":"tmpfs","source":"/t","options":["size=4k"]}"#)));
    assert!(!names_host(&mount(r#"{"destination":"/b","type":"none","source":"/b","options":["rbind"]}"#)));
    let host = Host { root: true, initial_userns: true, mount_api: ALL, ..Host::default() };
    let (mounts, hooks) = ([overlay], Hooks::default());
    for (flags, strategy) in [(0, Strategy::Namespace), (flag::USER, Strategy::Pivot)] {
        let namespaces = own(flags);
        let wanted = Wanted { namespaces: &namespaces, host: &host, hooks: &hooks, mounts: &mounts, no_pivot: false };
        let chosen = MountStrategy::choose(&wanted).unwrap();
        assert_eq!((chosen.strategy, chosen.late.is_some()), (strategy, flags != 0));
    }
}

#[test]
fn hooks_change_nothing_but_what_they_are_shown() {
    let hook = || super::super::hooks::HookPlan { path: "/h".into(), args: vec![], env: None, timeout: None };
    let hooked = choose(ALL, &own(0), |_, hooks| hooks.create_container.push(hook()));
    assert_eq!((hooked.strategy, hooked.late, hooked.shows_host), (Strategy::Namespace, None, true));
    let before = MountApi { namespace: false, ..ALL };
    let hooked = choose(before, &own(0), |_, hooks| hooks.create_container.push(hook()));
    assert!(hooked.strategy == Strategy::Pivot && hooked.late.is_some() && !hooked.shows_host);
}

#[test]
fn another_strategy_can_be_asked_for_if_it_can_be_had() {
    let ask = |api, name: &str| {
        let host =
            Host { root: true, initial_userns: true, mount_api: api, strategy: Some(name.into()), ..Host::default() };
        let (namespaces, hooks) = (own(0), Hooks::default());
        let wanted = Wanted { namespaces: &namespaces, host: &host, hooks: &hooks, mounts: &[], no_pivot: false };
        MountStrategy::choose(&wanted).map(|s| s.strategy)
    };
    assert_eq!(ask(ALL, "mount").unwrap(), Strategy::Mount);
    assert_eq!(ask(ALL, "pivot").unwrap(), Strategy::Pivot);
    assert!(ask(ALL, "best").is_err());
    let refused = ask(MountApi { namespace: false, ..ALL }, "namespace").unwrap_err().to_string();
    assert!(refused.contains("the kernel has no OPEN_TREE_NAMESPACE"), "{refused}");
}
