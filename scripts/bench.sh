#!/usr/bin/env bash
# finetune beside transformers + PEFT on the same model, data and method, in one run: A B A B ..., medians with spread.
#
#   scripts/bench.sh [ROUNDS]     rounds of every setting (3); more arguments go to bench/bench.py (--help)
#   SETTINGS=...  a list with commas: lora, dora, qlora, full, each also with -checkpointing; full-paged; eval; generate
#   DEVICE=cuda   on a GPU, by wall time, and beside Unsloth and Liger too where PYTHON has them (cpu: one core, by CPU time)
#   PYTHON=...    interpreter with torch, transformers, peft and safetensors; otherwise a throw-away one is made with pip
#   DATA=...      JSONL with messages or question/answer (configs/quickstart_data/train.jsonl)
#   MODEL=...     model folder (models/smollm2-135m-instruct; see fetch_models.sh)
#
# On a CPU the peer gets tcmalloc where the library is installed (Debian: libtcmalloc-minimal4), because it is faster with it; we run
# as shipped. The figures go to scripts/bench/results/DATE-DEVICE.md and .json.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=3
case "${1:-}" in [0-9]*) rounds=$1; shift ;; esac
. scripts/peer_python.sh
"$PYTHON" scripts/bench/bench.py --finetune "${FINETUNE:-build/finetune}" --device "${DEVICE:-cpu}" \
  --model "${MODEL:-models/smollm2-135m-instruct}" --data "${DATA:-configs/quickstart_data/train.jsonl}" \
  --settings "${SETTINGS:-lora,full,eval,generate}" --rounds "$rounds" "$@"
