# The images of scripts/vm: which kernels there are, and how the disk of each is made. Sourced, never run.
# shellcheck shell=bash

KERNELS=(5.10 6.1 6.12 7.3)
VM=$PWD/tests/vm
CACHE=${TANDEM_VM_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tandem-vm}
MIRROR=${TANDEM_VM_MIRROR:-http://deb.debian.org/debian}

# A kernel's Debian suite: what its user space is. Two kernels of one suite share its disk.
suite_of() {
    case $1 in
    5.10) echo bullseye ;;
    6.1) echo bookworm ;;
    6.12 | 7.3) echo trixie ;;
    *) return 1 ;;
    esac
}

# The kernels of a suite, each with the release that its package comes from.
kernels_of() {
    case $1 in
    bullseye) echo 5.10=bullseye ;;
    bookworm) echo 6.1=bookworm ;;
    trixie) echo 6.12=trixie 7.3=trixie-backports ;;
    esac
}

# The packages of a suite, in one line with commas.
packages_of() {
    awk -v suite="$1" '
        /^#/ { next }
        /:/ { if (index(" " substr($0, 1, index($0, ":") - 1) " ", " " suite " ") == 0) next; sub(/^[^:]*:/, "") }
        { for (i = 1; i <= NF; i++) print $i }' "$VM/packages" | paste -sd,
}

# Where a suite's image is. The name says what it is made from, so that a cache of an older version is never taken for
# this one.
image_directory() {
    local hash
    hash=$({
        kernels_of "$1"
        packages_of "$1"
        cat "$VM"/{customize,init,payload,tandem-payload.service}
        declare -f build_image
    } | sha256sum | cut -c 1-12)
    echo "$CACHE/$1-$hash"
}

# have_image SUITE: made already, and whole: it gets its name last.
have_image() {
    # Its time says that it is in use.
    touch -c "$(image_directory "$1")"
    [[ -d $(image_directory "$1") ]]
}

# need_image SUITE: makes it unless it is there. One at a time: a second caller waits for the first one's.
need_image() {
    local directory
    have_image "$1" && return
    directory=$(image_directory "$1")
    mkdir -p "$CACHE"
    echo "vm: making the image of $1, once: some minutes. It goes to $directory" >&2
    (
        flock 9
        have_image "$1" || build_image "$1" "$directory" >&2
    ) 9>"$CACHE/$1.lock"
}

build_image() {
    local suite=$1 directory=$2 new=$2.new release sources=() started=$SECONDS
    rm -rf "$new"
    mkdir -p "$new"
    for release in $(kernels_of "$suite"); do
        sources+=("deb $MIRROR ${release#*=} main")
    done
    # Suites that are no longer maintained say that they are out of date.
    if ! "${SUDO[@]}" mmdebstrap --quiet --mode=root --variant=apt --format=directory \
        --include="$(packages_of "$suite")" \
        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='Acquire::Retries "3"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='force-unsafe-io' \
        --customize-hook="$VM/customize \"\$1\" $(printf '%q' "$new") $(kernels_of "$suite")" \
        "$suite" "$new/root" "${sources[@]}" >"$new/log" 2>&1; then
        tail -n 15 "$new/log" | sed 's/^/    /'
        die "the image of $suite can't be made: mmdebstrap failed (see above; it needs $MIRROR). The whole log: $new/log"
    fi
    # Labels for the boot with SELinux; to the others they are nothing. Written from outside the policy, as an installer does.
    if [[ -x $new/root/usr/sbin/setfiles ]]; then
        "${SUDO[@]}" chroot "$new/root" setfiles -m -F /etc/selinux/default/contexts/files/file_contexts / >>"$new/log" 2>&1 ||
            die "the image of $suite can't be labelled: setfiles failed. The whole log: $new/log"
    fi
    # A gigabyte to write to; the file is sparse, and the VM's writes go elsewhere.
    truncate -s "$(($("${SUDO[@]}" du -sm "$new/root" | cut -f 1) + 1200))M" "$new/root.img"
    "${SUDO[@]}" mke2fs -q -t ext4 -O ^has_journal -m 0 -d "$new/root" "$new/root.img" >>"$new/log"
    "${SUDO[@]}" rm -rf "$new/root"
    "${SUDO[@]}" chown -R "$(id -u):$(id -g)" "$new"
    mv "$new" "$directory"
    # Those that other versions of this script have made go when nobody has used them for a week.
    find "$CACHE" -mindepth 1 -maxdepth 1 -type d -mtime +7 -exec rm -rf {} +
    echo "vm: made the image of $suite in $(duration $((SECONDS - started))), $(du -sm "$directory" | cut -f 1) MiB"
}
