#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Traces spans with perf. Records when spans begin and end, and CPU samples if asked. Draws a flame graph of the CPU
# samples in the spans of one name. Uses perf-spans.awk and perf-flamegraph.awk. attach.sh finds the files to record.

set -euo pipefail

usage() {
  cat <<'END'
usage: perf-spans.sh record [OPTION...] [-p PID | --all | FILE]              until Ctrl-C
       perf-spans.sh record [OPTION...] [--all | FILE] -- COMMAND [ARG...]   while COMMAND runs: it and its children
       perf-spans.sh flamegraph NAME [-i DATA] [-p PID] [--folded] >NAME.svg

record      record the start and end of every span of the installed library, /usr/*/*/libnopspan.so.*
  -p PID            record one process and its children: every copy of the library that it maps
  --all             record every copy of the library that any process maps now, also in containers
  FILE              record a program or library: the copy that it contains or would load
  -c, --cpu         also record CPU samples with their stacks, which flamegraph needs
  -F, --frequency HZ      CPU samples per second on each CPU (default: 99)
  --call-graph MODE       as in perf: fp (needs programs built with -fno-omit-frame-pointer), dwarf or lbr (default: fp)
  -s, --seconds N         stop after N seconds
  -o, --output DATA       file to write (default: perf.data); an existing file is renamed to DATA.old
  -m, --buffer SIZE       buffer size per CPU, as -m of perf; increase it if events were lost (default: 4M)
flamegraph  print an SVG of the CPU samples that were taken in the spans called NAME, on the span's thread
  --folded          print the stacks as text, one per line, for the FlameGraph tools and speedscope
  -i, --input DATA  file to read (default: perf.data)
  -p, --pid PID     show only this process

record needs root, perf, readelf (binutils) and tracefs. flamegraph only reads the file. Commands of perf, such as
perf script, can read it too: id is the request id, and status is 0 ok, 1 error, 2 cancelled, 3 exception.

If record is killed with kill -9, its uprobe events remain in the kernel. To delete them, end perf. Then write a line
-:GROUP/EVENT into /sys/kernel/tracing/uprobe_events for each event in that file whose GROUP begins with nopspan_.

A flame graph shows the samples of spans that began and ended on one thread. AsyncSpans are left out, because they are
not bound to a thread. stderr reports what was left out and what perf lost. The graph includes the cost of recording, as
frames above nopspan_site_span_start and nopspan_site_span_stop.

Exit status: with record -- COMMAND, that of COMMAND. Otherwise 0 success, 1 failure, 2 usage error or perf cannot be
used on this machine.
To use another perf than the one in PATH, set PERF to its path.
END
}

note() { printf 'perf-spans.sh: %s\n' "$*" >&2; }

fail() {
  note "$@"
  exit 1
}

die() {
  note "$@"
  exit 2
}

perf=${PERF:-perf}
here=$(dirname -- "$(realpath -- "${BASH_SOURCE[0]}")")
workshop=

# --- The events -------------------------------------------------------------------------------------------------------
#
# perf can make events of the probes (perf buildid-cache, perf probe sdt_nopspan:span_stop), but they show a string's
# address and not its text. Events that are written by hand show the text. They have the semaphore's offset in brackets,
# so that the kernel raises the gate while they are recorded.

uprobe_events=''  # tracefs's file
group=''          # of this run's events; no other run has it
made=()           # their names

find_tracefs() {
  local folder
  for folder in /sys/kernel/tracing /sys/kernel/debug/tracing; do
    if [[ -w $folder/uprobe_events ]]; then
      uprobe_events=$folder/uprobe_events
      return
    fi
  done
  [[ -e /sys/kernel/tracing/README ]] ||
    die "tracefs is not mounted: mount -t tracefs nodev /sys/kernel/tracing"
  die "tracefs has no uprobe_events: the kernel lacks CONFIG_UPROBE_EVENTS, or is locked down"
}

# FILE -> a line for each site of the two probes: name, location, base, semaphore, arguments.
sites_in() {
  readelf -n -- "$1" 2>/dev/null | awk '
    $1 == "Provider:" { provider = $2 }
    $1 == "Name:" { name = $2 }
    $1 == "Location:" { gsub(/,/, ""); location = $2; base = $4; semaphore = $6 }
    $1 == "Arguments:" && provider == "nopspan" && (name == "span_start" || name == "span_stop") {
      sub(/^ *Arguments: */, "")
      print name, location, base, semaphore, $0
    }'
}

# FILE ADDRESS -> the offset in the file that is loaded at the address.
file_offset() {
  local offset address size
  while read -r offset address size; do
    if (($2 >= address && $2 < address + size)); then
      printf '0x%x\n' "$(($2 - address + offset))"
      return
    fi
  done < <(readelf -lW -- "$1" 2>/dev/null | awk '$1 == "LOAD" { print $2, $3, $5 }')
  return 1
}

# An argument's place in a note (8@%rdi, 8@x0) -> the kernel's name of it (%di, %x0).
kernel_register() {
  local register=${1#*@}
  register=${register#%}
  [[ $register =~ ^(r[a-ds][xip]|r[0-9]+|x[0-9]+)$ ]] || return 1
  [[ $register != r[a-z]* ]] || register=${register#r}
  printf '%%%s\n' "$register"
}

# NAME FILE OFFSET SEMAPHORE_OFFSET ARGUMENT...: makes one event and adds its name to `made`.
make_event() {
  local name=$1 file=$2 offset=$3 semaphore=$4 fields=
  shift 4
  local arguments=("$@") event=$name number=1
  while [[ " ${made[*]} " == *" $event "* ]]; do
    number=$((number + 1)) event=${name}_$number
  done
  # arg5 is the record, and the offsets are the ABI's (probes/README.md). Strings come last, and the name after the id,
  # because a name may be any text and must not be taken for a field.
  [[ $name != span_stop ]] || fields="dur=${arguments[2]}:u64 status=${arguments[4]}:u32 "
  fields+="flags=+4(${arguments[5]}):u32 span=+16(${arguments[5]}):x64 id=+72(${arguments[5]}):ustring "
  fields+="name=+0(${arguments[1]}):ustring"
  made+=("$event")  # first, so that an interruption finds it
  printf 'p:%s/%s %s:%s(%s) %s\n' "$group" "$event" "$file" "$offset" "$semaphore" "$fields" \
    2>/dev/null >>"$uprobe_events"
}

# FILE: makes the events of its sites.
add_probes() {
  local file=$1 name location base semaphore arguments moved offset semaphore_offset argument fd
  local -a sites=() registers=()
  mapfile -t sites < <(sites_in "$file")
  ((${#sites[@]})) || die "$file has no span_start or span_stop probe"
  # If the section was moved after linking (prelink), the notes have the old addresses.
  base=$(readelf -SW -- "$file" 2>/dev/null | sed -n 's/.* \.stapsdt\.base  *[A-Z]*  *\([0-9a-f]*\) .*/0x\1/p')
  local path=$file
  # The kernel's parser ends a path at a blank and a line at a #, so such a file is opened.
  if [[ $file == *[[:space:]#]* ]]; then
    exec {fd}<"$file"
    path=/proc/self/fd/$fd
  fi
  local site
  for site in "${sites[@]}"; do
    read -r name location moved semaphore arguments <<<"$site"
    moved=$((${base:-$moved} - moved))
    registers=()
    for argument in $arguments; do
      registers+=("$(kernel_register "$argument")") || die "$file: the location of the probe's arguments is not supported: $arguments"
    done
    ((${#registers[@]} == 6)) || die "$file: $name has ${#registers[@]} arguments, not six"
    if ! offset=$(file_offset "$file" $((location + moved))) ||
      ! semaphore_offset=$(file_offset "$file" $((semaphore + moved))); then
      die "$file: the notes have addresses outside all segments"
    fi
    make_event "$name" "$path" "$offset" "$semaphore_offset" "${registers[@]}" ||
      die "the kernel refuses an event at $offset of $file (see dmesg)"
  done
  note "recording $file"
}

remove_events() {
  local event
  for event in "${made[@]}"; do
    printf -- '-:%s/%s\n' "$group" "$event" 2>/dev/null >>"$uprobe_events" ||
      note "could not delete the event $group:$event in $uprobe_events"
  done
  made=()
}

# --- record -----------------------------------------------------------------------------------------------------------

perf_pid='' perf_ended='' interrupted='' launching=''

# Runs however the script ends. perf ends first, because an event that is recorded cannot be deleted.
clean_up() {
  local running=${perf_pid:-${launching:+${!:-}}}
  trap '' INT TERM HUP
  if [[ -z $perf_ended && -n $running ]] && kill -0 "$running" 2>/dev/null; then
    kill -TERM "$running" 2>/dev/null || true
    wait "$running" 2>/dev/null || true
  fi
  remove_events
  [[ -z $workshop ]] || rm -rf -- "$workshop"
}

# Ctrl-C reaches perf too, but a signal to this shell does not. On SIGINT perf writes what it has.
interrupt() {
  local running=${perf_pid:-${launching:+${!:-}}}
  interrupted=$1
  [[ -n $perf_pid ]] || exit $((128 + $(kill -l "$1")))
  kill -INT "$running" 2>/dev/null || true
}

# HZ CALL_GRAPH -> the event that takes CPU samples. It has its own freq=, because perf's -F would apply to the probes'
# events too.
cpu_event() {
  local event="cycles"
  if ! "$perf" stat -x, -e cycles -- true 2>&1 | grep '^[1-9]' >/dev/null; then
    event="cpu-clock"
    note "this machine does not count CPU cycles, so cpu-clock is used for the samples"
  fi
  printf '%s/freq=%s,call-graph=%s/\n' "$event" "$1" "$2"
}

# Makes perf begin, and waits for its answer.
enable_events() {
  local control=$1 acknowledge=$2
  printf 'enable\n' >&"$control"
  while ! read -r -t 0.1 _ <&"$acknowledge"; do
    [[ -z $interrupted ]] || return 1
    kill -0 "$perf_pid" 2>/dev/null || return 1
  done
}

record() {
  local pid='' mode=installed file='' cpu='' hz=99 call_graph=fp seconds='' data=perf.data buffer=4M
  local -a command=() files=() more=() options=()
  local wants_command=
  while (($#)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      -c | --cpu) cpu=1; shift; continue ;;
      --all) [[ $mode == installed ]] || die "use only one of -p, --all and FILE"; mode=all; shift; continue ;;
      --) shift; command=("$@") wants_command=1; break ;;
      -p | --pid | -F | --frequency | --call-graph | -s | --seconds | -o | --output | -m | --buffer)
        [[ -n ${2:-} && $2 != -- ]] || die "$1 needs a value; see --help" ;;
      -*) die "record has no option $1; see --help" ;;
      *) [[ $mode == installed ]] || die "use only one of -p, --all and FILE (write -- before a command)"
        mode=file file=$1; shift; continue ;;
    esac
    case $1 in
      -p | --pid) [[ $mode == installed ]] || die "use only one of -p, --all and FILE"; mode=pid pid=$2 ;;
      -F | --frequency) hz=$2 ;;
      --call-graph) call_graph=$2 ;;
      -s | --seconds) seconds=$2 ;;
      -o | --output) data=$2 ;;
      -m | --buffer) buffer=$2 ;;
    esac
    shift 2
  done
  [[ -z $wants_command ]] || ((${#command[@]})) || die "no COMMAND after --"
  [[ -z $pid || $pid =~ ^[1-9][0-9]*$ ]] || die "not a pid: $pid"
  local most_hz
  most_hz=$(cat /proc/sys/kernel/perf_event_max_sample_rate 2>/dev/null || echo 100000)
  [[ $hz =~ ^[1-9][0-9]{0,7}$ ]] || die "not a frequency: $hz"
  ((hz <= most_hz)) || die "the kernel allows at most $most_hz samples per second (kernel.perf_event_max_sample_rate), not $hz"
  [[ $call_graph =~ ^(fp|dwarf|lbr)$ ]] || die "--call-graph must be fp, dwarf or lbr, not $call_graph"
  [[ -z $seconds || $seconds =~ ^[0-9]+(\.[0-9]+)?$ ]] || die "not a number of seconds: $seconds"
  [[ $buffer =~ ^[1-9][0-9]{0,8}[KMG]?$ ]] || die "not a size: $buffer (pages, or K, M, G)"
  ((${#command[@]} == 0)) || [[ -z $seconds ]] || die "use --seconds or a COMMAND, not both"
  ((${#command[@]} == 0)) || [[ $mode != pid ]] || die "use -p or a COMMAND, not both"
  ((${#command[@]} == 0)) || command -v -- "${command[0]}" >/dev/null || die "no such command: ${command[0]}"

  ((EUID == 0)) || die "must be root: tracefs and perf's system-wide events need it (CAP_SYS_ADMIN, CAP_PERFMON)"
  [[ $data != - ]] || die "--output must be a file"
  [[ ! -d $data && -w $(dirname -- "$data") ]] || die "cannot write $data"
  need_perf
  command -v readelf >/dev/null || die "readelf was not found: install binutils"
  find_tracefs

  case $mode in
    installed)
      for file in /usr/*/*/libnopspan.so.*; do
        [[ ! -e $file ]] || more+=("$file")
      done
      ((${#more[@]})) || die "the library is not installed (/usr/*/*/libnopspan.so.*): use -p PID, --all or FILE" ;;
    file) more=("$file") ;;
  esac
  # attach.sh finds the files with probes, and explains if there is none.
  local listed one other
  case $mode in
    pid) listed=$("$here/attach.sh" --list -p "$pid") || exit 2 ;;
    all) listed=$("$here/attach.sh" --list --all) || exit 2 ;;
    *)
      listed=
      for one in "${more[@]}"; do
        listed+=$("$here/attach.sh" --list -- "$one")$'\n' || exit 2
      done ;;
  esac
  while IFS= read -r one; do
    for other in "${files[@]}"; do
      [[ ! $one -ef $other ]] || continue 2
    done
    [[ -z $one ]] || files+=("$one")
  done <<<"$listed"

  trap clean_up EXIT
  trap 'interrupt INT' INT
  trap 'interrupt TERM' TERM
  trap 'interrupt HUP' HUP
  workshop=$(mktemp -d)
  group=nopspan_$$_$(od -An -N4 -tx4 /dev/urandom | tr -d ' ')
  for one in "${files[@]}"; do
    add_probes "$one"
  done

  options=(-q -m "$buffer" -o "$data")
  # -B: no build ids. To get them perf enters other processes' mounts, from which it cannot return in a chroot, and
  # copies their files into a cache of the whole machine.
  options+=(-B)
  for one in "${made[@]}"; do
    options+=(-e "$group:$one")
  done
  [[ -z $cpu ]] || options+=(-e "$(cpu_event "$hz" "$call_graph")")
  if ((${#command[@]})); then
    options+=(-- "${command[@]}")
  else
    mkfifo "$workshop/control" "$workshop/acknowledge"
    options+=(-D -1 --control "fifo:$workshop/control,$workshop/acknowledge")
    if [[ $mode == pid ]]; then options+=(-p "$pid"); else options+=(-a); fi
    [[ -z $seconds ]] || options+=(-- sleep "$seconds")
  fi

  # In the background, because this shell handles a signal only while it waits. Background commands ignore Ctrl-C by
  # default.
  local status=0 control acknowledge
  launching=1
  env --default-signal=INT,QUIT "$perf" record "${options[@]}" <&0 &
  perf_pid=$!
  if ((${#command[@]} == 0)); then
    exec {control}<>"$workshop/control" {acknowledge}<>"$workshop/acknowledge"
    if enable_events "$control" "$acknowledge"; then
      note "recording${seconds:+ for $seconds s or} until Ctrl-C"
    fi
  fi
  while true; do
    # Repeated, because a signal that comes before perf has its handler is lost.
    while [[ -n $interrupted ]] && kill -INT "$perf_pid" 2>/dev/null; do sleep 0.2; done
    status=0
    wait "$perf_pid" || status=$?
    kill -0 "$perf_pid" 2>/dev/null || break
  done
  perf_ended=1
  # perf's own status is the signal that ended the recording.
  if [[ -n $interrupted ]] || { ((${#command[@]} == 0)) && ((status == 130)); }; then
    status=0
  fi
  [[ $data -nt $workshop ]] || fail "perf recorded nothing"
  "$perf" evlist -i "$data" >/dev/null 2>&1 ||
    fail "perf did not finish $data ($(df --output=avail -h -- "$(dirname -- "$data")" | tail -1 | tr -d ' ') left on its disk)"
  note "recorded into $data"
  return "$status"
}

# --- What flamegraph reads --------------------------------------------------------------------------------------------

need_perf() {
  command -v -- "$perf" >/dev/null || die "$perf was not found: install linux-perf (Debian) or linux-tools (Ubuntu)"
}

data=perf.data only_pid=''

# Checks that DATA was made by record, and prints its events.
check_data() {
  need_perf
  [[ -e $data ]] || fail "no such file: $data (create it with perf-spans.sh record)"
  [[ -r $data ]] || fail "cannot read $data: its owner is $(stat -c %U -- "$data")"
  local events
  events=$("$perf" evlist -F -i "$data" 2>&1) || fail "perf cannot read $data: $events"
  [[ $events == *nopspan_*:span_stop:* ]] || fail "$data has no spans: it was not written by perf-spans.sh record"
  printf '%s\n' "$events"
}

# Prints how many records perf could not write. `perf script` shows where a buffer was full only if something was
# written after it. Since 6.1 there is also a total for each event, which only this command shows.
lost_records() {
  "$perf" report --stats -i "$data" 2>/dev/null | awk '
    / stats:$/ { is_of_an_event = !/^Aggregated/ }
    is_of_an_event && $1 == "LOST_SAMPLES" { lost += $3 }
    END { printf "%.0f\n", lost }'
}

# FIELDS -> the lines of perf script in order of time; FIELDS are those of samples.
read_data() {
  local -a only=()
  [[ -z $only_pid ]] || only=(--pid "$only_pid")
  "$perf" script -i "$data" "${only[@]}" --no-inline --show-lost-events \
    -F trace:tid,time,event,trace -F "sw:$1" -F "hw:$1"
}

# --- flamegraph -------------------------------------------------------------------------------------------------------

flamegraph() {
  local name='' has_name='' folded=''
  while (($#)); do
    case $1 in
      -h | --help) usage; exit 0 ;;
      --folded) folded=1; shift ;;
      -i | --input | -p | --pid) read_option "$@"; shift 2 ;;
      -*) die "flamegraph has no option $1; see --help" ;;
      *) [[ -z $has_name ]] || die "use one NAME: $name or $1"; name=$1 has_name=1; shift ;;
    esac
  done
  [[ -n $has_name ]] || die "NAME is missing: use the name of a span"
  local events
  events=$(check_data) || exit
  local sampling
  sampling=$(sed -n 's/^\([a-z_-]*\).*: sample_freq=\([0-9]*\)$/\2 \1/p' <<<"$events" | head -1)
  [[ -n $sampling ]] || fail "$data has no CPU samples: record it with --cpu"
  local lost
  lost=$(lost_records) || fail "perf could not read $data"
  workshop=$(mktemp -d)
  trap 'rm -rf -- "$workshop"' EXIT

  read_data tid,time,event,ip,sym,dso |
    WANTED=$name LC_ALL=C awk -v lost="$lost" -v status="$workshop/status" -f "$here/perf-spans.awk" |
    LC_ALL=C sort >"$workshop/stacks" || fail "perf could not read $data"
  local samples spans left
  read -r samples spans left lost <"$workshop/status"
  ((samples)) || exit 1  # awk has reported why
  if [[ -n $folded ]]; then
    # shellcheck disable=SC2016  # the $ are awk's
    WANTED=$name LC_ALL=C awk -F '\t' '
      BEGIN { name = ENVIRON["WANTED"]; gsub(/;/, ":", name) }
      { gsub(/\001/, ";", $1); print name ";" $1 " " $2 }' "$workshop/stacks"
  else
    WANTED=$name SAMPLING=$sampling LC_ALL=C awk -v samples="$samples" -v spans="$spans" -v left="$left" \
      -v lost="$lost" -f "$here/perf-flamegraph.awk" "$workshop/stacks"
  fi
}

# --- The command line -------------------------------------------------------------------------------------------------

# -i DATA, -p PID of flamegraph.
read_option() {
  (($# > 1)) || die "$1 needs a value; see --help"
  case $1 in
    -i | --input) data=$2 ;;
    *) [[ $2 =~ ^[1-9][0-9]*$ ]] || die "not a pid: $2"; only_pid=$2 ;;
  esac
}

(($#)) || die "use record or flamegraph; see --help"
action=$1
shift
case $action in
  -h | --help) usage ;;
  record) record "$@" ;;
  flamegraph) flamegraph "$@" ;;
  *) die "unknown command $action: use record or flamegraph; see --help" ;;
esac
