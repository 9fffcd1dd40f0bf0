#!/usr/bin/env bash
# Everything that only a machine with an NVIDIA GPU can tell, in at most nine minutes after the build:
#   kernels   every CUDA kernel against its plain twin                                         90 s
#   parity    losses and gradients of transformers and PEFT, computed on the device            60 s
#   training  runs of plain ops on the CPU against plain and fused ones on the GPU, which must lose the same   120 s
#   shapes    speed at the shapes of Llama 3 8B, Gemma 3 4B and 12B with random weights (bench/shapes.py)      90 s each
# A part that takes longer is stopped and counts as failed; the others go on. Results go to runs/gpu_check/, which is made anew: summary.md, the
# output of each part, shapes.md, shapes.json, and a profile for each shape.
#
#   scripts/gpu_check.sh [MODEL_FOLDER]      model for `training`: SmolLM2 where it was fetched, else the tests' tiny one
# PARTS="kernels shapes" runs only those; PARTS=float8 is Llama's shape with lora.base_dtype: float8. SANITIZER=1 adds compute-sanitizer on the kernels, without a limit. FINETUNE_STEPS=N
# steps in training (20). PEAK_TFLOPS=989 is what MFU is a share of. DEVICE=cpu tries the script itself, on narrow layers.
set -euo pipefail
cd "$(dirname "$0")/.."
device=${DEVICE:-cuda}
steps=${FINETUNE_STEPS:-20}
results=runs/gpu_check

tests() {  # file filter
  build/tensor_tests --gtest_filter="$2" --gtest_brief=1 | tee "$results/$1.tests"
  if [ "$device" = cuda ] && grep -q "no CUDA device" "$results/$1.tests"; then
    echo "gpu_check: $1: device cases were skipped" >&2
    return 1
  fi
}

train() {  # name device dtype kernels method
  echo "== $1"
  build/finetune train --config "configs/$5.yaml" --overwrite --set model="$model" --set output_dir="$results/$1" \
    --set device="$2" --set dtype="$3" --set kernels="$4" --set data.train=configs/quickstart_data/train.jsonl \
    --set data.max_length=128 --set train.max_steps="$steps" --set train.gradient_accumulation_steps=1 \
    --set train.learning_rate=2e-5 --set train.lr_scheduler=constant --set train.warmup_steps=0 --set eval.samples=0 --set eval.evaluations=1 --set eval.max_examples=4
}

part_kernels() {
  # Emulated kernels need no GPU, and take longer than real ones.
  if [ "$device" = cuda ]; then tests kernels '*Cuda*-*Emulated*:*Parity*'; else tests kernels 'CudaEmulated.*'; fi
}

part_parity() {
  if [ "$device" = cuda ]; then tests parity '*Parity.Cuda*'; else tests parity '*BackwardParity.Gradients*'; fi
}

part_training() {
  model=$1
  for method in lora full; do
    train "$method-reference" cpu float32 reference "$method"
    train "$method-plain" "$device" float32 reference "$method"
    train "$method-float32" "$device" float32 auto "$method"
    train "$method-bfloat16" "$device" bfloat16 auto "$method"
  done
  # Float32 differs by the order of sums only; bfloat16 keeps 8 bits, and its runs drift apart slowly.
  python3 - "$results" <<'PY'
import json, sys
def losses(name):
    lines = map(json.loads, open(f"{sys.argv[1]}/{name}/metrics.jsonl"))
    return [l["loss"] for l in lines if l["type"] == "train"]
bad = False
for method in "lora", "full":
    wanted = losses(f"{method}-reference")
    for name, limit in ("plain", 2e-3), ("float32", 2e-3), ("bfloat16", 5e-2):
        got = losses(f"{method}-{name}")
        worst = max(abs(a - b) / a for a, b in zip(wanted, got))
        wrong = not wanted or len(got) != len(wanted) or not worst <= limit
        bad |= wrong
        print(f"{method:5} {name:9} largest relative difference of {len(got)} losses {worst:.1e}, allowed {limit:.0e}"
              + (": WRONG" if wrong else ""))
sys.exit(bad)
PY
}

part_shapes() {
  local tiny=()
  [ "$device" = cuda ] || tiny=(--tiny)
  python3 scripts/bench/shapes.py "configs/shapes/$1" --output "$results/$1${2:+-$2}" --device "$device" \
    --base-dtype "${2:-auto}" --peak-tflops "${PEAK_TFLOPS:-989}" "${tiny[@]}"
}

if [ "${1:-}" = --part ]; then
  shift
  "part_$1" "${@:2}"
  exit
fi

if [ "$device" = cuda ]; then
  gpu=$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader) ||
    { echo "gpu_check: no NVIDIA driver here" >&2; exit 2; }
else
  gpu="none: a trial on the CPU"
fi
scripts/build.sh release
grep "CUDA kernels:" build.configure.log
if [ "$device" = cuda ] && ! grep -q "CUDA kernels: yes" build.configure.log; then
  echo "gpu_check: the build has no CUDA kernels" >&2
  exit 1
fi
model=${1:-models/smollm2-135m-instruct}
[ $# -gt 0 ] || [ -e "$model/config.json" ] || model=tests/data/parity/D_training/llama_lora/model
rm -rf "$results"
mkdir -p "$results"
summary=$results/summary.md
printf '%s\n\n' "Device: $gpu; commit $(git log -1 --format=%h 2>/dev/null || echo unknown)" >"$summary"
printf '%s\n' "| part | result | seconds | limit |" "| --- | --- | --- | --- |" >>"$summary"
failed=0

run_part() {  # limit name arguments
  local limit=$1 start=$SECONDS status=0 result=passed log
  shift
  log=$results/$(IFS=-; echo "${*##*/}").log
  echo "== $*"
  timeout -k 5 "$limit" bash scripts/gpu_check.sh --part "$@" >"$log" 2>&1 || status=$?
  [ "$status" = 0 ] || { failed=1 result="FAILED ($status)"; }
  [ "$status" != 124 ] || result="FAILED: stopped at its limit"
  tail -n 12 "$log"
  echo "| $* | $result | $((SECONDS - start)) | $limit |" >>"$summary"
}

for part in ${PARTS:-kernels parity training shapes}; do
  case "$part" in
    kernels) run_part 90 kernels ;;
    parity) run_part 60 parity ;;
    training) run_part 120 training "$model" ;;
    shapes) for shape in llama3_8b gemma3_4b gemma3_12b; do run_part 90 shapes "$shape"; done ;;
    float8) run_part 90 shapes llama3_8b float8 ;;
    *) echo "gpu_check: PARTS: unknown part $part" >&2; exit 2 ;;
  esac
done
if [ "${SANITIZER:-0}" = 1 ]; then
  for tool in memcheck racecheck; do
    echo "== compute-sanitizer $tool"
    compute-sanitizer --tool "$tool" --error-exitcode 1 build/tensor_tests --gtest_filter='*.CudaKernel*' || failed=1
  done
fi
for shape in llama3_8b gemma3_4b gemma3_12b llama3_8b-float8; do
  [ ! -e "$results/$shape/shapes.md" ] || { echo; cat "$results/$shape/shapes.md"; } >>"$summary"
done
cat "$summary"
exit $failed
