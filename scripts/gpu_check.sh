#!/usr/bin/env bash
# What to run on a machine with an NVIDIA GPU, where the CUDA kernels can do more than compile: builds, runs the device cases of the
# tests (none may be skipped), and trains a few steps on the CPU and on the GPU, which must lose the same.
#   scripts/gpu_check.sh [MODEL_FOLDER]      default: SmolLM2-135M, fetched
# FINETUNE_STEPS=N steps (20). REFERENCE_DEVICE and DEVICE name other devices (cpu, cuda): both cpu tries the script itself.
set -euo pipefail
cd "$(dirname "$0")/.."
steps=${FINETUNE_STEPS:-20}
reference_device=${REFERENCE_DEVICE:-cpu}
device=${DEVICE:-cuda}

if [ "$device" = cuda ]; then
  nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader ||
    { echo "gpu_check: no NVIDIA driver here" >&2; exit 2; }
fi
scripts/build.sh release
grep "CUDA kernels:" build.configure.log
if [ "$device" = cuda ]; then
  grep -q "CUDA kernels: yes" build.configure.log || { echo "gpu_check: the build has no CUDA kernels" >&2; exit 1; }
  mkdir -p runs
  echo "== Kernels on the device"
  build/tensor_tests --gtest_filter='*Cuda*:Emulator.*' | tee runs/gpu_check.tests
  ! grep -q "SKIPPED" runs/gpu_check.tests || { echo "gpu_check: device cases were skipped" >&2; exit 1; }
  if command -v compute-sanitizer >/dev/null; then
    for tool in memcheck racecheck; do
      echo "== compute-sanitizer $tool"
      compute-sanitizer --tool "$tool" --error-exitcode 1 build/tensor_tests --gtest_filter='*.CudaKernel*'
    done
  fi
fi

model=${1:-models/smollm2-135m-instruct}
[ $# -gt 0 ] || scripts/fetch_models.sh smollm2
train() {  # name device dtype kernels method
  echo "== Training: $1"
  build/finetune train --config "configs/$5.yaml" --overwrite --set model="$model" --set output_dir="runs/gpu_check/$1" \
    --set device="$2" --set dtype="$3" --set kernels="$4" --set data.train=configs/quickstart_data/train.jsonl \
    --set data.max_length=128 --set train.max_steps="$steps" --set train.gradient_accumulation_steps=1 \
    --set train.learning_rate=2e-5 --set train.lr_scheduler=constant --set train.warmup_steps=0 --set eval.samples=0 --set eval.evaluations=1 --set eval.max_examples=4
}
for method in lora full; do
  train "$method-reference" "$reference_device" float32 reference "$method"
  train "$method-plain" "$device" float32 reference "$method"
  train "$method-float32" "$device" float32 auto "$method"
  train "$method-bfloat16" "$device" bfloat16 auto "$method"
done

# Float32 differs by the order of sums only; bfloat16 keeps 8 bits, and its runs drift apart slowly.
python3 - <<'PY'
import json, sys
def losses(name):
    lines = map(json.loads, open(f"runs/gpu_check/{name}/metrics.jsonl"))
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
