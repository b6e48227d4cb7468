//! What went wrong, and what to do about it: the errors that a user meets first.

#[macro_use]
mod common;

use std::fs;

use common::bundle::{mount, user_namespace};
use common::{look, program};
use serde_json::json;

#[test]
fn a_source_or_an_option_of_a_mount_says_what_is_expected() {
    tandem_only!("advice");
    let mut case = case!("advmount");
    let good = case.config.clone();
    let missing = case.text("missing");
    case.alter(|c| mount(c, "/data", "bind", &missing, &["bind"]));
    case.create_with(&[]).refused_with(&["/data", "missing", "No such file", "must be there: make it"]);
    for (option, words) in
        [("size=bogus", "a number is expected, with k, m, g"), ("mode=rwx", "an octal number is expected")]
    {
        case.alter(|c| {
            *c = good.clone();
            mount(c, "/data", "tmpfs", "tmpfs", &[option]);
        });
        case.create_with(&[]).refused_with(&["/data", option, words]);
    }
}

#[test]
fn a_container_that_is_not_there_says_where_it_was_looked_for() {
    tandem_only!("advice");
    let case = case!("advmissing");
    let root = case.root().display().to_string();
    for command in ["state", "start", "kill", "delete", "pause", "ps"] {
        case.call(&[command, &case.id]).refused_with(&["does not exist", &format!("`tandem --root {root} list`")]);
    }
}

#[test]
fn a_program_that_is_not_found_tells_the_path() {
    tandem_only!("advice");
    let mut case = case!("advpath");
    case.alter(|c| c["process"]["env"] = json!(["PATH=/opt/none:/bin"]));
    case.args(&["nonesuch"]);
    case.create_with(&[]).refused_with(&["`nonesuch`: executable file not found in $PATH", "PATH is `/opt/none:/bin`"]);
    // What engines would take for another error is not told.
    case.alter(|c| c["process"]["env"] = json!(["PATH=/opt/Permission denied:/bin"]));
    let said = case.create_with(&[]).refused();
    assert!(said.contains("executable file not found in $PATH") && !said.to_lowercase().contains("denied"), "{said}");
}

#[test]
fn a_limit_over_the_runtimes_own_tells_that() {
    tandem_only!("advice");
    let mut case = case!("advlimit");
    case.alter(|c| {
        c["process"]["rlimits"] = json!([{"type": "RLIMIT_NOFILE", "soft": 100_000, "hard": 100_000}]);
    });
    let without = ["prlimit", "--nofile=600:600", "setpriv", "--bounding-set=-sys_resource"];
    let outcome = case.create_behind(&without, &[]);
    let words = ["RLIMIT_NOFILE", "hard limit is 600", "CAP_SYS_RESOURCE", "no more in `process.rlimits`"];
    outcome.refused_with(&words);
}

#[test]
fn a_cgroup_that_is_taken_names_who_is_in_it() {
    tandem_only!("advice");
    let first = case!("advfirst");
    let pid = first.running();
    let mut second = case!("advsecond");
    second.alter(|c| c["linux"]["cgroupsPath"] = json!(format!("/{}", first.id)));
    second.create_with(&[]).refused_with(&["is not empty", &format!("process {pid} is in it"), "linux.cgroupsPath"]);
    first.exec(&["sh", "-c", "true"]).ok();
    assert_eq!(first.status(), "running");
}

#[test]
fn a_program_that_is_there_and_does_not_run_says_what_is_missing() {
    tandem_only!("advice");
    let mut case = case!("advexec");
    program::write(case.rootfs().join("bin/script"), "#!/no/such/interpreter\n");
    program::write(case.rootfs().join("bin/nothing"), "neither ELF nor script");
    let words =
        ["execve `/bin/script`: no such file or directory", "the file is there; its interpreter or loader is not"];
    case.args(&["script"]);
    case.run().refused_with(&words);
    case.args(&["nothing"]);
    case.run().refused_with(&["execve `/bin/nothing`: ", "no `#!` line, or is built for another architecture"]);
    // A filter may be one that ends a process that looks.
    case.args(&["script"]);
    case.alter(|c| {
        let rule = json!({"names": ["access", "faccessat", "faccessat2", "stat", "newfstatat"],
                          "action": "SCMP_ACT_KILL_PROCESS"});
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
    });
    case.run().refused_with(&["no such file or directory", "if the file is there, its interpreter or loader is not"]);
    case.nothing_left("programs that do not run");
}

#[test]
fn a_hook_that_fails_says_what_to_do() {
    tandem_only!("advice");
    let mut case = case!("advhook");
    let path = case.text("script");
    program::write(&path, "#!/no/such/interpreter\n");
    for (hook, words) in [
        (json!({"path": "/no/such/hook"}), &["No such file", "on the host, not in the container's"][..]),
        (json!({"path": path}), &["No such file", "the file is there; its interpreter"]),
        (json!({"path": "/etc/passwd"}), &["Permission denied", "chmod +x"]),
        (
            json!({"path": "/bin/sleep", "args": ["sleep", "100"], "timeout": 1}),
            &["timeout of 1 s", "raise `hooks.createRuntime[0].timeout`"],
        ),
        (json!({"path": "/bin/false"}), &["it exited with 1", "`run.oci.hooks.stderr` names a file"]),
    ] {
        case.alter(|c| c["hooks"] = json!({"createRuntime": [hook]}));
        case.create_with(&[]).refused_with(words);
    }
}

#[test]
fn what_the_kernel_does_not_have_says_where_to_look() {
    tandem_only!("advice");
    let mut case = case!("advkernel");
    let good = case.config.clone();
    case.alter(|c| mount(c, "/data", "ext9", "none", &[]));
    case.create_with(&[]).refused_with(&["ext9", "No such device", "see /proc/filesystems"]);
    case.alter(|c| {
        *c = good.clone();
        c["linux"]["sysctl"] = json!({"net.ipv4.nonesuch": "1"});
    });
    case.create_with(&[]).refused_with(&["net/ipv4/nonesuch", "No such file", "no such sysctl"]);
    if !look::has_controllers(&["cpuset"]) {
        skip!("no cpuset controller");
    }
    case.alter(|c| {
        *c = good;
        c["linux"]["resources"] = json!({"cpu": {"cpus": "0-8000"}});
    });
    let online = look::value("/sys/devices/system/cpu/online");
    case.create_with(&[]).refused_with(&["cpuset.cpus", &format!("this host has {online}")]);
}

#[test]
fn what_is_there_already_says_how_to_go_on() {
    tandem_only!("advice");
    let case = case!("advtaken");
    case.create();
    let delete = format!("`tandem --root {} delete {}` first, or take another ID", case.root().display(), case.id);
    case.call(&["create", "--bundle", &case.text("bundle"), &case.id]).refused_with(&["already exists", &delete]);
    let text = fs::read(case.bundle().join("config.json")).unwrap();
    case.call(&["spec", "--bundle", &case.text("bundle")]).refused_with(&["File exists", "remove it first", "--file"]);
    assert_eq!(fs::read(case.bundle().join("config.json")).unwrap(), text);
}

#[test]
fn a_name_is_offered_only_where_it_is_near() {
    tandem_only!("advice");
    let mut case = case!("advnear");
    let far = case.call(&["run", &case.id, "--rm"]).refused();
    assert!(far.contains("'--rm'") && !far.contains("tip"), "{far}");
    case.call(&["run", "--bunlde", "x", &case.id]).refused_with(&["'--bunlde'", "tip: ", "'--bundle'"]);
    case.alter(|c| {
        let architectures = ["SCMP_ARCH_X86_46"];
        c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures});
    });
    let said = case.create_with(&[]).refused();
    assert!(said.contains("`SCMP_ARCH_X86_46` is unknown at line "), "{said}");
    assert!(said.contains("; `SCMP_ARCH_X86_64` comes nearest") && !said.contains("MIPS"), "{said}");
}

#[test]
fn a_terminal_that_is_not_there_names_the_property() {
    tandem_only!("advice");
    let mut case = case!("advtty");
    case.alter(|c| c["process"]["terminal"] = json!(true));
    case.run().refused_with(&["standard input is no terminal", "set process.terminal to false"]);
}

#[test]
fn a_pid_file_goes_with_its_process() {
    tandem_only!("a pid file after a failed hook");
    let mut case = case!("advpid");
    case.alter(|c| c["hooks"] = json!({"poststart": [{"path": "/bin/false"}]}));
    let (bundle, pid_file) = (case.text("bundle"), case.text("pid"));
    for more in [&["--detach"][..], &[]] {
        let args = [&["run", "--bundle", &bundle, "--pid-file", &pid_file], more, &[&case.id]].concat();
        case.call(&args).refused_with(&["poststart"]);
        assert!(!case.path("pid").exists(), "{more:?}");
        case.nothing_left("a failed poststart hook");
    }
}

#[test]
fn a_memory_limit_that_kills_the_set_up_is_named() {
    tandem_only!("what an error says of memory");
    let mut case = case!("advoom");
    if !look::has_controllers(&["memory"]) {
        skip!("no memory controller");
    }
    let mut killed = 0;
    // At which of them the kernel kills, and does not refuse by itself, depends on the kernel.
    for limit in [100_000, 200_000, 300_000, 500_000, 800_000, 1_200_000] {
        case.alter(|c| c["linux"]["resources"] = json!({"memory": {"limit": limit, "swap": limit}}));
        let outcome = case.create_with(&[]);
        if !outcome.status.success() {
            let said = outcome.refused();
            assert!(!said.contains("sync protocol"), "{limit}: {said}");
            if said.contains("out of memory") {
                killed += 1;
                assert!(said.contains("linux.resources.memory.limit"), "{limit}: {said}");
            }
        }
        case.delete_by_force();
        case.nothing_left("a start without memory");
        let _ = fs::remove_file(case.path("pid"));
    }
    assert!(killed > 0, "no limit was low enough");
}

#[test]
fn a_filter_that_forbids_execve_is_named() {
    tandem_only!("advice");
    let mut case = case!("advseccomp");
    for (action, answer) in
        [("SCMP_ACT_ERRNO", 1), ("SCMP_ACT_ERRNO", 13), ("SCMP_ACT_ERRNO", 2), ("SCMP_ACT_TRACE", 38)]
    {
        case.alter(|c| {
            let mut rule = json!({"names": ["execve"], "action": action});
            if action == "SCMP_ACT_ERRNO" {
                rule["errnoRet"] = json!(answer);
            }
            c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]});
        });
        case.run().refused_with(&["execve `/bin/", "the seccomp filter answers execve with", action, "linux.seccomp"]);
        let lint = case.call(&["lint", &case.text("bundle")]).all();
        let words = "`execve` is answered with SCMP_ACT_ERRNO: no program starts";
        assert_eq!(lint.contains(words), action == "SCMP_ACT_ERRNO", "{lint}");
    }
    // One under which the process can neither say so nor exit.
    let few = json!([{"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}]);
    case.alter(|c| c["linux"]["seccomp"] = json!({"defaultAction": "SCMP_ACT_ERRNO", "syscalls": few}));
    case.run().refused_with(&["before the payload was executed", "linux.seccomp", "tandem lint"]);
    case.nothing_left("a filter that forbids execve");
}

#[test]
fn a_file_system_that_is_not_for_user_namespaces_says_so() {
    tandem_only!("advice");
    let mut case = case!("advuserfs");
    case.alter(|c| {
        user_namespace(c, 100_000);
        mount(c, "/mnt", "ext4", "/dev/loop0", &[]);
    });
    let known = fs::read_to_string("/proc/filesystems").unwrap().lines().any(|line| line.ends_with("\text4"));
    if !known {
        skip!("this kernel has no ext4");
    }
    fs::create_dir_all(case.rootfs().join("mnt")).unwrap();
    case.create_with(&[]).refused_with(&["/mnt", "Operation not permitted", "no user namespace mount `ext4`", "bind"]);
    let lint = case.call(&["lint", &case.text("bundle")]).all();
    assert!(lint.contains("the kernel lets no user namespace mount `ext4`"), "{lint}");
    case.nothing_left("a refused mount");
}

/// Docker looks for these words, and adds its own.
#[test]
fn a_file_on_a_directory_and_the_other_way_round_are_told() {
    tandem_only!("advice");
    let mut case = case!("advlike");
    fs::write(case.path("file"), "").unwrap();
    fs::create_dir(case.path("directory")).unwrap();
    let good = case.config.clone();
    for (source, destination) in [("file", "/tmp"), ("directory", "/etc/passwd")] {
        let source = case.text(source);
        fs::write(case.rootfs().join("etc/passwd"), "").unwrap();
        case.alter(|c| {
            *c = good.clone();
            mount(c, destination, "bind", &source, &["rbind"]);
        });
        case.create_with(&[]).refused_with(&[destination, "not a directory", "a file on a file"]);
    }
}

#[test]
fn a_root_that_is_no_mount_point_is_told() {
    tandem_only!("advice");
    let case = case!("advchroot");
    // The host once more, below a directory that nothing is mounted on. The strategy that pivots nothing is at no loss there.
    let (below, root) = (case.text("below"), format!("{}/root", case.text("below")));
    let script = format!(
        "mkdir -p {below} && mount -t tmpfs x {below} && mkdir {root} && for d in /*; do [ -d $d ] || continue; \
         mkdir {root}$d && mount --rbind $d {root}$d; done; exec chroot {root} env TANDEM_MOUNT_STRATEGY=pivot \"$@\""
    );
    let outcome = case.create_behind(&["unshare", "-m", "sh", "-c", &script, "sh"], &[]);
    outcome.refused_with(&["`/` is no mount point here, as in a chroot", "mount --bind DIR DIR"]);
}

#[test]
fn a_fuse_file_system_that_lets_nobody_in_is_told() {
    tandem_only!("advice");
    if !std::path::Path::new("/dev/fuse").exists() {
        skip!("there is no /dev/fuse");
    }
    let mut case = case!("advfuse");
    fs::create_dir(case.path("fuse")).unwrap();
    let source = case.text("fuse");
    case.alter(|c| mount(c, "/data", "bind", &source, &["rbind"]));
    // Of another user, and served by nobody: the kernel itself refuses. mount(8) would look at it before it is attached.
    let script = format!(
        "exec 9<>/dev/fuse; busybox mount -i -t fuse -o fd=9,rootmode=40000,user_id=1000,group_id=1000 fuse {source} && exec \"$@\""
    );
    let outcome = case.create_behind(&["unshare", "-m", "sh", "-c", &script, "sh"], &[]);
    outcome.refused_with(&["/data", "Permission denied", "`allow_other`"]);
    case.nothing_left("a refused mount");
}
