# The scenarios of tests/engines/podman: sourced by it, never run.
# shellcheck shell=bash disable=SC2016,SC2034
#
# A scenario is a function `scenario_NAME`, the first comment in it its description. It runs once for each runtime, in a
# process of its own, with
#
#   must ARG...     podman ARG...; what it prints is a fact. Its failure is one too, and marks the scenario as refused.
#   status ARG...   podman ARG... whose exit status is a fact, with the class of error podman made of the runtime's.
#   run ARG...      must run --rm, in a fresh root file system: `run [OPTION...] -- COMMAND...`
#   try ARG...      the same by status
#   skip REASON     ends the scenario: it can't be had on this machine
#   $ROOTFS $SCRATCH $IMAGE   its root file system, a directory of its own, an image of that file system
#
# All it prints on stdout is compared; names, ids and paths that differ by nature are replaced first.

# Those of --quick: of each area what has broken most, or touches most.
QUICK=(run_facts run_exit_code run_terminal exec_facts stop pause memory update read_only volume userns
    capabilities device_cgroup)

# --- run -------------------------------------------------------------------------------------------------------------

scenario_run_facts() {
    : "every fact about a default container"
    run -- facts
    left_in_rootfs
}

scenario_run_image() {
    : "from an image, with its command, environment, user and directory"
    must run --rm "$IMAGE"
    must run --rm --user guest "$IMAGE" facts identity env
}

scenario_run_exit_code() {
    : "the payload's exit status, and that of a signal"
    try -- sh -c 'exit 0'
    try -- sh -c 'exit 42'
    try -- sh -c 'kill -9 $$'
    try -- sh -c 'kill -TERM $$; sleep 5'
}

scenario_run_command_errors() {
    : "125, 126 and 127: as podman reads them out of the runtime's message"
    try -- no-such-command
    try -- /no/such/path
    try -- /etc
    try -- /etc/passwd
    try -- ''
    try --workdir /no/such/directory -- true
    printf '#!/no/such/interpreter\n' >"$ROOTFS/bin/broken"
    chmod +x "$ROOTFS/bin/broken"
    try -- broken
    printf 'not a program\n' >"$ROOTFS/bin/noformat"
    chmod +x "$ROOTFS/bin/noformat"
    try -- noformat
}

scenario_run_detached() {
    : "run -d, logs, wait, its exit status afterwards"
    must run -d --name one --rootfs "$ROOTFS" sh -c 'echo out; echo err >&2; exit 3'
    must wait one
    both_outputs logs one
    must inspect --format '{{.State.Status}} {{.State.ExitCode}} {{.State.OOMKilled}}' one
    status start --attach one
    must rm one
}

scenario_run_stdin() {
    : "stdin is passed, and its end"
    printf 'a\nb\n' | run -i -- wc -l
    printf 'a\n' | run -- sh -c 'cat; echo end'
}

scenario_run_big_output() {
    : "a megabyte through the pipe, whole"
    run -- sh -c 'head -c 1000000 /dev/zero | tr "\0" x' | md5sum
}

scenario_run_terminal() {
    : "-t: the facts of a container with a terminal"
    must run -t --rm --rootfs "$ROOTFS" facts identity process mounts dev
}

scenario_run_terminal_size() {
    : "-it in a terminal of 33 rows and 101 columns, and one of 7 by 200"
    in_terminal 33 101 run -it --rm --rootfs "$ROOTFS" sh -c 'stty size; tty; echo done'
    in_terminal 7 200 run -it --rm --rootfs "$ROOTFS" stty size
}

scenario_run_terminal_exit() {
    : "-it: the exit status comes through"
    in_terminal 24 80 run -it --rm --rootfs "$ROOTFS" sh -c 'exit 5'
    in_terminal 24 80 run -it --rm --rootfs "$ROOTFS" no-such-command
}

scenario_run_environment() {
    : "--env, its order, empty values, a large one"
    run --env A=1 --env B= --env 'C=x y=z' --env A=2 -- facts env
    run --env "BIG=$(head -c 100000 /dev/zero | tr '\0' x)" -- sh -c 'echo ${#BIG}'
}

scenario_run_user() {
    : "--user by number, name, with a group, unknown; --group-add"
    local user
    for user in 1000 1000:2000 guest guest:extra 4242 4242:4242 nobody:; do
        echo "user $user"
        try --user "$user" -- facts identity caps
    done
    run --user guest --group-add 77 --group-add extra -- facts identity
}

scenario_run_workdir() {
    : "--workdir; an image's own, which is missing, is made"
    run --workdir /tmp -- pwd
    must run --rm "$IMAGE" sh -c 'pwd; stat -c %A:%u:%g /srv/made'
    status run --rm --workdir /made/up "$IMAGE" pwd
}

scenario_run_umask() {
    : "--umask"
    run --umask 0077 -- sh -c 'umask; touch /tmp/f; stat -c %A /tmp/f'
}

scenario_run_hostname() {
    : "--hostname, --uts=host"
    run --hostname box.example -- sh -c 'hostname; cat /proc/sys/kernel/hostname'
    equal "the host's name" "$(run --uts=host -- hostname)" "$(uname -n)"
    run --uts=host -- facts namespaces
}

scenario_run_init() {
    : "--init: catatonit as pid 1"
    local init
    init=$(command -v catatonit) || skip "catatonit is not installed"
    run --init --init-path "$init" -- sh -c 'cat /proc/1/comm; [ $$ != 1 ] && echo not 1'
    try --init --init-path "$init" -- sh -c 'exit 9'
}

scenario_run_pidfile() {
    : "--pidfile and --cidfile hold what they should"
    must run -d --name one --pidfile "$SCRATCH/pid" --cidfile "$SCRATCH/cid" --rootfs "$ROOTFS" sleep 10000
    equal "the pid" "$(cat "$SCRATCH/pid")" "$(podman inspect --format '{{.State.Pid}}' one)"
    tr -d '0-9' <"$SCRATCH/pid" | od -c | head -1
}

scenario_run_preserve_fds() {
    : "--preserve-fds passes descriptors 3 and on, none else"
    run --preserve-fds 1 -- sh -c 'ls /proc/self/fd; cat <&3' 3< <(echo through) 9</dev/null
}

scenario_run_hooks() {
    : "hooks at every stage get the state on stdin, poststop's too"
    local stage
    for stage in prestart createRuntime createContainer poststart poststop; do
        hook "$stage" "{ echo stage $stage; cat; echo; } >>$SCRATCH/seen"
    done
    # This one runs in the container, after pivot.
    hook startContainer "{ echo stage startContainer; cat; echo; } >>/seen"
    must --hooks-dir "$SCRATCH/hooks" run --rm --annotation org.example.key=value --rootfs "$ROOTFS" echo payload
    hook_states "$SCRATCH/seen" "$ROOTFS/seen"
}

scenario_run_hook_failure() {
    : "a failing createRuntime hook: the container does not start, and poststop still runs"
    hook createRuntime "echo createRuntime >>$SCRATCH/seen; exit 3"
    hook poststop "echo poststop >>$SCRATCH/seen"
    status --hooks-dir "$SCRATCH/hooks" run --rm --annotation org.example.key=value --rootfs "$ROOTFS" echo payload
    cat "$SCRATCH/seen"
}

scenario_run_hook_namespaces() {
    : "where hooks run: the host's namespaces, or the container's"
    local stage namespaces='readlink /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/uts'
    for stage in prestart createRuntime createContainer poststart poststop; do
        hook "$stage" "{ echo stage $stage; $namespaces; pwd; } >>$SCRATCH/seen"
    done
    must --hooks-dir "$SCRATCH/hooks" run --rm --annotation org.example.key=value --rootfs "$ROOTFS" true
    cat "$SCRATCH/seen"
}

# --- exec ------------------------------------------------------------------------------------------------------------

scenario_exec_facts() {
    : "every fact about a process executed into a default container"
    start
    must exec one facts
}

scenario_exec_exit_code() {
    : "exit status, that of a signal, 126 and 127"
    start
    status exec one sh -c 'exit 42'
    status exec one sh -c 'kill -9 $$'
    status exec one no-such-command
    status exec one /no/such/path
    status exec one /etc
    status exec one /etc/passwd
    status exec --workdir /no/such/directory one true
}

scenario_exec_stdin() {
    : "exec -i passes stdin and its end; without -i there is none"
    start
    printf 'a\nb\n' | must exec -i one wc -l
    printf 'a\n' | must exec one sh -c 'cat; echo end'
}

scenario_exec_output() {
    : "stdout and stderr stay apart; a megabyte arrives whole"
    start
    both_outputs exec one sh -c 'echo out; echo err >&2'
    must exec one sh -c 'head -c 1000000 /dev/zero | tr "\0" x' | md5sum
}

scenario_exec_terminal() {
    : "exec -it: size, the terminal's name, the exit status"
    start
    in_terminal 41 77 exec -it one sh -c 'stty size; tty; exit 6'
    must exec -t one facts process
}

scenario_exec_detached() {
    : "exec -d runs on by itself"
    start
    must exec -d one sh -c 'echo done >/tmp/mark'
    wait_for 10 test -e "$ROOTFS/tmp/mark"
    cat "$ROOTFS/tmp/mark"
    status exec -d one no-such-command
}

scenario_exec_user() {
    : "exec --user by number, name, group, unknown"
    local user
    start --group-add 77
    for user in 1000 1000:2000 guest guest:extra 4242; do
        echo "user $user"
        status exec --user "$user" one facts identity caps
    done
}

scenario_exec_privileged() {
    : "exec --privileged has every capability, also for a user"
    start
    must exec --privileged one facts caps
    must exec --privileged --user 1000 one facts caps
}

scenario_exec_options() {
    : "exec --workdir, --env, --env-file"
    start --env KEEP=1
    printf 'FROM_FILE=yes\n' >"$SCRATCH/env"
    must exec --workdir /tmp --env A=1 --env KEEP=2 --env-file "$SCRATCH/env" one facts env
    must exec --workdir /tmp one pwd
}

scenario_exec_cgroup() {
    : "the executed process is in the container's cgroup and under its limits"
    start
    must exec one sh -c 'cmp /proc/self/cgroup /proc/1/cgroup && echo same cgroup'
}

scenario_exec_stopped() {
    : "exec into a stopped and into a missing container"
    start
    must stop -t 0 one
    status exec one true
    status exec nobody-there true
}

scenario_exec_many() {
    : "twenty at once"
    local i
    start
    for i in {1..20}; do
        podman exec one echo "number $i" &
    done | sort -V
    wait
}

scenario_exec_userns() {
    : "exec into a container with mapped users"
    map_rootfs
    start --uidmap 0:100000:65536 --gidmap 0:200000:65536
    must exec one facts identity caps namespaces mounts
}

scenario_exec_no_new_privileges() {
    : "exec keeps no-new-privileges and the seccomp profile"
    start --security-opt no-new-privileges
    must exec one facts caps
}

# --- lifecycle -------------------------------------------------------------------------------------------------------

scenario_stop() {
    : "a payload that handles TERM, one that does not, one with another stop signal"
    start_trapping TERM 7
    must stop -t 10 one
    states one
    must rm one
    must run -d --name two --rootfs "$ROOTFS" sh -c 'trap "" TERM; while :; do sleep 0.1; done'
    must stop -t 1 two
    states two
    must rm two
    start_trapping USR2 8 --stop-signal USR2
    must stop -t 10 one
    states one
}

scenario_kill() {
    : "kill with signals by name and number"
    start_trapping USR1 11
    must kill --signal USR1 one
    must wait one
    must rm one
    start_trapping HUP 12
    must kill -s 1 one
    must wait one
    must rm one
    start
    must kill one
    must wait one
    states one
    status kill one
    status kill nobody-there
}

scenario_kill_realtime() {
    : "a realtime signal"
    # 37 is SIGRTMIN+3, as the kernel counts.
    start_trapping 37 14
    must kill --signal RTMIN+3 one
    must wait one
}

scenario_pause() {
    : "a paused container makes no progress; exec into it fails; unpause and it goes on"
    local before after
    must run -d --name one --rootfs "$ROOTFS" sh -c 'while :; do echo x >>/tmp/count; sleep 0.05; done'
    wait_for 10 test -s "$ROOTFS/tmp/count"
    must pause one
    states one
    before=$(wc -l <"$ROOTFS/tmp/count")
    sleep 0.3
    after=$(wc -l <"$ROOTFS/tmp/count")
    echo "progress while paused: $((after - before))"
    status exec one true
    status pause one
    must unpause one
    states one
    sleep 0.3
    (($(wc -l <"$ROOTFS/tmp/count") > after)) && echo "goes on"
    status unpause one
}

scenario_remove() {
    : "rm refuses what runs; rm -f takes it, paused too"
    start
    status rm one
    must rm -f -t 0 one
    start
    must pause one
    must rm -f -t 0 one
    must ps -aq
}

scenario_restart() {
    : "create, init, start, restart"
    must create --name one --rootfs "$ROOTFS" sh -c 'echo begun >>/tmp/begun; exec sleep 10000'
    must init one
    states one
    must start one
    wait_for 10 test -s "$ROOTFS/tmp/begun"
    states one
    must restart -t 0 one
    wait_for 10 eval '(($(wc -l <"$ROOTFS/tmp/begun") == 2))'
    states one
}

scenario_create_remove() {
    : "a container that was created and initialised, and never started, can go"
    must create --name one --rootfs "$ROOTFS" true
    must init one
    must rm -f -t 0 one
    must create --name two --rootfs "$ROOTFS" no-such-command
    status init two
    status start two
    must rm -f -t 0 two
}

scenario_attach() {
    : "start --attach and -i"
    must create -i --name one --rootfs "$ROOTFS" sh -c 'cat; exit 4'
    echo hello | status start --attach -i one
}

scenario_healthcheck() {
    : "a healthy and an unhealthy container"
    # Without systemd there is no timer: podman is to leave that to us.
    export DISABLE_HC_SYSTEMD=true
    must run -d --name one --health-cmd 'test -e /tmp/well' --health-interval disable --health-retries 1 \
        --rootfs "$ROOTFS" sleep 10000
    status healthcheck run one
    touch "$ROOTFS/tmp/well"
    status healthcheck run one
}

scenario_top_stats() {
    : "top, and the processes that podman sees"
    must run -d --name one --rootfs "$ROOTFS" sh -c 'sleep 101 & touch /tmp/ready; exec sleep 102'
    wait_for 10 test -e "$ROOTFS/tmp/ready"
    sleep 0.1
    must top one user pid args | sort
}

scenario_orphans() {
    : "processes left by pid 1 go when it goes"
    # A sleep of a length that no other process has, so that the host can look for it.
    must run -d --name one --rootfs "$ROOTFS" sh -c "setsid sleep $UNIQUE & sleep 0.3"
    must wait one
    sleep 0.2
    echo "left: $(processes_with "$UNIQUE")"
}

# --- resources -------------------------------------------------------------------------------------------------------

scenario_memory() {
    : "--memory, --memory-swap, --memory-reservation"
    start --memory 64m --memory-swap 96m --memory-reservation 32m
    limits one memory memory.limit_in_bytes memory.memsw.limit_in_bytes memory.soft_limit_in_bytes \
        memory.max memory.swap.max memory.low
}

scenario_memory_kill() {
    : "more memory than allowed: 137, and podman sees the OOM kill"
    must run -d --name one --memory 32m --memory-swap 32m --rootfs "$ROOTFS" tail /dev/zero
    must wait one
    must inspect --format '{{.State.OOMKilled}} {{.State.ExitCode}}' one
}

scenario_pids_limit() {
    : "--pids-limit: the value, and a fork that fails"
    start --pids-limit 17
    limits one pids pids.max
    try --pids-limit 8 -- sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do sleep 3 & done; echo all'
}

scenario_cpus() {
    : "--cpus, --cpu-shares"
    start --cpus 0.5 --cpu-shares 300
    limits one cpu cpu.cfs_quota_us cpu.cfs_period_us cpu.shares cpu.max cpu.weight
}

scenario_cpuset() {
    : "--cpuset-cpus, --cpuset-mems"
    start --cpuset-cpus 0 --cpuset-mems 0
    limits one cpuset cpuset.cpus cpuset.mems
}

scenario_blkio() {
    : "--device-read-bps"
    local device
    device=$(find /sys/block -mindepth 1 -maxdepth 1 -printf '/dev/%f\n' | sort | while read -r device; do
        [[ -b $device ]] && echo "$device" && break
    done)
    [[ -n $device ]] || skip "no block device here"
    start --device-read-bps "$device:1mb"
    limits one blkio blkio.throttle.read_bps_device io.max
}

scenario_hugetlb_cgroup() {
    : "the one controller a bare v2 hierarchy may have: no limit asked, none set"
    start
    limits one hugetlb hugetlb.2MB.max
}

scenario_update() {
    : "podman update: cpu, memory, pids"
    start --memory 64m --memory-swap 64m --cpus 1
    status update --cpus 0.25 one
    status update --memory 128m --memory-swap 128m one
    limits one cpu cpu.cfs_quota_us cpu.cfs_period_us cpu.max
    limits one memory memory.limit_in_bytes memory.max
}

scenario_ulimit() {
    : "--ulimit, also one that may not be raised"
    run --ulimit nofile=100:200 --ulimit nproc=500:600 --ulimit core=0 --ulimit stack=1048576:2097152 -- facts limits
    try --ulimit nproc=500:600 --ulimit nofile=2000000:2000000 -- true
}

scenario_oom_score() {
    : "--oom-score-adj"
    run --oom-score-adj 500 -- cat /proc/self/oom_score_adj
}

scenario_cgroup_namespace() {
    : "--cgroupns=private and host"
    run --cgroupns=private -- facts cgroup namespaces
    run --cgroupns=host -- facts cgroup namespaces
}

scenario_cgroups_disabled() {
    : "--cgroups=disabled, for a runtime that podman lets have it"
    try --cgroups=disabled -- true
}

scenario_cgroups_no_conmon() {
    : "--cgroups=no-conmon"
    run --cgroups=no-conmon -- facts cgroup
}

scenario_cgroup_writable() {
    : "a privileged container's own cgroup"
    run --privileged --cgroupns=private -- facts cgroup
    run --privileged --cgroupns=private -- sh -c 'mkdir /sys/fs/cgroup/sub 2>/dev/null ||
        mkdir /sys/fs/cgroup/pids/sub 2>/dev/null; echo $?'
}

# --- file systems ----------------------------------------------------------------------------------------------------

scenario_read_only() {
    : "--read-only, with and without podman's own temporary file systems"
    run --read-only -- facts mounts readonly
    run --read-only --read-only-tmpfs=false -- facts mounts readonly
    run --read-only -- sh -c 'touch /x 2>&1; touch /tmp/x && echo tmp'
}

scenario_tmpfs() {
    : "--tmpfs with options, over a directory with contents"
    run --tmpfs /scratch:size=1m,mode=1750,noexec --tmpfs /etc -- sh -c 'facts mounts; stat -c %A /scratch; ls /etc'
    run --mount type=tmpfs,destination=/a/b/c,tmpfs-size=64k -- sh -c 'stat -c %A /a/b/c; facts mounts'
    mkdir "$ROOTFS/full"
    echo kept >"$ROOTFS/full/file"
    run --mount type=tmpfs,destination=/full -- ls /full
}

scenario_volume() {
    : "-v read-write, read-only, a single file, over a missing destination"
    local source=$SCRATCH/source
    mkdir "$source"
    echo content >"$source/file"
    run -v "$source:/rw" -v "$source:/ro:ro" -v "$source/file:/etc/one-file:ro" -v "$source:/deep/er/still" -- sh -c \
        'facts mounts; cat /ro/file /etc/one-file; echo new >/rw/new && echo written; touch /ro/x 2>&1; ls /deep/er/still'
    ls "$source"
    left_in_rootfs
}

scenario_volume_options() {
    : "-v nosuid,nodev,noexec; a source that is itself read-only; an idle option list"
    mkdir "$SCRATCH/source"
    run -v "$SCRATCH/source:/v:nosuid,nodev,noexec" -- facts mounts
    run -v "$SCRATCH/source:/v:suid,dev,exec" -- facts mounts
    mount -t tmpfs -o ro,nosuid,size=64k none "$SCRATCH/source"
    run -v "$SCRATCH/source:/v" -- facts mounts
    run --uidmap 0:100000:65536 -v "$SCRATCH/source:/v" -- facts mounts
    umount "$SCRATCH/source"
}

scenario_volume_recursive() {
    : "a tree with a file system inside: rbind, bind-nonrecursive, ro over both"
    local option
    mkdir "$SCRATCH/source"
    mount -t tmpfs -o size=64k none "$SCRATCH/source"
    mkdir "$SCRATCH/source/inner"
    mount -t tmpfs -o size=64k none "$SCRATCH/source/inner"
    touch "$SCRATCH/source/inner/here"
    for option in rw ro rbind,ro bind bind,ro; do
        echo "option $option"
        run -v "$SCRATCH/source:/v:$option" -- sh -c 'facts mounts; ls /v/inner; touch /v/inner/x 2>&1; true'
    done
    umount "$SCRATCH/source/inner" "$SCRATCH/source"
}

scenario_volume_propagation() {
    : "private, slave and shared: what the host mounts later is seen, or not"
    local option
    mount -t tmpfs -o size=64k none "$SCRATCH" || skip "an ordinary user can't mount on the host"
    mount --make-shared "$SCRATCH"
    for option in rprivate rslave rshared; do
        mkdir -p "$SCRATCH/source/late"
        must run -d --name "$option" -v "$SCRATCH/source:/v:$option" --rootfs "$ROOTFS" sleep 10000
        mount -t tmpfs -o size=64k none "$SCRATCH/source/late"
        must exec "$option" facts mounts
        umount "$SCRATCH/source/late"
        must rm -f -t 0 "$option"
    done
    umount "$SCRATCH"
}

scenario_volume_named() {
    : "a named volume, copied up from the image"
    must run --rm -v data:/etc "$IMAGE" sh -c 'ls /etc | grep -v -E "^(hosts|hostname|resolv.conf)$"; echo more >/etc/more'
    must run --rm -v data:/data "$IMAGE" cat /data/more
    must volume rm data
}

scenario_volume_missing() {
    : "a source that is not there"
    try -v "$SCRATCH/nothing:/v" -- true
}

scenario_volume_symlink() {
    : "a destination that goes through a link in the root: resolved inside"
    mkdir -p "$SCRATCH/source" "$ROOTFS/real"
    touch "$SCRATCH/source/file"
    ln -s /real "$ROOTFS/link"
    ln -s /run "$ROOTFS/var/run"
    ln -s ../../../../../../tmp "$ROOTFS/climb"
    run -v "$SCRATCH/source:/link/in" -v "$SCRATCH/source:/var/run/in" -v "$SCRATCH/source:/climb/in" -- \
        sh -c 'facts mounts; ls /real/in /run/in /tmp/in'
    left_in_rootfs
}

scenario_many_volumes() {
    : "a hundred of them"
    local i options=()
    for i in {1..100}; do
        mkdir -p "$SCRATCH/many/$i"
        options+=(-v "$SCRATCH/many/$i:/many/$i")
    done
    run "${options[@]}" -- sh -c 'grep -c " /many/" /proc/self/mountinfo'
}

scenario_shm_size() {
    : "--shm-size"
    run --shm-size 1m -- sh -c 'facts mounts; stat -c %A /dev/shm'
}

scenario_devpts_mount() {
    : "--mount type=devpts and type=ramfs"
    try --mount type=devpts,destination=/pts -- facts mounts
    try --mount type=ramfs,destination=/ram -- facts mounts
}

scenario_systemd_mode() {
    : "--systemd=always: the mounts that systemd as pid 1 wants"
    run --systemd always -- facts mounts env readonly
}

# --- identity and security -------------------------------------------------------------------------------------------

scenario_userns() {
    : "--uidmap and --gidmap: every fact"
    map_rootfs
    run --uidmap 0:100000:65536 --gidmap 0:200000:65536 -- facts
    left_in_rootfs
}

scenario_userns_image() {
    : "mapped users over an image, whose files are chowned for it; two ranges"
    must run --rm --uidmap 0:100000:1000 --uidmap 1000:300000:64536 --user guest "$IMAGE" \
        sh -c 'facts identity; stat -c "%u:%g" /bin /etc/passwd; touch /tmp/mine; stat -c "%u:%g" /tmp/mine'
}

scenario_userns_volume() {
    : "a volume in a container with mapped users: ownership as the kernel shows it"
    map_rootfs
    mkdir -m 777 "$SCRATCH/source"
    run --uidmap 0:100000:65536 -v "$SCRATCH/source:/v" -- \
        sh -c 'facts mounts; stat -c %u:%g /v; touch /v/new; stat -c %u:%g /v/new'
    stat -c %u:%g "$SCRATCH/source/new"
}

scenario_userns_terminal() {
    : "a terminal in a container with mapped users"
    map_rootfs
    in_terminal 24 80 run -it --rm --uidmap 0:100000:65536 --rootfs "$ROOTFS" \
        sh -c 'stty size; stat -c "%A %u:%g" /dev/console /dev/pts/ptmx; echo fine >/dev/tty'
}

scenario_userns_privileged() {
    : "--privileged with mapped users"
    map_rootfs
    run --privileged --uidmap 0:100000:65536 -- facts caps mounts dev
}

scenario_userns_host_network() {
    : "mapped users in the host's network: /sys can't be a fresh sysfs"
    map_rootfs
    run --network host --uidmap 0:100000:65536 -- facts mounts readonly
}

scenario_privileged() {
    : "--privileged: every fact but the list of devices, which is the host's"
    run --privileged -- facts identity caps limits env process namespaces cgroup mounts masked readonly
    run --privileged -- sh -c 'ls /dev | wc -l; mount -t tmpfs none /tmp && echo mounted'
}

scenario_capabilities() {
    : "--cap-add, --cap-drop, all of them, for root and a user"
    run --cap-add SYS_ADMIN --cap-drop CHOWN -- facts caps
    run --cap-drop all -- facts caps
    run --cap-drop all --cap-add NET_BIND_SERVICE --user 1000 -- facts caps
    run --cap-add all -- facts caps
    try --cap-add NO_SUCH_CAPABILITY -- true
}

scenario_no_new_privileges() {
    : "--security-opt no-new-privileges"
    run --security-opt no-new-privileges -- facts caps
    run --security-opt no-new-privileges --user 1000 -- facts caps
}

scenario_seccomp_default() {
    : "the default profile: what it refuses, and how"
    run -- facts caps
    run --cap-add SYS_ADMIN -- sh -c 'unshare -n true && echo allowed'
    try -- unshare -U true
    try -- sh -c 'mount -t tmpfs none /tmp'
}

scenario_seccomp_unconfined() {
    : "--security-opt seccomp=unconfined"
    run --security-opt seccomp=unconfined -- facts caps
    run --security-opt seccomp=unconfined -- sh -c 'unshare -U true && echo allowed'
}

scenario_seccomp_profile() {
    : "a profile of one's own: an errno, a kill, a comparison of arguments, an unknown system call"
    seccomp_profile '{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}'
    try --security-opt seccomp="$SCRATCH/profile" -- mkdir /tmp/x
    seccomp_profile '{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_KILL_PROCESS"}'
    try --security-opt seccomp="$SCRATCH/profile" -- mkdir /tmp/x
    # kill(2)'s second argument, the signal: 10 is refused, 0 is not.
    seccomp_profile '{"names":["kill"],"action":"SCMP_ACT_ERRNO","errnoRet":1,
        "args":[{"index":1,"value":10,"valueTwo":0,"op":"SCMP_CMP_EQ"}]}'
    try --security-opt seccomp="$SCRATCH/profile" -- sh -c 'kill -0 1 && echo 0; kill -USR1 1 || echo refused'
    seccomp_profile '{"names":["no_such_call","mkdir"],"action":"SCMP_ACT_ERRNO"}'
    try --security-opt seccomp="$SCRATCH/profile" -- true
    seccomp_profile '{"names":["mkdir"],"action":"SCMP_ACT_NO_SUCH"}'
    try --security-opt seccomp="$SCRATCH/profile" -- true
}

scenario_mask_unmask() {
    : "--security-opt mask= and unmask="
    try --security-opt mask=/etc/passwd:/var -- sh -c 'facts mounts; [ -s /etc/passwd ] || echo empty'
    run --security-opt unmask=ALL -- facts mounts masked readonly
    run --security-opt unmask=/proc/acpi:/proc/sys -- facts masked readonly
}

scenario_device() {
    : "--device with rights, renamed, a directory; what the device cgroup says"
    run --device /dev/zero:/dev/renamed:r -- sh -c \
        'exec 2>&1; facts dev; head -c 3 /dev/renamed | wc -c; echo x >/dev/renamed; true'
    run --device /dev/zero:/dev/deep/er/renamed -- stat -c '%A %t:%T' /dev/deep/er/renamed
    try --device /dev/no-such-device -- true
}

scenario_device_cgroup() {
    : "mknod of what is allowed works, use of what is not doesn't"
    run -- sh -c 'exec 2>&1; mknod /tmp/null c 1 3 && echo x >/tmp/null && echo null
        mknod /tmp/kmsg c 1 11; head -c 1 /tmp/kmsg; true'
    run --device-cgroup-rule 'c 1:11 r' -- sh -c \
        'exec 2>&1; mknod /tmp/kmsg c 1 11 && head -c 1 /tmp/kmsg >/dev/null && echo read; echo x >/tmp/kmsg; true'
}

scenario_sysctl() {
    : "--sysctl of a namespace of its own; one that is not namespaced"
    run --sysctl kernel.msgmax=4096 --sysctl kernel.shm_rmid_forced=1 -- \
        sh -c 'cat /proc/sys/kernel/msgmax /proc/sys/kernel/shm_rmid_forced'
    run --sysctl net.ipv4.ip_forward=1 -- cat /proc/sys/net/ipv4/ip_forward
    try --sysctl kernel.panic=7 -- true
    try --sysctl net.no.such.key=1 -- true
}

scenario_selinux_apparmor() {
    : "options of security modules that this kernel may not have"
    try --security-opt apparmor=unconfined -- true
    try --security-opt label=disable -- true
}

# Only on a machine with SELinux: `scripts/vm 7.3 podman-selinux`.
scenario_selinux_options() {
    : "SELinux: which label has what, by --security-opt label=, --privileged, --ipc host"
    local options
    needs_selinux
    for options in '' '--security-opt label=disable' '--security-opt label=type:spc_t' '--privileged' '--ipc host' \
        '--security-opt label=level:s0:c7,c9' '--read-only'; do
        echo "options: $options"
        # shellcheck disable=SC2086 # words
        labels $options
    done
}

scenario_selinux_volumes() {
    : "SELinux: a volume as it is, shared (:z), private (:Z); a tmpfs; exec"
    local options
    needs_selinux
    mkdir "$SCRATCH/source"
    for options in '' z Z; do
        echo "volume: $options"
        labels --volume "$SCRATCH/source:/volume${options:+:$options}"
    done
    labels --tmpfs /volume
}

needs_selinux() {
    [[ -d /sys/fs/selinux ]] || skip "SELinux is not enabled in this kernel"
}

# labels [OPTION...]: of a container with these options, from outside. The categories are podman's choice.
labels() {
    local pid path
    start "$@"
    pid=$(podman inspect --format '{{.State.Pid}}' one)
    {
        echo "process $(tr -d '\0' <"/proc/$pid/attr/current")"
        echo "exec $(podman exec one cat /proc/self/attr/current | tr -d '\0')"
        for path in / /dev /dev/null /dev/full /dev/pts /dev/shm /dev/mqueue /proc /proc/kcore /sys /sys/firmware \
            /sys/fs/cgroup /etc/hosts /run/.containerenv /volume; do
            [[ ! -e /proc/$pid/root$path ]] || echo "$path $(stat -c %C "/proc/$pid/root$path")"
        done
        podman exec one sh -c 'echo x >/dev/null && echo x >/dev/shm/f && cat /dev/shm/f'
    } | sed -E 's/:c[0-9]+,c[0-9]+/:cA,cB/'
    must rm --force --time 0 one
}

# --- namespaces ------------------------------------------------------------------------------------------------------

scenario_network() {
    : "--network none, host, and the namespace behind a path"
    run --network none -- sh -c 'ls /sys/class/net; facts namespaces'
    run --network host -- sh -c 'facts namespaces mounts'
    touch "$SCRATCH/net"
    unshare --net="$SCRATCH/net" true
    run --network "ns:$SCRATCH/net" -- sh -c 'ls /sys/class/net'
    equal "the namespace asked for" "$(run --network "ns:$SCRATCH/net" -- readlink /proc/self/ns/net)" \
        "net:[$(stat -c %i "$SCRATCH/net")]"
    umount "$SCRATCH/net"
}

scenario_network_container() {
    : "--network, --pid, --ipc, --uts of another container"
    local name
    start --hostname first --ipc shareable
    for name in net pid ipc uts; do
        equal "shared $name" "$(must exec one readlink "/proc/self/ns/$name")" "$(
            run --network container:one --pid container:one --ipc container:one --uts container:one -- \
                readlink "/proc/self/ns/$name"
        )"
    done
    run --pid container:one -- sh -c 'cat /proc/1/comm'
}

scenario_network_slirp() {
    : "a network that podman sets up between create and start, also with mapped users"
    command -v slirp4netns >/dev/null || skip "slirp4netns is not installed"
    try --network slirp4netns -- sh -c 'ls /sys/class/net'
    map_rootfs
    try --network slirp4netns --uidmap 0:100000:65536 --gidmap 0:200000:65536 -- sh -c 'ls /sys/class/net'
}

scenario_pid_host() {
    : "--pid=host: the host's processes are there"
    equal "the host's" "$(run --pid host -- readlink /proc/self/ns/pid)" "$(readlink /proc/self/ns/pid)"
    run --pid host -- sh -c 'test -d /proc/'$$' && echo "sees the test"; facts mounts masked'
    try --pid host -- sh -c 'kill -9 $$'
}

scenario_pid_host_kill() {
    : "--pid=host: stop and rm take every process of the container with it"
    must run -d --name one --pid host --rootfs "$ROOTFS" sh -c "sleep $UNIQUE & touch /tmp/ready; exec sleep $UNIQUE"
    wait_for 10 test -e "$ROOTFS/tmp/ready"
    sleep 0.1
    echo "running: $(processes_with "$UNIQUE")"
    must rm -f -t 0 one
    sleep 0.3
    echo "left: $(processes_with "$UNIQUE")"
}

scenario_ipc() {
    : "--ipc=host, private, none"
    run --ipc host -- facts namespaces mounts
    run --ipc private -- facts namespaces mounts
    try --ipc none -- facts namespaces mounts
}

scenario_userns_host() {
    : "--userns=host"
    run --userns host -- facts namespaces identity
}

scenario_pod() {
    : "a pod with an infra container of our own image, and two containers that share its namespaces"
    local name pod_options
    set_pod_options
    must pod create --name pod --infra-image "$IMAGE" --infra-command /bin/pause --hostname podded --share net,ipc,uts \
        "${pod_options[@]}"
    must run -d --pod pod --name one "$IMAGE" sleep 10000
    must run -d --pod pod --name two "$IMAGE" sleep 10000
    for name in net ipc uts pid mnt; do
        equal "shared $name" "$(must exec one readlink "/proc/self/ns/$name")" \
            "$(must exec two readlink "/proc/self/ns/$name")"
    done
    must exec one sh -c 'echo hello >/dev/shm/x'
    must exec two cat /dev/shm/x
    must exec two hostname
    must exec one facts cgroup mounts
    must pod inspect --format '{{.State}} {{.NumContainers}}' pod
    must pod pause pod
    must pod unpause pod
    must pod stop -t 0 pod
    must pod start pod
    must exec one hostname
    must pod rm -f -t 0 pod
    must ps -aq
}

scenario_pod_pid() {
    : "a pod that shares its pid namespace"
    local pod_options
    set_pod_options
    must pod create --name pod --infra-image "$IMAGE" --infra-command /bin/pause --share pid,net \
        "${pod_options[@]}"
    must run -d --pod pod --name one "$IMAGE" sleep 10000
    must run --rm --pod pod "$IMAGE" sh -c 'ps -o args | grep "[s]leep" | sort'
    must pod rm -f -t 0 pod
}

scenario_pod_no_infra() {
    : "a pod without an infra container"
    must pod create --name pod --infra=false
    must run -d --pod pod --name one "$IMAGE" sleep 10000
    must run --rm --pod pod --name two "$IMAGE" facts cgroup namespaces
    must pod rm -f -t 0 pod
}

# --- what the scenarios are written in -------------------------------------------------------------------------------

# start [OPTION...]: a container `one` that does nothing until it is told to end.
start() {
    must run -d --name one "$@" --rootfs "$ROOTFS" sleep 1000
}

# start_trapping SIGNAL STATUS [OPTION...]: the same, ends with STATUS on SIGNAL. Ready when this returns.
start_trapping() {
    local signal=$1 code=$2
    shift 2
    rm -f "$ROOTFS/tmp/ready"
    must run -d --name one "$@" --rootfs "$ROOTFS" \
        sh -c "trap 'exit $code' $signal; touch /tmp/ready; while :; do sleep 0.05; done"
    wait_for 10 test -e "$ROOTFS/tmp/ready"
}

# With mapped users, container root must own the root file system to make mount points in it.
map_rootfs() {
    chown -R -h 100000:200000 "$ROOTFS"
}

# equal NAME A B: whether they are.
equal() {
    if [[ $2 == "$3" ]]; then echo "$1: yes"; else echo "$1: no"; fi
}

states() {
    must inspect --format '{{.State.Status}} {{.State.Running}} {{.State.Paused}} {{.State.ExitCode}}' "$1"
}

# limits NAME CONTROLLER FILE...: those of the files there are in the cgroup of container NAME, read on the host.
limits() {
    local pid path file directory
    pid=$(podman inspect --format '{{.State.Pid}}' "$1")
    [[ $pid != 0 ]] || return 0
    for directory in "/sys/fs/cgroup/$2$(sed -n "s/^[0-9]*:$2://p" "/proc/$pid/cgroup")" \
        "/sys/fs/cgroup$(sed -n 's/^0:://p' "/proc/$pid/cgroup")"; do
        for file in "${@:3}"; do
            path=$directory/$file
            if [[ -e $path ]]; then
                echo "$file $(cat "$path")"
            fi
        done
    done
}

# What the runtime made in the root file system: mount points, with their modes.
left_in_rootfs() {
    (cd "$ROOTFS" && find . -newer "$SCRATCH/.begin" -printf 'left %p %M %U:%G %s\n' | sed -E 's/^(left .* d.*) [0-9]+$/\1/' |
        sort)
}

# Podman 4.3 with cgroupfs puts a device filter that denies everything on a pod's cgroup under v2, and no runtime can
# start a container below it. So there the containers stay out of it.
set_pod_options() {
    pod_options=()
    if [[ $(cgroup_layout) == v2 ]]; then pod_options=(--share-parent=false); fi
}

# hook STAGE SCRIPT: a hook description for podman, for containers with our annotation. /bin/sh because podman passes
# over a hook whose program is not on the host, and one stage runs in the container.
hook() {
    mkdir -p "$SCRATCH/hooks"
    jq -n --arg stage "$1" --arg script "$2" '{version: "1.0.0", hook: {path: "/bin/sh", args: ["sh", "-c", $script]},
        when: {annotations: {"^org\\.example\\.key$": "^value$"}}, stages: [$stage]}' >"$SCRATCH/hooks/$1.json"
}

# How many processes have WORD for an argument.
processes_with() {
    grep -l -s -z -x "$1" /proc/[0-9]*/cmdline | wc -l
}

# The states that hooks were given, without what differs each time. Pid: only whether there is one.
hook_states() {
    local line
    cat "$@" | while read -r line; do
        case $line in
        '{'*) jq -S -c '{ociVersion: (.ociVersion | type), id: (.id | length), status, pid: ((.pid // 0) > 0), bundle,
            annotation: .annotations["org.example.key"]}' <<<"$line" ;;
        *) echo "$line" ;;
        esac
    done
}

seccomp_profile() {
    printf '{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],"syscalls":[%s]}' "$1" \
        >"$SCRATCH/profile"
}
