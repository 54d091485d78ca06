#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures every figure of docs/overhead.md in one run, and prints that page: bench/run.sh >docs/overhead.md
# The figures with a tracer need root and bpftrace. Without them, the page says that they were not measured.
set -euo pipefail
cd "$(dirname "$0")/.."

build=build/bench
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF -DNOPSPAN_COLLECTOR=OFF >/dev/null
cmake --build "$build" -- --quiet >&2

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"; kill $(jobs -p) 2>/dev/null || true' EXIT

echo "running the benchmarks (two minutes)" >&2
"$build/bench/bench_span" --benchmark_min_time=0.2 --benchmark_format=csv 2>/dev/null >"$scratch/spans.csv"

# The minimum CPU time of a benchmark in ns.
ns() {
  awk -F, -v name="\"$1_min\"" '$1 == name { printf "%.2f", $4 }' "$scratch/spans.csv"
}
over() { awk -v a="$(ns "$1")" -v b="$(ns "$2")" 'BEGIN { printf "%.2f", a - b }'; }

# tracing SPANS REGEX COMMAND...: prints the cost of a span with this tracer attached, the minimum of five rounds of
# SPANS. The program waits while the tracer attaches. The tracer is attached when its output matches REGEX for a
# canary's span. bpftrace's own message that it is attached comes too early.
library=$(realpath "$build/libnopspan.so")
tracing() {
  local spans=$1 regex=$2 kind=()
  shift 2
  if [[ "$1" == chat ]]; then
    kind=(chat)
    shift
  fi
  if [[ $EUID -ne 0 ]] || ! command -v bpftrace >/dev/null; then
    echo "not measured: needs root and bpftrace"
    return
  fi
  local go=$scratch/go figure=$scratch/figure shown=$scratch/shown
  rm -f "$go"
  mkfifo "$go"
  "$build/bench/bench_attached" "$spans" 5 "${kind[@]}" <"$go" >"$figure" &
  local program=$!
  exec 7>"$go"
  "$@" >"$shown" 2>&1 7>&- &
  local tracer=$!
  until "$build/bench/bench_attached" 1 1 "${kind[@]}" </dev/null >/dev/null && grep -q "$regex" "$shown"; do
    kill -0 $tracer 2>/dev/null || {
      echo "not measured: $(tail -1 "$shown")"
      exec 7>&-
      return
    }
  done
  echo >&7
  exec 7>&-
  wait $program
  kill -INT $tracer
  for _ in {1..100}; do kill -0 $tracer 2>/dev/null && sleep 0.1; done
  kill -TERM $tracer 2>/dev/null || true  # bpftrace 0.17 has been seen to ignore SIGINT
  wait $tracer 2>/dev/null || true
  if grep -q '^Lost' "$shown"; then echo "not measured: $(grep -m1 '^Lost' "$shown")"; else echo "$(cat "$figure") ns"; fi
}
canary='if (@ready == 0) { @ready = 1; printf("ready\n"); }'
one() { tracing 100000 ready bpftrace -e "${1//LIB/$library}"; }
record=$(sed -n '/BEGIN struct nopspan_span /,/END struct nopspan_span/p' include/nopspan/probes.h | sed '1d;$d')
chat_hit=$(tracing 100000 ready chat bpftrace -e "usdt:$library:nopspan:span_stop { $canary }")
chat_bytes=$(tracing 1000 ready chat bpftrace -e "$record usdt:$library:nopspan:span_stop {
  @bytes = max(((struct nopspan_span *)arg5)->attributes_bytes); $canary }" >/dev/null; sed -n 's/^@bytes: //p' "$scratch/shown")
script() { tracing "$1" "$2" ./scripts/attach.sh "$library" "${@:3}"; }
hit=$(one "usdt:LIB:nopspan:span_stop { $canary }")
count_all=$(one "usdt:LIB:nopspan:span_stop { @n = count(); $canary }")
hist_all=$(one "usdt:LIB:nopspan:span_stop { @h[str(arg1)] = hist(arg2); $canary }")
both=$(one "usdt:LIB:nopspan:span_start { @s[arg4] = nsecs; } usdt:LIB:nopspan:span_stop { @n = count(); $canary }")
spans=$(script 100000 bench.span scripts/spans.bt)
trace=$(script 100 bench.span scripts/trace.bt)

# The hot bytes of the function. Below, the compile time of the file, the minimum of seven runs.
hot_bytes() {
  "$1" -std=c++17 -O2 -DWITH_SPAN="$2" -Iinclude -c bench/site.cpp -o "$scratch/site.o"
  printf '%d\n' "0x$(nm -S "$scratch/site.o" | awk '$4 == "_Z4sitev" { print $2 }')"
}
compile_ms() {
  local least=999999 began took
  for _ in 1 2 3 4 5 6 7; do
    began=$(date +%s%N)
    "$1" -std=c++17 -O2 -DWITH_SPAN="$2" -Iinclude -c bench/site.cpp -o "$scratch/site.o"
    took=$((($(date +%s%N) - began) / 1000000))
    ((took < least)) && least=$took
  done
  echo "$least"
}

cat <<PAGE
# What nopspan costs

Measured by \`./bench/run.sh\`, which prints this page, on $(date -u +%Y-%m-%d): $(uname -sr), $(nproc) cores
($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)), $(c++ --version | head -1). Each figure is the minimum
of nine runs in one process. Compare the figures with each other, not with figures of another
machine.

## Disabled: no handler and no tracer

| loop body | ns | ns in addition to the empty loop |
| --- | --- | --- |
| empty loop | $(ns EmptyLoop/repeats:9) | |
| a bare probe of \`<sys/sdt.h>\` | $(ns BareSdtProbe/repeats:9) | $(over BareSdtProbe/repeats:9 EmptyLoop/repeats:9) |
| \`Span\` | $(ns DisabledSpan/repeats:9) | $(over DisabledSpan/repeats:9 EmptyLoop/repeats:9) |
| \`Span\`, four lazy fields | $(ns DisabledSpanFourLazyFields/repeats:9) | $(over DisabledSpanFourLazyFields/repeats:9 EmptyLoop/repeats:9) |
| \`span()\`, a closure | $(ns DisabledClosure/repeats:9) | $(over DisabledClosure/repeats:9 EmptyLoop/repeats:9) |
| \`span()\`, four lazy fields | $(ns DisabledClosureFourLazyFields/repeats:9) | $(over DisabledClosureFourLazyFields/repeats:9 EmptyLoop/repeats:9) |
| \`AsyncSpan\` | $(ns DisabledAsyncSpan/repeats:9) | $(over DisabledAsyncSpan/repeats:9 EmptyLoop/repeats:9) |
| \`execute()\` | $(ns DisabledEvent/repeats:9) | $(over DisabledEvent/repeats:9 EmptyLoop/repeats:9) |
| \`ContextScope\`, which works while nothing is attached | $(ns DisabledContextScope/repeats:9) | $(over DisabledContextScope/repeats:9 EmptyLoop/repeats:9) |
| \`FiberSwitch\`, while no scope is open | $(ns DisabledFiberSwitch/repeats:9) | $(over DisabledFiberSwitch/repeats:9 EmptyLoop/repeats:9) |

## One in-process handler of the span's stop event

| | ns per span |
| --- | --- |
| two \`clock_gettime()\`, for comparison (on a busy thread nopspan reads the CPU's time-stamp counter instead) | $(ns TwoClockReads/repeats:9) |
| \`Span\` inside a request | $(ns OneHandlerInARequest/repeats:9) |
| \`Span\` that starts a new request, whose id needs 16 random bytes from the kernel | $(ns OneHandler/repeats:9) |
| the same, with four fields | $(ns OneHandlerFourFields/repeats:9) |
| \`Span\` that starts a new request, CPU time on 1, 2, 4, 8 threads | $(ns OneHandlerThreads/repeats:9/threads:1), $(ns OneHandlerThreads/repeats:9/threads:2), $(ns OneHandlerThreads/repeats:9/threads:4), $(ns OneHandlerThreads/repeats:9/threads:8) |
| \`Span\` of another name inside a request, which no handler receives | $(ns UnhandledInARequest/repeats:9) |
| the same, with four lazy fields, which are skipped | $(ns UnhandledFourFields/repeats:9) |
| no handler, but \`keep_open_spans(true)\`: \`Span\` inside a request | $(ns KeptOpenInARequest/repeats:9) |
| \`FiberSwitch\`: two open scopes are suspended and resumed | $(ns OneHandlerFiberSwitch/repeats:9) |
| the first \`Span\` of a thread, with one handler: median and 99th percentile | $("$build/bench/bench_first" handler | awk '/first/ { printf "%.0f, %.0f", $2 * 1000, $3 * 1000 }') |

## An \`llm.chat\` with twelve attributes

| | ns per span |
| --- | --- |
| disabled, in addition to the empty loop | $(over DisabledChat/repeats:9 EmptyLoop/repeats:9) |
| one handler | $(ns HandledChat/repeats:9) |
| one handler that reads the attributes | $(ns HandledChatWithAttributes/repeats:9) |
| \`span_start\` and \`span_stop\` attached, without the time in the kernel (attributes are encoded twice) | $(ns ProbedChat/repeats:9) |
| bpftrace, \`span_stop\`, a nearly empty script | $chat_hit |

When the span ends, its attributes take ${chat_bytes:-not measured} bytes. Allocations per span, after the first ones of a
thread: $("$build/bench/bench_allocations" handler) with a handler, $("$build/bench/bench_allocations" attributes) with a handler that reads the attributes, $("$build/bench/bench_allocations" probe) with a probe.

## A stream

| | ns per token |
| --- | --- |
| \`StreamMeter::token()\` disabled, in addition to the empty loop | $(over DisabledToken/repeats:9 EmptyLoop/repeats:9) |
| an item of \`llm::pull_stream()\` disabled, in addition to its source | $(over DisabledPull/repeats:9 BareSource/repeats:9) |
| one \`clock_gettime()\`, for comparison | $(ns OneClockRead/repeats:9) |
| \`StreamMeter::token()\` with one handler | $(ns EnabledToken/repeats:9) |
| an item of \`llm::pull_stream()\` with one handler | $(ns EnabledPull/repeats:9) |
| per stream, not per token: a \`StreamMeter\` that gets no token, in addition to its \`AsyncSpan\` | $(over EnabledMeter/repeats:9 EnabledAsyncSpan/repeats:9) |

## A tracer

| bpftrace $(bpftrace --version 2>/dev/null | awk '{ print $2 }') | per span |
| --- | --- |
| \`span_stop\`, a nearly empty script | $hit |
| \`span_stop { @n = count() }\` | $count_all |
| \`span_stop { @h[str(arg1)] = hist(arg2) }\` | $hist_all |
| \`span_start\` and \`span_stop\`, matched by span id | $both |
| \`scripts/spans.bt\` | $spans |
| \`scripts/trace.bt\`, two lines per span | $trace |

## Size

| | gcc | clang |
| --- | --- | --- |
| bytes of a function's hot path without and with a span | $(hot_bytes g++ 0), $(hot_bytes g++ 1) | $(hot_bytes clang++ 0), $(hot_bytes clang++ 1) |
| time to compile the file of this function without and with a span, ms | $(compile_ms g++ 0), $(compile_ms g++ 1) | $(compile_ms clang++ 0), $(compile_ms clang++ 1) |
PAGE

echo
bench/bindings.sh
