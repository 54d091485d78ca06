#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what the collector costs a traced program and itself, with bpftrace and LTTng-UST for comparison, in one run.
# Prints docs/overhead-collector.md: bench/collector.sh [SECONDS] >docs/overhead-collector.md
# SECONDS is the duration of each sustained rate (default 30). Needs root and bpftrace. The comparison needs lttng-tools
# and liblttng-ust-dev. If they are missing, its lines say so.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-30}
[[ $# -le 1 && "$seconds" =~ ^[1-9][0-9]*$ ]] || { echo "usage: bench/collector.sh [SECONDS]" >&2; exit 2; }
[[ $EUID -eq 0 ]] || { echo "collector.sh: attaching needs root" >&2; exit 1; }

build=build/bench
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF -DNOPSPAN_COLLECTOR=ON >/dev/null
cmake --build "$build" --target nopspan_program bench_traces bench_tail bench_first bench_blame -- --quiet >&2
nopspan=$PWD/$build/nopspan programs=$PWD/$build/bench library=$(realpath "$build/libnopspan.so")
traces=$programs/bench_traces

scratch=$(mktemp -d)
# shellcheck source=bench/attaching.sh
. bench/attaching.sh
trap 'stop_lttng; end_jobs; rm -rf "$scratch"' EXIT
start_lttng

# Spans are recorded and can be read while they are open, but nothing is attached.
kept_open() { echo | NOPSPAN_KEEP_OPEN=1 "$@"; }
by_open_watch() (
  trap end_jobs EXIT
  begin "$@"
  "$nopspan" open --watch --pid "$program" >"$scratch/tracer" 2>&1 7>&- &
  tracer=$!
  wait_for_gate batch || exit
  go
  stop
)

hits=20000 spans=100000 rounds=20
row() { # NAME THREADS SPANS COMMAND…
  local name=$1 threads=$2 count=$3
  shift 3
  printf '| %s, %s |' "$name" "$([[ $threads == 1 ]] && echo "1 thread" || echo "$threads threads")"
  local size
  for size in 1 4 16 64; do printf ' %s |' "$("$@" "$size" "$count" "$rounds" "$threads" | paste -sd' ')"; done
  echo
}

# cells ARGUMENT...: the cells of a row about the collector itself; see sustained().
cells() {
  sustained "$@" | awk '{
    printf "%d/s | %d ns | %.1f %% of a core | %d MiB | %d delivered, %s lost |\n", $1, $2, $3, $4, $5, ($6 > 0 ? $6 : "none")
  }'
}
# The same beside many idle processes.
idle_processes=3000 idle_rate=160
beside_idle() {
  local idle=() i
  for ((i = 0; i < idle_processes; i++)); do
    sleep "$((2 * seconds + 60))" >/dev/null &
    idle+=($!)
  done
  # The collector also works in the 2 s before the first span and after the last one.
  sustained four 16 "$idle_rate" "$@" | awk -v seconds="$seconds" '{
    printf "%.2f %% of a core | %d delivered, %s lost |\n", $3 * seconds / (seconds + 4), $5, ($6 > 0 ? $6 : "none")
  }'
  kill "${idle[@]}"
  wait "${idle[@]}" 2>/dev/null || true
}
# The quantiles of bench_tail as rows, and the remark about losses.
tail_rows() {
  local of
  of=$([[ $1 == 1 ]] && echo "1 thread" || echo "$1 threads")
  by_collector "$programs/bench_tail" four "$spans" "$rounds" "$1" | awk -v of="$of" '
    BEGIN { name["span"] = "span"; name["flush"] = "span with a flush"; name["clock"] = "no span, only the clock" }
    /^\(/ { remark = " " $0; next }
    { rows[NR] = "| " name[$1] ", " of " | " $2 " | " $3 " | " $4 " | " $5 " | " $6 }
    END { for (i = 1; i in rows; ++i) print rows[i] remark " |" }'
}
first_span() { awk -v how="$1" '/^[fs]/ { printf "| %s span of a thread, %s | %s us | %s us |\n", $1, how, $2, $3 }'; }

{
  cat <<PAGE
# What the collector costs

Measured by \`./bench/collector.sh\`, which prints this page, on $(date -u +%Y-%m-%d):
$(uname -sr), $(nproc) cores ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)). Compare the figures with each other, not with
figures of another machine.

## The traced program

The figures are nanoseconds per span in the traced program, the minimum of twenty rounds. If spans
were lost, the figure is marked. A span has a name, ids and two times. If it is not bare, it also
has four attributes. A trace has the given number of spans: a root span and its children. The
collector is \`nopspan record --force /dev/null\`, which receives spans in batches and encodes every
span. The rows about open spans show what a program pays to have them readable.

| | 1 span per trace | 4 | 16 | 64 |
| --- | --- | --- | --- | --- |
PAGE
  for threads in 1 2; do
    row "disabled, bare" $threads $spans untraced "$traces" bare
    row "disabled, four attributes" $threads $spans untraced "$traces" four
    row "LTTng-UST, two events per span, bare" $threads $spans by_lttng bare
    row "LTTng-UST, two events per span, four attributes" $threads $spans by_lttng four
    row "collector, batches, bare" $threads $spans by_collector "$traces" bare
    row "collector, batches, four attributes" $threads $spans by_collector "$traces" four
    row "open spans are kept (\`NOPSPAN_KEEP_OPEN=1\`), four attributes" $threads $spans kept_open "$traces" four
    row "\`nopspan open --watch\`, four attributes" $threads $spans by_open_watch "$traces" four
    row "bpftrace \`span_stop { @n = count() }\`, four attributes" $threads $hits by_bpftrace "$traces" four
  done | tee "$scratch/rows"
  echo
  awk -F'|' '
    / 1 thread / { figure[$2] = $5 + 0 }
    END {
      for (name in figure) {
        if (name ~ /batches, bare/) bare = figure[name]
        if (name ~ /batches, four/) four = figure[name]
        if (name ~ /LTTng.* bare/) lttng_bare = figure[name]
        if (name ~ /LTTng.* four/) lttng_four = figure[name]
        if (name ~ /bpftrace/) count = figure[name]
      }
      printf "With 16 spans per trace on one thread, a span with four attributes costs %.1f times as much with\n", count / four
      printf "bpftrace, which only counts it, as with the collector."
      if (lttng_bare > 0) {
        printf " The collector costs %.2f times as much\nas LTTng-UST with four attributes, and %.2f times as much with a bare span.", four / lttng_four, bare / lttng_bare
      }
      print ""
    }' "$scratch/rows"
  cat <<PAGE

Two traced threads use all cores of this machine, so the collector competes with them for time.

## Single spans

The distribution of the times of single spans with four attributes, 16 per trace, in ns. Each time
contains one reading of the clock. A *flush* copies the thread's buffer to the collector. The rows
without a span show what the machine itself adds: interrupts, and other programs.

| | p50 | p99 | p99.9 | maximum | number |
| --- | --- | --- | --- | --- | --- |
$(tail_rows 1)
$(tail_rows 2)

## The first span of a thread

| | p50 | p99 |
| --- | --- | --- |
$("$programs/bench_first" handler | first_span "with a handler")
$(by_collector "$programs/bench_first" | first_span "attached")

$(bench/steps.sh)

## Who stalled whom

\`nopspan blame\`, \`serve\` and a page learn from the steps what their work costs, and charge requests
([blame.md](blame.md)). \`bench_blame\` measures this without the delivery of entries: an engine with 200
steps a second of 256 members, 128 requests that end in a second, a part of a long prompt in each third
step, and a cache that keeps what the last requests left. CPU is that of charging every 10 s, in windows
of 5 minutes. Memory is the peak resident size of the whole program.

| | CPU | memory |
| --- | --- | --- |
$("$programs/bench_blame" --benchmark_counters_tabular=true 2>/dev/null | awk '/^add_steps/ {
  printf "| %s | %.1f %% of a core | %.0f MiB |\n", /drafts:1/ ? "with drafts of each member" : "without drafts", $8, $7 }')

## The collector itself

One thread emits spans for $seconds s: for \`nopspan trace\` requests of one span, else traces of 16
spans. CPU is the time of all threads of the collector and of its child processes in user and kernel
mode. Memory is its peak resident size. This includes 128 MiB for the ring buffer, which has 64 MiB
and is mapped twice. The output goes to \`/dev/null\`. The filter of \`nopspan trace\` shows one of 128
requests.

| | rate | CPU per span | | memory | ledger |
| --- | --- | --- | --- | --- | --- |
| \`nopspan top\`, bare | $(cells bare 16 1000000 top --plain --buffer 64M --interval 10)
| \`nopspan record\`, bare | $(cells bare 16 1000000 record --force --buffer 64M /dev/null)
| \`nopspan record\`, four attributes | $(cells four 16 1000000 record --force --buffer 64M /dev/null)
| \`nopspan trace\`, filtered, bare | $(cells bare 1 1000000 trace --buffer 64M --name bench.rare)
| \`nopspan trace\`, printed as text, bare | $(cells bare 1 500000 trace --buffer 64M)
| \`nopspan trace\`, printed as JSON, four attributes | $(cells four 1 300000 trace --buffer 64M --json)
| \`nopspan record\` into a file, four attributes | $(cells four 16 300000 record --force --buffer 64M "$scratch/spans.rec")

A span with four attributes takes $(($(stat -c %s "$scratch/spans.rec") / (300000 * seconds))) bytes in the recording.

## Idle processes

$idle_processes processes sleep, and one program emits $idle_rate spans per second for $seconds s.

| | CPU | ledger |
| --- | --- | --- |
| \`nopspan top\` | $(beside_idle top --plain --interval 10)
| \`nopspan record\` | $(beside_idle record --force /dev/null)

PAGE
  bench/export.sh
}
cat "$scratch/ledgers" >&2 2>/dev/null || true
