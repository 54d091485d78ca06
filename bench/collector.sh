#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What the collector costs a traced program, and itself, in one run, beside bpftrace and LTTng-UST; prints
# docs/overhead-collector.md: bench/collector.sh [SECONDS] >docs/overhead-collector.md
# SECONDS is how long each of the sustained rates runs (60). Needs root, bpftrace and, to compare, lttng-tools and
# liblttng-ust-dev; what is missing is said in its line.
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
[[ "$seconds" =~ ^[1-9][0-9]*$ ]] || { echo "usage: bench/collector.sh [SECONDS]" >&2; exit 2; }
[[ $EUID -eq 0 ]] || { echo "collector.sh: attaching needs root" >&2; exit 1; }

build=build/bench
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF >/dev/null
cmake --build "$build" --target nopspan nopspan_program bench_traces -- --quiet >&2
nopspan=$PWD/$build/nopspan traces=$PWD/$build/bench/bench_traces library=$PWD/$build/libnopspan.so.0

scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT

# measure COMMAND...: prints what COMMAND prints after a line on its standard input, which it gets when the tracer whose
# pid is in $tracer has attached to it: `attached` says so.
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
# The collector has attached when the gate of a program that maps the library is up.
wait_for_gate() {
  until "$nopspan" ps --json "$program" 2>/dev/null | grep -qE "\"$1\": [1-9]"; do
    kill -0 "$tracer" 2>/dev/null || { cat "$scratch/tracer" >&2; return 1; }
  done
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
# nopspan record into nothing, which reads and encodes every span.
by_collector() {
  begin "$traces" "$@"
  "$nopspan" record --force --buffer 64M /dev/null >"$scratch/tracer" 2>&1 7>&- &
  tracer=$!
  wait_for_gate batch || return
  go
  stop
  # Of lost spans the cost is not what is asked for.
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

# sustained RATE "COMMAND…": the collector at that rate for so long: received, lost, CPU, memory.
sustained() {
  local rate=$1
  shift
  begin "$traces" 16 "$((rate * seconds))" 1 1 "$rate"
  "$nopspan" "$@" >"$scratch/out" 2>"$scratch/tracer" 7>&- &
  tracer=$!
  wait_for_gate batch || return
  local before after memory
  before=$(awk '{ print $14 + $15 }' "/proc/$tracer/stat")
  local got
  go >"$scratch/rate"
  got=$(cat "$scratch/rate")
  sleep 2 # what is held is fetched within a second
  after=$(awk '{ print $14 + $15 }' "/proc/$tracer/stat")
  memory=$(awk '/VmHWM/ { print int($2 / 1024) }' "/proc/$tracer/status")
  stop
  awk -v rate="$got" -v ticks=$((after - before)) -v seconds="$seconds" -v memory="$memory" -v ledger="$(grep -m1 entries "$scratch/tracer")" \
    'BEGIN { printf "%d/s | %.0f ns | %d MiB | %s |\n", rate, ticks * 1e7 / (rate * seconds), memory, ledger }'
}

{
  cat <<PAGE
# What the collector costs

Measured by \`./bench/collector.sh\`, which prints this page, on $(date -u +%Y-%m-%d): $(uname -sr), $(nproc) cores
($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)). Compare lines with each other, not with another machine's.

## The traced program

ns a span, the least of twenty rounds, which lost nothing unless it is said: a name, ids, four attributes, two
readings of the clock. A trace is so many spans, the outermost and its children. The collector is
\`nopspan record /dev/null\`, which reads and encodes every span.

| | 1 span a trace | 4 | 16 | 64 |
| --- | --- | --- | --- | --- |
PAGE
  for threads in 1 2; do
    row "nobody listens" $threads $spans untraced
    row "LTTng-UST, two events a span" $threads $spans by_lttng
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
      printf "At 16 spans a trace, one thread, a span in a batch is %.1f times cheaper than a probe hit that bpftrace only", count / batch
      printf "\ncounts. LTTng-UST takes %.2f times as long as a span in a batch.\n", lttng / batch
    }' "$scratch/rows"
  cat <<PAGE

Two threads are all cores of this machine: the collector runs beside them.

## The collector itself

Sixteen spans a trace from one thread, $seconds s each; its CPU is that of all its threads and of both modes, its
memory the most that was resident, of which 64 MiB are the kernel's buffer of 32, mapped twice.

| | rate | CPU a span | memory | |
| --- | --- | --- | --- | --- |
| \`nopspan top\` | $(sustained 1000000 top --plain --buffer 32M --interval 10)
| \`nopspan record\` | $(sustained 300000 record --force --buffer 32M "$scratch/spans.rec")

A recorded span takes $(($(stat -c %s "$scratch/spans.rec") / (300000 * seconds))) bytes.
PAGE
}
cat "$scratch/ledgers" >&2 2>/dev/null || true
[[ $lttng_up == no ]] || kill "$(cat "$scratch/sessiond.pid")" 2>/dev/null || true
