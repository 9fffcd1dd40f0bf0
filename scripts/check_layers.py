#!/usr/bin/env python3
"""Policies that are tests: a file includes its own layer and lower ones only, LibTorch stays out of the core, and
`#if` appears in kernels/launch.h alone. Run from anywhere; prints every violation and exits with 1 if there is one."""
import os
import re
import sys

LAYERS = ["base", "config", "data", "kernels", "model", "adapters", "infer", "objectives", "train", "cli"]
CORE = 3  # layers below this one are built without LibTorch
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]')
CONDITIONAL = re.compile(r"^\s*#\s*(if|ifdef|ifndef|elif)\b")
FORBIDDEN = ("torch/torch.h", "torch/nn", "torch/optim", "ATen/ATen.h")


def check(path, relative):
    top = relative.split(os.sep)[0]
    layer = LAYERS.index(top) if top in LAYERS else None
    for number, line in enumerate(open(path, encoding="utf-8"), 1):
        where = f"src/{relative}:{number}"
        if CONDITIONAL.match(line) and relative != os.path.join("kernels", "launch.h"):
            yield f"{where}: #if outside kernels/launch.h"
        match = INCLUDE.match(line)
        if not match:
            continue
        name = match.group(1)
        if any(name.startswith(f) for f in FORBIDDEN):
            yield f"{where}: includes {name}"
        target = name.split("/")[0]
        if layer is not None and target in LAYERS:
            if LAYERS.index(target) > layer:
                yield f"{where}: layer {top} includes {name}, which is higher"
            if top == "cli" and target not in ("base", "cli"):
                yield f"{where}: cli includes only finetune/ and base/, not {name}"
        if layer is not None and layer < CORE and target in ("ATen", "c10", "torch"):
            yield f"{where}: {top} is built without LibTorch"


def main():
    problems = []
    for folder, _, names in os.walk(os.path.join(ROOT, "src")):
        for name in sorted(names):
            if name.endswith((".h", ".cpp", ".cu")):
                path = os.path.join(folder, name)
                problems += check(path, os.path.relpath(path, os.path.join(ROOT, "src")))
    print("\n".join(problems) or "layers: ok")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
