# The images of tests/workloads/run: Debian packages, put together by mmdebstrap once and kept. Sourced, never run.
# shellcheck shell=bash

CACHE=${TANDEM_WORKLOADS_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/tandem-workloads}
MIRROR=${TANDEM_WORKLOADS_MIRROR:-http://deb.debian.org/debian}
SUITE=bookworm
IMAGES=(quick services tools)

# The packages of an image, in one line with commas.
image_packages() {
    sed -n "s/^$1: //p" "$HERE/packages" | tr -s ' ' '\n' | paste -sd,
}

# Where the root file system of an image is, as a tar. The name says what it is made from, so that a cache of an older
# version is never taken for this one.
image_layer() {
    local hash
    hash=$({
        image_packages "$1"
        echo "$SUITE"
        declare -f build_layer
    } | sha256sum | cut -c 1-12)
    echo "$CACHE/$1-$hash"
}

# need_layer IMAGE: makes it unless it is there. One at a time: a second caller waits for the first one's.
need_layer() {
    local layer
    layer=$(image_layer "$1")
    # Its time says that it is in use.
    touch -c "$layer" 2>/dev/null || true
    [[ ! -d $layer ]] || return 0
    mkdir -p "$CACHE"
    (
        flock 9
        [[ -d $layer ]] || build_layer "$1" "$layer"
    ) 9>"$CACHE/$1.lock"
}

build_layer() {
    local image=$1 layer=$2 new=$2.new packages started=$SECONDS architectures=amd64
    # Java's packages register manual pages, and fail where there is no directory for them.
    echo "making the image '$image', once, into $layer"
    rm -rf "$new"
    mkdir "$new"
    packages=$(image_packages "$image")
    [[ $packages != *:i386* ]] || architectures=amd64,i386
    if ! mmdebstrap --quiet --mode=root --variant=minbase --format=tar --architectures="$architectures" \
        --include="$packages" --aptopt='Acquire::Retries "3"' --aptopt='Acquire::Languages "none"' \
        --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='force-unsafe-io' \
        --essential-hook='mkdir -p "$1/usr/share/man/man1"' "$SUITE" "$new/layer.tar" "$MIRROR" >"$new/log" 2>&1; then
        tail -n 15 "$new/log" | sed 's/^/    /'
        die "the image '$image' can't be made: mmdebstrap failed (see above; it needs $MIRROR). The whole log: $new/log"
    fi
    sha256sum "$new/layer.tar" | cut -d ' ' -f 1 >"$new/digest"
    mv "$new" "$layer"
    # Those that other versions of this script have made go when nobody has used them for a week.
    find "$CACHE" -mindepth 1 -maxdepth 1 -type d -mtime +7 -exec rm -rf {} +
    echo "made '$image' in $(duration $((SECONDS - started))), $(du -sm "$layer" | cut -f 1) MiB"
}

# Ctr's `run` takes no user: it has an image for each, of the same layers.
CTR_USERS=(www-data redis daemon nobody postgres mysql 4321:4321)

# make_archive IMAGE FILE: an image as `docker save` writes it, which podman, docker and containerd all take: the packages,
# and above them what tests/workloads/inside has.
make_archive() {
    local image=$1 file=$2 place=$WORK/archive layer user number=0 users=('')
    layer=$(image_layer "$image")
    [[ $ENGINE != ctr ]] || users+=("${CTR_USERS[@]}")
    mkdir "$place"
    ln -s "$layer/layer.tar" "$place/packages.tar"
    tar -C "$HERE" --owner=0 --group=0 --transform 's@^inside@usr/local/bin@' -cf "$place/inside.tar" inside
    for user in "${users[@]}"; do
        image_configuration "$layer" "$place" "$user" >"$place/config-$number.json"
        printf '%s{"Config": "config-%s.json", "RepoTags": ["%s"], "Layers": ["packages.tar", "inside.tar"]}' \
            "$([[ $number == 0 ]] && echo '[' || echo ,)" "$number" "$(image_name "$image" "$user")" >>"$place/manifest.json"
        number=$((number + 1))
    done
    echo ']' >>"$place/manifest.json"
    (cd "$place" && tar --dereference -cf "$file" -- *)
    chmod 644 "$file"
    rm -r "$place"
}

image_name() {
    local user=${2//:/-}
    echo "localhost/$1:workloads${user:+-$user}"
}

image_configuration() {
    cat <<JSON
{"architecture": "amd64", "os": "linux",
 "config": {"User": "$3", "Env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"], "Cmd": ["bash"]},
 "history": [{"created_by": "packages"}, {"created_by": "tests/workloads/inside"}],
 "rootfs": {"type": "layers", "diff_ids": ["sha256:$(<"$1/digest")", "sha256:$(sha256sum <"$2/inside.tar" | cut -d ' ' -f 1)"]}}
JSON
}
