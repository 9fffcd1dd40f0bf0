"""Runs finetune and its peers (peer.py) alternately and writes the comparison; scripts/bench.sh is the way to call it.

How it measures: the programs print a line "step N ..." (peer.py also "mark NAME TOKENS") on stderr when a piece of work is done. This
process reads that pipe and, as each line arrives, reads the CPU clock of the other process and its peak resident memory (VmHWM).
So both sides are measured from outside by the same means, and the price of start, load and saving is not in the speeds. On a CPU both run
on one core and CPU time of one thread is what is compared: on a shared machine wall time says who else was there. On a GPU it is
wall time, and the memory is the device's. Tokens are those of documents; there is no padding in what is counted.

  training  The median step of a run. The rows are made here once: documents rendered and tokenised by `finetune tokenize`, packed
            best-fit-decreasing as our loader does it. We get the documents (tokens format, no shuffle) and pack them ourselves; the peer
            gets the rows. That both see the same rows is checked by the tokens of every step and by the loss of the first one.
  eval      The loss over documents without training: a long file less a short one, so that the start is not in it. The peer takes
            packed rows, padded batches of like lengths and single documents, and the fastest counts. The losses must agree.
  generate  Greedy decoding after a chat prompt, one sequence: a long answer less one of a token. The peer's best of sdpa and eager.
"""

import argparse
import bisect
import datetime
import importlib.metadata
import importlib.util
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
PROMPT = "Write a long story about a lighthouse keeper, the sea and a storm."
BASE_PEER = "transformers"


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--finetune", required=True)
    p.add_argument("--model", required=True)
    p.add_argument("--data", required=True)
    p.add_argument("--settings", default="lora,full,eval,generate")
    p.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    p.add_argument("--rounds", type=int, default=3)
    p.add_argument("--steps", type=int, default=6, help="steps of a run, the first --warmup of them not counted")
    p.add_argument("--warmup", type=int, default=2)
    p.add_argument("--length", type=int, default=512)
    p.add_argument("--eval-rows", type=int, default=12, help="rows of --length tokens that eval is over, besides two to warm up")
    p.add_argument("--new-tokens", type=int, default=96, help="that generate makes")
    p.add_argument("--chat-template", help="for a model without one: gemma, chatml, ...")
    p.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)))
    p.add_argument("--no-tcmalloc", action="store_true")
    p.add_argument("--note", default="", help="a line for the report")
    p.add_argument("--out", help="report file, beside which the .json goes; default results/DATE-DEVICE.md beside this script; - for none")
    args = p.parse_args()
    if args.steps <= args.warmup:
        p.error("--steps must be above --warmup")
    for setting in args.settings.split(","):
        if not re.fullmatch(r"(lora|dora|qlora|full)(-checkpointing)?|full-paged|eval|generate", setting):
            p.error(f"--settings: unknown setting {setting}")
    args.peers = [BASE_PEER] + ([name for name, module in (("liger", "liger_kernel"), ("unsloth", "unsloth"))
                                 if importlib.util.find_spec(module)] if args.device == "cuda" else [])
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
    for d in documents:
        if "error" in d:
            sys.exit(f"bench: {args.data}: {d['error']} (--chat-template names one)")
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


def write_rows(args, folder, count, filled=0.98):
    """Files of `count` rows at least so far filled: documents.jsonl for us, rows.jsonl for the peer. Gives the lengths, row by row."""
    folder.mkdir()
    documents = tokenize(args, 512 + 64 * count)
    # Full rows with many and with few documents alike, which our loader then has to find again.
    full = [r for r in pack(documents, args.length) if sum(len(documents[i]) for i in r) > filled * args.length]
    full.sort(key=len)
    if len(full) < count:
        sys.exit(f"bench: {args.data} fills only {len(full)} rows of {args.length} tokens, {count} are needed")
    rows = [full[(2 * i + 1) * len(full) // (2 * count)] for i in range(count)]
    kept = sorted(i for row in rows for i in row)
    documents = [documents[i] for i in kept]
    rows = pack(documents, args.length)[:count]
    with open(folder / "documents.jsonl", "w") as out:
        for ids in documents:
            out.write(json.dumps({"input_ids": ids}) + "\n")
    with open(folder / "rows.jsonl", "w") as out:
        for row in rows:
            out.write(json.dumps({"documents": [documents[i] for i in row]}) + "\n")
    return [[len(documents[i]) for i in row] for row in rows]


# ------------------------------------------------------------------------ runs


class Failed(Exception):
    pass


def cpu_seconds(pid):
    """CPU time of all threads of a process, those that ended too (the clock of clock_getcpuclockid)."""
    return time.clock_gettime((~pid << 3) | 2)


def status_mb(pid, field):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith(field + ":"):
            return int(line.split()[1]) / 1024
    return float("nan")


def run(args, command, environment, log):
    """Runs, on a CPU pinned to the core. Gives the marks, one for each line that says a piece is done and one for the end, as
    dicts of CPU and wall time since the start, peak memory, and the line's own words; and what came on stdout."""
    env = dict(os.environ, **environment)
    pin = None
    if args.device == "cpu":
        env.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")
        pin = lambda: os.sched_setaffinity(0, {args.core})  # noqa: E731
    start = time.monotonic()
    marks = []
    with tempfile.TemporaryFile("w+") as out:
        process = subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.PIPE, text=True, preexec_fn=pin)
        for line in process.stderr:
            log.write(line)
            found = re.search(r"\bstep (\d+)/\d+ +loss ([-+.\deE]+)(?: peak (\d+))?", line) or \
                re.search(r"^mark (\S+) ([-+.\deE]+)(?: peak (\d+))?", line)
            if found:
                peak = int(found[3]) / 2**20 if found[3] else status_mb(process.pid, "VmHWM")
                marks.append({"cpu": cpu_seconds(process.pid), "wall": time.monotonic() - start, "peak_mb": peak,
                              "name": found[1], "value": float(found[2])})
        _, code, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(code)
        out.seek(0)
        text = out.read()
    if process.returncode != 0:
        log.flush()
        raise Failed(f"{command[0]} ended with {process.returncode}: see {log.name}")
    marks.append({"cpu": usage.ru_utime + usage.ru_stime, "wall": time.monotonic() - start, "name": "end",
                  "peak_mb": usage.ru_maxrss / 1024 if args.device == "cpu" else float("nan")})
    return marks, text


def between(first, last, tokens):
    """Tokens per second of CPU and of wall time from one mark to another."""
    return {f"tokens_per_{clock}_second": tokens / (last[clock] - first[clock]) for clock in ("cpu", "wall")}


def result(speed, first, marks, check):
    """`check` is what must be the same on all sides."""
    return {**speed, "first_cpu": first["cpu"], "first_wall": first["wall"], "peak_mb": marks["peak_mb"], "check": check}


def faster(args, speeds):
    clock = "cpu" if args.device == "cpu" else "wall"
    return max(speeds.items(), key=lambda item: item[1][f"tokens_per_{clock}_second"])


def finetune(args, command, keys, *more):
    threads = ["--threads", "1"] if args.device == "cpu" else []
    keys = {"dtype": "bfloat16", "device": args.device, **keys}
    return [args.finetune, command, *threads, *more] + [w for k, v in keys.items() for w in ("--set", f"{k}={v}")]


def peer(args, name, setting, folder, *more):
    return [sys.executable, str(HERE / "peer.py"), "--model", args.model, "--rows", str(folder / "rows.jsonl"), "--stack", name,
            "--device", args.device, "--what", setting.split("-")[0], *map(str, more)] + (
                ["--checkpointing"] if setting.endswith("checkpointing") else [])


class Training:
    """The settings lora, dora, qlora and full: one row a step. full-paged is the way to train all weights in little memory: the states
    in a file, each gradient applied as it comes (so without clipping), beside the peer's full."""
    first = "start to end of step 1"

    def __init__(self, args, setting, folder):
        self.args, self.setting, self.folder = args, setting, folder / "training"
        if not self.folder.exists():
            self.write(args)
        self.lengths = json.loads((self.folder / "lengths.json").read_text())
        tokens = sum(map(sum, self.lengths)) / len(self.lengths)
        self.title = (f"one row of {tokens:.0f} tokens a step ({sum(map(len, self.lengths)) / len(self.lengths):.1f} documents, isolated), "
                      f"all tokens trained, AdamW, clipping at 1; {args.steps} steps, the first {args.warmup} to warm up")

    def write(self, args):
        lengths = write_rows(args, self.folder, args.steps)
        (self.folder / "lengths.json").write_text(json.dumps(lengths))

    def ours(self, log):
        args, out = self.args, self.folder / "run"
        shutil.rmtree(out, ignore_errors=True)
        method = self.setting.split("-")[0]
        keys = {"model": args.model, "output_dir": out, "method": "lora" if method == "dora" else method,
                "data.train": self.folder / "documents.jsonl", "data.format": "tokens", "data.max_length": args.length,
                "data.packing": "true", "data.shuffle": "false", "data.train_on": "all", "train.max_steps": args.steps,
                "train.batch_size": 1, "eval.evaluations": 0, "eval.samples": 0,
                "train.gradient_checkpointing": "true" if self.setting.endswith("checkpointing") else "false"}
        if method != "full":
            keys.update({"lora.r": 16, "lora.alpha": 16})
        if self.setting == "full-paged":
            keys.update({"train.optimizer": "paged_adamw", "train.fused_update": "true", "train.max_grad_norm": 0})
        if method == "dora":
            keys["lora.use_dora"] = "true"
        marks, _ = run(args, finetune(args, "train", keys), {}, log)
        lines = [json.loads(line) for line in open(out / "metrics.jsonl")]
        steps = [line for line in lines if line["type"] == "train"]
        wanted = [sum(row) - len(row) for row in self.lengths]
        if [line["target_tokens"] for line in steps] != wanted:
            raise Failed(f"the rows differ: the peer's have {wanted} targets")
        if args.device == "cuda":
            for mark, line in zip(marks, steps):
                mark["peak_mb"] = line["memory_bytes"] / 2**20
        return self.measured(marks)

    def theirs(self, name, environment, log):
        return self.measured(run(self.args, peer(self.args, name, self.setting, self.folder), environment, log)[0])

    def measured(self, marks):
        args, steps = self.args, marks[:-1]
        if len(steps) != args.steps:
            raise Failed(f"{len(steps)} steps came, {args.steps} were wanted")
        begin = max(args.warmup, 1)
        tokens = [sum(row) for row in self.lengths]
        speeds = [between(steps[i - 1], steps[i], tokens[i]) for i in range(begin, args.steps)]
        speed = {key: statistics.median(s[key] for s in speeds) for key in speeds[0]}
        return {**result(speed, steps[0], steps[-1], steps[0]["value"]), "losses": [s["value"] for s in steps]}

    def disagree(self, ours, theirs):
        # bfloat16 noise; a model in 4 bits is less sure of itself
        limit = 0.05 if self.setting.startswith("qlora") else 0.02
        apart = abs(ours["check"] - theirs["check"])
        return None if apart <= limit else f"the losses of the first step are {ours['check']} and {theirs['check']}"


class Eval:
    first = "start to end of the two rows"

    def __init__(self, args, setting, folder):
        self.args, self.setting, self.folder = args, setting, folder / "eval"
        lengths = write_rows(args, self.folder, args.eval_rows + 2, filled=0.5)
        rows = [json.loads(line)["documents"] for line in open(self.folder / "rows.jsonl")]
        for name, part in (("short", rows[:2]), ("long", rows)):
            with open(self.folder / f"{name}.jsonl", "w") as out:
                for document in (d for row in part for d in row):
                    out.write(json.dumps({"input_ids": document}) + "\n")
        self.tokens = sum(map(sum, lengths[2:]))
        self.title = f"{self.tokens} tokens in {sum(map(len, lengths[2:]))} documents, all but the first token of a document scored"

    def ours(self, log):
        # Packed rows, as a training run evaluates.
        keys = {"data.format": "tokens", "data.max_length": self.args.length}
        ends = []
        for name in ("short", "long"):
            command = finetune(self.args, "eval", keys, "--model", self.args.model, "--data", str(self.folder / f"{name}.jsonl"), "--json")
            marks, text = run(self.args, command, {}, log)
            ends.append(marks[-1])
        return result(between(ends[0], ends[1], self.tokens), ends[0], ends[1], json.loads(text)["loss"])

    def theirs(self, name, environment, log):
        marks, _ = run(self.args, peer(self.args, name, "eval", self.folder), environment, log)
        speeds = {b["name"]: between(a, b, self.tokens) for a, b in zip(marks, marks[1:]) if not b["name"].startswith(("warm", "end"))}
        best, speed = faster(self.args, speeds)
        check = next(m["value"] for m in marks if m["name"] == best)
        return {**result(speed, marks[0], marks[-2], check), "best": best,
                "all": speeds}

    def disagree(self, ours, theirs):
        apart = abs(ours["check"] - theirs["check"])
        return None if apart <= 0.02 else f"the losses are {ours['check']} and {theirs['check']}"


class Generate:
    first = "start to the first token"

    def __init__(self, args, setting, folder):
        self.args, self.setting, self.folder = args, setting, folder / "generate"
        self.folder.mkdir()
        line = json.dumps({"messages": [{"role": "user", "content": PROMPT}], "add_generation_prompt": True}) + "\n"
        template = ["--chat-template", args.chat_template] if args.chat_template else []
        done = subprocess.run([args.finetune, "tokenize", "--model", args.model] + template, input=line, capture_output=True, text=True, check=True)
        self.prompt = json.loads(done.stdout)["ids"]
        (self.folder / "rows.jsonl").write_text(json.dumps({"documents": [self.prompt]}) + "\n")
        (self.folder / "prompt.jsonl").write_text(json.dumps({"input_ids": self.prompt}) + "\n")
        self.title = f"{args.new_tokens} new tokens after a prompt of {len(self.prompt)}, one sequence, greedy"

    def ours(self, log):
        ends = []
        for count in (1, self.args.new_tokens):
            command = finetune(self.args, "generate", {}, "--model", self.args.model, "--prompts", str(self.folder / "prompt.jsonl"),
                               "--max-new-tokens", str(count), "--json")
            marks, text = run(self.args, command, {}, log)
            ends.append(marks[-1])
        ids = json.loads(text)["completions"][0]["token_ids"]
        if len(ids) != self.args.new_tokens:
            raise Failed(f"the answer has only {len(ids)} tokens; a smaller --new-tokens is wanted")
        return result(between(ends[0], ends[1], len(ids) - 1), ends[0], ends[1], ids)

    def theirs(self, name, environment, log):
        marks, text = run(self.args, peer(self.args, name, "generate", self.folder, "--new-tokens", self.args.new_tokens), environment, log)
        speeds = {}
        for warm, short, long in zip(marks, marks[1:], marks[2:]):
            if short["name"].startswith("short"):  # an answer of one token, which the long one holds too
                begin = {clock: 2 * short[clock] - warm[clock] for clock in ("cpu", "wall")}
                speeds[long["name"]] = between(begin, long, self.args.new_tokens - 1)
        best, speed = faster(self.args, speeds)
        return {**result(speed, marks[0], marks[-2], json.loads(text)[best]), "best": best, "all": speeds}

    def disagree(self, ours, theirs):
        # Greedy answers part where two tokens are as good as equal in bfloat16.
        same = next((i for i, (a, b) in enumerate(zip(ours["check"], theirs["check"])) if a != b), len(ours["check"]))
        return None if same >= 4 else f"the answers part after {same} tokens: {ours['check'][:8]} and {theirs['check'][:8]}"


def job_of(args, setting, folder):
    kind = {"eval": Eval, "generate": Generate}.get(setting, Training)
    return kind(args, setting, folder)


def tcmalloc():
    for name in TCMALLOC:
        for place in ("/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"):
            if os.path.exists(f"{place}/{name}"):
                return f"{place}/{name}"
    return None


# ---------------------------------------------------------------------- report


FIGURES = [("tokens_per_cpu_second", "tokens per CPU second", 1), ("tokens_per_wall_second", "tokens per second of wall time", 1),
           ("peak_mb", "peak memory, MB", 0), ("first_cpu", "{first}, CPU s", 2), ("first_wall", "{first}, wall s", 2)]


def spread(values, digits):
    middle = statistics.median(values)
    return f"{middle:.{digits}f} ({min(values):.{digits}f}-{max(values):.{digits}f})"


def machine(args):
    lines = open("/proc/cpuinfo").read()
    name = next((line.split(":", 1)[1].strip() for line in lines.splitlines() if line.startswith("model name")), platform.machine())
    isa = ", ".join(x for x in ("amx_bf16", "avx512_bf16", "avx512f", "avx2") if f" {x} " in lines)
    text = f"{name}, {os.cpu_count()} cores ({isa}), Linux {platform.release().split('-')[0]}"
    if args.device == "cuda":
        gpu = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"],
                             capture_output=True, text=True)
        text += "; " + " and ".join(gpu.stdout.split("\n")).strip(" and ")
    return text


def versions():
    found = {}
    for name in ("torch", "transformers", "peft", "bitsandbytes", "liger-kernel", "unsloth", "flash-attn"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            pass
    return found


def report(record, args):
    where = f"Both sides on core {args.core} alone, one thread." if args.device == "cpu" else "CPU threads as each side chooses."
    out = [f"# {args.device.upper()}: finetune and its peers, {record['date']}", "",
           f"Machine: {record['machine']}; load average {record['load'][0]:.1f} before and {record['load'][1]:.1f} after. {where}",
           f"finetune: commit {record['commit']}. Peer: Python {platform.python_version()}, " +
           ", ".join(f"{m} {v}" for m, v in record["versions"].items()) + (", tcmalloc" if record["tcmalloc"] else "") + ".",
           f"Model {record['model']}, bfloat16; adapters r 16 alpha 16 on all linear layers, QLoRA on nf4 with double quantisation. "
           f"{args.rounds} rounds, interleaved; median of the rounds (smallest-largest).", ""]
    out += [args.note, ""] if args.note else []
    out += ["| setting | figure | finetune | peer | | finetune / peer, per round |", "| --- | --- | --- | --- | --- | --- |"]
    for setting, entry in record["settings"].items():
        for name in args.peers:
            pairs = [(r["finetune"], r[name]) for r in entry["rounds"] if name in r]
            if not pairs:
                continue
            for key, title, digits in FIGURES:
                ours, theirs = [p[0][key] for p in pairs], [p[1][key] for p in pairs]
                if args.device == "cuda" and "cpu" in key or ours[0] != ours[0]:
                    continue
                ratios = [a / b for a, b in zip(ours, theirs)]
                out.append(f"| {setting} | {title.format(first=entry['first'])} | {spread(ours, digits)} | {name} | "
                           f"{spread(theirs, digits)} | {spread(ratios, 3)} |")
    out.append("")
    for setting, entry in record["settings"].items():
        text = f"{setting}: {entry['title']}."
        best = sorted({r[BASE_PEER]["best"] for r in entry["rounds"] if "best" in r.get(BASE_PEER, {})})
        if best:
            clock = "cpu" if args.device == "cpu" else "wall"
            ways = {}
            for r in entry["rounds"]:
                for way, speed in r[BASE_PEER]["all"].items():
                    ways.setdefault(way, []).append(speed[f"tokens_per_{clock}_second"])
            text += f" {BASE_PEER}: fastest {', '.join(best)}; " + ", ".join(f"{way} {statistics.median(v):.1f}" for way, v in ways.items()) + " tokens/s."
        for name, why in entry["left_out"].items():
            text += f" {name} was left out: {why}."
        first = entry["rounds"][0]
        if "losses" in first["finetune"]:
            text += " Losses of the first round: " + "; ".join(
                f"{name} {' '.join(f'{x:.4f}' for x in r['losses'])}" for name, r in first.items()) + "."
        elif setting == "eval":
            text += " Losses: " + ", ".join(f"{name} {r['check']:.4f}" for name, r in first.items()) + "."
        out += [text, ""]
    return "\n".join(out)


def compare(args, setting, job, malloc, log):
    """All rounds of a setting. A peer besides the first that fails is left out; the first must run."""
    entry = {"first": job.first, "title": job.title, "rounds": [], "left_out": {}}
    environment = {"LD_PRELOAD": malloc} if malloc else {}
    for number in range(args.rounds):
        results = {"finetune": job.ours(log)}
        for name in args.peers:
            if name in entry["left_out"]:
                continue
            try:
                results[name] = job.theirs(name, environment, log)
                apart = job.disagree(results["finetune"], results[name])
                if apart:
                    del results[name]
                    raise Failed(apart)
            except Failed as e:
                if name == BASE_PEER:
                    raise
                entry["left_out"][name] = str(e)
        entry["rounds"].append(results)
        clock = "cpu" if args.device == "cpu" else "wall"
        print(f"{setting} round {number + 1}: tokens per second ({clock}) " + ", ".join(
            f"{name} {r[f'tokens_per_{clock}_second']:.1f}" for name, r in results.items()) + "; peak MB " + ", ".join(
            f"{r['peak_mb']:.0f}" for r in results.values()) + "; first after " + ", ".join(
            f"{r['first_wall']:.1f} s" for r in results.values()), flush=True)
    return entry


def main():
    args = arguments()
    malloc = None if args.no_tcmalloc or args.device == "cuda" else tcmalloc()
    commit = subprocess.run(["git", "-C", str(HERE), "log", "-1", "--format=%h"], capture_output=True, text=True).stdout
    record = {"date": str(datetime.date.today()), "machine": machine(args), "commit": commit.strip() or "unknown", "versions": versions(),
              "tcmalloc": malloc is not None, "model": os.path.basename(os.path.normpath(args.model)), "settings": {}}
    before = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temp, tempfile.NamedTemporaryFile("w", suffix=".log", delete=False) as log:
        for setting in args.settings.split(","):
            try:
                record["settings"][setting] = compare(args, setting, job_of(args, setting, pathlib.Path(temp)), malloc, log)
            except Failed as e:
                sys.exit(f"bench: {setting}: {e}")
        os.unlink(log.name)
    record["load"] = [before, os.getloadavg()[0]]
    text = report(record, args)
    print(text)
    if args.out != "-":
        out = pathlib.Path(args.out) if args.out else HERE / "results" / f"{datetime.date.today()}-{args.device}.md"
        out.parent.mkdir(exist_ok=True)
        out.write_text(text)
        out.with_suffix(".json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    main()
