#!/usr/bin/env bash
# The program as a folder that runs elsewhere:  scripts/bundle.sh [FOLDER]      default: build/bundle
#   bin/finetune    starts it; LIBTORCH names the LibTorch to use (a folder with lib/: an unpacked archive, or the torch
#                   folder of a Python installation), otherwise the loader's own path is searched
#   lib/            the program and the libraries it needs beside LibTorch, stripped
# Needs x86-64 Linux with a C library and a libstdc++ no older than those of this build, and LibTorch of the same version.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(realpath -m "${1:-$root/build/bundle}")
limit_mib=60
"$root/scripts/build.sh" release finetune
[ ! -e "$folder" ] || [ -x "$folder/bin/finetune" ] || { echo "bundle.sh: $folder: is there and no bundle" >&2; exit 2; }
rm -rf "$folder"
cmake --install "$root/build" --prefix "$folder" --strip >/dev/null

# Of LibTorch nothing comes along. Nor do the C and C++ libraries: LibTorch may need newer ones than this machine's.
ldd "$root/build/finetune" | awk '$3 ~ /^\// { print $1, $3 }' | while read -r name path; do
  case "$name" in
    libtorch* | libc10* | libc.* | libm.* | libstdc++.* | libgcc_s.* | libdl.* | librt.* | libpthread.* | libutil.*) continue ;;
  esac
  # Only what the program names itself: what LibTorch needs comes with it.
  readelf -d "$root/build/finetune" | grep -qF "[$name]" || continue
  install -m 644 "$path" "$folder/lib/$name"
  strip --strip-unneeded "$folder/lib/$name"
done
mkdir -p "$folder/bin"
cat >"$folder/bin/finetune" <<'LAUNCHER'
#!/bin/sh
# Starts finetune with the LibTorch that LIBTORCH names: a folder with lib/.
lib=$(dirname "$(dirname "$(readlink -f "$0")")")/lib
if [ -n "${LIBTORCH:-}" ]; then
  if [ ! -e "$LIBTORCH/lib/libtorch_cpu.so" ]; then
    echo "error: LIBTORCH: $LIBTORCH/lib/libtorch_cpu.so is not there; the folder of a LibTorch is wanted" >&2
    exit 2
  fi
  # The CUDA libraries of Python packages lie in folders beside it.
  path=$LIBTORCH/lib
  for folder in "$LIBTORCH"/../nvidia/*/lib; do
    [ -d "$folder" ] && path=$path:$folder
  done
  export LD_LIBRARY_PATH="$path${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
fi
exec "$lib/finetune" "$@"
LAUNCHER
chmod 755 "$folder/bin/finetune"
cp "$root/README.md" "$folder/"
cp "$root/third_party/README.md" "$folder/THIRD_PARTY.md"
cp -r "$root/configs" "$folder/"

size=$(du -sb "$folder" | cut -f1)
awk -v b="$size" -v f="$folder" 'BEGIN { printf "bundle: %s, %.1f MiB\n", f, b / 1048576 }'
[ "$size" -le $((limit_mib * 1048576)) ] || { echo "bundle.sh: more than $limit_mib MiB" >&2; exit 1; }
