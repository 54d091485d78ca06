#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what a histogram costs the traced program, filled by nopspan hist and by bpftrace, and prints a table:
#
#   bench/hist.sh [BUILD]     BUILD: a folder where bench_attached and nopspan are built; without it they are, in build/bench
#
# Each is attached three times, in turn with the others, to a program that ends 5 times 100,000 spans; the figure is the
# least of the fifteen by the wall clock, and the ratio is to the cheapest. Needs root, bpftrace, and an idle machine.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $EUID -eq 0 ]] || { echo "bench/hist.sh: needs root, for BPF" >&2; exit 1; }

build=${1:-build/bench}
if [[ $# -eq 0 ]]; then
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF \
    -DNOPSPAN_COLLECTOR=ON >/dev/null
  cmake --build "$build" -- --quiet bench_attached nopspan_program >&2
fi
program=$(find "$build" -name bench_attached -xtype f | head -1)
library=$(ldd "$program" | awk '/libnopspan/ { print $3 }')
site=usdt:$library:nopspan:span_stop

scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT

# measure REGEX COMMAND...: the least ns a span under it. It is attached when it has said REGEX, and a span's hit it.
measure() {
  local regex=$1 shown=$scratch/shown
  shift
  : >"$shown" # the last one's said it too
  "$@" >"$shown" 2>&1 &
  local tracer=$!
  until echo | "$program" 1 1 >/dev/null && grep -q "$regex" "$shown"; do
    kill -0 $tracer 2>/dev/null || { cat "$shown" >&2; return 1; }
  done
  echo | "$program" 100000 5
  kill -INT $tracer
  wait $tracer 2>/dev/null || true
}

tracers=(
  "bpftrace, \`hist(arg2)\` by name"
  "bpftrace, \`hist(arg2)\` by name and model"
  "\`nopspan hist --by name\`"
  "\`nopspan hist\`, by name and model"
  "\`nopspan hist --by name --no-sequences\`"
  "\`nopspan hist --no-sequences\`"
)
ready='if (@ready == 0) { @ready = 1; printf("ready\n"); }'
run() {
  case $1 in
    0) measure ready bpftrace -e "$site { @h[str(arg1)] = hist(arg2); $ready }" ;;
    1) measure ready bpftrace -e "$site { @h[str(arg1), str(arg3)] = hist(arg2); $ready }" ;;
    2) measure Counting "$build/nopspan" hist --binary "$library" --by name ;;
    3) measure Counting "$build/nopspan" hist --binary "$library" ;;
    4) measure Counting "$build/nopspan" hist --binary "$library" --by name --no-sequences ;;
    5) measure Counting "$build/nopspan" hist --binary "$library" --no-sequences ;;
  esac
}

for _ in 1 2 3; do
  for i in "${!tracers[@]}"; do echo "$i $(run "$i")"; done
done >"$scratch/figures"
echo '| tracer | ns a span | ratio |'
echo '| --- | --- | --- |'
for i in "${!tracers[@]}"; do
  # shellcheck disable=SC2016  # awk's own
  awk -v i="$i" -v tracer="${tracers[$i]}" '
    !(1 in all) || $2 < all[1] { all[1] = $2 }
    $1 == i && (!own || $2 < own) { own = $2 }
    END { printf "| %s | %.0f | %.2f |\n", tracer, own, own / all[1] }' "$scratch/figures"
done
