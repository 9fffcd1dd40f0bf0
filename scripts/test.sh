#!/usr/bin/env bash
# Sets up, builds and runs every test. Works on a fresh machine with git, g++, cmake and python3 with pip.
#   scripts/test.sh [ctest arguments]      for example: scripts/test.sh -R Tokenizer
# Reference data that does not travel with the repository is looked for in FINETUNE_PARITY (../shared/parity), real models in
# FINETUNE_ASSETS (models/); tests that need what is absent are reported as skipped. FINETUNE_REAL=1 fetches the real model first.
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
scripts/build.sh release
[ "${FINETUNE_REAL:-0}" = 0 ] || scripts/fetch_models.sh smollm2
# One thread: results that must be bit-equal are compared, and the cores run tests side by side.
export OMP_NUM_THREADS=1
ctest --test-dir build --output-on-failure -j "$(nproc)" "$@"
