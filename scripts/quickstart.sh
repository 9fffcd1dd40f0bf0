#!/usr/bin/env bash
# From nothing to a fine-tuned model: set up, build, fetch a small model, see how it answers, train a LoRA adapter on the
# data set in configs/quickstart_data, and see how it answers then.
#   scripts/quickstart.sh                 SmolLM2-135M-Instruct, a chat model    (configs/quickstart.yaml)
#   scripts/quickstart.sh gemma3-270m     Gemma 3 270M, a base model             (configs/quickstart_gemma3.yaml)
set -euo pipefail
cd "$(dirname "$0")/.."
name=${1:-smollm2}
options=()
case "$name" in
  smollm2)
    model=models/smollm2-135m-instruct
    run=runs/quickstart config=configs/quickstart.yaml ;;
  gemma3-270m)  # a base model has no chat template of its own
    model=models/gemma3-270m
    run=runs/quickstart_gemma3 config=configs/quickstart_gemma3.yaml
    options=(--set data.chat_template=gemma) ;;
  *)
    echo "usage: quickstart.sh [smollm2|gemma3-270m]" >&2
    exit 2 ;;
esac
scripts/setup.sh
scripts/build.sh release
scripts/fetch_models.sh "$name"

finetune=build/finetune
data=configs/quickstart_data/eval.jsonl
questions=("How do I boil an egg?" "Why is the sky blue?" "Who are you?")

ask() {
  for question in "${questions[@]}"; do
    echo "> $question"
    "$finetune" generate --model "$model" "${options[@]}" "$@" --prompt "$question" --max-new-tokens 60 --repetition-penalty 1.15
    echo
  done
}

echo; echo "== The model as it comes"
ask
echo "== Loss on held-out answers before training"
"$finetune" eval --model "$model" "${options[@]}" --data "$data"
echo; echo "== Training ($config)"
"$finetune" train --config "$config" --overwrite
echo; echo "== Loss on held-out answers after training"
"$finetune" eval --model "$model" "${options[@]}" --adapter "$run/final" --data "$data"
echo; echo "== The model with the adapter"
ask --adapter "$run/final"
echo "The adapter is in $run/final (PEFT format). Talk to it: $finetune generate --model $model --adapter $run/final ${options[*]}"
