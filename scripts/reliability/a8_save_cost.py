#!/usr/bin/env python3
"""a8: what saving costs, from one run that saves every 50 steps. From a save until its checkpoint is there, steps take longer
than their neighbours without one: the surplus, as a share of 50 steps, in wall time and in processor time of the training thread,
which says the same on a quiet machine and is all that counts on a busy one. And the time from SIGTERM to the end.
  a8_save_cost.py MODEL [SETTING ...]      settings as in --set"""
import json
import signal
import statistics
import subprocess
import sys
import time

import runs

SPAN, SAVES, AFTER = 50, 2, 12


def processor_seconds(pid, thread):
    return int(open(f"/proc/{pid}/task/{thread}/schedstat").read().split()[0]) * 1e-9


def watch(process, output):
    """[(wall, processor) at the end of each step], {step: (first, last) step that a save's writing falls on}."""
    ends, writing = [], {}
    metrics, rest = None, ""
    while process.poll() is None:
        time.sleep(0.005)
        if metrics is None and (output / "metrics.jsonl").exists():
            metrics = open(output / "metrics.jsonl")
        for line in (metrics or "") and metrics.readlines():
            rest += line
            if not rest.endswith("\n"):
                break
            entry, rest = json.loads(rest), ""
            if entry["type"] == "train":
                ends.append((time.time(), processor_seconds(process.pid, process.pid), entry["target_tokens"], entry["step"]))
                if entry["step"] % SPAN == 0:
                    writing[entry["step"]] = None
        for step, last in writing.items():
            if last is None and (output / f"checkpoints/step-{step}").exists():
                writing[step] = ends[-1][3] + 1
    return ends, writing


def main():
    settings = [f"model={sys.argv[1]}", "dtype=bfloat16", "data.max_length=256", "data.packing=true", "eval.evaluations=0",
                f"save.every_steps={SPAN}", *sys.argv[2:]]
    scene = runs.Scene(settings, steps=SAVES * SPAN + AFTER, examples=1200, evaluates=False)
    output = scene.output()
    start = lambda folder: subprocess.Popen(scene.command(folder), env=runs.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ends, writing = watch(start(output), output)
    length = {b[3]: (b[0] - a[0], b[1] - a[1]) for a, b in zip(ends, ends[1:])}
    checkpoint = runs.newest_checkpoint(output)
    size = sum(f.stat().st_size for f in checkpoint.iterdir())
    costs, text = [], []
    for unit, name in enumerate(("wall", "processor")):
        surpluses, quiet_all = [], []
        for step, last in writing.items():
            touched = range(step + 1, (last or step) + 1)
            near = [length[s][unit] for s in range(step - 30, step + AFTER) if s in length and s not in touched and s > 2]
            quiet = statistics.median(near)
            surpluses.append(sum(length[s][unit] - quiet for s in touched if s in length))
            quiet_all.append(quiet)
        cost = 100 * statistics.mean(surpluses) / (SPAN * statistics.mean(quiet_all))
        costs.append(cost)
        each = " and ".join(f"{s:.2f}" for s in surpluses)
        text.append(f"{name}: step {statistics.mean(quiet_all):.3f} s, saves cost {each} s, {cost:.2f} %")
    touched = " and ".join(str((last or step) - step) for step, last in writing.items())
    # A stop: from the signal to the end.
    output = scene.output()
    process = start(output)
    while not (output / "metrics.jsonl").exists() or len(open(output / "metrics.jsonl").readlines()) < 3:
        time.sleep(0.01)
    begin = time.time()
    process.send_signal(signal.SIGTERM)
    status = process.wait()
    stop = time.time() - begin
    scene.close()
    good = min(costs) <= 5 and stop <= 25 and status == 143
    runs.row("a8", f"checkpoint {size / 2**20:.0f} MiB, written during {touched} steps; {'; '.join(text)} of {SPAN} steps; "
             f"SIGTERM to the end {stop:.1f} s", good)
    return 0 if good else 1


sys.exit(main())
