#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs the missing ones of the Debian packages that demo.sh, test.sh, test.sh --all or test.sh --long needs:
# .ci/dependencies.sh demo|test|all|long
set -euo pipefail

demo=(cmake ninja-build g++ pkg-config binutils systemtap-sdt-dev bpftrace procps
      libcli11-dev libcpp-httplib-dev nlohmann-json3-dev
      libbpf-dev libelf-dev libdeflate-dev libcurl4-openssl-dev libmicrohttpd-dev libeigen3-dev libprotozero-dev libncurses-dev libcap-ng-dev libseccomp-dev bpftool clang llvm python3)
test=("${demo[@]}" tmux libgtest-dev libgmock-dev libbenchmark-dev libasio-dev linux-perf util-linux iproute2 make gdb valgrind protobuf-compiler
      prometheus python3-dev python3-prometheus-client python3-grpcio python3-yaml libcap2-bin openssl locales help2man groff-base zsh fish doxygen zstd curl)
all=("${test[@]}" lld libclang-rt-dev clang-format clang-tidy g++-aarch64-linux-gnu libc6-dev-arm64-cross
     g++-i686-linux-gnu g++-mingw-w64-x86-64-posix libboost-context-dev shellcheck file python3-kubernetes docker-compose systemtap chromium-driver python3-selenium)
long=("${all[@]}" qemu-system-x86 debootstrap e2fsprogs systemd-container lintian)

case "${1:-}" in
  demo) packages=("${demo[@]}") ;;
  test) packages=("${test[@]}") ;;
  all) packages=("${all[@]}") ;;
  long) packages=("${long[@]}") ;;
  *)
    echo "usage: .ci/dependencies.sh demo|test|all|long" >&2
    exit 2
    ;;
esac

missing=()
for package in "${packages[@]}"; do
  [[ "$(dpkg-query -W -f '${db:Status-Status}' "$package" 2>/dev/null)" == installed ]] || missing+=("$package")
done
[[ ${#missing[@]} -gt 0 ]] || exit 0

sudo=()
if [[ $EUID -ne 0 ]]; then
  command -v sudo >/dev/null || {
    echo "dependencies.sh: missing packages, whose installation needs root or sudo: ${missing[*]}" >&2
    exit 1
  }
  sudo=(sudo)
fi
echo "installing ${#missing[@]} packages: ${missing[*]}" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { "${sudo[@]}" apt-get update -qq && "${sudo[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -20 "$log" >&2
  echo "dependencies.sh: apt-get failed" >&2
  exit 1
fi
