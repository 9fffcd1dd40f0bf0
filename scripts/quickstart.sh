#!/usr/bin/env bash
# From nothing to a fine-tuned model: set up, build, fetch a small chat model, see how it answers, train a LoRA adapter on the
# data set beside configs/quickstart.yaml, and see how it answers then.
#   scripts/quickstart.sh
set -euo pipefail
cd "$(dirname "$0")/.."
scripts/setup.sh
scripts/build.sh release
scripts/fetch_models.sh smollm2

finetune=build/finetune
model=models/smollm2-135m-instruct
run=runs/quickstart
data=configs/quickstart_data/eval.jsonl
questions=("How do I boil an egg?" "Why is the sky blue?" "Who are you?")

ask() {
  for question in "${questions[@]}"; do
    echo "> $question"
    "$finetune" generate --model "$model" "$@" --prompt "$question" --max-new-tokens 60 --repetition-penalty 1.15
    echo
  done
}

echo; echo "== The model as it comes"
ask
echo "== Loss on held-out answers before training"
"$finetune" eval --model "$model" --data "$data"
echo; echo "== Training (configs/quickstart.yaml)"
"$finetune" train --config configs/quickstart.yaml --overwrite
echo; echo "== Loss on held-out answers after training"
"$finetune" eval --model "$model" --adapter "$run/final" --data "$data"
echo; echo "== The model with the adapter"
ask --adapter "$run/final"
echo "The adapter is in $run/final (PEFT format). Talk to it: $finetune generate --model $model --adapter $run/final"
