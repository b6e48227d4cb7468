# What the scripts share that run something under a runtime and under a reference and compare what came of each: sourced by
# tests/engines/podman, tests/engines/docker and tests/workloads/run, never run. RUNTIME and REFERENCE are the two, WORK is
# their work directory, ACCEPTED_LIST the list of differences that are right as they are.
# shellcheck shell=bash

# The two lanes: facts are compared as -reference, +runtime.
LANES=(runtime reference)

version_of() {
    "$1" --version 2>/dev/null | head -1
}

# program NAME: the whole path of a runtime. Debian keeps runc and its like in /usr/sbin, which isn't on everyone's PATH.
program() {
    local path
    path=$(PATH=$PATH:/usr/sbin:/sbin command -v "$1") || die "no such runtime: $1"
    realpath "$path"
}

# wait_for SECONDS COMMAND...: until it succeeds, that long at most.
wait_for() {
    local try seconds=$1
    shift
    for ((try = 0; try < seconds * 10; try++)); do
        "$@" && return
        sleep 0.1
    done
    echo "never came: $*"
    return 1
}

# Of what comes by standard input, the numbers of namespaces get one name: `NAME:host` for this process's, else `NAME:own`.
name_namespaces() {
    local program=() name
    for name in /proc/self/ns/*; do
        program+=(-e "s/$(readlink "$name" | sed 's/[][]/\\&/g')/${name##*/}:host/g")
    done
    sed "${program[@]}" | sed -E -e 's/\b([a-z_]+):\[[0-9]{10}\]/\1:own/g'
}

# functions_of PREFIX FILE...: what follows the prefix in the names of their functions, of those that ONLY asks for. In the
# order of the files, not of the alphabet.
functions_of() {
    local prefix=$1 name pattern
    shift
    grep -h -o -E "^${prefix}[a-z_0-9]+" "$@" | sed "s/^$prefix//" | while read -r name; do
        for pattern in "${ONLY[@]}"; do
            # shellcheck disable=SC2053 # a glob on purpose
            if [[ $name == $pattern ]]; then
                echo "$name"
                break
            fi
        done
    done
}

# describe PREFIX NAME...: each with the description that is the first line of its function.
describe() {
    local prefix=$1 name
    shift
    for name in "$@"; do
        printf '%-28s %s\n' "$name" "$(declare -f "$prefix$name" | sed -n 's/^ *: "\(.*\)";*$/\1/p' | head -1)"
    done
}

# facts_of LANE NAME: the file with what came of it. Whoever has them elsewhere says so again.
facts_of() {
    echo "$WORK/$1/$2.facts"
}

# Lines that stand on one side only, with - (reference) or + (runtime) before them.
differing_lines() {
    diff -U 0 "$(facts_of reference "$1")" "$(facts_of runtime "$1")" | grep -E '^[-+]' | grep -v -E '^(---|\+\+\+) ' || true
}

# unaccepted NAME PLACE [LISTED]: those of its differing lines that no entry of the list covers, by the name LISTED if that is
# another; the reasons that were used go to $WORK/reasons.
unaccepted() {
    local lines name where place pattern reason side listed=${3:-$1}
    lines=$(differing_lines "$1")
    : >"$WORK/reasons"
    while IFS=$'\x1f' read -r name where place pattern reason; do
        # shellcheck disable=SC2053 # globs on purpose
        [[ $listed == $name && $(basename "$RUNTIME") == $where && $2 == $place ]] || continue
        side='[-+]'
        case $pattern in
        ours:*) side='[+]' ;;
        theirs:*) side='-' ;;
        esac
        pattern=${pattern#ours:}
        pattern=^$side${pattern#theirs:}
        if grep -q -E -e "$pattern" <<<"$lines"; then
            echo "$reason" >>"$WORK/reasons"
            lines=$(grep -v -E -e "$pattern" <<<"$lines" || true)
        fi
    done < <(accepted_entries)
    printf '%s' "$lines"
}

accepted_entries() {
    # A separator that no expression contains.
    grep -v -E '^(#|$)' "$ACCEPTED_LIST" | sed -E 's/ +\| +/\x1f/g' || true
}

check_accepted() {
    local bad
    bad=$(accepted_entries | awk -F '\x1f' 'NF != 5 || $5 == ""')
    [[ -z $bad ]] || die "$ACCEPTED_LIST: five fields and a reason, please: $bad"
}

show_difference() {
    diff -U 1 --label "$REFERENCE" --label "$RUNTIME" "$(facts_of reference "$1")" "$(facts_of runtime "$1")" |
        head -60 | cut -c 1-240 | sed 's/^/        /' || true
}
