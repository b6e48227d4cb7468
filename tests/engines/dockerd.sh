# A Docker daemon of one's own, with its own containerd: sourced, never run. Needs root and Debian's docker.io.
# shellcheck shell=bash
#
#   docker_start DIR [NAME=PATH...]   starts both in DIR, which must exist and have a short name: sockets live in it. Each
#                                     NAME is a runtime, as `docker run --runtime NAME` has it. The first is the default,
#                                     and what BuildKit takes, which looks for `runc` on the daemon's PATH
#   docker ARG...                     Debian's client, speaking to that daemon; DOCKER_KIT=1 builds by BuildKit
#   docker_stop                       removes every container, then ends what docker_start started, by process ID
#   docker_pids                       the daemons and the shims, one a line
#
# Nothing of the machine's is used or changed: no bridge, no packet filter, the plain storage driver (vfs, or
# $DOCKER_STORAGE), data, sockets and process IDs in DIR, every cgroup below /$DOCKER_CGROUP. So containers need --network
# none or host, and there is no registry: `tar -C ROOTFS -c . | docker import - NAME` makes an image.

DOCKER_DIR=${DOCKER_DIR:-}
# Older daemons make it, and it can't be put elsewhere in a way that newer ones know. Empty if it was there before.
DOCKER_KEY=/etc/docker/key.json
DOCKER_CGROUP=${DOCKER_CGROUP:-tandem-docker-$$}

# An installed client of another maker may stand before Debian's on the PATH.
docker() {
    DOCKER_HOST=unix://$DOCKER_DIR/docker.sock DOCKER_CONFIG=$DOCKER_DIR/client DOCKER_BUILDKIT=${DOCKER_KIT:-0} /usr/bin/docker "$@"
}

docker_start() {
    DOCKER_DIR=$1
    shift
    [[ ! -e $DOCKER_KEY ]] || DOCKER_KEY=
    mkdir -p "$DOCKER_DIR"/client
    docker_configuration "$@" >"$DOCKER_DIR/daemon.json"
    cat >"$DOCKER_DIR/containerd.toml" <<TOML
version = 2
root = "$DOCKER_DIR/containerd"
state = "$DOCKER_DIR/containerd-run"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "$DOCKER_DIR/containerd.sock"
[plugins."io.containerd.internal.v1.opt"]
path = "$DOCKER_DIR/opt"
TOML
    PATH=$PATH:/usr/sbin:/sbin containerd --config "$DOCKER_DIR/containerd.toml" >"$DOCKER_DIR/containerd.log" 2>&1 </dev/null &
    echo $! >"$DOCKER_DIR/containerd.pid"
    docker_wait containerd test -S "$DOCKER_DIR/containerd.sock" || return
    mkdir -p "$DOCKER_DIR/bin"
    ln -sf "${1#*=}" "$DOCKER_DIR/bin/runc"
    PATH=$DOCKER_DIR/bin:$PATH:/usr/sbin:/sbin dockerd --config-file "$DOCKER_DIR/daemon.json" >"$DOCKER_DIR/dockerd.log" 2>&1 </dev/null &
    echo $! >"$DOCKER_DIR/dockerd.pid"
    docker_wait dockerd docker_answers
}

docker_answers() {
    docker version >/dev/null 2>&1
}

# docker_wait NAME COMMAND...: until it succeeds, a minute at most, or until the daemon of that name is gone.
docker_wait() {
    local name=$1 try
    shift
    for ((try = 0; try < 600; try++)); do
        "$@" && return
        kill -0 "$(<"$DOCKER_DIR/$name.pid")" 2>/dev/null || break
        sleep 0.1
    done
    echo "$name did not start; the end of its log:" >&2
    tail -20 "$DOCKER_DIR/$name.log" >&2
    return 1
}

# A process without CAP_SYS_RESOURCE may not lower its OOM score, which the daemon would.
docker_configuration() {
    local runtime runtimes=()
    for runtime in "$@"; do
        runtimes+=("$(printf '"%s": {"path": "%s"}' "${runtime%%=*}" "${runtime#*=}")")
    done
    cat <<JSON
{
    "hosts": ["unix://$DOCKER_DIR/docker.sock"],
    "containerd": "$DOCKER_DIR/containerd.sock",
    "data-root": "$DOCKER_DIR/data",
    "exec-root": "$DOCKER_DIR/run",
    "pidfile": "$DOCKER_DIR/pidfile",
    "storage-driver": "${DOCKER_STORAGE:-vfs}",
    "cgroup-parent": "/$DOCKER_CGROUP",
    "exec-opts": ["native.cgroupdriver=cgroupfs"],
    "oom-score-adjust": 0,
    "bridge": "none",
    "iptables": false,
    "ip6tables": false,
    "ip-forward": false,
    "userland-proxy": false,
    "default-runtime": "${1:+${1%%=*}}",
    "runtimes": {$(IFS=, && echo "${runtimes[*]}")}
}
JSON
}

# The shims are no children of ours: their command line has the socket.
docker_pids() {
    local pid
    cat "$DOCKER_DIR"/{dockerd,containerd}.pid 2>/dev/null
    # The pattern comes by stdin: as an argument, grep would find itself.
    printf '%s' "$DOCKER_DIR/containerd.sock" | grep -l -s -F -f /dev/stdin /proc/[0-9]*/cmdline | while read -r pid; do
        pid=${pid#/proc/}
        echo "${pid%/cmdline}"
    done || true
}

docker_stop() {
    local containers=() name pid path
    [[ -n $DOCKER_DIR ]] || return 0
    if docker_answers; then
        mapfile -t containers < <(docker ps --all --quiet)
        ((${#containers[@]} == 0)) || docker rm --force --volumes "${containers[@]}" >/dev/null
    fi
    # The one that uses the other first: it takes its leave.
    for name in dockerd containerd; do
        pid=$(cat "$DOCKER_DIR/$name.pid" 2>/dev/null) || continue
        docker_end "$pid"
    done
    for pid in $(docker_pids); do
        kill -KILL "$pid" 2>/dev/null || true
    done
    find /sys/fs/cgroup -path "*/$DOCKER_CGROUP*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u |
        while read -r pid; do
            kill -KILL "$pid" 2>/dev/null || true
        done
    awk -v below="$DOCKER_DIR/" 'index($5, below) == 1 { print $5 }' /proc/self/mountinfo | sort -r | while read -r path; do
        umount --lazy "$path" 2>/dev/null || true
    done
    sleep 0.1
    find /sys/fs/cgroup -depth -path "*/$DOCKER_CGROUP*" -type d -exec rmdir {} \; 2>/dev/null || true
    [[ -z $DOCKER_KEY ]] || { rm -f "$DOCKER_KEY" && rmdir --ignore-fail-on-non-empty "${DOCKER_KEY%/*}" 2>/dev/null; } || true
    DOCKER_DIR=
}

# docker_end PID: TERM, and KILL for one that is there 15 seconds later.
docker_end() {
    local try
    kill -TERM "$1" 2>/dev/null || return 0
    for ((try = 0; try < 150; try++)); do
        kill -0 "$1" 2>/dev/null || return 0
        # One that has ended and was not waited for.
        grep -q '^State:.*Z' "/proc/$1/status" 2>/dev/null && return 0
        sleep 0.1
    done
    kill -KILL "$1" 2>/dev/null || true
}
