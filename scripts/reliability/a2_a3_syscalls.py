#!/usr/bin/env python3
"""a2, a3: at every file-system call that a run with checkpoints makes below its output folder, the process is killed (a2), or the
call fails once with EIO, ENOSPC, EDQUOT (a quota), EROFS, EACCES, or is interrupted, or writes less than it was given (a3).
  a2: the resumed run ends like one never stopped, and only staging was left.
  a3: EINTR goes on; other errors end the run with status 5 and one line that names path and reason, and the resumed run ends as
      above. strace's short write says 1 byte and writes none: the damage must not pass for a whole checkpoint.
  a2_a3_syscalls.py [STRIDE] [a2|a3|FAULT ...]      every call, or every STRIDE-th; FAULT: a3 with these only, SHORT is the short write"""
import collections
import concurrent.futures
import errno
import os
import re
import shutil
import subprocess
import sys

import runs

CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,ftruncate,flock,fallocate"
STRACE = ["strace", "-f", "-qq"]
QUICK = [*STRACE, "--seccomp-bpf"]  # with it strace injects no signals
ERRORS = {name: getattr(errno, name) for name in ("EIO", "ENOSPC", "EDQUOT", "EROFS", "EACCES", "EINTR")}
FAULTS = [*ERRORS, "SHORT"]


def points(scene, output, log):
    """(call, path, occurrence) of each call on a path of the output folder, as strace -P counts them."""
    scene.run(output, before=[*QUICK, "-y", "-o", log, "-e", f"trace={CALLS}"])
    counts, found = collections.Counter(), []
    for line in open(log):
        match = re.match(r"(\d+) +(\w+)\((.*)", line)
        if not match or str(output) not in line:
            continue
        thread, call, arguments = match.groups()
        paths = re.findall(r'["<](' + re.escape(str(output)) + r'[^">]*)[">]', arguments)
        if not paths:
            continue
        absent = "ENOENT" in line  # a look at what may not be there
        counts[thread, call, paths[0]] += 1  # strace counts thread by thread
        found.append((call, paths[0], counts[thread, call, paths[0]], absent))
    return list(dict.fromkeys(found))


def main():
    if not shutil.which("strace"):
        runs.row("a2", "strace is missing: apt-get install strace", False)
        return 77
    stride = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    chosen = [f for f in sys.argv[2:] if f in FAULTS]
    wanted = [w for w in sys.argv[2:] if w not in FAULTS] or (["a3"] if chosen else ["a2", "a3"])
    # Files of more than a MiB, which are written past the page cache; no event files, whose names strace cannot know.
    scene = runs.Scene(runs.VARIANTS["lora"] + ["lora.r=256", "eval.evaluations=1", "log.tensorboard=false"], steps=6)
    whole = scene.output()
    calls = points(scene, whole, scene.folder / "trace")
    expected = runs.result(whole)
    status = 0
    for what in wanted:
        faults = ["KILL"] if what == "a2" else chosen or FAULTS
        cases = [(fault, *call) for call in calls[::stride] for fault in faults if fault != "SHORT" or call[0] in ("write", "pwrite64")]
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            bad = [line for line in pool.map(lambda case: try_case(scene, whole, expected, *case), cases) if line]
        status |= not runs.row(what, f"{len(calls)} calls, {len(cases)} cases, {len(bad)} bad", not bad)
        for line in bad[:20]:
            print("      ", line)
    scene.close()
    return status


def try_case(scene, whole, expected, fault, call, path, nth, absent):
    """What went wrong, or nothing."""
    inject = {"KILL": "signal=SIGKILL", "SHORT": "retval=1"}.get(fault, f"error={fault}")
    output = scene.output()
    here = path.replace(str(whole), str(output))
    done = scene.run(output, before=[*(STRACE if fault == "KILL" else QUICK), "-o", "/dev/null", "-P", here, "-e", f"trace={call}",
                                     "-e", f"inject={call}:{inject}:when={nth}"], check=False)
    problem = judge(fault, call, here, done, absent)
    if not problem and not (fault == "SHORT" and "/checkpoints/" not in here):
        go_on = (output / "config.yaml").exists() or (output / "metrics.jsonl").exists()
        again = scene.run(output, *(["--resume"] if go_on else []), check=False)
        if again.returncode != 0:
            problem = f"cannot be resumed: {again.stderr[-300:]}"
        else:
            problem = ", ".join(runs.differences(runs.result(output), expected) + runs.leftovers(output))
    shutil.rmtree(output, ignore_errors=True)
    return f"{fault} at {call} {nth} of {os.path.relpath(here, output)}: {problem}" if problem else ""


def judge(fault, call, path, done, absent):
    if fault == "KILL":
        return "" if done.returncode in (-9, 137) else f"status {done.returncode}, it was to be killed"  # strace ends as its tracee did
    if fault in ("EINTR", "SHORT"):
        # A lie about a line of metrics may be met when the report reads it.
        if done.returncode == 0 or fault == "SHORT" and done.returncode in (3, 5):
            return ""
        return f"status {done.returncode}: {done.stderr[-200:]}"
    if done.returncode == 0:
        # Allowed: cleaning up what may be there, and reads of what has another place.
        return "" if absent else "status 0"
    errors = [l for l in done.stderr.splitlines() if l.startswith("error: ")]
    reason = os.strerror(ERRORS[fault])
    if done.returncode not in (3, 5) or len(errors) != 1:
        return f"status {done.returncode}, {len(errors)} lines: {done.stderr[-200:]}"
    name = os.path.basename(path)
    name = name.strip(".").removesuffix(".staging").removesuffix(".new")  # what it becomes
    if reason not in errors[0] or name not in errors[0]:
        return f"reason or path not named: {errors[0]}"
    return ""


if __name__ == "__main__":
    sys.exit(main())
