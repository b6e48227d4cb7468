# What came of a workload under the two runtimes, compared: sourced by tests/workloads/run, never run.
# shellcheck shell=bash

ACCEPTED_LIST=$HERE/accepted

facts_of() {
    echo "$WORK/$1/$2/.facts"
}

row() {
    printf '%-22s %-8s %-8s %s\n' "$@"
}

# outcome LANE WORKLOAD: ok or refused.
outcome() {
    if [[ -s $WORK/$1/$2/.refused ]]; then echo refused; else echo ok; fi
}

# first_error FILE: the first line that looks like an error, for a table.
first_error() {
    grep -m 1 -i -E '^(error|ctr:|docker: error)' "$1" | cut -c 1-160 || true
}

# judge WORKLOAD: one line of the table, and the count it falls under.
judge() {
    local ours theirs reason left
    ours=$(outcome runtime "$1")
    theirs=$(outcome reference "$1")
    reason=$(cat "$WORK"/{runtime,reference}/"$1"/.skip 2>/dev/null | head -1) || true
    left=$(unaccepted "$1" "$ENGINE")
    if [[ -n $reason ]]; then
        SKIPPED=$((SKIPPED + 1))
        judged "$1" - - skipped "skipped: $reason"
    elif [[ -n $left ]]; then
        FAILED+=("$1")
        judged "$1" "$ours" "$theirs" differs "${RED}DIFFERS${PLAIN}"
        show_difference "$1"
        first_error "$WORK/runtime/$1/.log" | sed "s/^/        $(basename "$RUNTIME"): /"
    elif [[ -s $WORK/reasons ]]; then
        ACCEPTED=$((ACCEPTED + 1))
        judged "$1" "$ours" "$theirs" accepted "accepted: $(sort -u "$WORK/reasons" | paste -sd ';')"
    elif [[ $theirs == refused ]]; then
        # Both refuse alike, so the thing itself was not tested: that is a skip, and this machine is the reason.
        SKIPPED=$((SKIPPED + 1))
        judged "$1" "$ours" "$theirs" skipped "skipped: refused here by both: $(refusal "$1")"
    else
        PASSED=$((PASSED + 1))
        judged "$1" "$ours" "$theirs" same same
    fi
    [[ $VERBOSE == no ]] || sed 's/^/        /' "$WORK/runtime/$1/.facts"
}

# judged WORKLOAD OURS THEIRS WORD TEXT
judged() {
    row "$1" "$2" "$3" "$5"
    [[ -z ${OUTCOMES:-} ]] || printf '%s\t%s\t%s\n' "$1" "$ENGINE" "$4" >>"$OUTCOMES"
}

# Why the reference has refused, in its words or the workload's.
refusal() {
    local words
    words=$(first_error "$WORK/reference/$1/.log")
    echo "${words:-$(head -1 "$WORK/reference/$1/.refused" | cut -c 1-100)}"
}

# things_left: what the runtimes left once the engine had removed every container: cgroups, mounts, states.
things_left() {
    find /sys/fs/cgroup -mindepth 1 -path "*/$TAG/*" -name "*-*" -type d 2>/dev/null | sed 's/^/cgroup /' || true
    awk -v below="$WORK/" 'index($5, below) == 1 && / - (proc|sysfs|mqueue|devpts|cgroup|cgroup2) / { print "mount " $5 }' \
        /proc/self/mountinfo
    # What the payloads of this run's containers have in their environment, see `fixed_options`.
    local pid
    for pid in $(find /sys/fs/cgroup -path "*/$TAG/*" -name cgroup.procs -exec cat {} + 2>/dev/null | sort -u); do
        echo "process $pid $({ tr '\0' ' ' <"/proc/$pid/cmdline" | cut -c 1-100; } 2>/dev/null)"
    done
}

judge_left_behind() {
    local try found
    # A cgroup may take a moment to empty.
    for ((try = 0; try < 20; try++)); do
        found=$(things_left)
        [[ -n $found ]] || break
        sleep 0.3
    done
    if [[ -z $found ]]; then
        PASSED=$((PASSED + 1))
        row left_behind nothing nothing same
    else
        FAILED+=(left_behind)
        row left_behind something something "${RED}FAILED${PLAIN}"
        head -40 <<<"$found" | sed 's/^/        /'
    fi
}

report() {
    local name
    for name in "${FAILED[@]}"; do
        echo "failed: $ENGINE/$name"
    done
    printf '%s: %d passed, %d more with accepted differences, %d failed, %d skipped, %s\n' "$ENGINE" "$PASSED" \
        "$ACCEPTED" "${#FAILED[@]}" "$SKIPPED" "$(duration "$SECONDS")"
    [[ -z ${COUNTS:-} ]] || echo "$PASSED $ACCEPTED ${#FAILED[@]} $SKIPPED" >>"$COUNTS"
    ((${#FAILED[@]} == 0))
}

# A row for each workload, a column for each engine. A blank: the engine has no such thing.
print_table() {
    local name engine cell
    printf '\n| workload |'
    printf ' %s |' "${ENGINES_ASKED[@]}"
    printf '\n|---|'
    printf '%s---|' "${ENGINES_ASKED[@]/*/}"
    for name in $(all_workloads); do
        grep -q "^$name"$'\t' "$OUTCOMES" || continue
        printf '\n| `%s`: %s |' "$name" "$(description_of "$name")"
        for engine in "${ENGINES_ASKED[@]}"; do
            cell=$(awk -F '\t' -v name="$name" -v engine="$engine" '$1 == name && $2 == engine { print $3 }' "$OUTCOMES")
            printf ' %s |' "$cell"
        done
    done
    echo
}
