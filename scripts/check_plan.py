#!/usr/bin/env python3
"""Holds `finetune plan` against what runs really take: for each configuration the predicted peak, then a short run's
peak_memory_bytes, and their difference, as a Markdown table. Fails when a difference is above --within percent.

  scripts/check_plan.py --finetune build/finetune --llama models/smollm2 --gemma models/gemma3-270m
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile

DATA = pathlib.Path(__file__).resolve().parent.parent / "configs" / "quickstart_data"

# model, method, max_length, further keys
CASES = [
    ("llama", "lora", 256, {}),
    ("llama", "lora", 512, {"train.gradient_checkpointing": "false"}),
    ("llama", "lora", 2048, {}),
    ("llama", "full", 512, {}),
    ("llama", "full", 1024, {"train.gradient_checkpointing": "false", "train.master_weights": "float32"}),
    ("llama", "lora", 1024, {"lora.modules_to_save": "[lm_head]", "train.gradient_accumulation_steps": "2"}),
    ("llama", "qlora", 512, {}),
    ("llama", "lora", 512, {"lora.use_dora": "true", "train.gradient_checkpointing": "false"}),
    ("gemma", "lora", 256, {"train.gradient_checkpointing": "false"}),
    ("gemma", "lora", 512, {}),
    ("gemma", "lora", 2048, {"train.gradient_checkpointing": "false"}),
    ("gemma", "lora", 1024, {"data.train_on": "all"}),
    ("gemma", "qlora", 1024, {"train.gradient_checkpointing": "false"}),
    ("gemma", "lora", 512, {"lora.use_dora": "true"}),
    ("gemma", "qlora", 512, {"lora.use_dora": "true", "train.optimizer": "adamw8bit"}),
    ("gemma", "full", 512, {}),
    ("gemma", "full", 1024, {"train.master_weights": "none", "data.train_on": "all"}),
]


def settings(args, case, output):
    model, method, length, more = case
    keys = {"model": getattr(args, model), "output_dir": output, "method": method, "data.max_length": length,
            "data.train": DATA / "train.jsonl", "data.eval": DATA / "eval.jsonl", "train.max_steps": args.steps,
            "eval.evaluations": 1, "eval.samples": 2, "eval.sample_max_new_tokens": 8}
    if model == "gemma":
        keys["data.chat_template"] = "gemma"
    return [word for k, v in {**keys, **more}.items() for word in ("--set", f"{k}={v}")]


def run(args, case):
    with tempfile.TemporaryDirectory() as folder:
        words = settings(args, case, f"{folder}/run")
        plan = subprocess.run([args.finetune, "plan", "--json", *words], capture_output=True, text=True, check=True)
        done = subprocess.run([args.finetune, "train", *words], capture_output=True, text=True)
        if done.returncode != 0:
            sys.exit(f"{case}: {done.stderr[-500:]}")
        said = [line for line in done.stderr.splitlines() if line.startswith("memory ")]
        summary = json.loads((pathlib.Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()[-1])
        return json.loads(plan.stdout)["plan"]["peak_bytes"], summary["peak_memory_bytes"], said[-1]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--finetune", default="build/finetune")
    p.add_argument("--llama", required=True, help="a small Llama model folder")
    p.add_argument("--gemma", required=True, help="a small Gemma 3 model folder")
    p.add_argument("--steps", type=int, default=3)
    p.add_argument("--within", type=float, default=5, help="percent")
    p.add_argument("--only", type=int, nargs="*", help="numbers of the cases, from 1")
    args = p.parse_args()
    print("| # | model | method | length | further keys | planned GiB | measured GiB | difference | at the end of the run |")
    print("|---|---|---|---|---|---|---|---|---|")
    worst = 0
    for number, case in enumerate(CASES, 1):
        if args.only and number not in args.only:
            continue
        planned, measured, said = run(args, case)
        difference = 100 * (planned - measured) / measured
        worst = max(worst, abs(difference))
        keys = " ".join(f"{k.split('.')[1]}={v}" for k, v in case[3].items())
        print(f"| {number} | {case[0]} | {case[1]} | {case[2]} | {keys} | {planned / 2**30:.3f} | {measured / 2**30:.3f} "
              f"| {difference:+.1f} % | {said.split('(')[-1].rstrip(')')} |", flush=True)
    print(f"\nworst {worst:.1f} %, {args.within:g} % are allowed")
    return worst > args.within


if __name__ == "__main__":
    sys.exit(main())
