"""Runs our trainer and the peer (peer.py) alternately on one core and writes the comparison.

How it measures: both programs print a line "step N ..." on stderr at the end of every optimizer step. This process reads
that pipe and, as each line arrives, reads the CPU clock of the other process and its peak resident memory (VmHWM). So both sides are
measured from outside by the same means, and the price of start, load and saving is not in the step times. CPU time of one
thread is what is compared: on a shared machine wall time says who else was there.

The rows are made here once: documents rendered and tokenised by `finetune tokenize`, packed best-fit-decreasing as our
loader does it. We get the documents (tokens format, no shuffle) and pack them ourselves; the peer gets the rows. That both see the same
rows is checked by the tokens of every step and by the loss of the first one.
"""

import argparse
import bisect
import datetime
import json
import os
import pathlib
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
TCMALLOC = ("libtcmalloc_minimal.so.4", "libtcmalloc.so.4")


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--finetune", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--settings", default="lora,lora-checkpointing,full")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=6, help="steps of a run, the first --warmup of them not counted")
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--chat-template", help="for a model without one: gemma, chatml, ...")
    p.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    p.add_argument("--no-tcmalloc", action="store_true")
    p.add_argument("--note", default="", help="a line for the report")
    p.add_argument("--out", help="report file; default results/DATE-cpu.md beside this script; - for none")
    args = p.parse_args()
    if args.steps <= args.warmup:
        p.error("--steps must be above --warmup")
    return args


# ------------------------------------------------------------------------ rows


def conversations(path):
    for line in open(path, encoding="utf-8"):
        if not line.strip():
            continue
        record = json.loads(line)
        if "messages" not in record:
            record = {"messages": [{"role": "user", "content": record["question"]},
                                   {"role": "assistant", "content": record["answer"]}]}
        yield {"messages": record["messages"]}


def tokenize(args, limit):
    lines = [json.dumps(c) for _, c in zip(range(limit), conversations(args.data))]
    template = ["--chat-template", args.chat_template] if args.chat_template else []
    done = subprocess.run([args.finetune, "tokenize", "--model", args.model] + template, input="\n".join(lines) + "\n",
                          capture_output=True, text=True, check=True)
    documents = [json.loads(line) for line in done.stdout.splitlines()]
    return [d["ids"][:args.length] for d in documents]


def pack(documents, length):
    """Longest first, each into the fullest row with room; then back to input order, as src/data/pack.cpp does."""
    rows, room = [], []
    for i in sorted(range(len(documents)), key=lambda k: -len(documents[k])):
        size = len(documents[i])
        at = bisect.bisect_left(room, (size, 0))
        free, row = room.pop(at) if at < len(room) else (length, len(rows))
        if row == len(rows):
            rows.append([])
        rows[row].append(i)
        if free > size:
            bisect.insort(room, (free - size, row))
    return sorted(sorted(row) for row in rows)


def write_rows(args, folder):
    documents = tokenize(args, 64 + 16 * args.steps)
    # Full rows with many and with few documents alike, which our loader then has to find again.
    full = [r for r in pack(documents, args.length) if sum(len(documents[i]) for i in r) > 0.98 * args.length]
    full.sort(key=len)
    rows = [full[(2 * i + 1) * len(full) // (2 * args.steps)] for i in range(args.steps)]
    kept = sorted(i for row in rows for i in row)
    documents = [documents[i] for i in kept]
    rows = pack(documents, args.length)[:args.steps]
    with open(folder / "documents.jsonl", "w") as out:
        for ids in documents:
            out.write(json.dumps({"input_ids": ids}) + "\n")
    with open(folder / "rows.jsonl", "w") as out:
        for row in rows:
            out.write(json.dumps({"documents": [documents[i] for i in row]}) + "\n")
    return [[len(documents[i]) for i in row] for row in rows]


# ------------------------------------------------------------------------ runs


def cpu_seconds(pid):
    """CPU time of all threads of a process, those that ended too (the clock of clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def status_mb(pid, field):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def run(args, command, environment, log):
    """Runs pinned to the core; per step: CPU and wall clock at its end, and the loss it printed."""
    env = dict(os.environ, OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", **environment)
    start = time.monotonic()
    process = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                               preexec_fn=lambda: os.sched_setaffinity(0, {args.core}))
    cpu, wall, losses, peak = [], [], [], 0.0
    for line in process.stderr:
        log.write(line)
        found = re.search(r"\bstep (\d+)/\d+ +loss ([-+.\deE]+)", line)
        if found:
            cpu.append(cpu_seconds(process.pid))
            wall.append(time.monotonic() - start)
            losses.append(float(found[2]))
            peak = status_mb(process.pid, "VmHWM")
    if process.wait() != 0 or len(cpu) != args.steps:
        sys.exit(f"bench_cpu: {command[0]} ended with {process.returncode} after {len(cpu)} steps: see {log.name}")
    steps = [b - a for a, b in zip(cpu, cpu[1:])][args.warmup - 1 if args.warmup else 0:]
    waits = [b - a for a, b in zip(wall, wall[1:])][args.warmup - 1 if args.warmup else 0:]
    return {"cpu_step": statistics.median(steps), "wall_step": statistics.median(waits), "first_cpu": cpu[0],
            "first_wall": wall[0], "peak_mb": peak, "losses": losses, "cpu_steps": steps}


def our_command(args, setting, folder):
    out = folder / "run"
    shutil.rmtree(out, ignore_errors=True)
    method = setting.split("-")[0]
    keys = {"model": args.model, "output_dir": out, "method": "lora" if method == "dora" else method, "dtype": "bfloat16", "device": "cpu",
            "data.train": folder / "documents.jsonl", "data.format": "tokens", "data.max_length": args.length,
            "data.packing": "true", "data.shuffle": "false", "data.train_on": "all", "lora.r": 16, "lora.alpha": 16,
            "train.max_steps": args.steps, "train.batch_size": 1, "eval.evaluations": 0, "eval.samples": 0,
            "train.gradient_checkpointing": "true" if setting.endswith("checkpointing") else "false"}
    if method == "dora":
        keys["lora.use_dora"] = "true"
    if method == "full":
        keys = {k: v for k, v in keys.items() if not k.startswith("lora.")}
    return [args.finetune, "train", "--threads", "1"] + [w for k, v in keys.items() for w in ("--set", f"{k}={v}")]


def peer_command(args, setting, folder):
    command = [sys.executable, str(HERE / "peer.py"), "--model", args.model, "--rows", str(folder / "rows.jsonl"),
               "--method", setting.split("-")[0], "--steps", str(args.steps)]
    return command + (["--checkpointing"] if setting.endswith("checkpointing") else [])


def check_same_rows(setting, folder, lengths, ours, peer):
    lines = [json.loads(line) for line in open(folder / "run" / "metrics.jsonl")]
    targets = [line["target_tokens"] for line in lines if line["type"] == "train"]
    if targets != [sum(row) - len(row) for row in lengths]:
        sys.exit(f"bench_cpu: the rows differ: targets per step {targets}, the peer's rows have {lengths}")
    first = abs(ours["losses"][0] - peer["losses"][0])
    if first > (0.05 if setting.startswith("qlora") else 0.02):  # bfloat16 noise; a model in 4 bits is less sure of itself
        sys.exit(f"bench_cpu: the losses of the first step differ by {first}: {ours['losses'][0]}, {peer['losses'][0]}")


def tcmalloc():
    for name in TCMALLOC:
        for place in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
            if os.path.exists(f"{place}/{name}"):
                return f"{place}/{name}"
    return None


# ---------------------------------------------------------------------- report


def spread(values, digits):
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def report(results, lengths, args, malloc, loads):
    name = next((line.split(":", 1)[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")),
                platform.machine())
    info = open("/proc/cpuinfo").read()
    isa = ", ".join(x for x in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f" {x} " in info)
    versions = {m: __import__("importlib.metadata").metadata.version(m) for m in ("torch", "transformers", "peft", "bitsandbytes")}
    commit = subprocess.run(["git", "-C", str(HERE), "log", "-1", "--format=%h"], capture_output=True, text=True).stdout
    tokens = sum(map(sum, lengths)) / len(lengths)
    out = [f"# CPU: finetune and transformers + PEFT, {datetime.date.today()}", "",
           f"Machine: {name}, {os.cpu_count()} cores ({isa}), Linux {platform.release().split('-')[0]}; load average "
           f"{loads[0]:.1f} before and {loads[1]:.1f} after. Both sides on core {args.core} alone, one thread.",
           f"finetune: commit {commit.strip() or 'unknown'}. "
           f"Peer: Python {platform.python_version()}, " + ", ".join(f"{m} {v}" for m, v in versions.items()) +
           (", tcmalloc" if malloc else ", the C library's malloc") + ".",
           f"Model {os.path.basename(os.path.normpath(args.model))}, bfloat16, LoRA or DoRA r 16 alpha 16 on all linear layers, QLoRA "
           f"(the same on nf4 with double quantisation) or full fine-tuning; one row of {tokens:.0f} tokens a step ({sum(map(len, lengths)) / len(lengths):.1f} documents, isolated), "
           "all tokens trained, AdamW, clipping at 1.",
           f"{args.rounds} rounds, interleaved; a run is {args.steps} steps, {args.warmup} of them warm-up; a run's figure is "
           "the median of its steps; below: median of the rounds (smallest-largest).", ""]
    if args.note:
        out += [args.note, ""]
    out += ["| setting | figure | finetune | peer | finetune / peer, per round |", "| --- | --- | --- | --- | --- |"]
    figures = [("cpu_step", "CPU seconds a step", 3), ("wall_step", "wall seconds a step", 3),
               ("peak_mb", "peak resident memory, MB", 0), ("first_cpu", "start to end of step 1, CPU s", 2),
               ("first_wall", "start to end of step 1, wall s", 2)]
    for setting, pairs in results.items():
        for key, title, digits in figures:
            ours, peer = [p[0][key] for p in pairs], [p[1][key] for p in pairs]
            ratios = [a / b for a, b in zip(ours, peer)]
            out.append(f"| {setting} | {title} | {spread(ours, digits)} | {spread(peer, digits)} | {spread(ratios, 3)} |")
    out += ["", "Below 1 is better for finetune. Tokens per CPU second: " + "; ".join(
        f"{setting} {tokens / statistics.median(p[0]['cpu_step'] for p in pairs):.0f} against "
        f"{tokens / statistics.median(p[1]['cpu_step'] for p in pairs):.0f}" for setting, pairs in results.items()) + ".", "",
        "Losses of the first run of each setting (the adapters start from different random numbers): " + "; ".join(
        f"{setting} {' '.join(f'{x:.4f}' for x in pairs[0][0]['losses'])} against "
        f"{' '.join(f'{x:.4f}' for x in pairs[0][1]['losses'])}" for setting, pairs in results.items()) + ".", ""]
    return "\n".join(out)


def main():
    args = arguments()
    malloc = None if args.no_tcmalloc else tcmalloc()
    before = os.getloadavg()[0]
    results = {}
    with tempfile.TemporaryDirectory() as temp, tempfile.NamedTemporaryFile("w", suffix=".log", delete=False) as log:
        folder = pathlib.Path(temp)
        lengths = write_rows(args, folder)
        for setting in args.settings.split(","):
            pairs = results.setdefault(setting, [])
            for number in range(args.rounds):
                ours = run(args, our_command(args, setting, folder), {}, log)
                peer = run(args, peer_command(args, setting, folder), {"LD_PRELOAD": malloc} if malloc else {}, log)
                check_same_rows(setting, folder, lengths, ours, peer)
                pairs.append((ours, peer))
                print(f"{setting} round {number + 1}: CPU s a step {ours['cpu_step']:.3f} against {peer['cpu_step']:.3f} "
                      f"({ours['cpu_step'] / peer['cpu_step']:.3f}), peak MB {ours['peak_mb']:.0f} against "
                      f"{peer['peak_mb']:.0f}, first step after {ours['first_wall']:.1f} s against "
                      f"{peer['first_wall']:.1f} s", flush=True)
        os.unlink(log.name)
    text = report(results, lengths, args, malloc, (before, os.getloadavg()[0]))
    print(text)
    if args.out != "-":
        out = pathlib.Path(args.out) if args.out else HERE / "results" / f"{datetime.date.today()}-cpu.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)


if __name__ == "__main__":
    main()
