# Engines in containers: sourced by tests/workloads/run, never run. The runtime under test is the outer one and the inner.
# shellcheck shell=bash disable=SC2016

# Sets INNER: the options that bring this lane's runtime into the container.
inner_runtime() {
    INNER=("--volume=$(lane_runtime):/usr/local/bin/inner")
}

# A root file system for the innermost, and podman's settings, as one shell text.
PREPARE='mkdir -p /tmp/r/bin /tmp/r/etc /tmp/r/tmp; cp /bin/bash /tmp/r/bin/sh; cp /bin/cat /tmp/r/bin/
    for l in $(ldd /bin/bash /bin/cat | grep -o "/lib[^ ]*" | sort -u); do mkdir -p /tmp/r$(dirname $l); cp -L $l /tmp/r$l; done
    echo "root:x:0:0::/:/bin/sh" >/tmp/r/etc/passwd
    cat >/tmp/c.conf <<X
[engine]
cgroup_manager = "cgroupfs"
events_logger = "file"
runtime_supports_json = ["inner"]
runtime_supports_nocgroup = ["inner"]
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
netns = "none"
log_driver = "k8s-file"
X
    export CONTAINERS_CONF=/tmp/c.conf
    inner() { podman --root /tmp/s --runroot /tmp/rr --tmpdir /tmp/t --storage-driver vfs --runtime /usr/local/bin/inner "$@"; }'

workload_podman_in_podman() {
    : "podman in a privileged container, with the runtime itself inside: run, exec, limits, an image by commit"
    : tools podman docker ctr
    inner_runtime
    once --privileged "${INNER[@]}" "--env=PREPARE=$PREPARE" -- bash -c 'eval "$PREPARE"
        inner run --rm --rootfs /tmp/r sh -c "echo inside; cat /proc/1/comm"
        inner run -d --name one --rootfs /tmp/r cat /dev/zero >/dev/null; inner exec one sh -c "echo by exec"; inner rm -f -t 0 one >/dev/null
        inner run --rm --memory 64m --rootfs /tmp/r sh -c "echo limited"
        tar -C /tmp/r -c . | inner import -q - image:1 >/dev/null; inner run --rm image:1 sh -c "echo an image"
        inner run --rm --rootfs /tmp/r sh -c "exit 9"; echo exit $?'
}

workload_podman_user_in_podman() {
    : "podman of an ordinary user in a privileged container: user namespaces, newuidmap, no cgroups"
    : tools podman docker
    inner_runtime
    once --privileged "${INNER[@]}" "--env=PREPARE=$PREPARE" -- bash -c 'useradd -m user; echo user:10000:5000 >/etc/subuid; cp /etc/subuid /etc/subgid
        export XDG_RUNTIME_DIR=/tmp/x; install -d -o user -m 700 /tmp/x
        setpriv --reuid user --regid user --init-groups --inh-caps=-all env HOME=/home/user bash -c "
            $PREPARE
            inner run --rm --cgroups=disabled --rootfs /tmp/r sh -c \"echo inside; cat /proc/self/uid_map\"
            inner run --rm --rootfs /tmp/r sh -c \"echo with cgroups\""'
}

workload_buildah_in_container() {
    : "buildah in a container: chroot isolation without rights, and the runtime's isolation with them"
    : tools podman docker ctr
    inner_runtime
    once --privileged "${INNER[@]}" "--env=PREPARE=$PREPARE" -- bash -c 'eval "$PREPARE"; mkdir /tmp/b; cp -a /tmp/r /tmp/b/r
        printf "FROM scratch\nCOPY r /\nRUN read a b </proc/self/uid_map; echo built \$a\nUSER 1000\nRUN echo as a user >/tmp/x && cat /tmp/x\n" >/tmp/b/Containerfile
        chmod 1777 /tmp/b/r/tmp
        for isolation in chroot oci; do
            buildah --root /tmp/s --runroot /tmp/rr --storage-driver vfs build --isolation $isolation --runtime /usr/local/bin/inner --network host \
                --layers=false -t built:$isolation /tmp/b 2>&1 | grep -E "^(built|as a user|.*rror)"
        done'
}
