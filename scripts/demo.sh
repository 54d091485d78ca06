#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Demonstrates nopspan on the example chat server and agent. Builds nopspan, installs it in /usr/local and runs the
# example. Attaches bpftrace and then the collector `nopspan`, and shows traces and histograms. At the end it stops the
# programs and uninstalls nopspan:
#
#   scripts/demo.sh [--keep]
#
#   --keep   keep running until Ctrl-C
#
# Installs the Debian packages that it needs. Needs root or sudo. Exit status: 0 success, 1 failure, 2 usage error.
set -euo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/.."

bold='' plain=''
if [[ -t 1 && -z "${NO_COLOR:-}" ]]; then bold=$'\033[1m' plain=$'\033[0m'; fi
say() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }
fail() {
  echo "demo.sh: $1" >&2
  exit 1
}

keep=0
inside=0
for argument in "$@"; do
  case "$argument" in
    --keep) keep=1 ;;
    --inside) inside=1 ;;
    -h | --help)
      sed -n '3,12s/^# \{0,1\}//p' "$self"
      exit 0
      ;;
    *)
      echo "demo.sh: unknown option \"$argument\"; see demo.sh --help" >&2
      exit 2
      ;;
  esac
done
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || fail "run it as root, or install sudo: installing into /usr/local and attaching need root"
  exec sudo -- "$self" "$@"
fi

build=build/demo
# The demo measures nothing, so it is compiled in the shortest time.
quick=(-DCMAKE_BUILD_TYPE=Debug -DCMAKE_CXX_FLAGS_DEBUG=-O0 -DCMAKE_UNITY_BUILD=ON)
if [[ $inside == 0 ]]; then
  ./.ci/dependencies.sh demo
  say "Building nopspan"
  cmake -S . -B $build/library -G Ninja "${quick[@]}" -DNOPSPAN_USDT=ON -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF \
    -DNOPSPAN_BENCH=OFF >/dev/null || fail "cmake failed"
  cmake --build $build/library -- --quiet || fail "the build failed"
  # Not exec, because the wrapper must clean up even if this script is killed.
  ./.ci/with-installed.sh $build/library -- "$self" --inside "$@"
  exit
fi

say "Building the example chat server and agent, against the installed library"
cmake -S examples -B $build/examples -G Ninja "${quick[@]}" -DCMAKE_PREFIX_PATH=/usr/local >/dev/null ||
  fail "cmake failed"
cmake --build $build/examples --target chat_server agent -- --quiet || fail "the build failed"

run=$(mktemp -d)
finish() {
  trap - EXIT
  # shellcheck disable=SC2046
  kill -INT $(jobs -p) 2>/dev/null || true
  kill ${receiver:-} 2>/dev/null || true # Python leaves an ignored SIGINT alone
  wait 2>/dev/null || true
  rm -rf "$run"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Starting the chat server (some of its responses are 500, 502 or 503, so the agent has to retry)"
$build/examples/chat_service/chat_server --port-file "$run/port" --token-delay-us 500 --fail-rate 0.1 --seed 7 \
  >"$run/server.out" 2>&1 &
server=$!
until [[ -s "$run/port" ]]; do
  kill -0 $server 2>/dev/null || { cat "$run/server.out" >&2; fail "the server did not start"; }
  sleep 0.1
done
url=http://127.0.0.1:$(cat "$run/port")
echo "$url, pid $server"

ask() { $build/examples/chat_service/agent --base-url "$url" --search-root docs --max-attempts 12 "$@"; }

# attach SCRIPT OUTPUT REGEX: a bpftrace script has attached to all its probes when its output matches REGEX, for an
# agent that was started later.
attach() {
  local script=$1 output=$2
  bpftrace "scripts/$script" >"$output" 2>"$output.err" &
  tracer=$!
  until grep -q "$3" "$output"; do
    kill -0 $tracer 2>/dev/null || { cat "$output.err" "$output" >&2; fail "bpftrace $script did not attach"; }
    ask 'What is 2 + 2?' >/dev/null 2>&1 || true
  done
}
detach() {
  kill -INT $tracer
  wait $tracer 2>/dev/null || true
}

say "bpftrace scripts/trace.bt: one request through both programs"
attach trace.bt "$run/trace" '\. calculator'
before=$(wc -l <"$run/trace")
ask 'What is 6 * 7?'
request=''
until request=$(tail -n +$((before + 1)) "$run/trace" | awk '/- llm.chat / { print $3 }' | tail -1) && [[ -n "$request" ]]; do
  kill -0 $tracer 2>/dev/null || fail "bpftrace ended"
  sleep 0.2
done
detach
head -2 "$run/trace" | grep TIME_US || true
grep -F -- "$request" "$run/trace"

say "bpftrace scripts/spans.bt: count, latency, errors and the slowest requests"
attach spans.bt "$run/spans" 'llm.chat'
if [[ $keep == 1 ]]; then
  echo "Running. Press Ctrl-C to stop."
  tail -n +1 -f "$run/spans" &
  while ask --requests 40 --concurrency 8 >/dev/null 2>&1 || true; do :; done
fi
ask --requests 120 --concurrency 8
detach
awk '/^Totals/ { on = 1 } on' "$run/spans" | cat -s

# The collector shows only requests that begin after it has attached, so this sends requests until it ends.
collect() {
  "$@" >"$run/collected" 2>"$run/collected.err" &
  local collector=$!
  while kill -0 $collector 2>/dev/null; do ask --requests 8 --concurrency 4 >/dev/null 2>&1 || true; done
  wait $collector || { cat "$run/collected" "$run/collected.err" >&2; fail "$* failed"; }
  cat "$run/collected" "$run/collected.err"
}
say "nopspan ps: the processes that have probes"
nopspan ps
say "nopspan open --watch --interval 1s --count 2: the requests in flight, twice"
collect nopspan open --watch --interval 1s --count 2
say "nopspan trace --name llm.tool --limit 1: one request through both programs, shown when it ends"
collect nopspan trace --name llm.tool --limit 1
say "nopspan hist --duration 5s --by name --rows 3: durations of the three most frequent spans"
collect nopspan hist --duration 5s --by name --rows 3
say "nopspan record: record to a file, then show it with nopspan top"
collect nopspan record "$run/spans.rec" --duration 3s
nopspan top --plain --from "$run/spans.rec"

say "nopspan export: a request as it arrives in an OTLP receiver"
examples/otlp_receiver.py --port 0 --port-file "$run/receiver" --span execute_tool >"$run/received" 2>&1 &
receiver=$!
until [[ -s "$run/receiver" ]]; do
  kill -0 $receiver 2>/dev/null || { cat "$run/received" >&2; fail "the receiver did not start"; }
  sleep 0.1
done
nopspan export --otlp "http://127.0.0.1:$(cat "$run/receiver")" --protocol http/json --signals traces --name llm.tool \
  >"$run/exported" 2>&1 &
exporter=$!
until grep -q '^trace' "$run/received"; do
  kill -0 $exporter 2>/dev/null || { cat "$run/exported" >&2; fail "nopspan export ended"; }
  kill -0 $receiver 2>/dev/null || { cat "$run/received" >&2; fail "the receiver ended"; }
  ask --requests 8 --concurrency 4 >/dev/null 2>&1 || true
done
kill -INT $exporter
wait $exporter || { cat "$run/exported" >&2; fail "nopspan export failed"; }
kill $receiver
awk '/^trace/ { traces++ } traces == 1' "$run/received"
cat "$run/exported"

say "No tracer is attached any more, and the server still runs"
ask 'What is 1 + 1?' >/dev/null && echo "It answered a request."
