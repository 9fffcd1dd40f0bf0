#!/usr/bin/env python3
"""Start-up and memory over a large JSONL file, against a small one of the same rows.

  scripts/bench/big_data.py [--model DIR] [--bytes N] [--folder DIR]

Makes a file of N bytes (1 GB) of messages and one of 1 MB, runs `train` on each and prints the seconds from the start of the
process to the end of its first step, with the file in the page cache and without it, and the resident memory of the data: that
of the process after --steps steps over the large file, less the same over the small one.
"""
import argparse
import os
import random
import signal
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def make_sentences(rng):
    """Made-up words, some common and most rare, as a language has them."""
    syllables = [a + b for a in "b c d f g k l m n p r s t v st tr pl ch".split() for b in "a e i o u ai ea ou".split()]
    words = ["".join(rng.choices(syllables, k=rng.choice((1, 1, 2, 2, 3)))) for _ in range(50000)]
    text = rng.choices(words, [1 / (i + 10) for i in range(len(words))], k=1 << 20)
    sentences, at = [], 0
    while at + 20 < len(text):
        length = rng.randint(4, 16)
        sentences.append(" ".join(text[at:at + length]).capitalize() + ".")
        at += length
    return sentences


def make_file(path, size):
    rng = random.Random(1)
    sentences = make_sentences(rng)
    line = '{"messages": [{"role": "user", "content": "%s"}, {"role": "assistant", "content": "%s"}]}\n'
    written = 0
    with open(path, "w") as out:
        while written < size:
            at = rng.randrange(len(sentences) - 24)
            answer = at + rng.randint(1, 3)
            end = answer + rng.randint(1, 20)
            written += out.write(line % (" ".join(sentences[at:answer]), " ".join(sentences[answer:end])))
        out.flush()
        os.fsync(out.fileno())


def drop_from_cache(path):
    with open(path) as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def resident_mib(pid):
    for line in open(f"/proc/{pid}/status"):
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024


def run(args, data, steps):
    """Seconds to the end of the first step, and MiB after the last of `steps`, at which the run is stopped."""
    with tempfile.TemporaryDirectory(dir=args.folder) as output:
        settings = {"model": args.model, "data.train": data, "output_dir": f"{output}/run", "data.max_length": 512,
                    "save.every_steps": 1000000, "eval.samples": 0, "train.max_steps": 1000000}
        command = [args.finetune, "train"]
        for key, value in settings.items():
            command += ["--set", f"{key}={value}"]
        start, first = time.monotonic(), None
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        log = []
        for line in process.stderr:
            log.append(line)
            if line.startswith("data ") or line.startswith("windows "):
                print("  " + line.rstrip())
            if not line.startswith("step "):
                continue
            first = first or time.monotonic() - start
            if int(line.split()[1].split("/")[0]) >= steps:
                resident = resident_mib(process.pid)
                process.send_signal(signal.SIGTERM)
                process.stderr.read()
                process.wait()
                return first, resident
        raise SystemExit(f"{' '.join(command)}: ended early:\n{''.join(log)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(ROOT / "models/smollm2-135m-instruct"))
    parser.add_argument("--finetune", default=str(ROOT / "build/finetune"))
    parser.add_argument("--bytes", type=int, default=10**9)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--folder", default=None, help="for the files, which need --bytes of room (a temporary one)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        large, small = Path(folder) / "large.jsonl", Path(folder) / "small.jsonl"
        make_file(large, args.bytes)
        make_file(small, 10**6)
        warm, with_large = run(args, large, args.steps)
        _, with_small = run(args, small, args.steps)
        drop_from_cache(large)
        cold, _ = run(args, large, 1)
        print(f"first step after {warm:.2f} s ({cold:.2f} s with the file not in the page cache)")
        print(f"resident {with_large:.0f} MiB, {with_small:.0f} MiB with 1 MB of data: "
              f"{with_large - with_small:.0f} MiB for the data")


if __name__ == "__main__":
    main()
