#!/usr/bin/env bash
# The only way to configure and build:  scripts/build.sh [release|debug|asan|tsan|coverage|fuzz|cpu] [target ...]
#   release  build/          optimised, CUDA where nvcc is found     (default)
#   cpu      build-cpu/      the same without CUDA
#   debug    build-debug/    -O0 -g1
#   asan     build-asan/     address and undefined-behaviour sanitizers
#   tsan     build-tsan/     thread sanitizer; LibTorch is not built with it
#   coverage build-coverage/  with gcov (scripts/coverage.py)
#   fuzz     build-fuzz/     the fuzz targets (scripts/fuzz.sh), with clang, libFuzzer and the sanitizers of asan
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
preset=${1:-release}
[ $# -gt 0 ] && shift
deps=${FINETUNE_DEPS:-$root/.deps}
options=(-DFT_DEPS="$deps" -DCMAKE_BUILD_TYPE=Release)
dir=$root/build-$preset
# Warnings are errors where GCC optimises; elsewhere it warns of what is not so, and clang has others.
tool=(-DFT_CUDA=OFF -DFT_WERROR=OFF)
# NDEBUG everywhere: the layout of LibTorch's classes depends on it, and its libraries are built with it.
case "$preset" in
  release) dir=$root/build ;;
  cpu) options+=(-DFT_CUDA=OFF) ;;
  debug) options+=(-DCMAKE_BUILD_TYPE=Debug "-DCMAKE_CXX_FLAGS_DEBUG=-g1 -DNDEBUG") ;;
  asan) options+=("${tool[@]}" -DFT_SANITIZE=address,undefined "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG") ;;
  tsan) options+=("${tool[@]}" -DFT_SANITIZE=thread "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG") ;;
  coverage) options+=("${tool[@]}" "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG --coverage") ;;
  fuzz)
    command -v clang++ >/dev/null || { echo "build.sh: the fuzz preset needs clang (apt-get install clang)" >&2; exit 2; }
    options+=("${tool[@]}" -DFT_FUZZ=ON -DFT_SANITIZE=address,undefined "-DCMAKE_CXX_FLAGS_RELEASE=-O1 -DNDEBUG" -DCMAKE_CXX_COMPILER=clang++
              -DCMAKE_C_COMPILER=clang) ;;
  *) echo "build.sh: unknown preset $preset (release, debug, asan, tsan, coverage, fuzz, cpu)" >&2; exit 2 ;;
esac
[ -e "$deps/libtorch_path" ] || "$root/scripts/setup.sh"
cmake -G Ninja -S "$root" -B "$dir" "${options[@]}" >"$dir.configure.log" 2>&1 || { cat "$dir.configure.log" >&2; exit 1; }
cmake --build "$dir" ${1:+--target "$@"}
