#!/usr/bin/env bash
# Runs the fuzz harnesses (all, or those named: "language" is fuzz_language.c), two at a time.
#
#   tests/fuzz/run.sh [--minutes M | --seconds S] [--jobs N] [--no-build] [--record] [NAME…]
#
# Each runs so long (10 minutes, if nothing is said) or until its first finding. What it has learnt is kept in
# build/fuzz/corpus/NAME and taken up again; findings lie in build/fuzz/findings, each an input that
# `build/fuzz/tests/fuzz_NAME FILE` repeats. --record puts the results into tests/fuzz/results.md: of all runs since the last finding.
#
# `step` is a program of its own: damaged STEP files through the workers of the preset `cpu`.
#
# Ends with 0 when nothing was found, 1 when something was, 2 when the usage is wrong, 3 when there is no clang with libFuzzer.
set -eu
cd "$(dirname "$0")/../.."

seconds=600 jobs=2 build=1 record=0 names=""
while [ $# -gt 0 ]; do
    case "$1" in
        --minutes) seconds=$(awk -v m="$2" 'BEGIN { printf "%d", 60 * m }'); shift ;;
        --seconds) seconds=$2; shift ;;
        --jobs) jobs=$2; shift ;;
        --no-build) build=0 ;;
        --record) record=1 ;;
        -h | --help) sed -n '2,12s/^# \{0,1\}//p' "$0"; exit 0 ;;
        -*) echo "run.sh: unknown option $1; see --help" >&2; exit 2 ;;
        *) names="$names $1" ;;
    esac
    shift
done
all=$(cd tests/fuzz && ls fuzz_*.c | sed -n 's/^fuzz_\(.*\)\.c$/\1/p' | grep -vx -e main -e replay)
for name in $names; do
    echo "$all" | grep -qx "$name" || { echo "run.sh: no harness $name; harnesses: "$all >&2; exit 2; }
done
names=${names:-$all}

work=build/fuzz
if [ $build = 1 ]; then
    mkdir -p $work
    log=$work/configure.log
    cmake --preset fuzz >$log 2>&1 || { cat $log >&2; grep -q 'setup.sh --dev' $log && exit 3; exit 1; }
    log=$work/build.log
    targets=$(printf 'fuzz_%s\n' $names | grep -vx fuzz_step || true)
    [ -z "$targets" ] || cmake --build --preset fuzz --target $targets >$log 2>&1 || { cat $log >&2; exit 1; }
    case " $names " in
        *[[:space:]]step[[:space:]]*)
            { cmake --preset cpu && cmake --build --preset cpu --target fuzz_step; } >$log 2>&1 || { cat $log >&2; exit 1; }
            ;;
    esac
fi

# What of libFuzzer's limits a harness cannot keep: HDF5 asks for any size (fuzz_shard.c).
options() { [ "$1" != shard ] || echo -malloc_limit_mb=1000000000; }

# row NAME SECONDS EXECUTIONS EDGES RESULT: a row of the table; minutes and executions are those since the last finding
row() {
    total=$work/totals/$1
    mkdir -p $work/totals
    case "$5" in clean*) ;; *) rm -f $total ;; esac
    echo "$2 $3" >>$total
    set -- "$1" "$(awk '{ s += $1 } END { print s }' $total)" "$(awk '{ n += $2 } END { printf "%d", n }' $total)" "$4" "$5"
    printf '| %s | %s | %s | %s | %s | %s |\n' "$1" "$(date -u +%F)" "$(awk -v s="${2:-0}" 'BEGIN { printf "%.1f", s / 60 }')" "$3" "$4" \
        "$5" | tee $work/rows/$1
}

step() {
    folder=$(mktemp -d) log=$work/logs/step result=clean
    build/cpu/tests/fuzz_step "$1" "$folder" >$log 2>&1 || result=$(grep 'CHECK' $log || echo "ended without a word")
    mv "$folder"/* $work/findings/ 2>/dev/null || true
    rmdir "$folder"
    files=$(sed -n 's/^files \([0-9]*\) .*/\1/p' $log)
    row step "$1" "${files:-0}" - "$result$(sed -n 's/^files [0-9]* seed [0-9]*//p' $log)"
    [ "$result" = clean ]
}

# one NAME SECONDS: runs it and leaves its row in build/fuzz/rows/NAME
one() {
    corpus=$work/corpus/$1 log=$work/logs/$1 result=clean
    mkdir -p $corpus $work/logs $work/findings $work/rows
    if [ "$1" = step ]; then step "$2"; return; fi
    $work/tests/fuzz_$1 --seeds $work/seeds/$1 >/dev/null
    began=$(date +%s)
    $work/tests/fuzz_$1 -max_total_time=$2 -timeout=60 -rss_limit_mb=3072 $(options "$1") -print_final_stats=1 -verbosity=1 \
        -artifact_prefix=$work/findings/$1- $corpus $work/seeds/$1 >$log 2>&1 || result=$(sed -n 's/^SUMMARY: *//p' $log | tail -n 1)
    runs=$(sed -n "s/^stat::number_of_executed_units: *//p" $log | tail -n 1)
    edges=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' $log | tail -n 1)
    row "$1" $(($(date +%s) - began)) "${runs:-0}" "${edges:-?}" "${result:-ended without a word}"
    [ "$result" = clean ]
}
export -f one options row step
export work
failed=0
rm -f $(printf " $work/rows/%s" $names)
printf '%s\n' $names | xargs -P "$jobs" -I{} bash -c "one {} $seconds" || failed=1

# The rows of this run take the place of those of the same name.
record_rows() {
    table=tests/fuzz/results.md
    { cat $(printf " $work/rows/%s" $names); grep -E '^\| [a-z_]+ \| [0-9]' $table || true; } | sort -s -t'|' -k2,2 -u >$work/table
    processor=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo | head -n 1)
    head=$(sed '/^| harness/,$d' $table | sed "s|^Processor: .*|Processor: $processor.|")
    tail=$(sed '1,/^| --- /d' $table | grep -vE '^\| [a-z_]+ \| [0-9]' || true)
    printf '%s\n\n| harness | date | minutes | executions | edges | result |\n| --- | --- | --- | --- | --- | --- |\n%s\n%s\n' \
        "$head" "$(cat $work/table)" "$tail" >$table
}
[ $record = 0 ] || record_rows
exit $failed
