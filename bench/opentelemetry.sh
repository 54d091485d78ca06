#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures the table of docs/opentelemetry.md: bench/opentelemetry.sh [sid | bookworm]. Needs root and debootstrap. The
# first run downloads a Debian with opentelemetry-cpp. bookworm has the version of its backports.
set -euo pipefail
cd "$(dirname "$0")/.."
suite=${1:-sid}
if [[ $# -gt 1 || ! $suite =~ ^(sid|bookworm)$ ]]; then
  echo "usage: bench/opentelemetry.sh [sid | bookworm]" >&2
  exit 2
fi
build=build/bench
if [[ ! -x $build/nopspan ]]; then
  cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF >/dev/null
fi
cmake --build "$build" --target nopspan_program -- --quiet >&2

tree=$(PYTHONPATH=tests/support:tests/live:tests/live/collector python3 -c '
import sys
import debian
import test_opentelemetry
print(debian.with_apt(sys.argv[1], test_opentelemetry.PACKAGES, sys.argv[1] == "bookworm"))' "$suite")
sources=$tree/nopspan/source
inside=(chroot "$tree" /usr/bin/env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin LANG=C.UTF-8)
rm -rf "$sources"
mkdir -p "$sources"
tar -c --exclude=./build --exclude=./.git . | tar -x -C "$sources"
"${inside[@]}" cmake -S /nopspan/source/tests/opentelemetry -B /nopspan/build -G Ninja -DCMAKE_BUILD_TYPE=Release \
  -DNOPSPAN_USDT=ON -DNOPSPAN_RECORDING=OFF -DCMAKE_UNITY_BUILD=ON >/dev/null
"${inside[@]}" ninja -C /nopspan/build --quiet span_cost >&2

echo "| provider | span | with two attributes | the same inside a current span |"
echo "| --- | --- | --- | --- |"
scratch=$(mktemp -d)
trap 'kill $(jobs -p) 2>/dev/null || true; rm -rf "$scratch"' EXIT
"${inside[@]}" /nopspan/build/span_cost 2>"$scratch/waits" &
program=$!
until grep -q waiting "$scratch/waits"; do
  kill -0 "$program"
  sleep 0.2
done
"$build/nopspan" top --json --interval 60s --binary "$(realpath "$tree/nopspan/build/nopspan/libnopspan.so")" >"$scratch/top" 2>"$scratch/said" &
top=$!
wait "$program"
kill -INT "$top"
wait "$top" || true
cat "$scratch/said" >&2
