# Language runtimes that look at their limits, or use what a kernel must offer: sourced by tests/workloads/run, never run.
# shellcheck shell=bash disable=SC2016

workload_java_limits() {
    : "does Java see the limits of memory and CPUs; heap as a part of it"
    : services podman docker ctr
    once --memory=256m --cpus=1 -- sh -c 'java -XshowSettings:system -version 2>&1 | grep -E "Provider|No metrics|CPU (Quota|Period)|Memory Limit|Effective"; true'
    once --memory=256m --cpus=1 -- java -XX:+PrintFlagsFinal -XX:MaxRAMPercentage=50 -version 2>/dev/null |
        awk '/ (MaxHeapSize|MaxRAM|ActiveProcessorCount|UseSerialGC) / { print $2, $4 }'
    once --user=nobody --memory=512m -- java -XX:+UseParallelGC -Xmx64m -version 2>&1 | head -n 1
}

workload_python_processes() {
    : "Python's multiprocessing (semaphores in /dev/shm), sockets, threads, /proc/self, a temporary file, random numbers"
    : quick in-ci
    once --user=nobody -- python3 -c '
import multiprocessing, os, socket, tempfile, threading
with multiprocessing.Pool(4) as pool:
    print(sum(pool.map(abs, range(-1000, 1000))))
lock = multiprocessing.Lock()
print("semaphore", lock.acquire())
a, b = socket.socketpair()
a.send(b"hello"); print(b.recv(9))
s = socket.create_server(("127.0.0.1", 0)); c = socket.create_connection(s.getsockname()); print("tcp", c.getpeername()[0])
threads = [threading.Thread(target=lambda: None) for _ in range(100)]
[t.start() for t in threads]; [t.join() for t in threads]; print("threads", len(threads))
print(os.getuid(), os.readlink("/proc/self/exe"), len(os.urandom(16)), tempfile.gettempdir())
with tempfile.NamedTemporaryFile() as f: f.write(b"x"); f.flush(); os.fsync(f.fileno()); print("file", os.stat(f.name).st_size)
print(os.memfd_create("m") > 0, os.eventfd(0) > 0, os.sched_getaffinity(0) == set(range(os.cpu_count())))
print(os.getpriority(os.PRIO_PROCESS, 0), os.getpgid(0) == os.getpid(), os.getsid(0) == os.getpid())
'
}

workload_system_calls() {
    : "what the engine's filter answers to calls that it lets pass, refuses, and has never heard of"
    : quick in-ci
    once -- python3 -c '
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def call(name, number, *args):
    ctypes.set_errno(0)
    result = libc.syscall(number, *args)
    print(name, "ok" if result >= 0 else os.strerror(ctypes.get_errno()))
call("getpid", 39)
call("unshare", 272, 0x10000000)
call("mount", 165, 0, 0, 0, 0, 0)
call("keyctl", 250, 0, -3, 1)
call("io_uring_setup", 425, 0, 0)
call("clone3", 435, 0, 0)
call("openat2", 437, -100, b"/", 0, 0)
call("faccessat2", 439, -100, b"/", 0, 0)
call("a call of the future", 600)
'
}
