#!/usr/bin/env bash
# Does the bundle work where nothing of the build is?  scripts/check_bundle.sh [BUNDLE] [MODEL_FOLDER]
# Copies it elsewhere, runs it in an empty environment over another LibTorch if LIBTORCH names one (default: that of the build),
# and looks at which libraries it takes from where. Default model: the tests' tiny one.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
bundle=${1:-$root/build/bundle}
model=${2:-$root/tests/data/parity/D_training/llama_lora/model}
libtorch=$(realpath "${LIBTORCH:-$(cat "${FINETUNE_DEPS:-$root/.deps}/libtorch_path")}")
[ -x "$bundle/bin/finetune" ] || { echo "check_bundle: no bundle in $bundle: scripts/bundle.sh makes one" >&2; exit 2; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cp -r "$bundle" "$work/moved"
ln -s moved/bin/finetune "$work/link"
cd "$work"
clean() { env -i PATH=/usr/bin:/bin LIBTORCH="$libtorch" "$@"; }
say() { echo "check_bundle: $*"; }
fail() { say "$*" >&2; exit 1; }

# 1. Every library is the bundle's, LibTorch's (or of the packages beside it), or one of the C and C++ libraries.
beside=$(dirname "$libtorch")/nvidia
sed 's/^exec .*/exec ldd "$lib\/finetune"/' moved/bin/finetune >moved/bin/list
clean sh moved/bin/list >libraries
! grep "not found" libraries || fail "libraries are missing"
awk '$3 ~ /^\// { print $1, $3 }' libraries | while read -r name path; do
  path=$(realpath "$path")
  case "$path" in
    "$work"/moved/* | "$libtorch"/* | "$beside"/*) continue ;;
  esac
  case "$name" in
    libc.* | libm.* | libstdc++.* | libgcc_s.* | libdl.* | librt.* | libpthread.* | libutil.*) ;;
    *) fail "$name comes from $path" ;;
  esac
done
# 2. No path of this machine is left in it, and nothing but LibTorch's CPU part must be there.
for file in moved/lib/*; do
  run_path=$(readelf -d "$file" | sed -n 's/.*R\(UN\)\?PATH.*\[\(.*\)\]/\2/p')
  case ":$run_path" in *:/*) fail "$file has the run path $run_path" ;; esac
done
! readelf -d moved/lib/finetune | grep -q "libtorch_cuda\|libc10_cuda" || fail "needs LibTorch's CUDA part"
# 3. It works.
clean ./link --version
clean ./link help config >help
[ "$(wc -l <help)" -gt 50 ] || fail "help config is too short"
clean ./link train --config moved/configs/quickstart.yaml --set model="$model" --set output_dir=out --set train.max_steps=2 \
  --set data.train=moved/configs/quickstart_data/train.jsonl --set data.eval=null --set eval.samples=0 --set data.max_length=128 \
  2>log || { cat log >&2; fail "train failed"; }
grep -E "^(step|done)" log
printf 'prompt,completion\na,b\n' >rows.csv
clean ./link inspect --model "$model" --set data.train=rows.csv --json >/dev/null
clean ./link inspect --model "$model" --set data.train="$root/tests/data/samples/rows.parquet" 2>error || true
grep -q "rows.parquet: row 3: messages" error || fail "Parquet: $(cat error)"  # a row that is no use: all were read
status=0
env -i PATH=/usr/bin:/bin LIBTORCH="$work/absent" ./link --version 2>error || status=$?
{ [ "$status" = 2 ] && grep -q "^error: LIBTORCH: $work/absent" error; } || fail "an absent LibTorch is not named"
newest=$(for file in moved/lib/*; do objdump -T "$file"; done | grep -oE "GLIBC_[0-9.]+" | sort -uV | tail -1)
say "ok: $(du -sb moved | awk '{ printf "%.1f MiB", $1 / 1048576 }'), needs $newest, LibTorch from $libtorch"
