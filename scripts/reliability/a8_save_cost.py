#!/usr/bin/env python3
"""a8: what saving costs. A run that saves every SPAN steps: the time that passes between steps because of a save, and by how much
the steps are slower while one is written, as a share of 50 steps; and the time from SIGTERM to the end.
  a8_save_cost.py MODEL [SETTING ...]      SPAN is 20; settings as in --set"""
import json
import signal
import statistics
import subprocess
import sys
import time

import runs

SPAN, STEPS = 20, 45


def main():
    settings = [f"model={sys.argv[1]}", "dtype=bfloat16", "data.max_length=256", "data.packing=true", "eval.evaluations=0", *sys.argv[2:]]
    scene = runs.Scene(settings, steps=STEPS, examples=400, evaluates=False)

    def train(output, every):
        scene.run(output, settings=[f"save.every_steps={every}"])
        lines = [json.loads(l) for l in open(output / "metrics.jsonl")]
        steps = [l["step_seconds"] for l in lines if l["type"] == "train"]
        state = json.loads((runs.newest_checkpoint(output) / "state.json").read_text())
        size = sum(f.stat().st_size for f in runs.newest_checkpoint(output).iterdir())
        # state.seconds ends before the last save; the first step is warm-up.
        return steps, state["seconds"] - sum(steps), size
    without, gap_without, _ = train(scene.output(), 10**9)
    steps, gap, size = train(scene.output(), SPAN)
    saves = (STEPS - 1) // SPAN
    quiet = statistics.median(without[1:])
    stall = max(0.0, (gap - gap_without) / saves)
    slower = max(0.0, (sum(steps[1:]) - sum(without[1:])) / saves)
    cost = 100 * (stall + slower) / (50 * quiet)
    # A stop: from the signal to the end.
    output = scene.output()
    process = subprocess.Popen(scene.command(output), env=runs.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (output / "metrics.jsonl").exists() or len(open(output / "metrics.jsonl").readlines()) < 3:
        time.sleep(0.01)
    start = time.time()
    process.send_signal(signal.SIGTERM)
    status = process.wait()
    stop = time.time() - start
    scene.close()
    good = cost <= 5 and stop <= 25 and status == 143
    runs.row("a8", f"checkpoint {size / 2**20:.0f} MiB, step {quiet:.3f} s: a save stops it for {stall:.3f} s and slows it by {slower:.3f} s, "
             f"{cost:.2f} % at save.every_steps 50; SIGTERM to the end {stop:.1f} s", good)
    return 0 if good else 1


sys.exit(main())
