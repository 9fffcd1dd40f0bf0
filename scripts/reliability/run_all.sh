#!/usr/bin/env bash
# The reliability programme: one line a row, with its figure; status 1 when a row fails.
#   scripts/reliability/run_all.sh [quick]     quick: samples of a1 to a6 and a short e1, a few minutes
# FINETUNE_ASSETS names a folder with smollm2/ for a8 and d2 to d7; without it a8 is left out. PYTHON: an interpreter with what
# scripts/peer_requirements.txt lists, with which d2, d3 and d7 compare; without it their tests alone are run.
set -uo pipefail
cd "$(dirname "$0")"
quick=${1:-}
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
if [ -n "${FINETUNE_ASSETS:-}" ]; then
  run ./a8_save_cost.py "$FINETUNE_ASSETS/smollm2" method=lora
  run ./a8_save_cost.py "$FINETUNE_ASSETS/smollm2" method=full
fi
run "${PYTHON:-python3}" ./rows_of_tests.py
run ./e3_memory.py
run ./e1_soak.py $([ "$quick" = quick ] && echo 3000 || echo 20000)
run ./f_checks.py $([ "$quick" = quick ] || echo suite)
exit $status
