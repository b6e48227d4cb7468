# Many at once, and much: sourced by tests/workloads/run, never run.
# shellcheck shell=bash disable=SC2016

workload_fifty_starts() {
    : "fifty containers started at once, each with its own work; all end as they should"
    : quick
    local number pids=()
    for number in $(seq 50); do
        (NUMBER=$number try_once "--env=N=$number" --user=daemon -- sh -c 'echo "number $N"; exit $((N % 3))' || echo "exit $?") >"$SCRATCH/of-$number" &
        pids+=($!)
    done
    wait "${pids[@]}"
    cat "$SCRATCH"/of-* | sort | uniq -c
}

workload_fifty_execs() {
    : "fifty execs into one container, ten at a time, while it works"
    : quick in-ci
    local round number pids
    start box -- sh -c 'while :; do :; done'
    for round in $(seq 5); do
        pids=()
        for number in $(seq 10); do
            (NUMBER=$round$number try_inside box --user=1:1 -- sh -c "echo \$((6 * 7)); exit 3" || echo "exit $?") >"$SCRATCH/of-$round-$number" &
            pids+=($!)
        done
        wait "${pids[@]}"
    done
    cat "$SCRATCH"/of-* | sort | uniq -c
    inside box -- sh -c 'ps -e -o comm= | sort | uniq -c | grep -c sh'
    finish box KILL
    remove box
}

workload_much_output() {
    : "100,000 lines to the log; a megabyte through the pipe"
    : quick in-ci
    start box -- sh -c 'seq 100000; echo end >&2'
    ended box
    # Their number alone: conmon and podman part a line in two where a buffer ends, and join others.
    logs box | awk '/^[0-9]+$/ { n++ } END { printf "about %d0000 lines\n", n / 10000 + 0.5 }'
    remove box
    once -- sh -c 'head -c 1000000 /dev/zero | tr "\0" x' | wc -c
}
