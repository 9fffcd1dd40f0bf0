#!/usr/bin/env bash
# Checks against the Python libraries themselves that what we write loads there and what they write loads here, with the
# same numbers. Needs a build; Python is used by this check only.
#
#   scripts/check_interop.sh [NAME ...]   all checks, or those whose name contains one of the words
#   PYTHON=...     interpreter with torch, transformers, peft and safetensors; otherwise a throw-away one is made with pip
#   FINETUNE=...   the program (build/finetune)
#   MODEL=...      a real model for the last checks (models/smollm2-135m-instruct; left out when it is not there)
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/peer_python.sh
export OMP_NUM_THREADS=1
"$PYTHON" scripts/check_interop.py --finetune "${FINETUNE:-build/finetune}" \
  --model "${MODEL:-models/smollm2-135m-instruct}" "$@"
