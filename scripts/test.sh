#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds nopspan and runs every test:
#
#   scripts/test.sh [--long] [--only PRESET]...
#
#   --long         also the long matrices, soaks, fuzzing, packages and other kernels in emulation (an hour)
#   --only PRESET  dev, noprobes, asan or tsan; may be given several times (default: all)
#
# With CI=true a live test that cannot run is a failure, not a skip. Exit status: 0 all passed, 1 not, 2 misused.
set -euo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/.."

presets=()
export NOPSPAN_LONG=${NOPSPAN_LONG:-0}
while [[ $# -gt 0 ]]; do
  case "$1" in
    --long) NOPSPAN_LONG=1 ;;
    --only)
      [[ "${2:-}" =~ ^(dev|noprobes|asan|tsan)$ ]] || { echo "test.sh: --only takes dev, noprobes, asan or tsan" >&2; exit 2; }
      presets+=("$2")
      shift
      ;;
    -h | --help)
      sed -n '3,10s/^# \{0,1\}//p' "$self"
      exit 0
      ;;
    *)
      echo "test.sh: unknown option \"$1\"; see test.sh --help" >&2
      exit 2
      ;;
  esac
  shift
done
[[ ${#presets[@]} -gt 0 ]] || presets=(dev noprobes asan tsan)

if [[ $NOPSPAN_LONG == 1 ]]; then
  ./scripts/dependencies.sh long
else
  ./scripts/dependencies.sh test
fi

failed=()
for preset in "${presets[@]}"; do
  began=$SECONDS
  echo "== $preset: build"
  configured=$(cmake --preset "$preset" 2>&1) || { echo "$configured"; exit 1; }
  cmake --build --preset "$preset" -- --quiet
  echo "== $preset: test"
  ctest --preset "$preset" --output-on-failure || failed+=("$preset")
  echo "== $preset: $((SECONDS - began)) s"
done

if [[ ${#failed[@]} -gt 0 ]]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "all of ${presets[*]} passed in $SECONDS s"
