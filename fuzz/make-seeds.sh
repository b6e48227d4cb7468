# Sourced by `scripts/fuzz --seeds`: runs a few containers with TANDEM_RECORD and a few fixed configurations, and makes
# seeds of them. Needs root, busybox-static and jq.
# shellcheck shell=bash

seeds_work() {
    local work=$1 tandem root=$1/state pid
    require_root
    install_missing "${BUILD_PACKAGES[@]}" c++=g++ have_static_busybox=busybox-static jq=jq script=bsdutils
    cargo build --quiet --locked --bin tandem --example pack_seeds
    tandem=$TARGET_DIR/debug/tandem
    make_rootfs "$work/bundle/rootfs"
    (cd "$work/bundle" && "$tandem" spec)
    jq '.process.terminal = false | .process.args = ["true"] | .process.env = ["PATH=/bin"]' \
        "$work/bundle/config.json" >"$work/plain.json"
    record() {
        local name=$1 change=$2
        shift 2
        jq "$change" "$work/plain.json" >"$work/bundle/config.json"
        TANDEM_RECORD=$work/$name.record "$tandem" --root "$root" run --bundle "$work/bundle" "seed-$name" "$@"
    }
    record plain .
    # The events that ride along.
    TANDEM_TRACE=$work/trace record traced .
    record hooks '.hooks = {"createRuntime": [{"path": "/bin/true"}], "createContainer": [{"path": "/bin/true"}]}'
    record seccomp '.linux.seccomp = {"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    record userns '.linux.namespaces += [{"type": "user"}] | .linux.uidMappings = [{"containerID": 0, "hostID": 100000, "size": 65536}] | .linux.gidMappings = .linux.uidMappings'
    record time '.linux.namespaces += [{"type": "time"}] | .linux.timeOffsets = {"monotonic": {"secs": 5}}'
    # A container that is created, started, executed in: three conversations and a stored state.
    jq '.process.args = ["sleep", "1000"]' "$work/plain.json" >"$work/bundle/config.json"
    export TANDEM_RECORD=$work/steps.record
    "$tandem" --root "$root" create --bundle "$work/bundle" seed-steps >/dev/null </dev/null 2>&1
    "$tandem" --root "$root" start seed-steps
    "$tandem" --root "$root" exec seed-steps true
    script --quiet --return --command "'$tandem' --root '$root' exec --tty seed-steps true" /dev/null >/dev/null </dev/null
    # One that joins its pid namespace, and one without a mount namespace, executed in.
    pid=$("$tandem" --root "$root" state seed-steps | jq .pid)
    jq "(.linux.namespaces[] | select(.type == \"pid\")).path = \"/proc/$pid/ns/pid\"" \
        "$work/plain.json" >"$work/bundle/config.json"
    "$tandem" --root "$root" run --bundle "$work/bundle" seed-joined
    jq '.process.args = ["sleep", "1000"] | .mounts = [] | .linux |= del(.maskedPaths, .readonlyPaths) | .root.readonly = false |
        .linux.namespaces |= map(select(.type != "mount" and .type != "cgroup"))' "$work/plain.json" >"$work/bundle/config.json"
    unset TANDEM_RECORD
    "$tandem" --root "$root" create --bundle "$work/bundle" seed-bare >/dev/null </dev/null 2>&1
    TANDEM_RECORD=$work/bare.record "$tandem" --root "$root" exec seed-bare true
    "$tandem" --root "$root" delete --force seed-bare
    # Without what is this machine's.
    jq -c '.state.bundle = "/b" | .rootfs = "/b/rootfs" | .process = {"pid": 42, "start_time": 4242}' \
        "$root/seed-steps/state.json" >fuzz/seeds/state/created.json
    "$tandem" --root "$root" delete --force seed-steps
    "$TARGET_DIR/debug/examples/pack_seeds" fuzz/seeds "$work"/*.record
}

seeds_of_configurations() {
    local name file options
    for file in tests/data/podman-config.json tests/data/every-property.json; do
        name=$(basename "$file" .json)
        cp "$file" "fuzz/seeds/config/$name.json"
        jq -c .process "$file" >"fuzz/seeds/process/$name.json"
        jq -c .linux.seccomp "$file" >"fuzz/seeds/seccomp/$name.json"
        jq -r '[.mounts[].options // [] | join(",")] | unique | .[] | select(. != "")' "$file" |
            while read -r options; do
                printf '%s' "$options" >"fuzz/seeds/mount_options/$(printf '%s' "$options" | md5sum | cut -c1-8)"
            done
    done
    printf 'bind,ro,idmap=uids=0-1000-10#5-6-7;gids=@0-1-2,rslave,mode=755,tmpcopyup' >fuzz/seeds/mount_options/idmap
    local i=0 path
    for path in /libpod_parent/libpod-0123 machine.slice:libpod:0123 user.slice:tt:x.slice :p:n a-b.slice::c rel/path /a/../b; do
        printf '%s' "$path" >"fuzz/seeds/cgroup_paths/$((i++))"
    done
}

make_seeds() {
    local work name
    work=$(mktemp -d)
    # shellcheck disable=SC2064 # the directory's name as it is now
    trap "rm -rf '$work'" EXIT
    rm -rf fuzz/seeds
    for name in $(targets); do mkdir -p "fuzz/seeds/$name"; done
    seeds_of_configurations
    seeds_work "$work"
}
