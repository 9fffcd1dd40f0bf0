"""Small runs for the scripts of this folder: data, command lines, what a run left, and the comparison with one never stopped."""
import hashlib
import itertools
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("FINETUNE_BINARY", str(ROOT / "build/finetune"))
MODEL = ROOT / "tests/data/parity/D_training/llama_lora/model"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"}
CLOCK = ("tokens_per_second", "step_seconds", "memory_bytes", "seconds", "peak_memory_bytes")
VARIANTS = {
    "lora": ["lora.dropout=0.05"],
    "full": ["method=full", "dtype=bfloat16", "train.optimizer=adamw8bit"],
    "paged": ["train.optimizer=paged_adamw", "lora.r=64"],
    "dora": ["lora.use_dora=true"],
    "qlora": ["method=qlora", "train.gradient_accumulation_steps=2", "data.packing=true"],
}


class Scene:
    """A folder with data, in which runs of one configuration start."""

    def __init__(self, settings, steps=60, examples=40, evaluates=True):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="finetune-reliability-"))
        self.write_data("train.jsonl", examples, 0)
        self.write_data("eval.jsonl", 6, 1000)
        self.settings = [
            f"model={MODEL}", f"data.train={self.folder}/train.jsonl", "dtype=float32", "data.max_length=128",
            "data.packing=false", "train.learning_rate=1e-3", "train.epochs=1000", f"train.max_steps={steps}",
            "train.lr_scheduler=linear", "save.every_steps=2", "eval.samples=0", "eval.evaluations=3",
        ] + ([f"data.eval={self.folder}/eval.jsonl"] if evaluates else []) + list(settings)
        self.numbers = itertools.count(1)  # its next() is safe between threads

    def write_data(self, name, count, first):
        draw = random.Random(first)
        with open(self.folder / name, "w") as out:
            for i in range(first, first + count):
                words = " ".join(str(draw.randrange(1000)) for _ in range(draw.randrange(1, 12)))
                out.write(json.dumps({"messages": [{"role": "user", "content": f"What is {i}?"},
                                                   {"role": "assistant", "content": f"It is {words}."}]}) + "\n")

    def output(self):
        return self.folder / f"run{next(self.numbers)}"

    def command(self, output, *more, settings=()):
        line = [PROGRAM, "train", "--threads", "1", *more]
        for setting in [*self.settings, f"output_dir={output}", *settings]:
            line += ["--set", setting]
        return line

    def run(self, output, *more, settings=(), before=(), check=True, **options):
        done = subprocess.run([*before, *self.command(output, *more, settings=settings)], env=ENVIRONMENT, text=True, errors="replace",
                              capture_output=True, **options)
        if check and done.returncode != 0:
            sys.exit(f"{output}: status {done.returncode}\n{done.stderr[-2000:]}")
        return done

    def close(self):
        shutil.rmtree(self.folder, ignore_errors=True)


def sha256(file):
    return hashlib.sha256(pathlib.Path(file).read_bytes()).hexdigest()


def newest_checkpoint(output):
    found = sorted((output / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:]))
    return found[-1] if found else None


def result(output):
    """What must not depend on interruptions: metrics, final and best weights, optimizer, counters. The program's random numbers
    are functions of (seed, stream, step): the step in state.json is their whole state."""
    metrics = []
    for line in open(output / "metrics.jsonl"):
        entry = json.loads(line)
        metrics.append({k: v for k, v in entry.items() if k not in CLOCK})
    last = newest_checkpoint(output)
    state = json.loads((last / "state.json").read_text())
    del state["seconds"], state["config"]
    files = {f"{name}/{f.name}": sha256(f) for name in ("final", "best") if (output / name).exists()
             for f in sorted((output / name).iterdir())}
    return {"metrics": metrics, "state": state, "trained": sha256(last / "trained.safetensors"),
            "optimizer": sha256(last / "optimizer.safetensors"), **files}


def differences(a, b):
    return [key for key in sorted(set(a) | set(b)) if a.get(key) != b.get(key)]


def leftovers(output):
    """Names that only a run in progress may have."""
    found = []
    for folder in (output, output / "checkpoints"):
        if folder.exists():
            found += [p.name for p in folder.iterdir() if p.name.startswith(".") and p.name != ".lock"]
    return found


def row(name, figure, good):
    print(f"{name:<5} {'ok  ' if good else 'FAIL'} {figure}", flush=True)
    return good
