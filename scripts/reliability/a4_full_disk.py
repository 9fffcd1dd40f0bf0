#!/usr/bin/env python3
"""a4: a disk with room for 0.5, 1.5 and 2.5 checkpoints, keep 1: the older checkpoint survives, the error says what is needed and
what is free, a warning comes before the first step, and with room again the run ends like one never stopped. A disk that is
mounted read-only is refused before the weights are read.
A small tmpfs where mounting is allowed (root); else a limit on file sizes, which stands for the first case only."""
import subprocess
import sys

import runs


def main():
    # Checkpoints of some size, so that what else a run writes does not matter.
    scene = runs.Scene(["lora.r=256", "save.keep=1", "log.tensorboard=false"], steps=8, evaluates=False)
    whole = scene.output()
    scene.run(whole)
    expected = runs.result(whole)
    size = sum(f.stat().st_size for f in runs.newest_checkpoint(whole).iterdir())
    bad = []
    for room in (0.5, 1.5, 2.5):
        disk = scene.folder / "disk"
        disk.mkdir(exist_ok=True)
        # config.yaml, metrics and the report are small; 2.5 checkpoints hold two and no final/ besides.
        bytes_free = int(room * size) + 64 * 1024
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={bytes_free}", "tmpfs", disk], capture_output=True).returncode == 0
        if not mounted and room > 1:
            continue
        before = [] if mounted else ["prlimit", f"--fsize={bytes_free // 4}"]
        output = disk / "out"
        done = scene.run(output, before=before, check=False)
        errors = [l for l in done.stderr.splitlines() if l.startswith("error: ")]
        kept = runs.newest_checkpoint(output)
        if room < 2:
            if done.returncode != 5 or len(errors) != 1 or "are free in" not in errors[0] or "it needs" not in errors[0]:
                bad.append(f"{room}: status {done.returncode} {errors}")
            if mounted and "this run needs about" not in done.stderr:
                bad.append(f"{room}: no warning before the run")
            if mounted and (kept is None) != (room < 1):
                bad.append(f"{room}: checkpoint kept: {kept}")
        if mounted:
            subprocess.run(["mount", "-o", f"remount,size={20 * size}", disk], check=True)
        if done.returncode != 0:
            scene.run(output, "--resume")
        if runs.differences(runs.result(output), expected) or runs.leftovers(output):
            bad.append(f"{room}: {runs.differences(runs.result(output), expected)} {runs.leftovers(output)}")
        if mounted:
            subprocess.run(["umount", disk], check=True)
        else:
            subprocess.run(["rm", "-rf", output], check=True)
    if mounted:
        subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", disk], check=True)
        done = scene.run(disk / "out", check=False)
        if done.returncode != 5 or f"error: {disk}/out" not in done.stderr or "Read-only file system" not in done.stderr:
            bad.append(f"read-only: status {done.returncode} {done.stderr[-300:]}")
        if "ready " in done.stderr:
            bad.append(f"read-only: found late: {done.stderr[-300:]}")
        subprocess.run(["umount", disk], check=True)
    scene.close()
    how = "tmpfs" if mounted else "file size limit, mounting is not allowed"
    return 0 if runs.row("a4", f"3 sizes of disk{', and read-only' if mounted else ''} ({how}), checkpoint of {size >> 10} KiB, {len(bad)} bad {bad[:3]}", not bad) else 1


if __name__ == "__main__":
    sys.exit(main())
