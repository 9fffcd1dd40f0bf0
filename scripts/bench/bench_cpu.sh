#!/usr/bin/env bash
# Our trainer beside transformers + PEFT on one CPU core, in one run: A B A B ..., the same token rows for both.
#
#   scripts/bench/bench_cpu.sh [ROUNDS]         rounds of every setting (3); more arguments go to bench_cpu.py (--help)
#   PYTHON=...    interpreter with torch, transformers, peft and safetensors; otherwise a throw-away one is made with pip
#   DATA=...      JSONL with messages or question/answer (configs/quickstart_data/train.jsonl)
#   MODEL=...     model folder (models/smollm2-135m-instruct; see fetch_models.sh)
#   SETTINGS=...  lora, dora, qlora, full, each also with -checkpointing: a list with commas
#
# The peer gets tcmalloc where the library is installed (Debian: libtcmalloc-minimal4), because it is faster with it; we run
# as shipped. The report goes to scripts/bench/results/DATE-cpu.md.
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
cd "$root"
rounds=3
case "${1:-}" in [0-9]*) rounds=$1; shift ;; esac
if [ -z "${PYTHON:-}" ]; then
  venv=$(mktemp -d)
  trap 'rm -rf "$venv"' EXIT
  python3 -m venv "$venv"
  "$venv/bin/pip" install --quiet -r scripts/peer_requirements.txt
  PYTHON=$venv/bin/python
fi
"$PYTHON" scripts/bench/bench_cpu.py --finetune "${FINETUNE:-build/finetune}" \
  --model "${MODEL:-models/smollm2-135m-instruct}" --data "${DATA:-configs/quickstart_data/train.jsonl}" \
  --settings "${SETTINGS:-lora,lora-checkpointing,full}" --rounds "$rounds" "$@"
