#!/usr/bin/env python3
"""e1: a long run with evaluations and checkpoints: from a tenth of it on, resident memory stays within 1 % and the number of open
files does not grow.   e1_soak.py [STEPS]     20,000 steps by default"""
import json
import os
import subprocess
import sys
import time

import runs


def main():
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 20000
    scene = runs.Scene(["save.every_steps=50", "eval.every_steps=100", "log.every_steps=1000", "train.lr_scheduler=constant",
                        "train.learning_rate=1e-5"], steps=steps)
    output = scene.output()
    process = subprocess.Popen(scene.command(output), env=runs.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    samples, warm = [], steps // 10
    while process.poll() is None:
        try:
            done = int(subprocess.run(["tail", "-n", "1", output / "metrics.jsonl"], capture_output=True, text=True).stdout
                       .partition('"step": ')[2].partition(",")[0] or 0)
            resident = int(open(f"/proc/{process.pid}/statm").read().split()[1]) * os.sysconf("SC_PAGESIZE")
            samples.append((done, resident, len(os.listdir(f"/proc/{process.pid}/fd"))))
        except (OSError, ValueError):
            pass
        time.sleep(0.05)
    train = [json.loads(l) for l in open(output / "metrics.jsonl") if '"train"' in l]
    peaks = [l["memory_bytes"] for l in train]
    scene.close()
    samples = [s for s in samples if s[0] >= warm]
    half = len(samples) // 2
    first, last = max(s[1] for s in samples[:half]), max(s[1] for s in samples[half:])
    files = max(s[2] for s in samples[:half]), max(s[2] for s in samples[half:])
    growth = 100 * (last / first - 1)
    peak = 100 * (peaks[-1] / peaks[warm] - 1)
    good = process.returncode == 0 and growth <= 1 and peak <= 1 and files[1] <= files[0]
    runs.row("e1", f"{len(train)} steps: resident {first / 2**20:.1f} -> {last / 2**20:.1f} MiB ({growth:+.2f} %), peak {peak:+.2f} %, open files "
             f"{files[0]} -> {files[1]} ({len(samples)} samples)", good)
    return 0 if good else 1


sys.exit(main())
