# Shared by scripts/test, scripts/quickstart and scripts/bench: sourced, never run.
# shellcheck shell=bash disable=SC2034

# Escape codes only where a person looks on.
if [[ -t 1 && -z ${NO_COLOR:-} ]]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' DIM='' RED='' PLAIN=''
fi

die() {
    printf '%s: %s\n' "${0##*/}" "$*" >&2
    exit 1
}

# Seconds as "7s" or "3m07s".
duration() {
    local seconds=$1
    if ((seconds < 60)); then
        printf '%ds' "$seconds"
    else
        printf '%dm%02ds' $((seconds / 60)) $((seconds % 60))
    fi
}

# section TEXT: a heading that carries the time since the script started.
section() {
    printf '\n%s==> %s%s  %s[at %s]%s\n' "$BOLD" "$*" "$PLAIN" "$DIM" "$(duration "$SECONDS")" "$PLAIN"
}

# SUDO is what to put before a command that needs root. Asked for once, so that a missing right is one clear line at
# the start and not a failure in the middle.
SUDO=()
require_root() {
    if ((EUID == 0)); then
        return
    fi
    command -v sudo >/dev/null || die "needs root: it makes containers. Run it as root, or install sudo."
    # Without a terminal sudo can't ask for a password: -n makes it say so at once.
    if ! sudo -n true 2>/dev/null && { [[ ! -t 0 ]] || ! sudo -v; }; then
        die "needs root: it makes containers, and sudo refuses you. Run it as root."
    fi
    SUDO=(sudo)
}

is_static() {
    ! readelf -lW "$1" 2>/dev/null | grep -q INTERP
}

# Debian has a dynamic busybox too; a root file system of nothing but busybox needs the static one.
have_static_busybox() {
    command -v busybox >/dev/null && command -v readelf >/dev/null && is_static "$(command -v busybox)"
}

# have CHECK: a command's name, a path or glob that must exist, or a function of this file.
have() {
    case $1 in
    /*) compgen -G "$1" >/dev/null ;;
    have_*) "$1" ;;
    # Debian keeps runc and its like in /usr/sbin, which isn't on everyone's PATH.
    *) PATH=$PATH:/usr/sbin:/sbin command -v "$1" >/dev/null ;;
    esac
}

# install_missing CHECK=PACKAGE...: apt-get for what is not there; nothing at all when all is.
install_missing() {
    local item packages=()
    for item in "$@"; do
        have "${item%%=*}" || [[ " ${packages[*]} " == *" ${item#*=} "* ]] || packages+=("${item#*=}")
    done
    if ((${#packages[@]} == 0)); then
        echo "nothing is missing"
        return
    fi
    command -v apt-get >/dev/null || die "missing: ${packages[*]} (Debian's names; install them by your own means)"
    echo "installing: ${packages[*]}"
    local apt=("${SUDO[@]}" env DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0)
    "${apt[@]}" update
    "${apt[@]}" install --yes --no-install-recommends "${packages[@]}" |
        grep --line-buffered -E '^(Setting up|E:|W:)' || true
    for item in "$@"; do
        have "${item%%=*}" || die "apt-get did not bring ${item%%=*} (package ${item#*=})"
    done
}

# What a build of tandem needs beside cargo. The linker, and the archive of libseccomp that goes into the binary.
BUILD_PACKAGES=(cc=gcc readelf=binutils "/usr/lib/*/libc.a=libc6-dev" "/usr/lib/*/libseccomp.a=libseccomp-dev")

# Cargo by rustup is on PATH only in a login shell that came after its installation.
find_cargo() {
    command -v cargo >/dev/null || PATH=$PATH:$HOME/.cargo/bin
    command -v cargo >/dev/null
}

# make_rootfs DIR: a root file system of busybox alone, with the few files that programs look for.
make_rootfs() {
    local root=$1 applet
    mkdir -p "$root"/{bin,dev,etc,proc,root,run,sys,tmp,var}
    chmod 1777 "$root/tmp"
    cp -L "$(command -v busybox)" "$root/bin/busybox"
    for applet in $(busybox --list); do
        [[ $applet == busybox ]] || ln -s busybox "$root/bin/$applet"
    done
    printf 'root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:guest:/tmp:/bin/sh\n' >"$root/etc/passwd"
    printf 'root:x:0:\nguest:x:1000:\nextra:x:2000:guest\n' >"$root/etc/group"
}

# The cgroup layout as the kernel shows it here: v1, v2 or hybrid.
cgroup_layout() {
    if [[ $(stat -f -c %T /sys/fs/cgroup 2>/dev/null) == cgroup2fs ]]; then
        echo v2
    elif [[ $(stat -f -c %T /sys/fs/cgroup/unified 2>/dev/null) == cgroup2fs ]]; then
        echo hybrid
    else
        echo v1
    fi
}

# in_layout LAYOUT COMMAND...: run COMMAND with the cgroups laid out so, in a mount namespace of its own: the machine
# keeps its layout. Only a way down is possible: a host that is v2 alone has no v1 hierarchies to offer.
in_layout() {
    local layout=$1 change
    shift
    if [[ $layout == "$(cgroup_layout)" ]]; then
        "$@"
        return
    fi
    case $layout in
    v1) change='umount /sys/fs/cgroup/unified' ;;
    v2) change='umount -R /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup' ;;
    *) die "this machine can't offer the cgroup layout '$layout'" ;;
    esac
    unshare --mount --propagation private sh -c "$change && exec \"\$@\"" -- "$@"
}

can_offer_layout() {
    case $(cgroup_layout)-$1 in
    v1-v1 | v1-v2 | v2-v2 | hybrid-*) return 0 ;;
    *) return 1 ;;
    esac
}

# host_things: every cgroup and mount of the machine that a test may have made, one a line, to see what is left behind.
# By their names (tt- is the integration tests', tandem and libpod the engines'): others come and go on a live machine.
host_things() {
    {
        find /sys/fs/cgroup -type d 2>/dev/null | sed 's/^/cgroup /'
        awk '{ print "mount " $5 }' /proc/self/mountinfo
    } | awk '/\/(tt-|tandem|libpod)/' | sort
}
