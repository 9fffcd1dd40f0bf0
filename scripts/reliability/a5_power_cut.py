#!/usr/bin/env python3
"""a5: power cuts, simulated from strace's record of a run. The model of the disk is the weakest that POSIX allows:
  data of a file is sure after fsync of that file; before, each file may hold any earlier state of it, or a cut one;
  names (create, rename, remove) are sure after fsync of their folder; before, any beginning of a folder's changes may be there.
For every prefix of the record, several such disks are laid out: all pending changes lost, all done, and random choices.
The run is resumed on each: it must go on from a whole checkpoint no older than the last that was sure, and end like a run never
stopped.   a5_power_cut.py [STRIDE]     every state, or every STRIDE-th"""
import concurrent.futures
import os
import random
import re
import shutil
import sys

import runs
from a2_a3_syscalls import QUICK

CALLS = "openat,write,pwrite64,fsync,fdatasync,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat,ftruncate,close"


class Disk:
    """Files are numbers; a folder is a number with names. `sure_*` is what has been synced."""

    def __init__(self, root):
        self.root = root
        self.data = {}      # file -> list of contents since the last fsync; the first is sure
        self.names = {0: {}}  # folder -> name -> number, as processes see it
        self.pending = {0: []}  # folder -> changes since its last fsync
        self.sure = {0: {}}
        self.next = 1

    def find(self, path):
        at = 0
        for part in [p for p in os.path.relpath(path, self.root).split("/") if p != "."]:
            if at not in self.names or part not in self.names[at]:
                return None
            at = self.names[at][part]
        return at

    def parent(self, path):
        return self.find(os.path.dirname(path)), os.path.basename(path)

    def change(self, folder, name, number):
        """number None: the name goes."""
        if number is None:
            self.names[folder].pop(name, None)
        else:
            self.names[folder][name] = number
        self.pending[folder].append([(name, number)])

    def create(self, path, is_folder):
        folder, name = self.parent(path)
        number, self.next = self.next, self.next + 1
        if is_folder:
            self.names[number], self.pending[number], self.sure[number] = {}, [], {}
        else:
            self.data[number] = [b""]
        self.change(folder, name, number)
        return number

    def write(self, number, data):
        self.data[number].append(self.data[number][-1] + data)

    def truncate(self, number):
        self.data[number].append(b"")

    def sync(self, number):
        if number in self.data:
            self.data[number] = self.data[number][-1:]
        else:
            self.sure[number] = dict(self.names[number])
            self.pending[number] = []

    def rename(self, old, new, is_exchange):
        a, from_name = self.parent(old)
        b, to_name = self.parent(new)
        moved, other = self.names[a][from_name], self.names[b].get(to_name)
        self.change(b, to_name, moved)
        if is_exchange:
            self.change(a, from_name, other)
        else:
            self.change(a, from_name, None)
        if a == b:  # one change of one folder, whole or not at all
            second, first = self.pending[a].pop(), self.pending[a].pop()
            self.pending[a].append(first + second)

    def layout(self, draw, mode):
        """number -> content, folder -> names of one disk after the cut."""
        files, folders = {}, {}
        for number, states in self.data.items():
            if mode == "lost":
                files[number] = states[0]
            elif mode == "done":
                files[number] = states[-1]
            else:
                state = draw.choice(states)
                if draw.random() < 0.5:  # a cut one, but never into what was synced
                    sure = len(states[0]) if state.startswith(states[0]) else 0
                    state = state[:draw.randint(sure, len(state))]
                files[number] = state
        for number in self.names:
            names = dict(self.sure[number])
            count = {"lost": 0, "done": len(self.pending[number])}.get(mode, draw.randrange(len(self.pending[number]) + 1))
            for step in self.pending[number][:count]:
                for name, target in step:
                    if target is None:
                        names.pop(name, None)
                    else:
                        names[name] = target
            folders[number] = names
        return files, folders


def write_out(layout, path):
    files, folders = layout

    def put(number, where):
        if number in folders:
            where.mkdir(parents=True, exist_ok=True)
            for name, target in folders[number].items():
                put(target, where / name)
        else:
            where.write_bytes(files[number])
    put(0, path)


def unquote(text):
    return bytes.fromhex(text.replace("\\x", ""))


def events(log, root):
    """The record as (call, thread, arguments, result), unfinished calls joined with their ends."""
    open_calls = {}
    for line in open(log):
        thread, _, rest = line.partition(" ")
        rest = rest.strip()
        if rest.endswith("<unfinished ...>"):
            open_calls[thread] = rest[:-len("<unfinished ...>")]
            continue
        match = re.match(r"<\.\.\. \w+ resumed>(.*)", rest)
        if match:
            rest = open_calls.pop(thread) + match.group(1)
        match = re.match(r"(\w+)\((.*)\)\s+= (-?\d+)", rest)
        if match and int(match.group(3)) >= 0:
            yield match.group(1), match.group(2), int(match.group(3))


def replay(log, root):
    """Yields the disk after each change or sync."""
    disk, numbers, base = Disk(str(root.parent)), {}, str(root)
    for call, arguments, value in events(log, root):
        strings = [unquote(s) for s in re.findall(r'"((?:\\x[0-9a-f]{2})*)"', arguments)]
        inside = [s.decode() for s in strings if s.startswith(base.encode()) or s == disk.root.encode()]
        fd = re.match(r"(\d+)", arguments)
        number = numbers.get(int(fd.group(1))) if fd else None
        if call == "openat":
            numbers.pop(value, None)
            if not inside:
                continue
            number = disk.find(inside[0])
            if number is None and "O_CREAT" in arguments:
                number = disk.create(inside[0], False)
            elif "O_TRUNC" in arguments and number in disk.data and disk.data[number][-1]:
                disk.truncate(number)
            numbers[value] = number
        elif call == "close":
            numbers.pop(int(fd.group(1)), None)
            continue
        elif call in ("write", "pwrite64"):
            if number is None:
                continue
            disk.write(number, strings[0][:value])
        elif call == "ftruncate":
            if number is None:
                continue
            disk.truncate(number)
        elif call in ("fsync", "fdatasync"):
            if number is None:
                continue
            disk.sync(number)
        elif call.startswith("rename"):
            if not inside:
                continue
            disk.rename(inside[0], inside[1], "RENAME_EXCHANGE" in arguments)
        elif call.startswith("mkdir"):
            if not inside:
                continue
            disk.create(inside[0], True)
        elif call in ("unlink", "unlinkat", "rmdir"):
            path = inside[0] if inside else None
            if path is None and strings and number is not None:
                disk.change(number, strings[0].decode(), None)
            elif path:
                folder, name = disk.parent(path)
                disk.change(folder, name, None)
            else:
                continue
        else:
            continue
        yield f"{call} {(inside or [''])[-1][len(base):]}", disk


def look(scene, place, output, go_on, last_sure, expected, when):
    """Resumes the run on the disk in `place`. What went wrong, or nothing."""
    done = scene.run(output, *(["--resume"] if go_on else []), check=False)
    began = re.search(r"resume +from .*step-(\d+)", done.stderr)
    finished = "nothing left to do" in done.stderr
    problem = ""
    if done.returncode != 0:
        problem = f"status {done.returncode}: {done.stderr[-300:]}"
    elif last_sure and not finished and (not began or int(began.group(1)) < last_sure):
        problem = f"went on from {began.group(1) if began else 'the start'}, step {last_sure} was sure"
    elif runs.differences(runs.result(output), expected):
        problem = f"differs: {runs.differences(runs.result(output), expected)}"
    shutil.rmtree(place, ignore_errors=True)
    return f"{when}: {problem}" if problem else ""


def main():
    if not shutil.which("strace"):
        runs.row("a5", "strace is missing: apt-get install strace", False)
        return 77
    stride = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    scene = runs.Scene(runs.VARIANTS["lora"] + ["eval.evaluations=1", "log.tensorboard=false", "lora.r=2"], steps=6)
    whole = scene.output()
    log = scene.folder / "trace"
    scene.run(whole, before=[*QUICK, "-xx", "-s", "100000000", "-o", log, "-e", f"trace={CALLS}"])
    expected = runs.result(whole)
    draw = random.Random(3)
    # Two cuts may leave the same disk: each is looked at once.
    states, tried, looks, last_sure = 0, set(), [], 0
    pool = concurrent.futures.ThreadPoolExecutor(os.cpu_count())
    for index, (name, disk) in enumerate(replay(log, whole)):
        if disk.names[0].get(whole.name) is not None:
            out = disk.names[0][whole.name]
            checkpoints = disk.sure[out].get("checkpoints") if out in disk.sure else None
            if checkpoints is not None:
                steps = [int(n[5:]) for n in disk.sure[checkpoints] if n.startswith("step-")]
                last_sure = max([last_sure, *steps])
        if index % stride:
            continue
        for mode in ("lost", "done", "random", "random", "random"):
            layout = disk.layout(draw, mode)
            key = hash(repr(sorted(layout[1].items(), key=str)) + repr(sorted((k, hash(v)) for k, v in layout[0].items())))
            states += 1
            if key in tried:
                continue
            tried.add(key)
            place = scene.folder / f"cut{len(tried)}"
            write_out(layout, place)
            output = place / whole.name
            if (output / "config.yaml").exists():
                text = (output / "config.yaml").read_text().replace(f"{whole} ", f"{output} ")
                (output / "config.yaml").write_text(text)
            go_on = any((output / n).exists() for n in ("config.yaml", "metrics.jsonl", "checkpoints", "best", "final"))
            looks.append(pool.submit(look, scene, place, output, go_on, last_sure, expected, f"after event {index} ({name}), {mode}"))
    pool.shutdown()
    bad = [line for line in (each.result() for each in looks) if line]
    scene.close()
    runs.row("a5", f"{states} states after {index + 1} events, {len(tried)} different disks resumed, {len(bad)} bad", not bad)
    for line in bad[:20]:
        print("      ", line)
    return 1 if bad else 0


sys.exit(main())
