#!/usr/bin/env python3
"""c1: which lines of the readers the tests and the fuzz corpora reach (GCC's gcov). After scripts/build.sh coverage:
  coverage.py [CTEST_OPTION ...]      runs the tests the options select and replays what scripts/fuzz.sh left in build-fuzz/corpus;
                                      prints the share of lines of every folder, and the readers below 90 %"""
import collections
import json
import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
BUILD = ROOT / "build-coverage"
# What reads files that others wrote.
READERS = ("src/base/gguf", "src/base/json.", "src/base/mapped_file.", "src/base/safetensors.", "src/config/", "src/data/",
           "src/adapters/peft_files.", "src/model/load", "src/model/families", "src/train/checkpoint.", "src/train/optimizer_files.")


def run_everything(ctest_options):
    for counts in BUILD.rglob("*.gcda"):
        counts.unlink()
    environment = dict(os.environ, OMP_NUM_THREADS="1")
    tests = subprocess.run(["ctest", "--test-dir", BUILD, "-j", str(os.cpu_count()), "-Q", *ctest_options], env=environment)
    for corpus in sorted((ROOT / "build-fuzz/corpus").glob("*")):
        subprocess.run([BUILD / f"fuzz_{corpus.name}", corpus], env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return tests.returncode


def lines_of(objects):
    """{file: {line: times}} over all objects a source is part of."""
    counts = collections.defaultdict(lambda: collections.defaultdict(int))
    for first in range(0, len(objects), 20):
        output = subprocess.run(["gcov", "--json-format", "--stdout", *objects[first:first + 20]], cwd=BUILD, capture_output=True, check=True).stdout
        for document in output.splitlines():
            for file in json.loads(document)["files"]:
                path = pathlib.Path(os.path.normpath(BUILD / file["file"]))
                if not path.is_relative_to(ROOT / "src"):
                    continue
                here = counts[str(path.relative_to(ROOT))]
                for line in file["lines"]:
                    here[line["line_number"]] += line["count"]
    return counts


def share(counts):
    hit, total = sum(n > 0 for lines in counts for n in lines.values()), sum(len(lines) for lines in counts)
    return f"{100 * hit / total:5.1f} % of {total} lines"


def main():
    status = run_everything(sys.argv[1:] or ["-LE", "real|reliability"])
    counts = lines_of(sorted(BUILD.glob("CMakeFiles/ft_*/**/*.gcda")) + sorted(BUILD.glob("CMakeFiles/finetune.dir/**/*.gcda")))
    for folder in sorted({file.split("/")[1] for file in counts if file.count("/") > 1}):
        print(f"{folder:12} {share([lines for file, lines in counts.items() if file.startswith(f'src/{folder}/')])}")
    readers = {file: lines for file, lines in counts.items() if file.startswith(READERS)}
    print(f"{'readers':12} {share(readers.values())}")
    for file, lines in sorted(readers.items()):
        missed = sorted(number for number, count in lines.items() if count == 0)
        if len(missed) > 0.1 * len(lines):
            print(f"  {file}: {share([lines])}, not {', '.join(map(str, missed[:30]))}{' ...' if len(missed) > 30 else ''}")
    return status


if __name__ == "__main__":
    sys.exit(main())
