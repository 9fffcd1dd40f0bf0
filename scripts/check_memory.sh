#!/usr/bin/env bash
# Memory that does not move: long runs on the tiny model of the tests, with evaluations and checkpoints on the way.
# The peak resident set at the last step must be within 1 % of that at step 50. Prints a table; status 1 when one grew.
#   scripts/check_memory.sh [STEPS]        10,000 steps by default: a few minutes on one core
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
steps=${1:-10000}
program=${FINETUNE_BINARY:-$root/build/finetune}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# Documents of very different lengths, so that no two packed rows are alike.
documents() {  # COUNT SEED
  awk -v count="$1" -v seed="$2" 'BEGIN {
    srand(seed)
    for (i = 0; i < count; ++i) {
      text = ""
      for (words = 1 + int(rand() * rand() * 40); words > 0; --words) text = text " " int(rand() * 1000)
      printf "{\"prompt\": \"number %d:\", \"completion\": \"%s.\"}\n", i, text
    }
  }'
}
documents 600 1 >"$work/train.jsonl"
documents 12 2 >"$work/eval.jsonl"

peak() {  # METRICS STEP: memory_bytes of that step
  grep "\"type\": *\"train\", *\"step\": *$2," "$1" | sed 's/.*"memory_bytes": *\([0-9]*\).*/\1/'
}
status=0
printf '%-12s %14s %14s %8s\n' run "MiB, step 50" "MiB, step $steps" growth
check() {  # NAME SETTING...
  local name=$1 settings=()
  shift
  for setting in "$@"; do settings+=(--set "$setting"); done
  "$program" train --set model="$root/tests/data/parity/D_training/llama_lora/model" --set output_dir="$work/$name" \
    --set data.train="$work/train.jsonl" --set data.eval="$work/eval.jsonl" --set data.max_length=128 \
    --set train.epochs=100000 --set train.max_steps="$steps" --set train.learning_rate=1e-4 --set eval.every_steps=25 \
    --set eval.samples=2 --set eval.sample_max_new_tokens=8 --set log.every_steps=1000 "${settings[@]}" \
    >"$work/$name.log" 2>&1 || { cat "$work/$name.log" >&2; exit 1; }
  awk -v name="$name" -v a="$(peak "$work/$name/metrics.jsonl" 50)" -v b="$(peak "$work/$name/metrics.jsonl" "$steps")" 'BEGIN {
    printf "%-12s %14.1f %14.1f %7.2f%%\n", name, a / 2^20, b / 2^20, 100 * (b / a - 1)
    exit b > 1.01 * a
  }' || status=1
}
check lora method=lora
check full method=full
check adamw8bit method=full train.optimizer=adamw8bit
check paged_fused method=full train.optimizer=paged_adamw8bit train.fused_update=true train.max_grad_norm=0
exit $status
