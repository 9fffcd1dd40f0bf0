#!/usr/bin/env bash
# What a change must pass before it is merged: format, layers, all tests, the tests again under sanitizers, clang-tidy, cppcheck.
#   scripts/check.sh [PART ...]      parts: format layers test asan tsan tidy cppcheck fuzz; all of them without arguments
set -uo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(format layers test asan tsan tidy cppcheck fuzz)
export OMP_NUM_THREADS=1
export ASAN_OPTIONS=detect_container_overflow=0
export LSAN_OPTIONS=suppressions=$PWD/scripts/sanitizers/leaks.txt:print_suppressions=0
# Deadlocks: a backward pass of LibTorch holds more locks, one a layer, than the sanitizer can count.
export TSAN_OPTIONS=suppressions=$PWD/scripts/sanitizers/threads.txt:ignore_noninstrumented_modules=1:history_size=4:detect_deadlocks=0
status=0
missing() { command -v "$1" >/dev/null || { echo "$part: $1 is missing, skipped (apt-get install $1)"; return 0; } && return 1; }
for part in "${parts[@]}"; do
  case "$part" in
    format) scripts/check_format.sh || [ $? -eq 77 ] ;;
    layers) python3 scripts/check_layers.py ;;
    test) scripts/build.sh release && ctest --test-dir build --output-on-failure -j "$(nproc)" -LE real ;;
    asan) scripts/build.sh asan && ctest --test-dir build-asan --output-on-failure -j "$(nproc)" -LE 'real|reliability' ;;
    # Threads of our own: the pool of the data layer, the writer of checkpoints, the arena below both.
    tsan)
      scripts/build.sh tsan core_tests tensor_tests finetune && ./build-tsan/core_tests &&
        ./build-tsan/tensor_tests --gtest_filter='Resume.*:Checkpoints.*:Signals/TrainResume.*lora:Train.Usr1*'
      ;;
    tidy)
      missing clang-tidy || { scripts/build.sh fuzz fuzz_json >/dev/null &&
        git ls-files 'src/base/*.cpp' 'src/config/*.cpp' 'src/data/*.cpp' | xargs -P "$(nproc)" -n 4 clang-tidy -p build-fuzz --quiet \
          --checks='-*,bugprone-*,clang-analyzer-*,performance-*,-bugprone-easily-swappable-parameters,-bugprone-narrowing-conversions' \
          --warnings-as-errors='clang-analyzer-*'; }
      ;;
    cppcheck)
      missing cppcheck || cppcheck --quiet --std=c++20 --language=c++ -I src -I include --enable=warning,portability --inline-suppr \
        --error-exitcode=1 --suppress=missingInclude --suppress=unknownMacro --suppress=syntaxError src/base src/config src/data src/train src/cli src/main.cpp
      ;;
    fuzz) missing clang++ || scripts/fuzz.sh 30 ;;
    *) echo "check.sh: unknown part $part" >&2; exit 2 ;;
  esac || { echo "check.sh: $part failed" >&2; status=1; }
done
exit $status
