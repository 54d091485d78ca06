#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs the bpftrace of another Debian suite on this machine's kernel, processes and files:
#
#   NOPSPAN_SUITE=trixie tests/live/scripts/suite-bpftrace.sh [ARG...]   (tests may use it as BPFTRACE)
#
# debootstrap downloads the suite once, from where this machine's apt gets its packages, to
# ${XDG_CACHE_HOME:-/var/cache}/nopspan-tests/SUITE. The script mounts nothing there and does not change the root: the
# suite's dynamic linker runs its bpftrace with its libraries. All paths therefore mean the same as outside, and nothing
# is left behind.
set -euo pipefail

die() {
  echo "suite-bpftrace.sh: $*" >&2
  exit 2
}

suite=${NOPSPAN_SUITE:-}
[[ $suite =~ ^[a-z]+$ ]] || die "NOPSPAN_SUITE must name a Debian suite"
cache=${XDG_CACHE_HOME:-/var/cache}/nopspan-tests
root=$cache/$suite

fetch() {
  local uri
  command -v debootstrap >/dev/null || die "debootstrap is not installed"
  # One of the two files does not exist, which makes sed fail.
  uri=$({ sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+).*/\2/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } | sed -n 1p)
  [[ -n $uri ]] || die "apt's configuration names no place to get Debian from"
  echo "suite-bpftrace.sh: fetching bpftrace of $suite, once, into $root" >&2
  rm -rf --one-file-system "$root"
  debootstrap --variant=minbase --include=bpftrace "$suite" "$root" "$uri" >"$cache/$suite.log" 2>&1 ||
    die "debootstrap of $suite failed: $(tail -n 3 "$cache/$suite.log")"
  # The name of a process is that of the executed file, and here it must be bpftrace.
  ln -s "$(echo "$root"/usr/lib/*-linux-gnu/ld-linux-*.so.*)" "$root/bpftrace"
  touch "$root/.complete"
}

if [[ ! -e $root/.complete ]]; then
  mkdir -p "$cache"
  exec 8>"$cache/$suite.lock"
  flock 8
  [[ -e $root/.complete ]] || fetch
  exec 8>&-
fi

libraries=$(dirname "$(readlink "$root/bpftrace")"):$root/usr/lib
command=("$root/bpftrace" --library-path "$libraries" "$root/usr/bin/bpftrace" "$@")

# From 0.24 on, bpftrace does not start without tracefs. Every system with systemd has it mounted. Elsewhere it is
# mounted for this process only.
[[ ! -e /sys/kernel/tracing/available_events ]] || exec "${command[@]}"
own_mounts=(unshare --mount)
# In a chroot, "/" is not a mount, so its propagation cannot change.
"${own_mounts[@]}" true 2>/dev/null || own_mounts+=(--propagation unchanged)
# shellcheck disable=SC2016  # expanded by the inner shell
exec "${own_mounts[@]}" sh -c 'mount --make-rprivate /sys 2>/dev/null; mount -t tracefs nodev /sys/kernel/tracing && exec "$@"' sh "${command[@]}"
