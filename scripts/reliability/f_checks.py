#!/usr/bin/env python3
"""f1: no command opens a network socket, and a run works in a name space without network; with `suite`, nor does any test.
f2: no loader of code or pickles is linked. f4: a run writes nothing outside its output folder. f5: control bytes of names and data
do not reach the terminal.   f_checks.py [suite]"""
import os
import pathlib
import re
import shutil
import subprocess
import sys

import runs


def suite(log):
    """All tests but those that trace by themselves: (figure, good)."""
    alone = ["unshare", "-n"] if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0 else []
    done = subprocess.run([*alone, "strace", "-f", "-qq", "--seccomp-bpf", "-o", log, "-e", "trace=socket", "ctest", "--test-dir",
                           pathlib.Path(runs.PROGRAM).parent, "-j", str(os.cpu_count()), "-LE", "real|reliability"],
                          env=runs.ENVIRONMENT, capture_output=True, text=True)
    sockets = [line for line in open(log) if re.search(r"AF_INET|AF_NETLINK", line)]
    summary = next((line for line in done.stdout.splitlines() if "tests passed" in line), done.stdout[-300:])
    return f"{summary}{' without network' if alone else ''}, {len(sockets)} network sockets {sockets[:2]}", done.returncode == 0 and not sockets


def main():
    status = 0
    if not shutil.which("strace"):
        runs.row("f1", "strace is missing: apt-get install strace", False)
        return 77
    scene = runs.Scene([], steps=3)
    adapter = runs.MODEL.parent / "adapter"
    data = f"{scene.folder}/eval.jsonl"
    output = scene.output()
    commands = {
        "train": scene.command(output),
        "plan": [runs.PROGRAM, "plan", *scene.command(output)[4:]],
        "inspect": [runs.PROGRAM, "inspect", *scene.command(output)[4:]],
        "eval": [runs.PROGRAM, "eval", "--model", runs.MODEL, "--adapter", adapter, "--data", data],
        "generate": [runs.PROGRAM, "generate", "--model", runs.MODEL, "--prompt", "a", "--max-new-tokens", "2"],
        "merge": [runs.PROGRAM, "merge", "--model", runs.MODEL, "--adapter", adapter, "--output", scene.folder / "merged"],
        "tokenize": [runs.PROGRAM, "tokenize", "--model", runs.MODEL, "--file", data],
    }
    sockets, failed, outside = [], [], []
    for name, command in commands.items():
        log = scene.folder / f"{name}.trace"
        done = subprocess.run(["strace", "-f", "-qq", "-y", "--seccomp-bpf", "-o", log, "-e", "trace=socket,connect,openat,rename,renameat2,mkdir,unlink",
                               *map(str, command)], env=runs.ENVIRONMENT, capture_output=True, text=True)
        if done.returncode != 0:
            failed.append(f"{name}: {done.stderr[-200:]}")
        for line in open(log):
            if re.search(r"AF_INET|AF_NETLINK", line):
                sockets.append(f"{name}: {line.strip()}")
            written = re.search(r'(mkdir|rename|unlink|O_WRONLY|O_RDWR|O_CREAT)', line) and "ENOENT" not in line
            path = re.search(r'"(/[^"]*)"', line)
            if name == "train" and written and path and not path.group(1).startswith((str(output), "/dev/", "/proc/")):
                outside.append(line.strip())
    isolated = "unshare is not allowed here"
    if subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0:
        done = scene.run(scene.output(), before=["unshare", "-n"], check=False)
        isolated = f"without network status {done.returncode}"
        failed += [isolated] if done.returncode else []
    status |= not runs.row("f1", f"{len(commands)} commands, {len(sockets)} network sockets, {isolated} {failed} {sockets[:2]}",
                           not sockets and not failed)
    if sys.argv[1:] == ["suite"]:
        status |= not runs.row("f1", *suite(scene.folder / "suite.trace"))
    symbols = subprocess.run(["nm", "-D", "-C", "--undefined-only", runs.PROGRAM], capture_output=True, text=True).stdout
    loaders = [l.strip() for l in symbols.splitlines() if re.search(r"torch::jit::(load|import)|pickle|Unpickler|dlopen_python", l)]
    status |= not runs.row("f2", f"{len(symbols.splitlines())} symbols of libraries used, {len(loaders)} of them load code or pickles {loaders[:2]}", not loaders)
    status |= not runs.row("f4", f"{len(outside)} writes outside output_dir {outside[:3]}", not outside)
    # A name, a value and a record with escape sequences.
    evil = "a\x1b[31mred\x07"
    (scene.folder / f"{evil}.jsonl").write_text("no json\n")
    (scene.folder / "evil.jsonl").write_text('{"messages": [{"role": "us\\u001b[2Jer", "content": "a"}]}\n')
    (scene.folder / "evil.yaml").write_text(f"model: m\nmethod: \"\\e[31mred\"\n{evil[:1]}\\e: 1\n")
    leaked, cases = [], 0
    for settings in ([f"data.train={scene.folder}/{evil}.jsonl"], [f"data.train={scene.folder}/evil.jsonl"], [f"method={evil}"],
                     [f"model={scene.folder}/{evil}"], [f"output_dir={scene.folder}/evil.yaml/{evil}"]):
        done = scene.run(scene.output(), settings=settings, check=False)
        cases += 1
        if done.returncode == 0 or re.search(r"[\x00-\x08\x0b-\x1f\x7f]", done.stderr):
            leaked.append(f"{settings}: {done.returncode} {done.stderr!r}")
    status |= not runs.row("f5", f"{cases} messages about names and records with control bytes, {len(leaked)} show them {leaked[:3]}", not leaked)
    scene.close()
    return status


sys.exit(main())
