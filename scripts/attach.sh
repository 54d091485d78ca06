#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a bpftrace script of this folder on copies of the library that are not installed in /usr: in a container, in a
# build tree, in a static executable or in a plug-in. attach.sh finds the files. It replaces
# usdt:/usr/*/*/libnopspan.so.* in the script's probes with them, and executes bpftrace.

set -euo pipefail
export LC_ALL=C

readonly pattern='usdt:/usr/*/*/libnopspan.so.*:'

usage() {
  cat <<'END'
usage: attach.sh -p PID SCRIPT [ARG...]    trace one process: attach to every copy of the library that it maps
       attach.sh --all SCRIPT [ARG...]     trace all processes and containers: attach to every copy that is mapped now
       attach.sh BINARY SCRIPT [ARG...]    trace a program or library, running or not: attach to the copy that it
                                           contains or would load
       attach.sh --list -p PID|--all|BINARY    only print these files, one per line

SCRIPT is spans.bt, trace.bt or another script with probes usdt:/usr/*/*/libnopspan.so.*:nopspan:NAME. The ARGs are
passed to the script. Data goes to stdout, messages go to stderr. The exit status is that of bpftrace, or 2 if bpftrace
could not be started.

PID is a pid in the pid namespace of this shell. The process may run in a container. With -p the script ends when the
process ends. If the process has several copies of the library, or its file was replaced, the script runs until Ctrl-C.
Other processes that map the same file are slowed down by the probes too, but are not shown.

attach.sh finds the copies once. If a process loads another copy later, or another container starts, run attach.sh
again. To use another bpftrace than the one in PATH, set BPFTRACE to its path.
END
}

note() { printf 'attach.sh: %s\n' "$*" >&2; }

die() {
  note "$@"
  exit 2
}

# --- Which probes a file has ------------------------------------------------------------------------------------------

# FILE... -> "provider:name<TAB>file" for each note of the providers nopspan and nopspan_batch.
probes_in() {
  (($#)) || return 0
  if command -v readelf >/dev/null; then
    # readelf names the files only if there are several.
    { readelf -n -- "$@" /dev/null 2>/dev/null || true; } | awk '
      /^File: / { file = substr($0, 7) }
      $1 == "Provider:" { provider = $2 }
      $1 == "Name:" && provider ~ /^nopspan(_batch)?$/ { print provider ":" $2 "\t" file }'
    return
  fi
  local file word
  for file in "$@"; do
    [[ -f $file ]] || continue  # not a device
    while read -r word; do
      printf '%s\t%s\n' "${word%:}" "$file"
    done < <({ grep -aoP 'nopspan(_batch)?\x00[a-z_]+\x00(?=[0-9]@)' -- "$file" || true; } | tr '\0' ':')
  done
}

# FILE -> success if it has the gate's section but no notes, because they were stripped. Not grep -q, which ends early:
# pipefail would report the SIGPIPE of the command before it as a failure.
lost_its_notes() {
  command -v readelf >/dev/null || return 1
  readelf -SW -- "$1" 2>/dev/null | grep '[[:space:]]\.probes[[:space:]]' >/dev/null &&
    ! readelf -SW -- "$1" 2>/dev/null | grep -F '.note.stapsdt' >/dev/null
}

readonly stripped="was stripped of the notes that describe its probes; strip it with GNU strip or \
llvm-strip --keep-section=.note.stapsdt"

# --- Which files to attach to -----------------------------------------------------------------------------------------

targets=()            # the paths in bpftrace's probes, one a file
declare -A probes=()  # target -> its "provider:name" words
declare -A known=()   # identities of the targets' inodes

# FILE -> an identity of its inode. In two containers of one image, a file has two device numbers. Both lead to one
# inode of the underlying file system, and the probes are set in that inode. Attaching by both names would count
# everything twice.
identity() {
  if [[ $(stat -f -L -c %T -- "$1") == overlayfs ]]; then
    stat -L -c 'overlayfs:%i:%s:%y:%z' -- "$1"
  else
    stat -L -c '%d:%i' -- "$1"
  fi
}

# FILE NAME PROBES: adds FILE unless its inode was added before. NAME is for messages.
add_target() {
  local file=$1 name=$2 words=$3 id fd
  id=$(identity "$file" 2>/dev/null) || return 0
  [[ -z ${known[$id]:-} ]] || return 0
  if [[ -n $listing ]]; then
    printf '%s\n' "$file"
    known[$id]=1
    targets+=("$file")
    return
  fi
  # bpftrace would read these characters as a pattern or an escape, and a deleted file has no name. So the file is
  # opened.
  if [[ $file == *[\"\\:*?[$'\n']* || $file == /proc/*/map_files/* ]]; then
    { exec {fd}<"$file"; } 2>/dev/null || return 0
    file=/proc/self/fd/$fd
  fi
  note "attaching to $name"
  known[$id]=1
  targets+=("$file")
  probes[$file]=$words
}

# PID... -> "pid range inode path" of the executable mappings of files, one line for each file and mount namespace.
mapped_files() {
  local -a namespaces=() maps=()
  local pid
  for pid in "$@"; do
    namespaces+=("/proc/$pid/ns/mnt")
    maps+=("/proc/$pid/maps")
  done
  {
    stat -L -c 'namespace %i %n' -- "${namespaces[@]}" 2>/dev/null || true
    grep -H '^[^ ]* ..x. [^ ]* [^ ]* [1-9][0-9]* *[^ ]' -- "${maps[@]}" 2>/dev/null || true
  } | awk '
    $1 == "namespace" { split($3, part, "/"); namespace[part[3]] = $2; next }
    {
      split($1, part, /[\/:]/)  # "" proc PID maps RANGE
      path = $0
      sub(/^[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +[^ ]+ +/, "", path)
      if (path ~ /^\// && !seen[namespace[part[3]], $4, $5, path]++) print part[3], part[5], $5, path
    }'
}

# PID RANGE INODE PATH -> a name of the mapped file that this shell can open: the path itself, the path in the process's
# own root, or the mapping if the file was replaced or deleted. Empty if there is none.
name_of_mapping() {
  local pid=$1 range=$2 inode=$3 path=$4 mapping=/proc/$1/map_files/$2 file wanted format=%d:%i
  if ! wanted=$(stat -L -c "$format" -- "$mapping" 2>/dev/null); then
    format=%i wanted=$inode mapping=
  fi
  for file in "$path" "/proc/$pid/root$path"; do
    if [[ $(stat -L -c "$format" -- "$file" 2>/dev/null) == "$wanted" ]]; then
      printf '%s\n' "$file"
      return
    fi
  done
  printf '%s\n' "$mapping"
}

# PID...: adds each file with probes that one of these processes maps.
add_mapped() {
  local -a lines=() files=()
  local -A line_of=() words=()
  local line pid range inode path file name word
  mapfile -t lines < <(mapped_files "$@")
  for line in "${lines[@]}"; do
    read -r pid range inode path <<<"$line"
    file=/proc/$pid/map_files/$range
    [[ -r $file ]] || file=$(name_of_mapping "$pid" "$range" "$inode" "$path")
    [[ -n $file ]] || continue
    files+=("$file")
    line_of[$file]=$line
  done
  while IFS=$'\t' read -r word file; do
    words[$file]+="$word "
  done < <(probes_in "${files[@]}")
  for file in "${files[@]}"; do
    [[ -n ${words[$file]:-} ]] || continue
    read -r pid range inode path <<<"${line_of[$file]}"
    name=$(name_of_mapping "$pid" "$range" "$inode" "$path")
    [[ -z $name ]] || add_target "$name" "$path of pid $pid" "${words[$file]}"
  done
}

# BINARY -> the libraries that it would load.
loaded_by() { { ldd -- "$1" 2>/dev/null || true; } | sed -n 's|^.* => \(/.*\) (0x[0-9a-f]*)$|\1|p'; }

# FILE...: adds those that have probes.
add_files() {
  local -a files=()
  local -A words=()
  local file word
  mapfile -d '' -t files < <((($# == 0)) || realpath -ze -- "$@" 2>/dev/null)
  while IFS=$'\t' read -r word file; do
    words[$file]+="$word "
  done < <(probes_in "${files[@]}")
  for file in "${files[@]}"; do
    # probes_in prints lines.
    [[ $file != *$'\n'* ]] || words[$file]=$(probes_in "$file" | cut -f1 | tr '\n' ' ')
    [[ -z ${words[$file]:-} ]] || add_target "$file" "$file" "${words[$file]}"
  done
}

# --- The script -------------------------------------------------------------------------------------------------------

# SCRIPT PID -> the script with the targets' paths in its probes. With a PID, the probes return at once in other
# processes.
rewritten() {
  local line before provider name file word list filter=
  [[ -z $2 ]] || filter=" if (pid != $2) { return; } "
  local pending=
  local probe_re='^(.*)usdt:/usr/\*/\*/libnopspan\.so\.\*:([A-Za-z0-9_]+):([A-Za-z0-9_*?]+)(.*)$'
  while IFS= read -r line || [[ -n $line ]]; do
    if [[ $line =~ ^[[:space:]]*// ]]; then
      printf '%s\n' "$line"
      continue
    fi
    while [[ $line =~ $probe_re ]]; do
      before=${BASH_REMATCH[1]} provider=${BASH_REMATCH[2]} name=${BASH_REMATCH[3]}
      line=${BASH_REMATCH[4]} list=
      for file in "${targets[@]}"; do
        for word in ${probes[$file]}; do
          # shellcheck disable=SC2053  # the name may be a pattern
          [[ $word == "$provider":* && ${word#*:} == $name ]] || continue
          list+="${list:+,}usdt:\"$file\":$word"
        done
      done
      if [[ -z $list ]]; then
        note "no file has the probe $provider:$name, which $1 needs"
        return 1
      fi
      line=$before$list$line
      pending=$filter
    done
    if [[ -n $pending && $line == *'{'* ]]; then
      line="${line%%\{*}{$pending${line#*\{}"
      pending=
    fi
    printf '%s\n' "$line"
  done <"$1"
}

# --- The command line -------------------------------------------------------------------------------------------------

mode=binary pid='' binary='' listing=''
while (($#)); do
  case $1 in
    -h | --help) usage; exit 0 ;;
    -p | --pid) (($# > 1)) || die "-p needs a PID"; mode=pid pid=$2; shift 2 ;;
    -p?*) mode=pid pid=${1#-p}; shift ;;
    --pid=*) mode=pid pid=${1#--pid=}; shift ;;
    --all) mode=all; shift ;;
    --list) listing=1; shift ;;
    --) shift; break ;;
    -*) die "unknown option $1; see --help" ;;
    *) break ;;
  esac
done
if [[ $mode == binary ]]; then
  (($#)) || die "-p PID, --all or BINARY is missing; see --help"
  binary=$1
  shift
fi
if [[ -n $listing ]]; then
  (($# == 0)) || die "--list cannot be used with a SCRIPT; see --help"
else
  (($#)) || die "SCRIPT is missing; see --help"
  script=$1
  shift
  [[ -f $script && -r $script ]] || die "no such script: $script"
  grep -v '^[[:space:]]*//' -- "$script" | grep -F "$pattern" >/dev/null || die "$script has no probe at ${pattern}nopspan:NAME"
fi

((EUID == 0)) || die "must be root: bpftrace needs CAP_BPF and CAP_PERFMON, and finding the files needs CAP_SYS_PTRACE"
bpftrace=${BPFTRACE:-bpftrace}
[[ -n $listing ]] || command -v "$bpftrace" >/dev/null || die "$bpftrace was not found: install bpftrace 0.17 or later"
command -v readelf >/dev/null || note "readelf was not found (package binutils): searching the files for the text of the notes instead"

bpftrace_options=() filter_pid=
case $mode in
  pid)
    [[ $pid =~ ^[1-9][0-9]*$ ]] || die "not a pid: $pid"
    [[ -r /proc/$pid/status ]] || die "no such process: $pid"
    pid=$(sed -n 's/^Tgid:[[:space:]]*//p' "/proc/$pid/status")
    command_name=$(tr -d '\n' <"/proc/$pid/comm") || die "no such process: $pid"
    add_mapped "$pid"
    if ((${#targets[@]} == 0)); then
      while read -r _ range _ path; do
        ! lost_its_notes "/proc/$pid/map_files/$range" || die "$path of pid $pid ($command_name) $stripped"
      done < <(mapped_files "$pid")
      die "pid $pid ($command_name) maps no file with nopspan probes"
    fi
    [[ -z $listing ]] || exit 0
    # With -p bpftrace does not attach to other processes with the same file. But 0.17 then attaches only to the first
    # copy in the process, and only if the file is at its path. 0.27 attaches twice unless the path is in the process's
    # own root.
    in_root=/proc/$pid/root${targets[0]#"/proc/$pid/root"}
    if ((${#targets[@]} == 1)) && [[ ${targets[0]} != /proc/self/fd/* && ${targets[0]} -ef $in_root ]]; then
      bpftrace_options=(-p "$pid")
      probes[$in_root]=${probes[${targets[0]}]}
      targets=("$in_root")
    else
      filter_pid=$pid
      [[ $(readlink /proc/self/ns/pid) == 'pid:[4026531836]' ]] ||
        note "in the pid namespace of a container, bpftrace before 0.22 sees other pids and shows nothing"
    fi
    ;;
  all)
    pids=()
    for directory in /proc/[0-9]*; do
      pids+=("${directory#/proc/}")
    done
    # The installed library too, for programs that start later.
    shopt -s nullglob
    add_files /usr/*/*/libnopspan.so.*
    shopt -u nullglob
    add_mapped "${pids[@]}"
    ((${#targets[@]})) || die "no process maps a file with nopspan probes, and the library is not installed"
    ;;
  binary)
    [[ -e $binary ]] || die "no such file: $binary"
    [[ -f $binary && -r $binary ]] || die "not a readable file: $binary"
    mapfile -t files < <(loaded_by "$binary")
    add_files "$binary" "${files[@]}"
    if ((${#targets[@]} == 0)); then
      ! lost_its_notes "$binary" || die "$binary $stripped"
      die "neither $binary nor a library that it would load has nopspan probes"
    fi
    ;;
esac
[[ -z $listing ]] || exit 0

text=$(rewritten "$script" "$filter_pid") || exit 2
count=$(grep -o 'usdt:"' <<<"$text" | wc -l)
if ((count > 500)); then
  export BPFTRACE_MAX_PROBES=${BPFTRACE_MAX_PROBES:-$((count + 100))}
  export BPFTRACE_MAX_BPF_PROGS=${BPFTRACE_MAX_BPF_PROGS:-$((count + 100))}
fi

# The rewritten script is an open file without a name, so nothing has to be deleted.
exec {text_fd}<<<"$text"
exec "$bpftrace" -B line "${bpftrace_options[@]}" -- "/proc/self/fd/$text_fd" "$@"
