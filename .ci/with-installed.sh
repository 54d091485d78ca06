#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Runs a command while nopspan is installed in /usr/local. Uninstalls it at the end, whatever happens:
#
#   .ci/with-installed.sh BUILD_DIR -- COMMAND [ARG...]
#
# Only one instance runs on a machine at a time. It never overwrites a file that it did not install. Exit status: the
# command's own, or 2 for a usage error.
set -euo pipefail
export LC_ALL=C # the same order of the manifest in each run

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
# All files are made in this folder and then linked. The manifest lists them by inode and time. It is written before the
# first file is linked, so that the next run can clean up after a killed one. A file that somebody has replaced since
# then is left alone. There are about a hundred files, so each command handles all of them.
workshop=$prefix/share/nopspan-with-installed
manifest=$workshop/manifest

exec 9>/run/lock/nopspan-usr-local
flock 9

refuse() {
  [[ ! -e "$1" && ! -L "$1" ]] || die "$1 exists, and was not installed by this script: uninstall it first"
}
# The files, with inode and time.
identities() { find "$@" -maxdepth 0 -printf '%i:%T@\t%p\n' 2>/dev/null | sort; }

take_away() {
  local files ours
  if [[ -s "$manifest" ]]; then
    cd "$prefix"
    mapfile -t files < <(cut -f 2 "$manifest")
    mapfile -t ours < <(comm -12 "$manifest" <(identities "${files[@]}") | cut -f 2)
    [[ ${#ours[@]} -eq 0 ]] || rm -f "${ours[@]}"
    # Remove folders that are now empty. Debian's own folders are made again below.
    rmdir -p --ignore-fail-on-non-empty "${files[@]%/*}" 2>/dev/null || true
    cd - >/dev/null
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
made=$workshop/made$prefix
# Not the API reference: no test needs it, and installing its hundreds of files takes seconds.
rm -rf "$made/share/doc"
mapfile -d '' -t files < <(cd "$made" && find . \( -type f -o -type l \) -printf '%P\0')
for file in "${files[@]/#/$prefix/}" "$prefix"/lib/libnopspan.so.* /usr/lib/*/libnopspan.so*; do
  refuse "$file"
done
# One time for this run, so that another installation of the same build is not mistaken for this one. It is a second
# before that of the newest file: with the current time, programs built against the files would be out of date.
newest=$(find "$made" ! -type d -printf '%T@\n' | sort -n | tail -1)
(cd "$made" && touch -h -d "@$((${newest%.*} - 1)).$(date +%N)" "${files[@]}" && identities "${files[@]}") >"$manifest.new"
mv -T "$manifest.new" "$manifest"
cp --recursive --link --no-dereference --no-clobber "$made/." "$prefix"
(cd "$prefix" && identities "${files[@]}") | cmp -s - "$manifest" || die "somebody else wrote into $prefix meanwhile"
ldconfig

status=0
"$@" 9>&- || status=$?
exit $status
