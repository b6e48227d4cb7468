# Init systems and what they start, several users, rights that a program gains: sourced by tests/workloads/run, never run.
# shellcheck shell=bash disable=SC2016

workload_sudo_su() {
    : "sudo and su between users: setuid programs, PAM, groups, environment"
    : quick in-ci
    # One stream: two have no common order, and sudo writes a line in pieces.
    once -- sh -c 'exec 2>&1; echo "daemon ALL=(ALL) NOPASSWD: ALL" >/etc/sudoers.d/daemon; chmod 440 /etc/sudoers.d/daemon
        usermod --shell /bin/sh daemon
        su daemon -c "id; sudo -n id; sudo -n -u mail id; sudo -n -l | tail -n 1"
        su - daemon -c "echo \$HOME \$PATH; pwd; ulimit -n"; setpriv --reuid daemon --clear-groups id -u' |
        grep -v 'unable to resolve host'
}

workload_file_capabilities() {
    : "ping and a program with file capabilities, of an ordinary user; what no_new_privileges makes of them"
    : quick in-ci
    once -- sh -c 'cp $(which cat) /tmp/cat; setcap cap_chown+ep /tmp/cat; getcap /tmp/cat /bin/ping
        setpriv --reuid daemon --regid daemon --clear-groups /tmp/cat /proc/self/status | grep -E "^Cap(Prm|Eff|Bnd)"'
    once --user=daemon -- sh -c 'ping -c 1 127.0.0.1 | grep -o "1 received"; cat /proc/sys/net/ipv4/ping_group_range'
    once --user=daemon --cap-add=NET_RAW -- sh -c 'ping -c 1 127.0.0.1 | grep -o "1 received"; grep ^Cap /proc/self/status'
    [[ $ENGINE == ctr ]] || once --security-opt=no-new-privileges --user=daemon -- sh -c 'grep -E "^(NoNewPrivs|CapBnd)" /proc/self/status
        ping -c 1 127.0.0.1 2>&1 | tail -n 1 | grep -o -E "received|not permitted"; true'
}

workload_files_of_users() {
    : "chown, chmod, setuid bits, hard links, extended attributes, sparse files, sockets and FIFOs on the root file system"
    : quick in-ci
    once -- sh -c 'exec 2>&1; cd /tmp; for u in daemon mail www-data; do install -o $u -g $u -m 640 /dev/null f-$u; done; chmod 4755 f-mail
        ln f-mail g; mkfifo p; truncate -s 10G sparse; stat -c "%n %a %U:%G %h %s" f-* g p sparse
        su -s /bin/sh mail -c "echo x >f-daemon"; mknod n c 1 3 && echo y >n && echo null; umask'
    once --tmpfs=/t --user=daemon -- sh -c 'touch /t/a && stat -c %A:%U /t; df --output=fstype /t /dev/shm | tail -n 2'
}

# What systemd needs to run, and to be asked.
systemd_says() {
    inside box -- sh -c 'systemctl is-system-running --wait >/dev/null 2>&1 || await sh -c "systemctl is-system-running --wait" >/dev/null'
    inside box -- systemctl is-system-running
    inside box -- systemctl --failed --no-legend --plain
    inside box -- systemctl show --property=Virtualization --property=ControlGroup --property=SystemState
    inside box -- systemctl is-active nginx cron dbus
    inside box -- get 80/ | head -n 1
    inside box -- systemd-run --quiet --wait --pipe --uid=daemon id -un
    # What it takes to make a mount namespace is not given by every engine.
    try_inside box -- systemd-run --quiet --wait --pipe --property=PrivateTmp=yes --property=ProtectSystem=strict id -un || echo "exit $?"
    inside box -- sh -c 'systemctl restart cron && systemctl is-active cron; journalctl --quiet --output=cat | grep -c "Started cron" | sed "s/[1-9][0-9]*/some/"'
    inside box -- sh -c 'systemctl show --property=MainPID --value nginx | xargs -I{} cat /proc/{}/cgroup | grep -c system.slice/nginx | sed "s/[1-9][0-9]*/some/"'
}

workload_systemd() {
    : "systemd as process 1 in the machine's own cgroup layout: units, journal, a transient service, power off"
    : tools podman podman-rootless
    start box --systemd=always -- sh -c 'rm -f /etc/systemd/system/*/podman*; exec /sbin/init'
    systemd_says
    finish box SIGRTMIN+3
    remove box
}

# A bare v2 hierarchy over /sys/fs/cgroup, in a mount namespace of this workload's lane alone.
workload_systemd_v2() {
    : "systemd as process 1 on cgroup v2"
    : tools podman
    [[ $(cgroup_layout) != v2 ]] || skip "the same as the workload systemd: this machine has v2"
    can_offer_layout v2 || skip "this machine can't offer cgroup v2"
    in_layout v2 "$HERE/run" __word systemd_in_v2
}

systemd_in_v2() {
    start box --systemd=always --pids-limit=0 -- sh -c 'rm -f /etc/systemd/system/*/podman*; exec /sbin/init'
    inside box -- sh -c 'stat -f -c %T /sys/fs/cgroup; touch -c /sys/fs/cgroup/cgroup.procs && echo writable'
    systemd_says
    finish box SIGRTMIN+3
    remove box
}

workload_supervisord() {
    : "supervisord as process 1 with programs of several users, one that fails, cron with a job a minute"
    : tools
    start box -- sh -c 'cat >/tmp/s.conf <<X
[supervisord]
nodaemon=true
user=root
[unix_http_server]
file=/tmp/s.sock
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[supervisorctl]
serverurl=unix:///tmp/s.sock
[program:web]
command=nginx -g "daemon off;"
[program:loop]
command=sh -c "id -un; exec sleep 1000"
user=daemon
stdout_logfile=/dev/stdout
stdout_logfile_maxbytes=0
[program:fails]
command=false
startretries=0
[program:cron]
command=cron -f
X
        for u in root daemon; do echo "* * * * * id -un >/tmp/by-$u" | crontab -u $u -; done
        exec supervisord -c /tmp/s.conf' 
    inside box -- await sh -c 'supervisorctl -c /tmp/s.conf status | grep -c RUNNING | grep -q 3 && supervisorctl -c /tmp/s.conf status fails | grep -q -E "FATAL|EXITED"'
    inside box -- sh -c 'supervisorctl -c /tmp/s.conf status; true' | awk '{ print $1, $2 }'
    inside box -- await get 80/ | head -n 1
    inside box -- sh -c 'ps -o user= -C sleep'
    # The minute may be nearly over or have just begun.
    inside box -- sh -c 'timeout 75 sh -c "until test -s /tmp/by-root -a -s /tmp/by-daemon; do sleep 1; done"; cat /tmp/by-root /tmp/by-daemon'
    finish box TERM
    echo "of the loop: $(logs box | grep -c '^daemon$')"
    remove box
}

workload_sshd() {
    : "sshd: keys, privilege separation (chroot, setuid), a command, a pseudo-terminal, a file through it"
    : tools
    start box -- sh -c 'mkdir -p /run/sshd /root/.ssh; chmod 700 /root/.ssh; ssh-keygen -q -t ed25519 -N "" -f /root/.ssh/id_ed25519
        cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys; exec /usr/sbin/sshd -D -e -o UsePAM=yes'
    inside box -- sh -c 'cat >/root/.ssh/config <<X
Host *
  StrictHostKeyChecking no
  LogLevel ERROR
X'
    inside box -- await ssh root@127.0.0.1 id -un
    inside box -- ssh -tt root@127.0.0.1 'stty size; test -t 0 && echo terminal; tty | sed s/[0-9]//g; stat -c %U:%G:%a $(tty)' </dev/null | tr -d '\r'
    inside box -- sh -c 'head -c 300000 /dev/zero | ssh root@127.0.0.1 "cat >/tmp/copied; wc -c </tmp/copied"; echo get /tmp/copied /tmp/back | sftp -q -b - root@127.0.0.1 >/dev/null; wc -c </tmp/back'
    try_inside box -- ssh root@127.0.0.1 'exit 7' || echo "exit $?"
    finish box TERM
    remove box
}

workload_terminal() {
    : "programs in a terminal: its size, its owner, an interrupt; exec with a terminal of its own, of root and of a user"
    : quick in-ci
    # Engines say the size when the process runs already.
    in_terminal try_once --tty -- bash -c 'await sh -c "stty size | grep -v ^0"; tty; test -t 0 -a -t 1 -a -t 2 && echo all
        trap "echo interrupted; exit 5" INT; ps -o stat= -p $$; kill -INT $$; sleep 1' || echo "exit $?"
    start box -- sleep 1000
    in_terminal inside box --tty -- bash -c 'tty; await sh -c "stty size | grep -v ^0"; stat -c "%U %a" $(tty); echo x >/dev/tty' | sed 's@^/dev/pts/.*@/dev/pts/N@'
    in_terminal inside box --tty --user=daemon -- sh -c 'await sh -c "stty size | grep -v ^0"; echo y >/dev/stdout; test -w $(tty) && echo writable'
    finish box KILL
    remove box
}
