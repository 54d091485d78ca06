#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures two versions of nopspan in turn, and prints a Markdown table with their figures and ratios.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: bench/compare.sh [--rounds N] [--seconds N] [--only REGEX] [--build] OLD NEW

OLD and NEW are revisions of this repository, or folders with a source tree. `.` is this tree, and other relative paths
begin here too. If both versions are the same, the ratios show the noise of this machine.

  --rounds N    measure each row N times: old, new, new, old, old, ... (default 3)
  --seconds N   duration of each sustained rate (default 10)
  --only REGEX  only the rows whose text matches this extended regular expression
  --build       build, but do not measure

Each version is built as Release in build/compare/. The programs are those of this tree's bench/, compiled against the
headers and the library of each version. If one does not compile, its rows say so. Measuring needs root, and takes 15
minutes. Run nothing else meanwhile.

A time is the minimum of the rounds, a share of a core is the median. Rounds in which entries were lost do not count. If
entries were lost in all of them, the figure is marked.
USAGE
}
misused() {
  printf 'compare.sh: %s\n' "$1" >&2
  usage >&2
  exit 2
}

rounds=3 seconds=10 only='' build_only=no versions=()
while [[ $# -gt 0 ]]; do
  case $1 in
    --help) usage; exit ;;
    --build) build_only=yes ;;
    --rounds | --seconds | --only)
      [[ $# -ge 2 ]] || misused "$1 needs a value"
      [[ $1 == --only || "$2" =~ ^[1-9][0-9]*$ ]] || misused "$1 needs a number of at least 1, not \"$2\""
      printf -v "${1#--}" '%s' "$2"
      shift
      ;;
    -*) misused "there is no option $1" ;;
    *) versions+=("$1") ;;
  esac
  shift
done
[[ ${#versions[@]} -eq 2 ]] || misused "OLD and NEW are two versions, not ${#versions[@]}"
status=0
[[ "" =~ $only ]] || status=$?
[[ $status -ne 2 ]] || misused "--only needs an extended regular expression, not \"$only\""

cd "$(dirname "$0")/.."
# With sudo, the tree may belong to another user.
git() { command git -c safe.directory='*' "$@"; }
sources=() names=()
for version in "${versions[@]}"; do
  if [[ -f "$version/include/nopspan/span.h" ]]; then
    sources+=("$(realpath "$version")")
    names+=("tree-$(realpath "$version" | cksum | cut -d' ' -f1)")
  elif name=$(git rev-parse --quiet --verify --short "$version^{commit}" 2>/dev/null); then
    sources+=("")
    names+=("$name")
  else
    misused "\"$version\" is not a revision of this repository, and not a folder with a source tree of nopspan"
  fi
done
[[ $build_only == yes || $EUID -eq 0 ]] || { echo "compare.sh: attaching needs root" >&2; exit 1; }

# build VERSION SOURCE FOLDER: builds a version and the programs. A program that does not compile is missing afterwards.
programs=(traces tail engine_step first_span enabled)
build() {
  local version=$1 source=$2 folder=$3 program libraries compilers=()
  echo "building $version in $folder" >&2
  mkdir -p "$folder/programs" "$folder/include/nopspan"
  if [[ -z $source ]]; then
    source=$PWD/$folder/source
    if [[ ! -d $source ]]; then
      rm -rf "$source.new"
      mkdir "$source.new"
      git archive "$version" | tar -x -C "$source.new"
      mv "$source.new" "$source"
    fi
  fi
  cmake -S "$source" -B "$folder/build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF \
    -DNOPSPAN_BENCH=OFF -DNOPSPAN_COLLECTOR=ON >/dev/null
  cmake --build "$folder/build" --target libnopspan.so nopspan_program -- --quiet >&2
  # Before version 0.2, the header of the probe ABI was elsewhere.
  if [[ -f "$source/probes/nopspan_probes.h" ]]; then ln -sf "$source/probes/nopspan_probes.h" "$folder/include/nopspan/probes.h"; fi
  for program in "${programs[@]}"; do
    libraries=(-lnopspan)
    [[ $program != enabled ]] || libraries+=(-lbenchmark_main -lbenchmark)
    rm -f "$folder/programs/$program"
    "${CXX:-c++}" -std=c++17 -O3 -DNDEBUG -I"$source/include" -I"$folder/include" -Ibench "bench/$program.cpp" \
      -o "$folder/programs/$program" -L"$folder/build" -Wl,-rpath,"$PWD/$folder/build" "${libraries[@]}" -pthread \
      2>"$folder/programs/$program.log" &
    compilers+=($!)
  done
  for program in "${compilers[@]}"; do wait "$program" || true; done
}
build "${versions[0]}" "${sources[0]}" "build/compare/${names[0]}"
build "${versions[1]}" "${sources[1]}" "build/compare/${names[1]}"
[[ $build_only == no ]] || exit 0

scratch=$(mktemp -d)
# shellcheck source=bench/attaching.sh
. bench/attaching.sh
trap 'stop_lttng; end_jobs; rm -rf "$scratch"' EXIT
start_lttng

use() {
  folder=$PWD/build/compare/$([[ $1 == old ]] && echo "${names[0]}" || echo "${names[1]}")
  nopspan=$folder/build/nopspan traces=$folder/programs/traces
}

# row HOW PROGRAM "LABEL | UNIT" FUNCTION ARGUMENT...: prints rows of the table, one for each label if there are several
# lines of them. FUNCTION runs the program and prints a figure for each label, and afterwards perhaps a remark in
# parentheses. HOW is `min` or `median`. If there is a function lttng_FUNCTION, it measures LTTng-UST with the same
# arguments.
row() {
  local how=$1 program=$2 labels=$3 round side sides line
  shift 3
  [[ "$labels" =~ $only ]] || return 0
  : >"$scratch/lines"
  sides=(old new)
  [[ $lttng_up == no ]] || ! declare -F "lttng_$1" >/dev/null || sides+=(lttng)
  for ((round = 0; round < rounds; ++round)); do
    for side in "${sides[@]}"; do
      use "$side"
      if [[ $side == lttng ]]; then
        line=$("lttng_$1" "${@:2}") || line=''
      elif [[ ! -x "$folder/programs/$program" ]]; then
        line="(does not compile)"
      else
        line=$("$@" | paste -sd' ') || line=''
      fi
      echo "$side ${line:-(not measured)}" >>"$scratch/lines"
    done
    mapfile -t sides < <(printf '%s\n' "${sides[@]}" | tac)
  done
  awk -v how="$how" -v labels="$labels" '
    # Sorts the figures of the rounds without a remark. If each round has one, sorts all figures.
    function figure_of(side, i,  n, j, k, list, remark, value) {
      n = 0
      for (remark = 0; remark < 2 && n == 0; ++remark) {
        for (j = 1; j <= count[side]; ++j) {
          value = figures[side, j, i]
          if (value == "" || (remarks[side, j] != "") != remark) continue
          for (k = n++; k > 0 && list[k - 1] + 0 > value + 0; --k) list[k] = list[k - 1]
          list[k] = value remarks[side, j]
        }
      }
      return n == 0 ? substr(remarks[side, 1], 2) : list[how == "min" ? 0 : int((n - 1) / 2)]
    }
    {
      line = ++count[$1]
      if (match($0, / \(.*/)) remarks[$1, line] = substr($0, RSTART)
      for (i = 2; i <= NF && $i !~ /^\(/; ++i) figures[$1, line, i - 1] = $i
    }
    END {
      n = split(labels, label, "\n")
      for (i = 1; i <= n; ++i) {
        old = figure_of("old", i)
        new = figure_of("new", i)
        ratio = old + 0 > 0 && new + 0 > 0 ? sprintf("%.2f", new / old) : ""
        lttng = count["lttng"] ? figure_of("lttng", i) : ""
        printf "| %s | %s | %s | %s | %s |\n", label[i], old, new, ratio, lttng
      }
    }' "$scratch/lines"
}

span() { by_collector "$traces" "$@"; }
lttng_span() { by_lttng "$@"; }
one_handler() {
  "$folder/programs/enabled" --benchmark_filter='^OneHandlerInARequest' --benchmark_min_time=0.1 --benchmark_format=csv 2>/dev/null |
    awk -F, '$1 ~ /_min"$/ { printf "%.1f\n", $4 }'
}
first_span() { "$folder/programs/first_span" handler | awk '$1 == "first" { print $2 }'; }
first_span_attached() { by_collector "$folder/programs/first_span" | awk '$1 == "first" { print $2 } /^\(/'; }
# Percent of a core, and CPU time per span.
share() { sustained "$@" | with_remarks "$3" 3; }
per_span() { sustained "$@" | with_remarks "$3" 2; }
with_remarks() {
  awk -v rate="$1" -v column="$2" '{
    print $column ($6 > 0 ? " (with losses)" : $1 < 0.95 * rate ? " (at only " $1 "/s)" : "")
  }'
}
engine_step() { by_collector "$folder/programs/engine_step"; }
tail_of() {
  by_collector "$folder/programs/tail" "$@" | awk '
    $1 == "span" { print $2, $3, $4, $5 }
    $1 == "flush" { print $2, $3, $5 }
    $1 == "clock" { print $4, $5 }
    /^\(/'
}

described() { if [[ -n "$2" ]]; then echo "$1"; else git log -1 --format='%h (%s)' "$1"; fi; }
cat <<TABLE
old: $(described "${versions[0]}" "${sources[0]}"), new: $(described "${versions[1]}" "${sources[1]}"). $rounds rounds on $(date -u +%Y-%m-%d),
$(uname -sr), $(nproc) cores ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)), $("${CXX:-c++}" --version | head -1).

| | unit | old | new | new / old | LTTng-UST |
| --- | --- | --- | --- | --- | --- |
TABLE
for threads in 1 2; do
  of=$([[ $threads == 1 ]] && echo "1 thread" || echo "$threads threads")
  row min traces "span in a batch, 16 per trace, attached, bare, $of | ns" span bare 16 100000 20 "$threads"
  row min traces "span in a batch, 16 per trace, attached, four attributes, $of | ns" span four 16 100000 20 "$threads"
done
row min enabled "one handler, span inside a request | ns" one_handler
row min first_span "first span of a thread, with a handler, p50 | us" first_span
row min first_span "first span of a thread, attached, p50 | us" first_span_attached
record=(record --force --buffer 64M /dev/null)
row median traces "record at 1,000,000 spans/s, bare | % of a core" share bare 16 1000000 "${record[@]}"
row median traces "record at 1,000,000 spans/s, four attributes | % of a core" share four 16 1000000 "${record[@]}"
row median traces "top at 1,000,000 spans/s, bare | % of a core" share bare 16 1000000 top --plain --interval 10 --buffer 64M
row min traces "trace of requests of one span, filtered (1 of 128 shown), bare, 300,000/s | ns of CPU" \
  per_span bare 1 300000 trace --buffer 64M --name bench.rare
row min traces "trace of requests of one span, printed as text, bare, 200,000/s | ns of CPU" \
  per_span bare 1 200000 trace --buffer 64M
row min traces "trace of requests of one span, printed as JSON, four attributes, 100,000/s | ns of CPU" \
  per_span four 1 100000 trace --buffer 64M --json
row min engine_step "step of an engine with 256 requests, attached, steps in a row | ns
step of an engine with 256 requests, attached, caches replaced before each step | ns" engine_step
for threads in 1 2; do
  of=$([[ $threads == 1 ]] && echo "1 thread" || echo "$threads threads")
  row min tail "tail, $of: span p50 | ns
tail, $of: span p99 | ns
tail, $of: span p99.9 | ns
tail, $of: span maximum | ns
tail, $of: span with a flush p50 | ns
tail, $of: span with a flush p99 | ns
tail, $of: span with a flush maximum | ns
tail, $of: no span, only the clock, p99.9 | ns
tail, $of: no span, only the clock, maximum | ns" tail_of four 100000 20 "$threads"
done
