#!/usr/bin/env python3
"""Do the fast kernels train like the plain ones? Three runs of the same LoRA training in bfloat16:
the fast kernels, their plain twins, and the plain twins with another order of summation (another instruction set for oneDNN's
products, which changes the blocks that sums are made in). The distance of fast to plain must be that of plain to plain.

  loss_curves.py MODEL [STEPS=200] [--out FILE]
"""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(folder, model, steps, kernels, isa):
    env = dict(os.environ, OMP_NUM_THREADS="1")
    if isa:
        env["ONEDNN_MAX_CPU_ISA"] = isa
    settings = {"model": model, "output_dir": folder, "dtype": "bfloat16", "device": "cpu", "kernels": kernels,
                "data.train": ROOT / "configs/quickstart_data/train.jsonl", "data.max_length": 128, "train.epochs": 100,
                "train.max_steps": steps, "train.learning_rate": "2e-4", "train.gradient_checkpointing": "false",
                "eval.evaluations": 0, "eval.samples": 0, "data.eval_split": 0, "save.every_steps": 10 * steps}
    command = [ROOT / "build/finetune", "train", "--threads", "1"]
    for key, value in settings.items():
        command += ["--set", f"{key}={value}"]
    subprocess.run([str(c) for c in command], env=env, check=True, stderr=subprocess.DEVNULL)
    lines = [json.loads(l) for l in open(pathlib.Path(folder) / "metrics.jsonl")]
    return [l["loss"] for l in lines if l["type"] == "train"]


def distances(a, b):
    return [abs(x - y) for x, y in zip(a, b)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("steps", nargs="?", type=int, default=200)
    parser.add_argument("--out")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        curves = {name: run(f"{work}/{name}", options.model, options.steps, kernels, isa)
                  for name, kernels, isa in (("fast", "auto", None), ("plain", "reference", None),
                                             ("plain, other order", "reference", "AVX512_CORE"))}
    noise = distances(curves["plain"], curves["plain, other order"])
    ours = distances(curves["plain"], curves["fast"])
    other = distances(curves["plain, other order"], curves["fast"])
    text = "| distance of losses | mean | median | largest | mean of the last 50 steps |\n|---|---|---|---|---|\n"
    for name, d in (("plain to plain in another order", noise), ("fast to plain", ours), ("fast to plain in another order", other)):
        text += f"| {name} | {statistics.mean(d):.5f} | {statistics.median(d):.5f} | {max(d):.5f} | {statistics.mean(d[-50:]):.5f} |\n"
    last = {name: statistics.mean(c[-50:]) for name, c in curves.items()}
    text += f"\n{options.steps} steps; mean loss of the last 50: " + ", ".join(f"{n} {v:.4f}" for n, v in last.items()) + "\n"
    print(text)
    if options.out:
        pathlib.Path(options.out).write_text(text)
    # The fast kernels may lie as far from the plain ones as these from each other, and half as far again for chance.
    return 0 if statistics.mean(ours) <= 1.5 * statistics.mean(noise) + 1e-4 else 1


if __name__ == "__main__":
    raise SystemExit(main())
