#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures what spans cost in C and in Python: bench/bindings.sh
# Prints a section of docs/overhead.md, which bench/run.sh prints too. Takes a minute.
set -euo pipefail
cd "$(dirname "$0")/.."
[[ $# -eq 0 ]] || { echo "usage: bench/bindings.sh" >&2; exit 2; }

build=build/bench
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF >/dev/null
cmake --build "$build" --target libnopspan.so bench_c_spans -- --quiet >&2

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python=$(command -v /usr/bin/python3 python3 | head -1)
cc -std=c99 -O2 -shared -fPIC -Iinclude -I"$("$python" -c 'import sysconfig; print(sysconfig.get_path("include"))')" \
  examples/python/nopspan_module.c -o "$scratch/nopspan.abi3.so" -L"$build" -lnopspan -Wl,-rpath,"$PWD/$build"

for state in disabled open; do
  "$build/bench/bench_c_spans" $state >"$scratch/c-$state"
  NOPSPAN_KEEP_OPEN=$([[ $state == open ]] && echo 1 || echo 0) PYTHONPATH=$scratch \
    "$python" bench/python_spans.py >"$scratch/python-$state"
done

# over FILE NAME [BASE]: the time of NAME, less that of BASE.
over() { awk -v name="$2" -v base="${3:-}" '$1 == name { a = $2 } $1 == base { b = $2 } END { d = a - b; printf("%.1f", (d < 0.05 && d > -0.05) ? 0 : d) }' "$scratch/$1"; }

cat <<PAGE
## C and Python

Measured by \`./bench/bindings.sh\`, which prints this section, on $(date -u +%Y-%m-%d): $(uname -sr), $(nproc) cores
($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)), $("$python" --version). All spans are inside a request.

| ns per span, in addition to the empty loop | disabled | \`keep_open_spans(true)\` |
| --- | --- | --- |
| C: \`nopspan_span_begin()\`, \`nopspan_span_end()\` | $(over c-disabled span empty) | $(over c-open span empty) |
| C: the same, with four fields | $(over c-disabled fields empty) | $(over c-open fields empty) |
| Python, for comparison: \`with nothing: pass\`, an object that has only \`__enter__()\` and \`__exit__()\` | $(over python-disabled empty_with) | $(over python-open empty_with) |
| Python, for comparison: \`with contextlib.nullcontext(): pass\` | $(over python-disabled nullcontext) | $(over python-open nullcontext) |
| Python: \`with nopspan.span(name): pass\` | $(over python-disabled with_span) | $(over python-open with_span) |
| Python: the same, with four fields | $(over python-disabled with_fields) | $(over python-open with_fields) |
PAGE
