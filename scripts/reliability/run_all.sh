#!/usr/bin/env bash
# The reliability programme: one line a row, with its figure; status 1 when a row fails.
#   scripts/reliability/run_all.sh [quick]     quick: samples of a1 to a6 and a short e1, a few minutes
# FINETUNE_ASSETS names a folder with smollm2/ for a8; without it the row is left out.
set -uo pipefail
cd "$(dirname "$0")"
quick=${1:-}
tests=../../build/tensor_tests
status=0
run() { "$@" || status=1; }
if [ "$quick" = quick ]; then
  run ./a1_kill.py 30
  run ./a2_a3_syscalls.py 11
  run ./a5_power_cut.py 23
  run ./a6_corrupt.py quick
else
  run ./a1_kill.py 200
  run ./a2_a3_syscalls.py
  run ./a5_power_cut.py
  run ./a6_corrupt.py
fi
run ./a4_full_disk.py
table() {  # ROW FILTER: gtest cases as a row
  local log
  log=$(OMP_NUM_THREADS=1 $tests --gtest_filter="$2" 2>&1)
  if [ $? -eq 0 ]; then printf '%-5s ok   ' "$1"; else printf '%-5s FAIL ' "$1"; status=1; fi
  grep -E '^\[  PASSED|^\[  FAILED' <<<"$log" | head -3 | tr '\n' ' '
  echo
}
table a7 'Resume.*:*ResumeOf*'
if [ -n "${FINETUNE_ASSETS:-}" ]; then
  run ./a8_save_cost.py "$FINETUNE_ASSETS/smollm2" method=lora
  run ./a8_save_cost.py "$FINETUNE_ASSETS/smollm2" method=full
fi
table b1 '*/Bad*:FullDisk*:MappedFiles*'
run ./e1_soak.py $([ "$quick" = quick ] && echo 3000 || echo 20000)
run ./f_checks.py
exit $status
