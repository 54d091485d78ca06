#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Makes the root folder of a container image: nopspan, the libraries that it loads, and the certificates of the system's
# authorities. There is no shell, no package manager and no other program. Run it as root:
#
#   build-root.sh ROOT PACKAGE.deb...   install the packages into a new Debian (debootstrap), and copy from there
#   build-root.sh ROOT                  copy from this machine, where nopspan is installed
#
# SUITE and MIRROR choose another Debian than that of this machine. The packages must have been built for it. Then:
#
#   tar -C ROOT -c . | docker import --change 'ENTRYPOINT ["/usr/bin/nopspan"]' - nopspan
set -euo pipefail
umask 022

# The user and group of the exporter. packaging/kubernetes and packaging/compose have the same number.
readonly user=65532

[[ $# -ge 1 && $1 != -* ]] || {
  echo "usage: build-root.sh ROOT [PACKAGE.deb]..." >&2
  exit 2
}
root=$1
shift
[[ ! -e $root ]] || {
  echo "build-root.sh: $root exists" >&2
  exit 2
}

debian= # the tree to copy from; empty: this machine
if [[ $# -gt 0 ]]; then
  debian=$(mktemp -d)
  trap 'rm -rf --one-file-system "$debian"' EXIT
  # shellcheck source=/dev/null
  suite=${SUITE:-$(. /etc/os-release && echo "$VERSION_CODENAME")}
  debootstrap --variant=minbase --include=ca-certificates "$suite" "$debian" ${MIRROR:+"$MIRROR"} >&2
  cp /etc/resolv.conf "$debian/etc/resolv.conf"
  mkdir "$debian/packages"
  cp "$@" "$debian/packages"
  chroot "$debian" sh -c 'apt-get -q update && apt-get -q install -y --no-install-recommends /packages/*.deb' >&2
fi

within() {
  if [[ -n $debian ]]; then chroot "$debian" "$@"; else "$@"; fi
}

program=$(within sh -c 'command -v nopspan') || {
  echo "build-root.sh: nopspan is not installed" >&2
  exit 1
}
install -d -m 755 "$root" "$root"/{dev,etc,proc,sys,usr/bin}
install -d -m 1777 "$root/tmp"
install -m 755 "$debian$program" "$root/usr/bin/nopspan"
# The program's libraries, and the dynamic linker. Each is copied to the path where the linker looks for it.
within ldd "$program" | grep -o '/[^ ]*' | while read -r library; do
  install -D -m 755 "$debian$library" "$root$library"
done
certificates=/etc/ssl/certs/ca-certificates.crt
if [[ -e $debian$certificates ]]; then
  install -D -m 644 "$debian$certificates" "$root$certificates"
else
  echo "build-root.sh: no $certificates, so nopspan export cannot check the certificates of receivers" >&2
fi
echo "nopspan:x:$user:$user::/:/usr/bin/nopspan" > "$root/etc/passwd"
echo "nopspan:x:$user:" > "$root/etc/group"
echo "hosts: files dns" > "$root/etc/nsswitch.conf"
# If a folder has the setgid bit, its group may connect to the socket that nopspan makes there.
install -d -m 2770 -o root -g $user "$root/run/nopspan"
install -d -m 700 -o $user -g $user "$root/var/spool/nopspan"
du -sh "$root" >&2
