#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The bpftrace of another Debian suite, on this machine's kernel, processes and files:
#
#   NOPSPAN_SUITE=trixie tests/live/scripts/suite-bpftrace.sh [ARG...]   as `bpftrace ARG...`; a test's BPFTRACE may be this file
#
# The suite is fetched once, with debootstrap, from where this machine's apt gets its packages, and kept in
# ${XDG_CACHE_HOME:-/var/cache}/nopspan-tests/SUITE. Nothing is mounted there and no root is changed: the suite's dynamic
# linker runs its bpftrace with its libraries. So all paths mean what they mean outside, and nothing is left behind.
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
  # One of the two files is not there, which sed takes for a failure.
  uri=$({ sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb +(\[[^]]*\] +)?([^ ]+).*/\2/p' \
    /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list 2>/dev/null || true; } | sed -n 1p)
  [[ -n $uri ]] || die "apt's configuration names no place to get Debian from"
  echo "suite-bpftrace.sh: fetching bpftrace of $suite, once, into $root" >&2
  rm -rf --one-file-system "$root"
  debootstrap --variant=minbase --include=bpftrace "$suite" "$root" "$uri" >"$cache/$suite.log" 2>&1 ||
    die "debootstrap of $suite failed: $(tail -n 3 "$cache/$suite.log")"
  # A process is called as the file that was executed; here it shall be bpftrace.
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

# From 0.24 on it does not start without tracefs, which every system with systemd has. Where it is not there it is
# mounted for this process alone.
[[ ! -e /sys/kernel/tracing/available_events ]] || exec "${command[@]}"
own_mounts=(unshare --mount)
# In a chroot "/" is no mount whose propagation could change.
"${own_mounts[@]}" true 2>/dev/null || own_mounts+=(--propagation unchanged)
# shellcheck disable=SC2016  # the inner shell's
exec "${own_mounts[@]}" sh -c 'mount --make-rprivate /sys 2>/dev/null; mount -t tracefs nodev /sys/kernel/tracing && exec "$@"' sh "${command[@]}"
