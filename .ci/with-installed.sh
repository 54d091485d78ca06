#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command while nopspan is installed in /usr/local. Uninstalls it at the end, whatever happens:
#
#   .ci/with-installed.sh BUILD_DIR -- COMMAND [ARG...]
#
# Only one instance runs on a machine at a time. It never overwrites a file that it did not install. Exit status: the
# command's own, or 2 for a usage error.
set -euo pipefail

die() {
  echo "with-installed.sh: $1" >&2
  exit 2
}
[[ $# -ge 3 && "$2" == -- ]] || die "usage: .ci/with-installed.sh BUILD_DIR -- COMMAND [ARG...]"
build=$1
shift 2
[[ -f "$build/cmake_install.cmake" ]] || die "$build is not a configured build of nopspan"
[[ $EUID -eq 0 ]] || die "installing into /usr/local needs root: run it with sudo"

prefix=/usr/local
# All files are made in this folder and then moved. The manifest lists them by inode and time. It is written before the
# first file is moved, so that the next run can clean up after a killed one. A file that somebody has replaced since
# then is left alone.
workshop=$prefix/share/nopspan-with-installed
manifest=$workshop/manifest

exec 9>/run/lock/nopspan-usr-local
flock 9

refuse() {
  [[ ! -e "$1" && ! -L "$1" ]] || die "$1 exists, and was not installed by this script: uninstall it first"
}
identity() { stat -c '%i:%.9Y' "$1" 2>/dev/null || echo gone; }

take_away() {
  local is file
  if [[ -f "$manifest" ]]; then
    while IFS=$'\t' read -r is file; do
      [[ "$(identity "$prefix/$file")" != "$is" ]] || rm -f "$prefix/$file"
    done <"$manifest"
    # Remove folders that are now empty. Debian's own folders are made again below.
    while IFS=$'\t' read -r _ file; do
      (cd "$prefix" && rmdir -p --ignore-fail-on-non-empty "$(dirname "$file")" 2>/dev/null) || true
    done <"$manifest"
  fi
  rm -rf "$workshop"
  mkdir -p "$prefix"/{bin,include,lib,share/man}
  ldconfig
}

take_away
trap take_away EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
mkdir -p "$workshop/made"
DESTDIR=$workshop/made cmake --install "$build" --prefix "$prefix" >/dev/null
# Not the API reference: no test needs it, and installing its hundreds of files takes seconds.
rm -rf "$workshop/made$prefix/share/doc"
mapfile -d '' -t files < <(cd "$workshop/made$prefix" && find . \( -type f -o -type l \) -printf '%P\0')
for file in "${files[@]}"; do
  refuse "$prefix/$file"
done
for file in "$prefix"/lib/libnopspan.so.*; do
  refuse "$file"
done
for file in /usr/lib/*/libnopspan.so*; do
  refuse "$file"
done
for file in "${files[@]}"; do
  # Each file gets a time of its own, so that a second installation of the same build is not mistaken for this one. The
  # time is in the past: with the current time, programs built against the file would be out of date.
  touch -h -r "$workshop/made$prefix/$file" -d '-1 second' "$workshop/made$prefix/$file"
  printf '%s\t%s\n' "$(identity "$workshop/made$prefix/$file")" "$file"
done >"$manifest.new"
mv -T "$manifest.new" "$manifest"
for file in "${files[@]}"; do
  mkdir -p "$prefix/$(dirname "$file")"
  mv -T "$workshop/made$prefix/$file" "$prefix/$file"
done
ldconfig

status=0
"$@" 9>&- || status=$?
exit $status
