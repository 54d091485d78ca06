#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Measures `nopspan export` and `nopspan serve`: bench/export.sh [SPANS [ROUNDS]]
# Prints a section of docs/overhead-collector.md, which bench/collector.sh prints too: the CPU time per span up to the
# receiver's answer, the least of ROUNDS rounds (default 3) of SPANS spans (default 500000); the memory and the account if
# the receiver is down for a minute; and scrapes. Needs root, python3, 1 GiB in the folder of temporary files, and an idle
# machine for 13 minutes. The comparison needs opentelemetry-cpp-dev (of bookworm-backports) and libabsl-dev. If they are
# missing, its rows say so.
set -euo pipefail
cd "$(dirname "$0")/.."
spans=${1:-500000} rounds=${2:-3}
[[ $# -le 2 && "$spans $rounds" =~ ^[1-9][0-9]*\ [1-9][0-9]*$ ]] || { echo "usage: bench/export.sh [SPANS [ROUNDS]]" >&2; exit 2; }
[[ $EUID -eq 0 ]] || { echo "export.sh: attaching needs root" >&2; exit 1; }
spans=$(((spans + 15) / 16 * 16)) per_second=50000 scrapes=100

build=build/bench
cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=Release -DNOPSPAN_TESTS=OFF -DNOPSPAN_EXAMPLES=OFF -DNOPSPAN_COLLECTOR=ON >/dev/null
cmake --build "$build" --target nopspan_program bench_export bench_series bench_traces -- --quiet >&2
nopspan=$PWD/$build/nopspan programs=$PWD/$build/bench

scratch=$(mktemp -d)
# shellcheck source=bench/attaching.sh
. bench/attaching.sh
trap 'end_jobs; rm -rf "$scratch"' EXIT

has_otel=yes
"${CXX:-c++}" -std=c++17 -O3 -DNDEBUG -DHAVE_ABSEIL -DOPENTELEMETRY_ABI_VERSION_NO=1 bench/export/otel_spans.cpp \
  -o "$scratch/otel_spans" -lopentelemetry_exporter_otlp_http -lopentelemetry_trace -lopentelemetry_resources \
  -lopentelemetry_common -labsl_bad_variant_access 2>/dev/null || has_otel=no
otel_version=$(dpkg-query --show --showformat ' ${Version}' opentelemetry-cpp-dev 2>/dev/null) || true

# start_receiver [PORT] sets $port. stop_receiver sets $received: spans, requests, compressed requests, bytes.
start_receiver() {
  rm -f "$scratch/received"
  python3 bench/export/receiver.py "${1:-0}" >"$scratch/received" &
  receiver=$!
  until port=$(head -1 "$scratch/received" 2>/dev/null) && [[ -n $port ]]; do kill -0 "$receiver"; done
}
stop_receiver() {
  kill "$receiver"
  wait "$receiver" || true
  received=$(sed -n 2p "$scratch/received")
}
ticks_of_one() { awk '{ print $14 + $15 }' "/proc/$1/stat"; }
# The process that reads the ring buffer is a child of `nopspan export`. Other programs of this host are not exported.
start_export() {
  "$nopspan" export --buffer 64M --pid "$program" --otlp "http://127.0.0.1:$port" "$@" >/dev/null 2>"$scratch/tracer" 7>&- &
  tracer=$!
  wait_for_gate batch || exit
  child=$(pgrep -P "$tracer")
}

# Functions that print the CPU time per span in ns: of the program's thread, of the tracing process, of the sender, and
# their sum. A remark in parentheses follows if spans did not arrive.
remark_on_losses() { [[ ${received%% *} == "$spans" ]] || echo " (${received%% *} of $spans arrived)"; }
by_export() ( # bare|chat OPTION...
  trap end_jobs EXIT
  start_receiver
  begin "$programs/bench_export" "$1" "$spans" "$per_second"
  start_export "${@:2}"
  sender=$(ticks_of_one "$tracer") tracing=$(ticks_of "$child")
  go >"$scratch/made"
  sleep 2 # the collector fetches what idle threads hold within a second
  sender=$(($(ticks_of_one "$tracer") - sender)) tracing=$(($(ticks_of "$child") - tracing))
  stop
  stop_receiver
  awk -v spans="$spans" -v tracing="$tracing" -v sender="$sender" -v remark="$(remark_on_losses)" '{
    tracing *= 1e7 / spans
    sender *= 1e7 / spans
    printf "%d %.0f %.0f %.0f%s\n", $1, tracing, sender, $1 + tracing + sender, remark
  }' "$scratch/made"
)
# With a filter that leaves out requests, so that not all spans arrive.
by_filter() (
  remark_on_losses() { :; }
  by_export "$@"
)
by_otel() ( # bare|chat SPANS_PER_BATCH
  trap end_jobs EXIT
  start_receiver
  export OTEL_BATCH=$2 OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:$port/v1/traces
  made=$("$scratch/otel_spans" "$1" "$spans" "$per_second")
  stop_receiver
  awk -v remark="$(remark_on_losses)" '{ printf "%d 0 %d %d%s\n", $1, $2, $1 + $2, remark }' <<<"$made"
)

rows=(
  "opentelemetry-cpp, batches of 512 (default)|by_otel|512"
  "opentelemetry-cpp, batches of 8,192|by_otel|8192"
  "\`nopspan export --signals traces\`|by_export|--signals traces"
  "the same with \`--compression gzip\`|by_export|--signals traces --compression gzip"
  "\`nopspan export\`, which also sends metrics|by_export|"
  "the same with \`--sample 100\`|by_filter|--sample 100"
  "the same with \`--slower-than 2s\`, which no request is|by_filter|--slower-than 2s"
)
for ((round = 0; round < rounds; ++round)); do
  for kind in bare chat; do
    for i in "${!rows[@]}"; do
      IFS='|' read -r _ how options <<<"${rows[i]}"
      [[ $how != by_otel || $has_otel == yes ]] || continue
      # shellcheck disable=SC2086  # several options
      "$how" "$kind" $options >>"$scratch/$kind.$i"
    done
  done
done
cost_rows() {
  local kind i
  for kind in bare chat; do
    local figures=()
    for i in "${!rows[@]}"; do
      IFS='|' read -r label how _ <<<"${rows[i]}"
      if [[ ! -s "$scratch/$kind.$i" ]]; then
        echo "| $kind: $label | not measured: opentelemetry-cpp is not installed | | | | |"
        continue
      fi
      # The round with the least sum. The first row is what the others are compared with.
      sort -n -k4 "$scratch/$kind.$i" | head -1 >"$scratch/least"
      figures+=("$(cut -d' ' -f4 "$scratch/least")")
      awk -v label="$kind: $label" -v first="${figures[0]}" -v has_otel=$has_otel -v how="$how" '{
        remark = match($0, / \(.*/) ? substr($0, RSTART) : ""
        printf "| %s | %d | %s | %d | %d | %s%s |\n", label, $1, how == "by_otel" ? "" : $2, $3, $4,
          has_otel == "yes" ? sprintf("%.2f", $4 / first) : "", remark
      }' "$scratch/least"
    done
  done
}

# outage LABEL OPTION...: nothing listens for a minute while 100,000 spans per second end. Then a receiver starts. Prints a
# row with the sender's memory and the account.
outage() (
  trap end_jobs EXIT
  label=$1 seconds=60 row=''
  start_receiver
  stop_receiver
  begin "$programs/bench_traces" four 16 "$((100000 * seconds))" 1 1 100000
  start_export --signals traces --end-time 2m "${@:2}"
  echo >&7
  exec 7>&-
  for second in $(seq "$((seconds + 2))"); do # bench_traces waits for 2 s before it makes spans
    sleep 1
    [[ ! $second =~ ^(12|32|62)$ ]] || row+=" $(awk '/VmRSS/ { printf "%d MiB", $2 / 1024 }' "/proc/$tracer/status") |"
  done
  wait "$program"
  row+=" $(awk '/VmHWM/ { printf "%d MiB", $2 / 1024 }' "/proc/$tracer/status") |"
  start_receiver "$port"
  stop
  stop_receiver
  echo "| $label |$row $(sed -n 's/.*: traces: //p' "$scratch/tracer"); ${received%% *} arrived |"
  cat "$scratch/tracer" >>"$scratch/ledgers"
)

# scraped NAMES: the rows of scrapes of a server with spans of so many names.
scraped() (
  trap end_jobs EXIT
  "$programs/bench_series" "$scratch/$1.rec" "$1"
  "$nopspan" serve --from "$scratch/$1.rec" --max-series 20000 127.0.0.1:0 2>"$scratch/server" &
  server=$!
  until grep -qs 'read completely' "$scratch/server"; do kill -0 "$server"; done
  python3 bench/export/scrape.py "$(sed -n 's/.*127.0.0.1:\([0-9]*\).*/\1/p' "$scratch/server")" "$server" "$scrapes"
)

cat <<PAGE
## Export and scrapes

Measured by \`./bench/export.sh\`, which prints this section, on $(date -u +%Y-%m-%d): $(uname -sr),
$(nproc) cores ($(awk -F': ' '/model name/ { print $2; exit }' /proc/cpuinfo)).

### From the end of a span to the receiver's answer

A program makes $per_second spans per second, $spans in total. The receiver is on this host, answers at
once, and is not measured. The figures are the CPU time per span in ns, in user and kernel mode: of
the program's thread that makes the spans, of the process that traces, and of the process that sends
(of opentelemetry-cpp: of its thread that sends). The least sum of $rounds rounds counts. All spans arrived,
unless the row says otherwise. In the rows of chat spans, 15 of 16 spans have the twelve attributes of
a request to a model, and the other one is bare. opentelemetry-cpp$otel_version is Debian's package, whose
OTLP exporter cannot compress. The ratio is to its first row.

| | program | tracing | sender | sum | ratio |
| --- | --- | --- | --- | --- | --- |
$(cost_rows)

### While the receiver is down

A program makes 100,000 spans per second with four attributes for 60 s, but nothing listens on the
port. Then a receiver starts, and the exporter is stopped. Memory is the resident size of the process
that sends. The queue has 64 MiB (\`--queue\`).

| | after 10 s | after 30 s | after 60 s | peak | account |
| --- | --- | --- | --- | --- | --- |
$(outage "without a spool")
$(mkdir "$scratch/spool" && outage "\`--spool DIR\`" --spool "$scratch/spool")

### Scrapes

\`nopspan serve\` has two metrics, a counter and a histogram, for each name of a span. A client scrapes it
$scrapes times. Times are from the request to the last byte. CPU is that of the
server per scrape.

5,000 names, which are 10,000 series as \`--max-series\` counts them:

| | p50 | p99 | CPU | size |
| --- | --- | --- | --- | --- |
$(scraped 5000)
PAGE
cat "$scratch/ledgers" >&2
