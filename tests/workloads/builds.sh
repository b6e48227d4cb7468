# Building images, and services that belong together: sourced by tests/workloads/run, never run.
# shellcheck shell=bash disable=SC2016

# A build whose steps are containers: of root, of a user, with a directory, an argument, shell and exec forms.
write_containerfile() {
    mkdir -p "$SCRATCH/context/d"
    echo "from the context" >"$SCRATCH/context/d/file"
    cat >"$SCRATCH/context/Containerfile" <<FILE
FROM $IMAGE
ARG WORD=none
ENV SAID=\$WORD
RUN echo "step: \$SAID \$(id -un)" && mkdir /srv/d && chown daemon /srv/d
COPY --chown=daemon:daemon d/file /srv/d/
WORKDIR /srv/d
USER daemon
RUN echo "step: \$(id -un) in \$(pwd)" && cat file >copy && echo "to stdout" >/dev/stdout
RUN ["python3", "-c", "import os; print('step: by python as', os.getuid())"]
USER root
RUN echo "step: \$(stat -c %U copy) \$(umask) \$(ulimit -n | grep -c .) \$(grep -c . /proc/self/mountinfo | grep -c .)" && useradd -m someone
USER someone
CMD ["sh", "-c", "id -un; cat /srv/d/copy; echo \$SAID"]
FILE
}

# The lines of the steps: everything else differs by identity and time.
steps() {
    grep -v -E 'RUN|COPY|non-zero code' | grep -o -E '(step: .*|to stdout|from the context)$'
}

workload_build() {
    : "an image by USER, RUN, COPY --chown, ARG; its container (docker: the classic builder)"
    : quick in-ci podman podman-rootless docker
    local name=built-$LANE
    write_containerfile
    case $ENGINE in
    docker)
        # The classic builder has no option for the runtime: the daemon's default is ours, so that both lanes use it.
        [[ $LANE == runtime ]] || { write_expected && return; }
        docker build --network none --build-arg WORD=given --no-cache --tag "$name" -f "$SCRATCH/context/Containerfile" "$SCRATCH/context" >"$SCRATCH/.build" 2>&1 || refused $? build
        ;;
    *) podman build --isolation oci --network none --build-arg WORD=given --no-cache --tag "$name" -f "$SCRATCH/context/Containerfile" \
        "$SCRATCH/context" >"$SCRATCH/.build" 2>&1 || refused $? build ;;
    esac
    built_says "$name"
}

# built_says IMAGE: the steps of its build, and what a container of it does. BuildKit numbers its lines.
built_says() {
    cat "$SCRATCH/.build" >&2
    sed -E 's/^#[0-9]+ [0-9.]+ //' "$SCRATCH/.build" | steps
    IMAGE=$1 once -- sh -c 'id -un; cat /srv/d/copy; echo $SAID'
    cli rmi --force "$1" >/dev/null
}

# What a build says: for the lane that can't be had.
write_expected() {
    printf '%s\n' "step: given root" "step: daemon in /srv/d" "to stdout" "step: by python as 1" "step: daemon 0022 1 1" \
        someone "from the context" given
}

workload_buildkit() {
    : "the same file by BuildKit, the one in docker's daemon, which finds its runtime by the name \`runc\`"
    : quick docker
    local name=kit-$LANE
    write_containerfile
    # The daemon has one of that name on its PATH, the runtime under test: see docker_start.
    [[ $LANE == runtime ]] || { write_expected && return; }
    DOCKER_KIT=1 docker build --network none --build-arg WORD=given --no-cache --progress plain --tag "$name" \
        -f "$SCRATCH/context/Containerfile" "$SCRATCH/context" >"$SCRATCH/.build" 2>&1 || refused $? build
    built_says "$name"
}

workload_commit() {
    : "commit of a container, its history, export; diff"
    : quick podman podman-rootless docker
    start one -- sh -c 'echo made >/srv/made; rm /etc/motd; exec sleep 1000'
    inside one -- await test -s /srv/made
    cli diff "$(full one)" | sort | grep -E '/srv/made|/etc/motd'
    cli commit "$(full one)" "committed-$LANE" >/dev/null 2>&1 || refused $? commit
    IMAGE=committed-$LANE once -- cat /srv/made
    cli export "$(full one)" | tar -t | grep -c 'srv/made$'
    finish one KILL
    remove one
    cli rmi --force "committed-$LANE" >/dev/null
}

# Podman-compose hands no runtime on: podman itself is told (see `compose`).
write_compose() {
    cat >"$SCRATCH/docker-compose.yml" <<FILE
version: "2.4"
services:
  db:
    image: $IMAGE
    container_name: $(full db)
    network_mode: none
    runtime: $LANE
    user: redis
    volumes: ["data:/var/lib/redis"]
    command: redis-server --port 0 --unixsocket /var/lib/redis/sock --unixsocketperm 777 --save ""
  web:
    image: $IMAGE
    container_name: $(full web)
    network_mode: none
    runtime: $LANE
    environment: {WORD: composed}
    volumes: ["data:/var/lib/redis"]
    depends_on: [db]
    command: sh -c 'await redis-cli -s /var/lib/redis/sock set word \$\$WORD; echo web says \$\$WORD; exec sleep 1000'
  reader:
    image: $IMAGE
    container_name: $(full reader)
    network_mode: none
    runtime: $LANE
    volumes: ["data:/var/lib/redis"]
    depends_on: [web]
    command: sh -c 'await sh -c "redis-cli -s /var/lib/redis/sock get word | grep composed"; echo reader is done; exec sleep 1000'
volumes:
  data:
FILE
}

# The three share a volume and no network: no bridge is asked of the machine.
compose_says() {
    inside reader -- await redis-cli -s /var/lib/redis/sock get word
    wait_for 30 logged reader 'reader is done'
    logs web | grep says
    inside db -- ps -o user= -p 1
}

logged() {
    logs "$1" | grep -q "$2"
}

workload_compose() {
    : "three services with a volume, by docker-compose and podman-compose: up, exec, logs, down"
    : quick podman docker
    write_compose
    compose up -d || refused $? up
    compose_says
    compose down --volumes || refused $? down
    echo "left: $(lane_containers | wc -l)"
}

compose() {
    if [[ $ENGINE == docker ]]; then
        DOCKER_HOST=unix://$DOCKER_DIR/docker.sock docker-compose --project-name "w$LANE" --file "$SCRATCH/docker-compose.yml" "$@" >&2
    else
        write_podman >"$SCRATCH/podman"
        chmod 755 "$SCRATCH/podman"
        podman-compose --podman-path "$SCRATCH/podman" --project-name "w$LANE" --file "$SCRATCH/docker-compose.yml" "$@" >&2
    fi
}

# This lane's podman as a program. Podman-compose asks for its own network beside `network_mode: none`, which podman refuses.
write_podman() {
    cat <<FILE
#!/bin/bash
while ((\$# > 0)); do
    case \$1 in
    --net | --network-alias) shift ;;
    *) given+=("\$1") ;;
    esac
    shift
done
exec env CONTAINERS_CONF=$WORK/containers.conf podman ${PODMAN[*]} "\${given[@]}"
FILE
}
