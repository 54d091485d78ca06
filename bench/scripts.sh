#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what each script costs the program that it traces, and prints a table:
#
#   bench/scripts.sh [SCRIPT...]
#
# A request is twenty spans of all kinds with their events and gauges (bench/request.h), on one thread. The figure is
# wall-clock time, the minimum of five rounds. Needs root, bpftrace, and an idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $EUID -eq 0 ]] || { echo "bench/scripts.sh: needs root, for bpftrace" >&2; exit 1; }
# Some scripts need tracefs. If it is not mounted, mount it in a private mount namespace.
if [[ "${NOPSPAN_BENCH_INSIDE:-}" != 1 && ! -e /sys/kernel/tracing/events ]]; then
  NOPSPAN_BENCH_INSIDE=1 exec unshare --mount sh -c 'mount -t tracefs tracefs /sys/kernel/tracing && exec "$@"' sh \
    "$PWD/bench/scripts.sh" "$@"
fi

build=build/bench
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF -DNOPSPAN_COLLECTOR=OFF >/dev/null
cmake --build "$build" -- --quiet bench_attached >&2
program=$build/bench/bench_attached
library=$(realpath "$build/libnopspan.so")

scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT

# measure SPANS SCRIPT [ARG...]: prints ns per span while the script is attached.
measure() {
  local spans=$1 script=$2 figure=$scratch/figure shown=$scratch/shown
  shift 2
  BPFTRACE_PERF_RB_PAGES=1024 ./scripts/attach.sh "$library" "scripts/$script" "$@" >"$shown" 2>&1 &
  local tracer=$!
  # The script is attached when bpftrace waits for events in epoll_wait or epoll_pwait.
  until grep -q '^\(232\|281\|22\) ' "/proc/$tracer/syscall" && [[ "$(cat "/proc/$tracer/comm")" == bpftrace* ]]; do
    kill -0 $tracer 2>/dev/null || { cat "$shown" >&2; echo "bench/scripts.sh: $script did not attach" >&2; return 1; }
    sleep 0.1
  done 2>/dev/null
  echo | "$program" "$spans" 5 request >"$figure"
  until ! kill -INT $tracer 2>/dev/null; do sleep 0.2; done
  wait $tracer 2>/dev/null || true
  if grep -q '^Lost' "$shown"; then echo "$script: $(grep -c '^Lost' "$shown") times events were lost" >&2; fi
  cat "$figure"
}

# measure_perf SPANS: the same for perf-spans.sh, which reports when it begins to record.
measure_perf() {
  local shown=$scratch/shown figure=$scratch/figure
  ./scripts/perf-spans.sh record -o "$scratch/perf.data" "$library" >"$shown" 2>&1 &
  local recorder=$!
  until grep -q 'recording until' "$shown"; do
    kill -0 $recorder 2>/dev/null || { cat "$shown" >&2; return 1; }
    sleep 0.1
  done
  echo | "$program" "$1" 5 request >"$figure"
  kill -TERM $recorder
  wait $recorder || true
  cat "$figure"
}

row() {
  local spans=$1 shown=$2 ns argument
  shift
  for argument in "${@:2}"; do shown+=" ${argument:-''}"; done
  [[ ${#wanted[@]} -eq 0 || " ${wanted[*]} " == *" $1 "* ]] || return 0
  if [[ $1 == perf-spans.sh ]]; then ns=$(measure_perf "$spans"); else ns=$(measure "$spans" "$@"); fi
  # shellcheck disable=SC2016  # the backquotes are Markdown
  printf '| `%s` | %.2f us |\n' "$shown" "$(awk -v ns="$ns" 'BEGIN { print ns / 1000 }')"
}

wanted=("$@")
echo '| script | cost per span |'
echo '| --- | --- |'
row 100000 spans.bt
row 100000 latency.bt llm.step
row 2000 trace.bt
row 100000 slow.bt 100000
row 100000 errors.bt
row 100000 tokens.bt
row 100000 inflight.bt
row 100000 engine.bt
row 100000 offcpu.bt
row 20000 perf-spans.sh record
