#!/usr/bin/env bash
# Fails when a source file is not formatted as .clang-format says; with --fix formats it. Skips where clang-format is absent.
set -euo pipefail
cd "$(dirname "$0")/.."
# Versions lay out code differently; this is the one the code was formatted with (Debian 12's).
clang-format --version 2>/dev/null | grep -q "version 14\." || { echo "format: clang-format 14 is not installed, skipped"; exit 77; }
mapfile -t files < <(git ls-files '*.cpp' '*.h' '*.cu' '*.cuh')
if [ "${1:-}" = --fix ]; then clang-format -i "${files[@]}"; else clang-format --dry-run -Werror "${files[@]}"; fi
