# What is podman's own: pods by kube play, mapped users, quadlets. Sourced by tests/workloads/run, never run.
# shellcheck shell=bash disable=SC2016

workload_kube_play() {
    : "kube play: a pod of two containers that share a volume, users and limits from its securityContext; down"
    : quick podman podman-rootless
    cat >"$SCRATCH/pod.yaml" <<FILE
apiVersion: v1
kind: Pod
metadata: {name: $(full pod)}
spec:
  hostNetwork: true
  volumes: [{name: shared, emptyDir: {}}]
  containers:
  - name: writer
    image: $IMAGE
    imagePullPolicy: Never
    command: ["sh", "-c", "id; echo written >/shared/f; exec sleep 1000"]
    securityContext: {runAsUser: 0, capabilities: {drop: ["NET_RAW"]}}
    volumeMounts: [{name: shared, mountPath: /shared}]
  - name: reader
    image: $IMAGE
    imagePullPolicy: Never
    command: ["sh", "-c", "await cat /shared/f; exec sleep 1000"]
    env: [{name: WORD, value: given}]
    volumeMounts: [{name: shared, mountPath: /shared}]
FILE
    cli play kube --quiet "$SCRATCH/pod.yaml" >&2 || refused $? "play kube"
    wait_for 30 logged pod-reader written
    inside pod-reader -- sh -c 'echo $WORD; id -u; cat /proc/1/comm'
    inside pod-writer -- sh -c 'id -u; hostname | grep -c .'
    logs pod-writer
    cli play kube --down "$SCRATCH/pod.yaml" >&2 || refused $? "play kube --down"
    echo "left: $(lane_containers | wc -l)"
}

workload_keep_id() {
    : "--userns=keep-id: the ordinary user is the same inside, owns the volume's files, writes to the streams"
    : quick in-ci podman-rootless
    mkdir -p "$SCRATCH/v" && chown "$ORDINARY" "$SCRATCH/v"
    once --userns=keep-id "--volume=$SCRATCH/v:/v" -- sh -c 'id -u; touch /v/f; stat -c %u /v/f; echo told >/dev/stdout; sed "s/ \+/ /g" /proc/self/uid_map | cut -d " " -f 4 | grep -c .' |
        sed "s/\b$ORDINARY\b/USER/"
    stat -c %u "$SCRATCH/v/f" | sed "s/\b$ORDINARY\b/USER/"
    once --userns=keep-id --user=root -- id -u
}

workload_userns_auto() {
    : "--userns=auto: IDs that no other container has, as many as asked for, files of the image and of a volume"
    : quick podman
    local mine='read -r inner outer size </proc/self/uid_map; echo "$inner $size"; stat -c %U:%G /etc/passwd /dev/null /proc/1; echo told >/dev/stdout; id -un'
    mkdir -p "$SCRATCH/v" && chmod 777 "$SCRATCH/v"
    once --userns=auto -- sh -c "$mine"
    once --userns=auto:size=2048 --user=daemon "--volume=$SCRATCH/v:/v" -- sh -c "$mine; touch /v/f; stat -c %U /v/f"
    start one --userns=auto:size=1024 -- sleep 1000
    start two --userns=auto:size=1024 -- sleep 1000
    inside two --user=daemon -- sh -c 'id -un; touch /etc/x 2>&1 | grep -o denied'
    [[ $(cat "/proc/$(main_process one)/uid_map") != "$(cat "/proc/$(main_process two)/uid_map")" ]] && echo "no ID is shared"
    finish one KILL
    finish two KILL
    remove one
    remove two
}

# Of a container of podman's or docker's, as the host numbers it.
main_process() {
    cli inspect --format '{{.State.Pid}}' "$(full "$1")"
}

workload_quadlet() {
    : "a quadlet: a .container file becomes a service, systemctl starts, tells of and stops it"
    : busybox podman on=systemd
    local unit=tandem-workload-$LANE directory=/run/containers/systemd
    mkdir -p "$directory"
    cat >"$directory/$unit.container" <<FILE
[Container]
ContainerName=$(full q)
Rootfs=$WORK/busybox
Exec=sh -c 'trap "exit 0" TERM; echo quadlet says so; sleep 1000 & wait'
Network=none
LogDriver=k8s-file
GlobalArgs=$(printf '%s ' "${PODMAN[@]}")
[Service]
Environment=CONTAINERS_CONF=$WORK/containers.conf
TimeoutStopSec=60
FILE
    systemctl daemon-reload
    systemctl start "$unit" || refused $? "systemctl start"
    systemctl show --property=ActiveState --property=SubState --property=NotifyAccess "$unit"
    echo "main process: $(cat "/proc/$(systemctl show --property=MainPID --value "$unit")/comm")"
    inside q -- sh -c 'cat /proc/1/comm; id -u'
    logs q
    systemctl stop "$unit"
    systemctl show --property=Result "$unit"
    rm "$directory/$unit.container"
    systemctl daemon-reload
    echo "left: $(lane_containers | wc -l)"
}
