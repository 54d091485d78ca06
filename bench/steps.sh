#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what a step of an inference engine costs with 8 to 1,024 members: bench/steps.sh [STEPS [ROUNDS]]
# Prints a section of docs/overhead-collector.md, which bench/collector.sh prints too. Each figure is the minimum of
# ROUNDS (default 10) of STEPS steps (default 1000). Needs root, bpftrace, and an idle machine for three minutes.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${1:-1000} rounds=${2:-10}
[[ $# -le 2 && "$steps $rounds" =~ ^[1-9][0-9]*\ [1-9][0-9]*$ ]] || { echo "usage: bench/steps.sh [STEPS [ROUNDS]]" >&2; exit 2; }
[[ $EUID -eq 0 ]] || { echo "steps.sh: attaching needs root" >&2; exit 1; }

build=build/bench
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF -DNOPSPAN_COLLECTOR=ON >/dev/null
cmake --build "$build" --target nopspan_program bench_engine_step -- --quiet >&2
# shellcheck disable=SC2034  # attaching.sh uses them
nopspan=$PWD/$build/nopspan library=$(realpath "$build/libnopspan.so")
program=$PWD/$build/bench/bench_engine_step

scratch=$(mktemp -d)
# shellcheck source=bench/attaching.sh
. bench/attaching.sh
trap 'end_jobs; rm -rf "$scratch"' EXIT

cat <<'PAGE'
## A step of an inference engine

Before each step the program walks through 8 MiB of memory, because a forward pass replaces what the
caches hold. The first column of times is this loop without nopspan. With nopspan, a step is a span
`engine.step` with a member for each request, and each request gets a token. The other columns are the
time of that per step, with the flushes. In parentheses is the time of the whole loop, as a ratio to
the loop without nopspan.

| members | loop without nopspan | nothing attached | `nopspan trace` | `nopspan record` |
| --- | --- | --- | --- | --- |
PAGE
for members in 8 64 256 1024; do
  measured=("$program" "$members" "$steps" "$rounds")
  without=$(untraced "${measured[@]}" none | cut -d' ' -f3)
  printf '| %s | %s us |' "$members" "$(awk -v ns="$without" 'BEGIN { printf "%.0f", ns / 1000 }')"
  for how in untraced "by_command trace" by_collector; do
    # shellcheck disable=SC2086  # two words
    $how "${measured[@]}" members | awk -v without="$without" '
      NR == 1 { printf " %.1f us (%.2f)", $2 / 1000, $3 / without }
      /^\(/ { printf " %s", $0 }
      END { printf " |" }'
  done
  echo
done
cat "$scratch/ledgers" >&2
