#!/usr/bin/env python3
"""a1: SIGKILL at random moments of a run that saves every second step, resumed each time; the end must be that of a run never
stopped, bit for bit.   a1_kill.py [KILLS] [VARIANT ...]     (200 kills over all variants)"""
import random
import subprocess
import sys
import time

import runs


def resume(output):
    """A run that was killed before it wrote anything begins as if new."""
    return ["--resume"] if (output / "config.yaml").exists() else []


def killed(scene, output, seconds):
    """Starts or resumes, kills after so many seconds. True when the kill came before the end."""
    process = subprocess.Popen(scene.command(output, *resume(output)), env=runs.ENVIRONMENT,
                               stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return True
    if process.returncode != 0:
        sys.exit(f"{output}: status {process.returncode}")
    return False


def main():
    kills = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    variants = sys.argv[2:] or list(runs.VARIANTS)
    draw = random.Random(1)
    bad, done, chains, while_saving = [], 0, 0, 0
    for number, name in enumerate(variants):
        wanted = kills * (number + 1) // len(variants)
        scene = runs.Scene(runs.VARIANTS[name])
        start = time.time()
        whole = scene.output()
        scene.run(whole)
        duration = time.time() - start
        expected = runs.result(whole)
        while done < wanted:
            output = scene.output()
            for _ in range(min(4, wanted - done)):
                if not killed(scene, output, draw.uniform(0, duration)):
                    break
                done += 1
                while_saving += any(n.startswith(".step-") for n in runs.leftovers(output))
            scene.run(output, *resume(output))
            chains += 1
            different = runs.differences(runs.result(output), expected) + runs.leftovers(output)
            if different:
                bad.append(f"{name}: {different}")
        scene.close()
    good = not bad
    runs.row("a1", f"{done} kills in {chains} runs ({while_saving} while a checkpoint was being written), {len(bad)} differ {bad[:3]}",
             good)
    return 0 if good else 1


sys.exit(main())
