# Programs that need something of the kernel that is not there for everyone: sourced by tests/workloads/run, never run.
# shellcheck shell=bash disable=SC2016

workload_i386() {
    : "a 32-bit program with its own C library, and 64-bit ones that make it"
    : tools
    once -- sh -c 'hello; od -An -tx1 -j4 -N1 /usr/bin/hello; linux32 uname -m; setarch i686 hello'
}

workload_gdb_strace() {
    : "gdb and strace of a process of their own, and of another with CAP_SYS_PTRACE"
    : tools
    once --cap-add=SYS_PTRACE -- sh -c 'strace -f -e trace=execve true 2>&1 | grep -c execve
        gdb -q -batch -ex "break _exit" -ex run -ex "info symbol \$pc" -ex continue /bin/true 2>&1 | grep -c -E "exited normally|Inferior"
        sleep 100 & strace -c -p $! 2>/tmp/s & sleep 1; gdb -q -batch -p $$ -ex detach 2>&1 | grep -c -i detached; kill %1 2>/dev/null; grep -c -i attached /tmp/s'
    try_once --user=daemon -- sh -c 'strace true 2>&1 | tail -n 1; grep ^CapEff /proc/self/status'
    start box --cap-add=SYS_PTRACE -- sleep 1000
    inside box -- sh -c 'gdb -q -batch -p 1 -ex "print 6 * 7" -ex detach 2>&1 | grep "= 42"; readlink /proc/1/exe'
    finish box KILL
    remove box
}

workload_fuse_inside() {
    : "a FUSE file system mounted in the container, read and written, unmounted"
    : tools podman podman-rootless docker
    [[ -c /dev/fuse ]] || skip "this machine has no /dev/fuse"
    once --device=/dev/fuse --cap-add=SYS_ADMIN --security-opt=apparmor=unconfined -- sh -c 'exec 2>&1; mkdir -p /tmp/a /tmp/b; echo deep >/tmp/a/f
        bindfs -o ro /tmp/a /tmp/b && cat /tmp/b/f; touch /tmp/b/g 2>&1 | grep -o -i read-only; df --output=fstype /tmp/b | tail -n 1
        fusermount3 -u /tmp/b || umount /tmp/b; ls /tmp/b | wc -l'
}

workload_fuse_beside() {
    : "a FUSE file system of the host's as a volume, and as the root of a volume that has its own below"
    : tools podman docker ctr
    [[ -c /dev/fuse ]] || skip "this machine has no /dev/fuse"
    command -v bindfs >/dev/null || skip "bindfs is not installed on this machine"
    mkdir -p "$SCRATCH/real/below" "$SCRATCH/shown"
    echo deep >"$SCRATCH/real/below/f"
    bindfs "$SCRATCH/real" "$SCRATCH/shown" || skip "bindfs can't mount here"
    once "--volume=$SCRATCH/shown:/v" -- sh -c 'cat /v/below/f; echo more >/v/below/g; stat -f -c %T /v; df --output=fstype /v | tail -n 1'
    once "--volume=$SCRATCH/shown/below:/v" --user=daemon -- sh -c 'cat /v/f; touch /v/h 2>&1 | grep -o -i denied'
    ls "$SCRATCH/real/below"
    umount "$SCRATCH/shown"
}
