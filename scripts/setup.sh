#!/usr/bin/env bash
# Installs everything finetune is built from. Safe to run again: what is there already is left alone.
#
#   scripts/setup.sh              Debian packages; LibTorch and Arrow (from their wheels) and sentencepiece (built from the
#                                 sources in its sdist) into .deps/
#   LIBTORCH=DIR scripts/setup.sh use an existing LibTorch (the folder with include/ and lib/)
#   FINETUNE_DEPS=DIR             another place than .deps/
#   FINETUNE_CUDA=0               do not fetch the CUDA parts although nvcc is present
#   FINETUNE_CLANG=1              clang with libFuzzer too, for scripts/fuzz.sh; without them all else is still set up
#
# Versions are pinned in third_party/versions.txt.
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
deps=${FINETUNE_DEPS:-$root/.deps}
mkdir -p "$deps"

packages=(g++ cmake ninja-build ccache libgtest-dev libcli11-dev libspdlog-dev nlohmann-json3-dev libyaml-cpp-dev
          libpcre2-dev libutf8proc-dev)
install() {
  local missing=() as_root=() p
  for p in "$@"; do
    dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q "install ok installed" || missing+=("$p")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  echo "setup: installing ${missing[*]}"
  [ "$(id -u)" -eq 0 ] || as_root=(sudo)
  "${as_root[@]}" apt-get update -qq &&
    DEBIAN_FRONTEND=noninteractive "${as_root[@]}" apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
install "${packages[@]}"
if [ "${FINETUNE_CLANG:-0}" != 0 ]; then install clang libclang-rt-dev || echo "setup: clang cannot be installed"; fi

sets="base source"
if [ "${FINETUNE_CUDA:-1}" != 0 ] && { command -v nvcc >/dev/null || [ -x /usr/local/cuda/bin/nvcc ]; }; then
  sets="base source cuda"
fi

# One wheel: download, unpack the wanted members, leave a stamp so that the next run skips it.
fetch() {  # set requirement patterns
  local stamp="$deps/.have-$1-${2//==/-}"
  [ -e "$stamp" ] && return
  echo "setup: $2"
  local tmp
  tmp=$(mktemp -d "$deps/.fetch.XXXXXX")
  # The libraries inside do not depend on the Python version: the wheel is asked for by platform, not by this machine's Python.
  local platforms=() minor
  for minor in $(seq 28 -1 17); do platforms+=(--platform "manylinux_2_${minor}_$(uname -m)"); done
  platforms+=(--platform "manylinux2014_$(uname -m)")
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --python-version 3.11 \
    --implementation cp --abi cp311 --abi abi3 --abi none "${platforms[@]}" --dest "$tmp" "$2"
  python3 - "$tmp" "$deps" "$3" <<'PY'
import fnmatch, glob, os, sys, zipfile
tmp, deps, patterns = sys.argv[1:]
for wheel in glob.glob(tmp + "/*.whl"):
    with zipfile.ZipFile(wheel) as z:
        names = [n for n in z.namelist() if any(fnmatch.fnmatch(n, p) for p in patterns.split(","))]
        if not names:
            sys.exit(f"setup: {wheel} holds nothing that matches {patterns}")
        for n in names:
            path = z.extract(n, deps)
            if ".so" in os.path.basename(n):
                os.chmod(path, 0o755)
PY
  rm -rf "$tmp"
  touch "$stamp"
}

# The sentencepiece library: the sources inside the sdist, built by third_party/sentencepiece. Built again when that changes.
build_sentencepiece() {  # requirement
  local ours="$root/third_party/sentencepiece" stamp tmp
  stamp="$deps/.have-built-${1//==/-}-$(cat "$ours"/* | cksum | cut -d' ' -f1)"
  [ -e "$stamp" ] && return
  echo "setup: $1 (built from source)"
  tmp=$(mktemp -d "$deps/.fetch.XXXXXX")
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --no-binary "${1%%==*}" --dest "$tmp" "$1"
  python3 - "$tmp" <<'PY'
import glob, os, sys, tarfile
tmp = sys.argv[1]
with tarfile.open(glob.glob(tmp + "/*.tar.gz")[0]) as t:
    for member in t:
        # .../sentencepiece/src/x.cc -> src/x.cc; nothing may land outside.
        parts = member.name.split("/")
        if not member.isfile() or parts[1:2] != ["sentencepiece"] or ".." in parts:
            continue
        path = os.path.join(tmp, "library", *parts[2:])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as out:
            out.write(t.extractfile(member).read())
PY
  cmake -G Ninja -S "$ours" -B "$tmp/build" -DSPM_SOURCES="$tmp/library/src" -DCMAKE_INSTALL_PREFIX="$tmp/installed" \
    >"$tmp/log" 2>&1 && cmake --build "$tmp/build" --target install >>"$tmp/log" 2>&1 || { cat "$tmp/log" >&2; exit 1; }
  rm -rf "$deps/sentencepiece"
  mv "$tmp/installed" "$deps/sentencepiece"
  rm -rf "$tmp" "$deps"/.have-built-sentencepiece-*
  touch "$stamp"
}

rm -rf "$deps"/.fetch.*
while read -r set requirement patterns; do
  case "$set" in ''|'#'*) continue ;; esac
  [[ " $sets " == *" $set "* ]] || continue
  if [ "$set" = source ]; then build_sentencepiece "$requirement"; continue; fi
  if [ -n "${LIBTORCH:-}" ] && [[ "$requirement" != pyarrow* ]]; then continue; fi
  fetch "$set" "$requirement" "$patterns"
done < "$root/third_party/versions.txt"

if [ -n "${LIBTORCH:-}" ]; then
  [ -e "$LIBTORCH/lib/libtorch_cpu.so" ] || { echo "setup: LIBTORCH=$LIBTORCH has no lib/libtorch_cpu.so" >&2; exit 2; }
  LIBTORCH=$(cd "$LIBTORCH" && pwd)
fi
echo "${LIBTORCH:-$deps/torch}" > "$deps/libtorch_path"
echo "setup: done ($sets; LibTorch at $(cat "$deps/libtorch_path"))"
