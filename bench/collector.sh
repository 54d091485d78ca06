#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what the collector costs a traced program and itself, with bpftrace and LTTng-UST for comparison, in one run.
# Prints docs/overhead-collector.md: bench/collector.sh [SECONDS] >docs/overhead-collector.md
# SECONDS is the duration of each sustained rate (default 60). Needs root and bpftrace. The comparison needs lttng-tools
# and liblttng-ust-dev. If they are missing, its lines say so.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || { echo "usage: bench/collector.sh [SECONDS]" >&2; exit 2; }
[[ $EUID -eq 0 ]] || { echo "collector.sh: attaching needs root" >&2; exit 1; }

build=build/bench
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF -DNOPSPAN_COLLECTOR=ON >/dev/null
cmake --build "$build" --target nopspan nopspan_program bench_traces -- --quiet >&2
nopspan=$PWD/$build/nopspan traces=$PWD/$build/bench/bench_traces library=$(realpath "$build/libnopspan.so")

scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT

# begin COMMAND... starts COMMAND, which waits for a line on its standard input. `go` sends the line when the tracer
# (pid $tracer) has attached, waits for COMMAND and prints its output.
begin() {
  rm -f "$scratch/go"
  mkfifo "$scratch/go"
  "$@" <"$scratch/go" >"$scratch/figure" &
  program=$!
  exec 7>"$scratch/go"
}
go() {
  echo >&7
  exec 7>&-
  wait "$program"
  cat "$scratch/figure"
}
# The collector has attached when it has raised the gate of a program that maps the library.
wait_for_gate() {
  until "$nopspan" ps --json "$program" 2>/dev/null | grep -qE "\"$1\": [1-9]"; do
    kill -0 "$tracer" 2>/dev/null || { cat "$scratch/tracer" >&2; return 1; }
  done
}
# Spans are recorded and can be read while they are open, but nothing is attached.
kept_open() { echo | NOPSPAN_KEEP_OPEN=1 "$traces" "$@"; }
by_open_watch() {
  begin "$traces" "$@"
  "$nopspan" open --watch --pid "$program" >"$scratch/tracer" 2>&1 7>&- &
  tracer=$!
  wait_for_gate batch || return
  go
  stop
}
stop() {
  kill -INT "$tracer"
  wait "$tracer" 2>/dev/null || true
}

untraced() { echo | "$traces" "$@"; }
by_bpftrace() {
  begin "$traces" "$@"
  bpftrace -e "usdt:$library:nopspan:span_stop { @n = count(); }" >"$scratch/tracer" 2>&1 7>&- &
  tracer=$!
  wait_for_gate spans || return
  go
  stop
}
# nopspan record to /dev/null, which reads and encodes every span.
by_collector() {
  begin "$traces" "$@"
  "$nopspan" record --force --buffer 64M /dev/null >"$scratch/tracer" 2>&1 7>&- &
  tracer=$!
  wait_for_gate batch || return
  go
  stop
  # A lost span costs less, so a figure with losses is marked.
  grep -q 'none lost' "$scratch/tracer" || echo "(with losses)"
  tail -1 "$scratch/tracer" >>"$scratch/ledgers"
}

lttng_up=no
if command -v lttng >/dev/null && g++ -O2 -Ibench bench/lttng_traces.cpp -o "$scratch/lttng_traces" -llttng-ust -ldl -lpthread 2>/dev/null; then
  export LTTNG_HOME=$scratch
  lttng-sessiond --daemonize --no-kernel --pidfile="$scratch/sessiond.pid" >/dev/null 2>&1
  lttng_up=yes
fi
by_lttng() {
  [[ $lttng_up == yes ]] || { echo "not measured"; return; }
  {
    lttng create bench --output="$scratch/lttng"
    lttng enable-channel -u bench --subbuf-size=1M --num-subbuf=32
    lttng enable-event -u -c bench 'bench_span:*'
    lttng start
  } >/dev/null 2>&1
  echo | "$scratch/lttng_traces" "$@"
  lttng destroy >/dev/null 2>&1
  rm -rf "$scratch/lttng"
}

hits=20000 spans=100000 rounds=20
row() { # NAME THREADS SPANS COMMAND…
  local name=$1 threads=$2 count=$3
  shift 3
  printf '| %s, %s |' "$name" "$([[ $threads == 1 ]] && echo "1 thread" || echo "$threads threads")"
  local size
  for size in 1 4 16 64; do printf ' %s |' "$("$@" "$size" "$count" "$rounds" "$threads" | paste -sd' ')"; done
  echo
}

# CPU time of a process and of its children, which read other processes for the collector, in ticks of 10 ms.
ticks_of() { stats_of "$1" | awk '{ sum += $14 + $15 } END { print sum }'; }
stats_of() {
  cat "/proc/$1/stat"
  local child
  for child in $(pgrep -P "$1"); do stats_of "$child"; done
}

# while_emitting RATE COMMAND...: runs the collector's COMMAND while a program emits at this rate. Prints the rate that
# it reached, CPU time in ticks, memory in MiB, and the ledger, each on a line.
while_emitting() {
  local rate=$1
  shift
  begin "$traces" 16 "$((rate * seconds))" 1 1 "$rate"
  "$nopspan" "$@" >"$scratch/out" 2>"$scratch/tracer" 7>&- &
  tracer=$!
  wait_for_gate batch || return
  local before
  before=$(ticks_of "$tracer")
  go
  sleep 2 # the collector fetches what idle threads hold within a second
  echo $(($(ticks_of "$tracer") - before))
  awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$tracer/status"
  stop
  grep -m1 entries "$scratch/tracer"
}
# sustained RATE COMMAND...: prints the rate, CPU time per span, memory and ledger.
sustained() {
  local got
  mapfile -t got < <(while_emitting "$@")
  awk -v rate="${got[0]}" -v ticks="${got[1]}" -v spans="$(($1 * seconds))" -v memory="${got[2]}" -v ledger="${got[3]}" \
    'BEGIN { printf "%d/s | %.0f ns | %d MiB | %s |\n", rate, ticks * 1e7 / spans, memory, ledger }'
}
# beside_idle COMMAND...: prints CPU time in percent of a core, and the ledger, beside many idle processes.
idle_processes=3000 idle_rate=160
beside_idle() {
  local got idle=() i
  for ((i = 0; i < idle_processes; i++)); do
    sleep "$((2 * seconds + 60))" >/dev/null &
    idle+=($!)
  done
  mapfile -t got < <(while_emitting "$idle_rate" "$@")
  kill "${idle[@]}"
  wait "${idle[@]}" 2>/dev/null || true
  awk -v ticks="${got[1]}" -v seconds="$((seconds + 2))" -v ledger="${got[3]}" \
    'BEGIN { printf "%.2f %% of a core | %s |\n", ticks / seconds, ledger }'
}

{
  cat <<PAGE
# What the collector costs

Measured by \`./bench/collector.sh\`, which prints this page, on $(date -u +%Y-%m-%d):
$(uname -sr), $(nproc) cores ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)). Compare the figures with each other, not with
figures of another machine.

## The traced program

The figures are nanoseconds per span in the traced program, the minimum of twenty rounds. If spans
were lost, the figure is marked. A span has a name, ids, four attributes and two times. A trace has
the given number of spans: a root span and its children. The collector is
\`nopspan record --force /dev/null\`, which receives spans in batches and encodes every span. The
service keeps open spans readable at this price.

| | 1 span per trace | 4 | 16 | 64 |
| --- | --- | --- | --- | --- |
PAGE
  for threads in 1 2; do
    row "disabled" $threads $spans untraced
    row "LTTng-UST, two events per span" $threads $spans by_lttng
    row "open spans are kept (\`NOPSPAN_KEEP_OPEN=1\`)" $threads $spans kept_open
    row "\`nopspan open --watch\`" $threads $spans by_open_watch
    row "collector, batches" $threads $spans by_collector
    row "bpftrace \`span_stop { @n = count() }\`" $threads $hits by_bpftrace
  done | tee "$scratch/rows"
  echo
  awk -F'|' '
    / 1 thread / { figure[$2] = $5 + 0 }
    END {
      for (name in figure) {
        if (name ~ /batches/) batch = figure[name]
        if (name ~ /LTTng/) lttng = figure[name]
        if (name ~ /bpftrace/) count = figure[name]
      }
      printf "With 16 spans per trace on one thread, a span costs %.1f times as much with bpftrace, which only\n", count / batch
      printf "counts it, as with the collector. With LTTng-UST it costs %.2f times as much as with the collector.\n", lttng / batch
    }' "$scratch/rows"
  cat <<PAGE

Two traced threads use all cores of this machine, so the collector competes with them for time.

## The collector itself

One thread emits traces of 16 spans for $seconds s. CPU is the time of all threads of the
collector and of its child processes in user and kernel mode. Memory is its peak resident size. This
includes 64 MiB for the ring buffer, which has 32 MiB and is mapped twice.

| | rate | CPU per span | memory | ledger |
| --- | --- | --- | --- | --- |
| \`nopspan top\` | $(sustained 1000000 top --plain --buffer 32M --interval 10)
| \`nopspan record\` | $(sustained 300000 record --force --buffer 32M "$scratch/spans.rec")

A span takes $(($(stat -c %s "$scratch/spans.rec") / (300000 * seconds))) bytes in the recording.

## Idle processes

$idle_processes processes sleep, and one program emits $idle_rate spans per second for $seconds s.

| | CPU | ledger |
| --- | --- | --- |
| \`nopspan top\` | $(beside_idle top --plain --interval 10)
| \`nopspan record\` | $(beside_idle record --force /dev/null)
PAGE
}
cat "$scratch/ledgers" >&2 2>/dev/null || true
[[ $lttng_up == no ]] || kill "$(cat "$scratch/sessiond.pid")" 2>/dev/null || true
