#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The main job on real input: builds nopspan, installs it in /usr/local, runs the example chat server and agent against
# it, attaches bpftrace and then the collector `nopspan` to the running programs, shows traces and histograms, and takes
# everything away again:
#
#   scripts/demo.sh [--keep]
#
#   --keep   goes on until Ctrl-C
#
# Installs the Debian packages it needs. Needs root or sudo. Exit status: 0 done, 1 failed, 2 misused.
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
  command -v sudo >/dev/null || fail "it installs into /usr/local and attaches bpftrace: run it as root, or install sudo"
  exec sudo -- "$self" "$@"
fi

build=build/demo
if [[ $inside == 0 ]]; then
  ./.ci/dependencies.sh demo
  say "Building nopspan"
  cmake -S . -B $build/library -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_USDT=ON -DNOPSPAN_TESTS=OFF \
    -DNOPSPAN_EXAMPLES=OFF -DNOPSPAN_BENCH=OFF >/dev/null || fail "cmake failed"
  cmake --build $build/library -- --quiet || fail "the build failed"
  # Not exec: the wrapper cleans up also if this is killed in between.
  ./.ci/with-installed.sh $build/library -- "$self" --inside "$@"
  exit
fi

say "Building the example chat server and agent, against the installed library"
cmake -S examples -B $build/examples -G Ninja -DCMAKE_BUILD_TYPE=Release -DCMAKE_PREFIX_PATH=/usr/local >/dev/null ||
  fail "cmake failed"
cmake --build $build/examples -- --quiet || fail "the build failed"

run=$(mktemp -d)
finish() {
  trap - EXIT
  # shellcheck disable=SC2046
  kill -INT $(jobs -p) 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$run"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

say "Starting the chat server (some of its answers are 429 and 503, so that there is something to retry)"
$build/examples/chat_service/chat_server --port-file "$run/port" --token-delay-us 500 --fail-rate 0.1 --rate-limit 40 --seed 7 \
  >"$run/server.out" 2>&1 &
server=$!
until [[ -s "$run/port" ]]; do
  kill -0 $server 2>/dev/null || { cat "$run/server.out" >&2; fail "the server did not start"; }
  sleep 0.1
done
url=http://127.0.0.1:$(cat "$run/port")
echo "$url, pid $server"

ask() { $build/examples/chat_service/agent --base-url "$url" --search-root docs --max-attempts 12 "$@"; }

# A bpftrace script has attached to all its probes when it shows a span of an agent that was started after it.
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

say "bpftrace scripts/trace.bt: one request, across both programs"
attach trace.bt "$run/trace" 'tool_call\|tool call'
before=$(wc -l <"$run/trace")
ask --stream 'What is 6 * (3 + 4)?'
request=''
until request=$(tail -n +$((before + 1)) "$run/trace" | awk '/- llm.chat / { print $3 }' | tail -1) && [[ -n "$request" ]]; do
  kill -0 $tracer 2>/dev/null || fail "bpftrace ended"
  sleep 0.2
done
detach
head -2 "$run/trace" | grep TIME_MS || true
grep -F -- "$request" "$run/trace"

say "bpftrace scripts/spans.bt: count, rate, latency, errors and the slowest requests"
attach spans.bt "$run/spans" 'llm.chat'
if [[ $keep == 1 ]]; then
  echo "going on until Ctrl-C"
  tail -n +1 -f "$run/spans" &
  while ask --stream --requests 40 --concurrency 8 >/dev/null 2>&1 || true; do :; done
fi
ask --stream --requests 120 --concurrency 8
detach
awk '/^Totals/ { on = 1 } on' "$run/spans" | cat -s

# The collector shows what begins after it has attached: it is asked for so many requests.
collect() {
  "$@" >"$run/collected" 2>"$run/collected.err" &
  local collector=$!
  while kill -0 $collector 2>/dev/null; do ask --stream --requests 8 --concurrency 4 >/dev/null 2>&1 || true; done
  wait $collector || { cat "$run/collected" "$run/collected.err" >&2; fail "$* failed"; }
  cat "$run/collected" "$run/collected.err"
}
say "The collector. nopspan ps: who has probes"
nopspan ps
say "nopspan trace --name llm.tool --limit 1: a request, as it ends, across both programs"
collect nopspan trace --name llm.tool --limit 1
say "nopspan hist --duration 5s --by name --rows 3: histograms of durations, the three most frequent"
collect nopspan hist --duration 5s --by name --rows 3
say "nopspan record: everything to a file; then nopspan top reads it"
collect nopspan record "$run/spans.rec" --duration 3s
nopspan top --plain --from "$run/spans.rec"

say "Detached: the server runs on, untraced"
ask 'What is 1 + 1?' >/dev/null && echo "it answers"
