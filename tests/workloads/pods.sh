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

workload_quadlet() {
    : "a quadlet: a .container file becomes a service, systemctl starts, tells of and stops it"
    : busybox podman on=systemd
    local unit=tandem-workload-$LANE directory=/run/containers/systemd
    mkdir -p "$directory"
    cat >"$directory/$unit.container" <<FILE
[Container]
ContainerName=$(full q)
Rootfs=$WORK/busybox
Exec=sh -c 'echo quadlet says so; exec sleep 1000'
Network=none
LogDriver=k8s-file
GlobalArgs=$(printf '%s ' "${PODMAN[@]}")
[Service]
Environment=CONTAINERS_CONF=$WORK/containers.conf
TimeoutStopSec=5
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
