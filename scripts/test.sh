#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Installs missing packages, builds nopspan and runs its tests:
#
#   scripts/test.sh [--all | --long] [--only PRESET]...
#
#   --all          also test what CI does: other compilers, linkers and projects (the labels elf and consumer), the
#                  tree itself (hygiene), packaging, the seeds of fuzzing, SystemTap's script, the page in a browser,
#                  benchmarks (that they compile), and the presets asan, tsan, gcc and noprobes
#   --long         also run soaks, fuzzing, mutants, every compiler and linker, packages, other kernels in emulation
#                  (three hours, all presets)
#   --only PRESET  build and test only this preset: dev, asan, tsan, gcc, noprobes or fuzz; may be repeated (default: dev
#                  without what only --all tests)
#
# A live test that cannot run is skipped. With CI=true it fails instead. Exit status: 0 all passed, 1 failure, 2 usage
# error.
set -euo pipefail
self=$(realpath "$0")
cd "$(dirname "$self")/.."

presets=() all=0
export NOPSPAN_LONG=${NOPSPAN_LONG:-0}
while [[ $# -gt 0 ]]; do
  case "$1" in
    --all) all=1 ;;
    --long) NOPSPAN_LONG=1 all=1 ;;
    --only)
      [[ "${2:-}" =~ ^(dev|asan|tsan|gcc|noprobes|fuzz)$ ]] || { echo "test.sh: --only takes dev, asan, tsan, gcc, noprobes or fuzz" >&2; exit 2; }
      if [[ $2 == dev ]]; then presets+=("dev live"); fi
      presets+=("$2")
      shift
      ;;
    -h | --help)
      sed -n '3,16s/^# \{0,1\}//p' "$self"
      exit 0
      ;;
    *)
      echo "test.sh: unknown option \"$1\"; see test.sh --help" >&2
      exit 2
      ;;
  esac
  shift
done
others='^live$' # the labels that are left out when dev's other tests run
checks=all     # the target that builds those
if [[ ${#presets[@]} -eq 0 ]]; then
  presets=("dev live" dev)
  if [[ $all == 0 ]]; then others='^(live|elf|consumer|hygiene|package|emulation|fuzz|browser)$' checks=checks; fi
  if [[ $all == 1 ]]; then presets+=(asan tsan gcc noprobes); fi # the longest build first
  if [[ $NOPSPAN_LONG == 1 ]]; then presets+=(fuzz); fi
fi

if [[ $NOPSPAN_LONG == 1 ]]; then
  ./.ci/dependencies.sh long
elif [[ $checks == all ]]; then
  ./.ci/dependencies.sh all
else
  ./.ci/dependencies.sh test
fi

# A part of the work is a preset, or "dev live": the live tests and what they need. They mostly wait, so the other tests
# are built meanwhile.
build() {
  local configured target=all
  # If the preset has another compiler than an existing cache, the first run deletes the cache.
  for _ in 1 2; do configured=$(cmake --preset "${1% live}" 2>&1) || { echo "$configured"; return 1; }; done
  case $1 in
    "dev live") target=live ;;
    dev) target=$checks ;;
  esac
  cmake --build --preset "${1% live}" --target "$target" -- --quiet
}

# Builds the parts one after the other, and prints a line for each: exit status and seconds. If the kernel allows it,
# the builds use only idle time. That needs autogroup as well as chrt, because with autogroup the kernel divides the
# time between sessions, whatever the priorities of their processes.
build_each() {
  local logs=$1 preset status
  shift
  { echo 19 >/proc/self/autogroup; } 2>/dev/null || true
  { chrt --idle --pid 0 $$ && ionice -c 3 -p $$; } &>/dev/null || true
  for preset; do
    SECONDS=0 status=0
    build "$preset" >"$logs/$preset" 2>&1 || status=$?
    echo "$status $SECONDS"
  done
}
export checks
export -f build build_each

logs=$(mktemp -d)
background=''
at_exit() {
  if [[ -n $background ]]; then kill -- "-$background" 2>/dev/null || true; fi
  rm -rf "$logs"
}
trap at_exit EXIT

# The ten tests that took longest according to ctest's output: seconds, name.
slowest() {
  sed -nE 's|^ *[0-9]+/[0-9]+ Test +#[0-9]+: ([^ ]+) .* ([0-9.]+) sec.*|\2 \1|p' "$@" | sort -rn | awk 'NR <= 10'
}

failed=()
times=$(printf '%-10s %8s %8s' preset build test)
for preset in "${presets[@]}"; do
  if [[ -z $background ]]; then
    echo "== $preset: build"
    began=$SECONDS
    build "$preset" || exit 1
    took=$((SECONDS - began))
    # Builds the other presets in the background, at low priority so that the tests do not become slower. The builds run
    # in a session of their own, which can be killed as a whole.
    exec {built}< <(exec setsid bash -c 'build_each "$@"' bash "$logs" "${presets[@]:1}")
    background=$!
  else
    read -r status took <&"$built" || { echo "the build of $preset was killed"; exit 1; }
    cat "$logs/$preset"
    if [[ $status != 0 ]]; then
      failed+=("$preset (its build)")
      break
    fi
    echo "== $preset: built in the background in $took s"
    # The background session has ended, and its pid may be reused.
    if [[ $preset == "${presets[-1]}" ]]; then background=''; fi
  fi
  echo "== $preset: test"
  began=$SECONDS
  case "$preset" in
    "dev live") which=(--label-regex '^live$') ;;
    dev) which=(--label-exclude "$others") ;;
    *) which=() ;;
  esac
  ctest --preset "${preset% live}" --output-on-failure "${which[@]}" | tee "$logs/$preset.tests" || failed+=("$preset")
  times+=$(printf '\n%-10s %6d s %6d s' "$preset" "$took" $((SECONDS - began)))
done
echo "== the slowest tests, in seconds"
slowest "$logs"/*.tests
echo "== the time of each preset (all but the first are built while others are tested)"
echo "$times"

if [[ ${#failed[@]} -gt 0 ]]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
echo "all of ${presets[*]} passed in $SECONDS s"
