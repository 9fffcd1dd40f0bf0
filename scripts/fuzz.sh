#!/usr/bin/env bash
# Fuzzes the readers: each target for SECONDS from tests/fuzz/seeds and what broke it before. A finding is left in
# tests/fuzz/regressions/TARGET, where ctest replays it from then on. Needs clang (scripts/build.sh fuzz).
#   scripts/fuzz.sh [SECONDS] [TARGET ...]      30 seconds, all targets
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
seconds=${1:-30}
[ $# -gt 0 ] && shift
targets=("$@")
if [ ${#targets[@]} -eq 0 ]; then
  for source in "$root"/tests/fuzz/*/*.cpp; do targets+=("$(basename "$source" .cpp)"); done
fi
"$root/scripts/build.sh" fuzz "${targets[@]/#/fuzz_}" >/dev/null || exit 1
export ASAN_OPTIONS=detect_container_overflow=0:allocator_may_return_null=0
export UBSAN_OPTIONS=print_stacktrace=1
# What lives as long as the process, and what the libraries keep for themselves, is listed there.
export LSAN_OPTIONS=suppressions=$root/scripts/sanitizers/leaks.txt:print_suppressions=0
status=0
printf '%-16s %12s %10s %8s %s\n' target inputs per_second corpus result
for target in "${targets[@]}"; do
  corpus=$root/build-fuzz/corpus/$target
  known=$root/tests/fuzz/regressions/$target
  mkdir -p "$corpus" "$known"
  dictionary=()
  [ -e "$root/tests/fuzz/$target.dict" ] && dictionary=(-dict="$root/tests/fuzz/$target.dict")
  log=$root/build-fuzz/$target.log
  result=ok
  "$root/build-fuzz/fuzz_$target" -max_total_time="$seconds" -rss_limit_mb=2048 -malloc_limit_mb=1024 -timeout=10 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="$known/" "${dictionary[@]}" "$corpus" "$root/tests/fuzz/seeds/$target" "$known" \
    >"$log" 2>&1 || { result="FINDING, see $log"; status=1; }
  stat() { sed -n "s/^stat::$1: *//p" "$log"; }
  printf '%-16s %12s %10s %8s %s\n' "$target" "$(stat number_of_executed_units)" "$(stat average_exec_per_sec)" \
    "$(find "$corpus" -type f | wc -l)" "$result"
  rmdir "$known" 2>/dev/null
done
exit $status
