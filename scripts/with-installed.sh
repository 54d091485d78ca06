#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command while nopspan is installed in /usr/local, and takes it away again, whatever happens:
#
#   scripts/with-installed.sh BUILD_DIR -- COMMAND [ARG...]
#
# One at a time on a machine. Never over a copy that it did not install. Exit status: the command's own; 2 if misused.
set -euo pipefail

die() {
  echo "with-installed.sh: $1" >&2
  exit 2
}
[[ $# -ge 3 && "$2" == -- ]] || die "usage: scripts/with-installed.sh BUILD_DIR -- COMMAND [ARG...]"
build=$1
shift 2
[[ -f "$build/cmake_install.cmake" ]] || die "$build is no configured build of nopspan"
[[ $EUID -eq 0 ]] || die "installing into /usr/local needs root: run it by sudo"

prefix=/usr/local
# What is installed, and the mark of each file; written before the first file, so that a run that was killed is cleaned up
# by the next, which removes what is still the same and nothing else.
manifest=$prefix/share/nopspan-with-installed.manifest

exec 9>/run/lock/nopspan-usr-local
flock 9

mark() {
  if [[ -L "$1" ]]; then
    printf 'link-to-%s' "$(readlink "$1")"
  else
    sha256sum <"$1" | cut -d' ' -f1
  fi
}

take_away() {
  [[ -f "$manifest" ]] || return 0
  local mark file
  while read -r mark file; do
    rm -f "$prefix/$file.new"
    [[ ! -e "$prefix/$file" && ! -L "$prefix/$file" ]] || [[ "$(mark "$prefix/$file")" != "$mark" ]] || rm -f "$prefix/$file"
  done <"$manifest"
  # Folders that are now empty and are ours alone.
  rmdir -p --ignore-fail-on-non-empty "$prefix/include/nopspan" "$prefix/lib/cmake/nopspan" "$prefix/lib/pkgconfig" \
    "$prefix/share/nopspan/scripts" 2>/dev/null || true
  mkdir -p "$prefix"/{include,lib,share}
  rm -f "$manifest"
  ldconfig
}

take_away
existing=("$prefix"/lib*/libnopspan.so* /usr/lib/*/libnopspan.so*)
for file in "${existing[@]}"; do
  [[ ! -e "$file" ]] || die "$file is there, and not from here: uninstall it first"
done

staged=$(mktemp -d)
trap 'take_away; rm -rf "$staged"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
DESTDIR=$staged cmake --install "$build" --prefix "$prefix" >/dev/null
mkdir -p "$prefix/share"
(cd "$staged$prefix" && find . -type f -o -type l) | sed 's|^\./||' | while IFS= read -r file; do
  printf '%s %s\n' "$(mark "$staged$prefix/$file")" "$file"
done >"$manifest"
while read -r _ file; do
  mkdir -p "$prefix/$(dirname "$file")"
  cp -a "$staged$prefix/$file" "$prefix/$file.new"
  mv -T "$prefix/$file.new" "$prefix/$file"
done <"$manifest"
ldconfig

status=0
"$@" 9>&- || status=$?
exit $status
