#!/usr/bin/env python3
"""a6: every damage to the newest checkpoint (cut by a byte, to half, to nothing; file or folder gone; one bit) is found, named,
and the one before it is used; the end is that of a run never stopped.   a6_corrupt.py [quick]"""
import json
import random
import shutil
import sys

import runs


def damages(draw):
    def cut(size):
        return lambda f: f.write_bytes(f.read_bytes()[:size(f.stat().st_size)])

    def flip(f):
        data = bytearray(f.read_bytes())
        data[draw.randrange(len(data))] ^= 1 << draw.randrange(8)
        f.write_bytes(bytes(data))

    return {"byte": cut(lambda n: n - 1), "half": cut(lambda n: n // 2), "empty": cut(lambda n: 0), "gone": lambda f: f.unlink(),
            "bit": flip, "longer": lambda f: f.write_bytes(f.read_bytes() + b"\0")}


def main():
    quick = sys.argv[1:] == ["quick"]
    scene = runs.Scene(runs.VARIANTS["lora"], steps=12)
    whole = scene.output()
    scene.run(whole)
    expected = runs.result(whole)
    # A run that ended after step 12's checkpoint and before its results.
    stopped = scene.output()
    shutil.copytree(whole, stopped)
    shutil.rmtree(stopped / "final")
    config = (stopped / "config.yaml").read_text().replace(str(whole), str(stopped))
    (stopped / "config.yaml").write_text(config)
    lines = [l for l in open(stopped / "metrics.jsonl") if json.loads(l)["type"] != "summary"]
    (stopped / "metrics.jsonl").write_text("".join(lines))
    bad, cases = [], 0
    draw = random.Random(2)
    files = ["state.json", "trained.safetensors", "optimizer.safetensors", "manifest.json"]
    for round_of in range(1 if quick else 8):
        for name in files:
            for kind, damage in damages(draw).items():
                # Whitespace and the order of a manifest may change: what it says is checked.
                if (round_of > 0 and kind != "bit") or (name == "manifest.json" and kind in ("longer", "byte")):
                    continue
                output = scene.output()
                shutil.copytree(stopped, output)
                newest = runs.newest_checkpoint(output)
                before = (newest / name).read_bytes()
                damage(newest / name)
                cases += 1
                done = scene.run(output, "--resume", check=False)
                named = f"{newest}: passed over" in done.stderr
                if name == "manifest.json" and kind == "bit" and not named:
                    named = done.returncode == 0  # a bit of white space
                if done.returncode != 0 or not named or runs.differences(runs.result(output), expected):
                    bad.append(f"{name} {kind}: status {done.returncode} {done.stderr[-200:] if not named else ''}")
                shutil.rmtree(output)
                del before
    scene.close()
    runs.row("a6", f"{cases} damaged checkpoints, {cases - len(bad)} found and passed over {bad[:3]}", not bad)
    return 1 if bad else 0


sys.exit(main())
