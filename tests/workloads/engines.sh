# Podman, podman of an ordinary user, docker, and containerd's ctr: each brought up with a place of its own, and spoken to in
# the same words. Sourced by tests/workloads/run, never run.
# shellcheck shell=bash
#
# What a workload may say, whatever the engine ($ENGINE) and the runtime ($LANE):
#
#   start NAME [OPTION...] -- COMMAND...      a container in the background
#   once [OPTION...] -- COMMAND...            one to its end: its standard output
#   inside NAME [OPTION...] -- COMMAND...     exec: its standard output
#   logs NAME                                 what its process 1 has written, sorted: two streams have no common order
#   finish NAME [SIGNAL]                      sends it (TERM), waits, says the exit status; `ended NAME` waits only
#   remove NAME
#
# OPTION is one word, and podman's and docker's: --user= --env= --cap-add= --tmpfs= --volume= --device= --memory= --cpus=
# --network= --tty --privileged; others are handed to those two as they are. An exit status that is not 0 is printed, and marks the
# workload as refused; of `try_once` and `try_inside` it is an expected fact.

# --- up and down -----------------------------------------------------------------------------------------------------

# Podman's own answer to every default, so that this machine's configuration plays no part; see tests/engines/podman.
write_containers_conf() {
    local names
    names="\"$(basename "$RUNTIME")\", \"$(basename "$REFERENCE")\""
    cat >"$WORK/containers.conf" <<CONF
[engine]
cgroup_manager = "$MANAGER"
events_logger = "file"
lock_type = "file"
num_locks = 256
runtime_supports_json = [$names]
runtime_supports_nocgroup = [$names]
[containers]
default_ulimits = ["nofile=4096:4096", "nproc=8192:8192"]
log_driver = "k8s-file"
netns = "none"
[network]
network_config_dir = "$WORK/podman/networks"
CONF
    printf '{"default": [{"type": "insecureAcceptAnything"}]}\n' >"$WORK/policy.json"
}

# Overlays where the kernel lets them lie on the work directory: copies of whole images take long.
storage_driver() {
    local place=$WORK/overlay driver=vfs
    mkdir "$place" "$place"/{lower,upper,work,merged}
    if mount -t overlay overlay -o "lowerdir=$place/lower,upperdir=$place/upper,workdir=$place/work" "$place/merged" 2>/dev/null; then
        umount "$place/merged"
        driver=overlay
    fi
    rm -rf "$place"
    echo "$driver"
}

engine_up() {
    STORAGE=$(storage_driver)
    export STORAGE
    case $ENGINE in
    podman*)
        write_containers_conf
        own_users
        mkdir "$WORK/podman"
        [[ $ENGINE == podman ]] || chown "$ORDINARY:$ORDINARY" "$WORK/podman"
        ;;
    docker | ctr)
        mkdir "$WORK/d"
        export DOCKER_CGROUP=$TAG DOCKER_STORAGE=${STORAGE/#overlay/overlay2}
        docker_start "$WORK/d" "runtime=$RUNTIME" "reference=$REFERENCE"
        ;;
    esac
}

# An ordinary user that this machine needn't have, and IDs for it and for --userns=auto: files of our own say so, in podman's
# own mount namespace. The kernel and newuidmap ask for no more.
ORDINARY=54321
own_users() {
    local file
    while getent passwd "$ORDINARY" >/dev/null; do
        ORDINARY=$((ORDINARY + 1))
    done
    export ORDINARY
    mkdir "$WORK/etc" "$WORK/user" "$WORK/user/run"
    cp /etc/passwd /etc/group "$WORK/etc/"
    echo "tandem-workloads:x:$ORDINARY:$ORDINARY::$WORK/user:/bin/sh" >>"$WORK/etc/passwd"
    echo "tandem-workloads:x:$ORDINARY:" >>"$WORK/etc/group"
    printf 'tandem-workloads:60000000:65536\ncontainers:70000000:1000000\n' | tee "$WORK/etc/subuid" >"$WORK/etc/subgid"
    for file in passwd group subuid subgid; do
        [[ -e /etc/$file ]] || die "this machine has no /etc/$file"
        mount --bind "$WORK/etc/$file" "/etc/$file"
    done
    chown -R "$ORDINARY:$ORDINARY" "$WORK/user"
    chmod 700 "$WORK/user/run"
}

engine_load() {
    local image=$1 archive=$WORK/$1.tar
    if [[ $image == busybox ]]; then
        make_rootfs "$WORK/busybox"
        return
    fi
    make_archive "$image" "$archive"
    case $ENGINE in
    podman*) podman load --quiet --input "$archive" ;;
    docker) docker load --quiet --input "$archive" ;;
    ctr) ctr images import --local "$archive" 2>/dev/null || ctr images import "$archive" ;;
    esac >"$WORK/load.log" 2>&1 || { cat "$WORK/load.log" && die "$ENGINE does not take the image '$image'"; }
    rm "$archive"
}

engine_down() {
    local pid
    case $ENGINE in
    podman | podman-rootless)
        LANE=runtime
        podman rm --all --force --time 0 >/dev/null 2>&1
        # What holds an ordinary user's namespaces between two commands of podman's.
        for pid in $(cat "$WORK/podman/tmp/pause.pid" "$WORK/user/run/libpod/tmp/pause.pid" 2>/dev/null); do
            kill -KILL "$pid"
        done
        ;;
    docker | ctr) docker_stop ;;
    esac
    return 0
}

# --- the engines' own commands ---------------------------------------------------------------------------------------

as_user() {
    if [[ $ENGINE == podman-rootless ]]; then
        (cd / && USER=tandem-workloads HOME=$WORK/user XDG_RUNTIME_DIR=$WORK/user/run setpriv --reuid "$ORDINARY" --regid "$ORDINARY" \
            --clear-groups --inh-caps=-all env "$@")
    else
        env "$@"
    fi
}

podman() {
    as_user CONTAINERS_CONF="$WORK/containers.conf" podman "${PODMAN[@]}" "$@"
}

# Set anew in each process: an array can't be handed on.
podman_options() {
    PODMAN=(--root "$WORK/podman/root" --runroot "$WORK/podman/run" --tmpdir "$WORK/podman/tmp" --storage-driver "$STORAGE"
        --runtime "$(lane_runtime)")
}

lane_runtime() {
    if [[ $LANE == runtime ]]; then echo "$RUNTIME"; else echo "$REFERENCE"; fi
}

ctr() {
    command ctr --address "$WORK/d/containerd.sock" --namespace "$TAG" "$@"
}

cli() {
    echo "+ $ENGINE $*" >>"$SCRATCH/.log"
    case $ENGINE in
    podman*) podman "$@" ;;
    *) docker "$@" ;;
    esac
}

# --- the workloads' words --------------------------------------------------------------------------------------------

# The name of a container for the engine: this run's, this lane's.
full() {
    echo "$TAG-$LANE-$WORKLOAD-$1"
}

# Sets OPTIONS and COMMAND from `[OPTION...] -- COMMAND...`.
split() {
    OPTIONS=()
    while [[ $1 != -- ]]; do
        OPTIONS+=("$1")
        shift
    done
    shift
    COMMAND=("$@")
}

# Sets FIXED: what each container of this lane gets.
fixed_options() {
    FIXED=()
    case $ENGINE in
    podman) [[ " ${OPTIONS[*]}" == *" --pod="* || $MANAGER == systemd ]] || FIXED+=(--cgroup-parent "/$TAG") ;;
    docker)
        FIXED+=(--runtime "$LANE")
        [[ " ${OPTIONS[*]}" == *" --network="* ]] || FIXED+=(--network none)
        ;;
    esac
}

# Sets OPTIONS to ctr's, from podman's and docker's, and CTR_IMAGE.
ctr_options() {
    local option given=("${OPTIONS[@]}")
    OPTIONS=() CTR_IMAGE=$IMAGE
    for option in "${given[@]}"; do
        case $option in
        --user=*) CTR_IMAGE=$(image_name "$(image_of "$WORKLOAD")" "${option#*=}") ;;
        --env=* | --device=* | --cpus=* | --tty | --privileged) OPTIONS+=("$option") ;;
        --cap-add=*) OPTIONS+=("--cap-add=CAP_${option#*=}") ;;
        --memory=*) OPTIONS+=("--memory-limit=$(numfmt --from=iec "$(tr a-z A-Z <<<"${option#*=}")")") ;;
        --tmpfs=*) OPTIONS+=("--mount=type=tmpfs,src=tmpfs,dst=${option#*=},options=rw:nosuid:nodev") ;;
        --volume=*)
            option=${option#*=}
            OPTIONS+=("--mount=type=bind,src=${option%%:*},dst=${option#*:},options=rbind:rw")
            ;;
        --network=host) OPTIONS+=(--net-host) ;;
        *) skip "ctr has no $option" ;;
        esac
    done
}

ctr_run() {
    ctr_options
    ctr run --runc-binary "$(lane_runtime)" --cgroup "/$TAG/$(full "$1")" "${OPTIONS[@]}" "${@:2}" "$CTR_IMAGE" "$(full "$1")" \
        "${COMMAND[@]}"
}

start() {
    local name=$1
    split "${@:2}"
    if [[ $ENGINE == ctr ]]; then
        ctr_run "$name" --detach --log-uri "file://$SCRATCH/$name.log" >/dev/null
    else
        fixed_options
        cli run --detach --name "$(full "$name")" "${FIXED[@]}" "${OPTIONS[@]}" "$IMAGE" "${COMMAND[@]}" >/dev/null
    fi || refused $? "start $*"
}

once() { try_once "$@" || refused $? "once $*"; }
try_once() {
    NUMBER=$((${NUMBER:-0} + 1))
    split "$@"
    if [[ $ENGINE == ctr ]]; then
        ctr_run "once$NUMBER" --rm
    else
        fixed_options
        cli run --rm --name "$(full "once$NUMBER")" "${FIXED[@]}" "${OPTIONS[@]}" "$IMAGE" "${COMMAND[@]}"
    fi
}

inside() { try_inside "$@" || refused $? "inside $*"; }
try_inside() {
    local name=$1
    NUMBER=$((${NUMBER:-0} + 1))
    split "${@:2}"
    if [[ $ENGINE == ctr ]]; then
        # Each part of a pipeline has a count of its own, and what `head` cuts off leaves its ID behind.
        # Ctr may lose what a process wrote that ends before ctr has opened its pipe, whatever the runtime: so none is that quick.
        ctr task exec --exec-id "x$BASHPID-$NUMBER" "${OPTIONS[@]}" "$(full "$name")" \
            sh -c '"$@"; code=$?; sleep 0.3; exit $code' sh "${COMMAND[@]}"
    else
        cli exec "${OPTIONS[@]}" "$(full "$name")" "${COMMAND[@]}"
    fi
}

logs() {
    if [[ $ENGINE == ctr ]]; then
        cat "$SCRATCH/$1.log"
    else
        cli logs "$(full "$1")" 2>&1
    fi | sort
}

finish() {
    local code=0
    if [[ $ENGINE == ctr ]]; then
        ctr task kill --signal "${2:-TERM}" "$(full "$1")"
    else
        cli kill --signal "${2:-TERM}" "$(full "$1")" >/dev/null
    fi
    ended "$1"
}

# ended NAME: waits until it has, and says the exit status. Ctr tells nobody that of a task in the background.
ended() {
    if [[ $ENGINE == ctr ]]; then
        wait_for 30 ctr_stopped "$1"
        ctr task delete "$(full "$1")" >/dev/null && echo "$1 ended"
    else
        echo "$1 ended with $(cli wait "$(full "$1")")"
    fi
}

ctr_stopped() {
    [[ $(ctr task ls | awk -v id="$(full "$1")" '$1 == id { print $3 }') != RUNNING ]]
}

remove() {
    if [[ $ENGINE == ctr ]]; then
        ctr task delete --force "$(full "$1")" >/dev/null 2>&1 || true
        ctr container delete "$(full "$1")" >/dev/null
    else
        cli rm --force "$(full "$1")" >/dev/null
    fi
}

# in_terminal COMMAND...: one of the words above in a terminal of 24 rows and 80 columns, without carriage returns and what
# ctr and docker say of a process that has ended before they could tell the size.
in_terminal() {
    [[ -p $SCRATCH/.quiet ]] || mkfifo "$SCRATCH/.quiet"
    # Its input stays open and silent: an end of it would be typed into the terminal.
    script --quiet --return --command "stty rows 24 cols 80; $(printf '%q ' "$HERE/run" __word "$@")" /dev/null \
        <>"$SCRATCH/.quiet" | tr -d '\r' | grep -v -E 'resize (pty|tty)'
    return "${PIPESTATUS[0]}"
}

refused() {
    echo "refused: exit $1"
    echo "$2" >>"$SCRATCH/.refused"
}

skip() {
    echo "$*" >"$SCRATCH/.skip"
    exit 0
}

# What this lane's containers of this workload are, whatever state they are in.
lane_containers() {
    case $ENGINE in
    ctr) ctr container ls --quiet ;;
    docker) docker ps --all --format '{{.Names}}' ;;
    *) podman ps --all --format '{{.Names}}' ;;
    esac | grep -F "$(full '')" || true
}

# Removes what a workload left, also one that was cut off. An engine may be just removing one by itself.
lane_clean() {
    local try name
    for ((try = 0; try < 5; try++)); do
        [[ -n $(lane_containers) ]] || return 0
        for name in $(lane_containers); do
            case $ENGINE in
            ctr)
                ctr task delete --force "$name"
                ctr container delete "$name"
                ;;
            docker) docker rm --force --volumes "$name" ;;
            *) podman rm --force --time 0 --volumes "$name" ;;
            esac
        done
        sleep 0.5
    done
    [[ -z $(lane_containers) ]] || echo "cleaning up failed: $(lane_containers)"
}
