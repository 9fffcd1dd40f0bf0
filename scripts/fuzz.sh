#!/usr/bin/env bash
# Fuzzes the readers: each target for SECONDS from tests/fuzz/seeds and what broke it before. A finding is left in
# tests/fuzz/regressions/TARGET, where ctest replays it from then on. Needs clang (scripts/build.sh fuzz).
#   scripts/fuzz.sh [SECONDS] [TARGET ...]      30 seconds, all targets; core: those of tests/fuzz/core, which build in two minutes
# FUZZ_JOBS targets run at a time (1).
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
seconds=${1:-30}
[ $# -gt 0 ] && shift
names() { for source in "$root"/tests/fuzz/$1/*.cpp; do basename "$source" .cpp; done; }
targets=("$@")
[ "${targets[*]:-}" = core ] && mapfile -t targets < <(names core)
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(names '*')
"$root/scripts/build.sh" fuzz "${targets[@]/#/fuzz_}" >"$root/build-fuzz.log" 2>&1 || { tail -n 30 "$root/build-fuzz.log" >&2; exit 1; }
export ASAN_OPTIONS=detect_container_overflow=0:allocator_may_return_null=0
export UBSAN_OPTIONS=print_stacktrace=1
# What lives as long as the process, and what the libraries keep for themselves, is listed there.
export LSAN_OPTIONS=suppressions=$root/scripts/sanitizers/leaks.txt:print_suppressions=0
export OMP_NUM_THREADS=1

fuzz_one() {  # ROOT SECONDS TARGET
  local root=$1 seconds=$2 target=$3 corpus known log result=ok dictionary=()
  corpus=$root/build-fuzz/corpus/$target
  known=$root/tests/fuzz/regressions/$target
  log=$root/build-fuzz/$target.log
  mkdir -p "$corpus" "$known"
  [ -e "$root/tests/fuzz/$target.dict" ] && dictionary=(-dict="$root/tests/fuzz/$target.dict")
  "$root/build-fuzz/fuzz_$target" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=30 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="$known/" "${dictionary[@]}" "$corpus" "$root/tests/fuzz/seeds/$target" "$known" \
    >"$log" 2>&1 || result="FINDING, see $log"
  stat() { sed -n "s/^stat::$1: *//p" "$log"; }
  printf '%-16s %12s %10s %8s %s\n' "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" \
    "$(find "$corpus" -type f | wc -l)" "$result"
  [ "$result" = ok ] || tail -n 25 "$log"
  rmdir "$known" 2>/dev/null
  [ "$result" = ok ]
}
export -f fuzz_one
printf '%-16s %12s %10s %8s %s\n' target inputs per_second corpus result
printf '%s\n' "${targets[@]}" | xargs -P "${FUZZ_JOBS:-1}" -I {} bash -c 'fuzz_one "$@"' _ "$root" "$seconds" {}
