# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# Runs programs of bench/ while a tracer is attached to them. For bench/collector.sh, bench/steps.sh and
# bench/compare.sh, which set
#   scratch  a folder for temporary files
#   nopspan  the program nopspan that is measured
#   traces   its bench_traces, and
#   seconds  the duration of each sustained rate, both for sustained()
: "${scratch:?}"

# Functions that start a tracer run in a subshell. When it ends, also by Ctrl-C, it ends what it has started.
end_jobs() { jobs -p | xargs --no-run-if-empty kill 2>/dev/null || true; }

# begin COMMAND... starts COMMAND, which waits for a line on its standard input. `go` sends the line when the tracer
# (pid $tracer) has attached, waits for COMMAND and prints its output.
begin() {
  rm -f "$scratch/go"
  mkfifo "$scratch/go"
  "$@" <"$scratch/go" >"$scratch/figure" &
  program=$!
  exec 7>"$scratch/go"
}
go() {
  echo >&7
  exec 7>&-
  wait "$program"
  cat "$scratch/figure"
}
# The collector has attached when it has raised the gate of a program that maps the library.
wait_for_gate() {
  until "${nopspan:?}" ps --json "$program" 2>/dev/null | grep -qE "\"$1\": [1-9]"; do
    kill -0 "$tracer" 2>/dev/null || { cat "$scratch/tracer" >&2; return 1; }
  done
}
stop() {
  kill -INT "$tracer"
  wait "$tracer" 2>/dev/null || true
}

# A lost span costs less, so a figure with losses is marked.
mark_losses() {
  grep -q 'none lost' "$scratch/tracer" || echo "(with losses)"
  tail -1 "$scratch/tracer" >>"$scratch/ledgers"
}

untraced() { echo | "$@"; }
by_bpftrace() (
  trap end_jobs EXIT
  begin "$@"
  bpftrace -e "usdt:${library:?}:nopspan:span_stop { @n = count(); }" >"$scratch/tracer" 2>&1 7>&- &
  tracer=$!
  wait_for_gate spans || exit
  go
  stop
)
# by_command COMMAND PROGRAM...: a command of nopspan, whose output is discarded.
by_command() (
  trap end_jobs EXIT
  local command=$1
  shift
  begin "$@"
  "$nopspan" "$command" >"$scratch/tracer" 2>&1 7>&- &
  tracer=$!
  wait_for_gate batch || exit
  go
  stop
  mark_losses
)
# nopspan record to /dev/null, which reads and encodes every span.
by_collector() (
  trap end_jobs EXIT
  begin "$@"
  "$nopspan" record --force --buffer 64M /dev/null >"$scratch/tracer" 2>&1 7>&- &
  tracer=$!
  wait_for_gate batch || exit
  go
  stop
  mark_losses
)

# start_lttng compiles the counterpart of bench_traces and starts LTTng's daemon, if both are possible. stop_lttng ends
# the daemon.
lttng_up=no
start_lttng() {
  command -v lttng >/dev/null || return 0
  "${CXX:-c++}" -std=c++17 -O3 -DNDEBUG -Ibench bench/lttng_traces.cpp -o "$scratch/lttng_traces" -llttng-ust -ldl -lpthread \
    2>/dev/null || return 0
  export LTTNG_HOME=$scratch
  lttng-sessiond --daemonize --no-kernel --pidfile="$scratch/sessiond.pid" >/dev/null 2>&1 || return 0
  lttng_up=yes
}
stop_lttng() { [[ $lttng_up == no ]] || kill "$(cat "$scratch/sessiond.pid")" 2>/dev/null || true; }
# by_lttng ARGUMENT...: those of bench_traces.
by_lttng() {
  [[ $lttng_up == yes ]] || { echo "not measured"; return; }
  {
    lttng create bench --output="$scratch/lttng"
    lttng enable-channel -u bench --subbuf-size=1M --num-subbuf=32
    lttng enable-event -u -c bench 'bench_span:*'
    lttng start
  } >/dev/null 2>&1
  echo | "$scratch/lttng_traces" "$@"
  lttng destroy >/dev/null 2>&1
  rm -rf "$scratch/lttng"
}

# CPU time of a process and of its children, which read other processes for the collector, in ticks of 10 ms. A child
# that has ended is in its parent's sum.
ticks_of() { stats_of "$1" | awk '{ sum += $14 + $15 + $16 + $17 } END { print sum }'; }
stats_of() {
  cat "/proc/$1/stat"
  local child
  for child in $(pgrep -P "$1"); do stats_of "$child"; done
}

# sustained FIELDS SPANS_PER_TRACE RATE COMMAND...: runs the collector's COMMAND while a program emits at this rate.
# Prints the rate that the program reached, the collector's CPU time per span in ns and in percent of a core, the memory
# of its two processes in MiB, and how many entries were delivered and lost. COMMAND writes to /dev/null.
sustained() (
  trap end_jobs EXIT
  local fields=$1 size=$2 rate=$3
  : "${seconds:?}"
  shift 3
  begin "${traces:?}" "$fields" "$size" "$((rate * seconds))" 1 1 "$rate"
  # With --json, stderr does not have the ledger, and stdout is what is measured. So it is read from --metrics.
  "$nopspan" "$@" --metrics "$scratch/metrics" >/dev/null 2>"$scratch/tracer" 7>&- &
  tracer=$!
  wait_for_gate batch || exit
  local before ticks reached memory
  before=$(ticks_of "$tracer")
  go >"$scratch/reached"
  reached=$(<"$scratch/reached")
  sleep 2 # the collector fetches what idle threads hold within a second
  ticks=$(($(ticks_of "$tracer") - before))
  memory=$(cat "/proc/$tracer/status" "/proc/$(pgrep --parent "$tracer")/status" |
    awk '/VmHWM/ { kib += $2 } END { print int(kib / 1024) }')
  stop
  awk -v reached="$reached" -v ticks="$ticks" -v spans="$((rate * seconds))" -v memory="$memory" '
    /^nopspan_entries_delivered_total/ { delivered += $NF }
    /^nopspan_entries_lost_total/ { lost += $NF }
    END {
      printf "%d %.0f %.2f %d %d %d\n", reached, ticks * 1e7 / spans, ticks * reached / spans, memory, delivered, lost
    }' "$scratch/metrics"
)
