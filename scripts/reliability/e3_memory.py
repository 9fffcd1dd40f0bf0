#!/usr/bin/env python3
"""e3: memory of loading, and of headers that lie. A model of 168 MB, whole or in shards, in its own dtype or another, is loaded and
used once: the peak above that of a tiny model is at most 1.2 times what the weights take then or in the file, the larger.
Files that claim sizes they do not have cost no more than 64 MiB above the sound ones.   e3_memory.py"""
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import time

import runs

MIB = 2**20


def peak(command, until=None):
    """(exit status, peak resident bytes, errors). `until`: a file; the peak so far when its first line is there, then SIGKILL."""
    process = subprocess.Popen([str(c) for c in command], env=runs.ENVIRONMENT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while until and process.poll() is None:
        if until.exists() and until.stat().st_size:
            status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
            process.kill()
            process.communicate()
            return 0, int(status.split("VmHWM:")[1].split()[0]) * 1024, ""
        time.sleep(0.01)
    errors = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0) if process.returncode is None else (0, process.returncode, None)
    return status, usage.ru_maxrss * 1024 if usage else 0, errors


def copy_model(folder):
    shutil.copytree(runs.MODEL, folder)
    return folder


def write_tensors(file, shapes, dtype):
    """All weights 0.01, as safetensors."""
    header, at = {}, 0
    for name, shape in shapes.items():
        size = {"BF16": 2, "F32": 4}[dtype] * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    one = struct.pack("<f", 0.01)
    one = one[2:] if dtype == "BF16" else one
    with open(file, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for left in range(at, 0, -MIB):
            out.write(one * (min(left, MIB) // len(one)))
    return at


def large_model(folder, dtype, shards):
    """A llama of 84 million weights; returns the bytes of its files."""
    folder.mkdir()
    for file in runs.MODEL.iterdir():
        if not file.name.startswith("model.safetensors"):
            shutil.copy(file, folder)
    config = json.loads((folder / "config.json").read_text())
    hidden, inner, layers = 1024, 4096, 5
    config |= {"hidden_size": hidden, "intermediate_size": inner, "num_hidden_layers": layers, "head_dim": 64,
               "num_attention_heads": 16, "num_key_value_heads": 16}
    (folder / "config.json").write_text(json.dumps(config))
    shapes = {"model.embed_tokens.weight": [config["vocab_size"], hidden], "lm_head.weight": [config["vocab_size"], hidden],
              "model.norm.weight": [hidden]}
    for i in range(layers):
        layer = f"model.layers.{i}."
        shapes |= {layer + n + "_layernorm.weight": [hidden] for n in ("input", "post_attention")}
        shapes |= {layer + f"self_attn.{n}_proj.weight": [hidden, hidden] for n in "qkvo"}
        shapes |= {layer + "mlp.gate_proj.weight": [inner, hidden], layer + "mlp.up_proj.weight": [inner, hidden],
                   layer + "mlp.down_proj.weight": [hidden, inner]}
    if shards == 1:
        return write_tensors(folder / "model.safetensors", shapes, dtype)
    total, weight_map = 0, {}
    for shard in range(shards):
        name = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        mine = {n: s for i, (n, s) in enumerate(shapes.items()) if i % shards == shard}
        total += write_tensors(folder / name, mine, dtype)
        weight_map |= {n: name for n in mine}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": total}, "weight_map": weight_map}))
    return total


def loading(scene):
    """(what, share of the larger of file and memory) of each way to load."""
    found = []
    tiny = {}
    for settings in (["dtype=bfloat16"], ["dtype=float32"], ["method=full", "dtype=bfloat16", "train.optimizer=paged_adamw"], ["method=qlora", "dtype=bfloat16"]):
        output = scene.output()
        tiny[tuple(settings)] = peak(scene.command(output, settings=settings), output / "metrics.jsonl")[1]
    for dtype, shards in (("BF16", 1), ("BF16", 3), ("F32", 1)):
        folder = scene.folder / f"large-{dtype}-{shards}"
        size = large_model(folder, dtype, shards)
        for settings, base in tiny.items():
            held = size // (2 if dtype == "F32" else 1) * (2 if "dtype=float32" in settings else 1)
            output = scene.output()
            status, bytes_used, errors = peak(scene.command(output, settings=[f"model={folder}", *settings]), output / "metrics.jsonl")
            if status != 0:
                sys.exit(f"e3: {settings}: {errors[-500:]}")
            found.append((f"{dtype} in {shards}, {' '.join(settings)}", (bytes_used - base) / max(size, held)))
        shutil.rmtree(folder)
    return found


def lies(scene):
    """name -> command that meets the lie."""
    cases, count = {}, [0]

    def model(change):
        count[0] += 1
        folder = copy_model(scene.folder / f"lie{count[0]}")
        change(folder)
        return scene.command(scene.output(), settings=[f"model={folder}"])

    def config(**values):
        def change(folder):
            text = json.loads((folder / "config.json").read_text())
            (folder / "config.json").write_text(json.dumps(text | values))
        return change

    def header(change):
        def rewrite(folder):
            file = folder / "model.safetensors"
            data = file.read_bytes()
            length = struct.unpack("<Q", data[:8])[0]
            names = json.loads(data[8:8 + length])
            change(names)
            text = json.dumps(names).encode()
            file.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length:])
        return rewrite

    def length(value):
        def change(folder):
            file = folder / "model.safetensors"
            file.write_bytes(struct.pack("<Q", value) + file.read_bytes()[8:])
        return change

    def shape(value, end=None):
        def change(names):
            one = names["model.embed_tokens.weight"]
            one["shape"] = value
            if end:
                one["data_offsets"][1] = end
        return header(change)

    for value in (99_999_999, 2**40, 2**63, 2**64 - 1):
        cases[f"safetensors header of {value} bytes"] = model(length(value))
    cases["a tensor of 2^62 values"] = model(shape([2**31, 2**31]))
    cases["a tensor whose size wraps"] = model(shape([4194305, 4194305, 211106198978564]))
    cases["a tensor that ends at 2^40"] = model(shape([2**38, 1], 2**40))
    for key, value in (("vocab_size", 2**31 - 1), ("hidden_size", 2**30), ("num_hidden_layers", 2**30), ("intermediate_size", 2**40),
                       ("num_attention_heads", 2**30), ("max_position_embeddings", 2**50)):
        cases[f"{key} {value}"] = model(config(**{key: value}))

    def tokenizer(change):
        def rewrite(folder):
            text = json.loads((folder / "tokenizer.json").read_text())
            change(text)
            (folder / "tokenizer.json").write_text(json.dumps(text))
        return rewrite
    cases["a token with id 2^31 - 1"] = model(tokenizer(lambda t: t["model"]["vocab"].update({"far": 2**31 - 1})))
    cases["an added token with id 2^40"] = model(tokenizer(lambda t: t["added_tokens"].append(
        {"id": 2**40, "content": "<far>", "special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False})))

    def template(text):
        return lambda folder: (folder / "chat_template.jinja").write_text(text)
    cases["a template that repeats 10^10 times"] = model(template("{{ 'a' * 10000000000 }}"))
    cases["a template over range(10^10)"] = model(template("{% for i in range(10000000000) %}a{% endfor %}"))
    cases["a template that doubles 60 times"] = model(template(
        "{% set n = namespace(s='aaaaaaaa') %}{% for i in range(60) %}{% set n.s = n.s ~ n.s %}{% endfor %}{{ n.s }}"))

    adapter = scene.folder / "adapter"
    shutil.copytree(runs.MODEL.parent / "adapter", adapter)
    text = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps(text | {"r": 2**30}))
    cases["an adapter of rank 2^30"] = [runs.PROGRAM, "eval", "--threads", "1", "--model", runs.MODEL, "--adapter", adapter, "--data",
                                        scene.folder / "eval.jsonl"]

    def gguf(name, body):
        file = scene.folder / f"lie{len(cases)}.gguf"
        file.write_bytes(b"GGUF" + struct.pack("<I", 3) + body)
        cases[name] = [runs.PROGRAM, "convert", file, scene.folder / "converted"]
    key = struct.pack("<Q", 1) + b"a"
    gguf("a GGUF with 2^40 tensors", struct.pack("<QQ", 2**40, 0))
    gguf("a GGUF with 2^60 keys", struct.pack("<QQ", 0, 2**60))
    gguf("a GGUF key of 2^62 bytes", struct.pack("<QQ", 0, 1) + struct.pack("<Q", 2**62))
    gguf("a GGUF text of 2^50 bytes", struct.pack("<QQ", 0, 1) + key + struct.pack("<IQ", 8, 2**50))
    gguf("a GGUF list of 2^61 numbers", struct.pack("<QQ", 0, 1) + key + struct.pack("<IIQ", 9, 10, 2**61))
    gguf("a GGUF list of 2^33 bytes", struct.pack("<QQ", 0, 1) + key + struct.pack("<IIQ", 9, 0, 2**33))
    gguf("a GGUF tensor of 2^62 values", struct.pack("<QQ", 1, 0) + key + struct.pack("<IQQIQ", 2, 2**31, 2**31, 0, 0))

    sample = (runs.ROOT / "tests/data/samples/rows.parquet").read_bytes()
    for what, footer in (("2^31 - 1", 2**31 - 1), ("2^32 - 1", 2**32 - 1), ("the whole file", len(sample))):
        file = scene.folder / f"lie{footer}.parquet"
        file.write_bytes(sample[:-8] + struct.pack("<I", footer) + b"PAR1")
        cases[f"a Parquet footer of {what}"] = scene.command(scene.output(), settings=[f"data.train={file}"])
    return cases


def main():
    # An evaluation comes before the first step: its line says that everything is loaded.
    scene = runs.Scene([], steps=1)
    shares = loading(scene)
    worst = max(shares, key=lambda s: s[1])
    sound = min(peak(scene.command(scene.output()))[1], peak([runs.PROGRAM, "tokenize", "--model", runs.MODEL, "--file", scene.folder / "eval.jsonl"])[1])
    bad, most, cases = [f"{n}: {s:.2f}" for n, s in shares if s > 1.2], 0, lies(scene)
    for name, command in cases.items():
        status, bytes_used, errors = peak(command)
        most = max(most, bytes_used - sound)
        if status == 0 and "max_position" not in name or bytes_used > sound + 64 * MIB or status and "error: " not in errors:
            bad.append(f"{name}: status {os.waitstatus_to_exitcode(status)}, {(bytes_used - sound) / MIB:+.0f} MiB {errors[-200:].strip()}")
    scene.close()
    figure = (f"loading in {len(shares)} ways: {min(s for _, s in shares):.2f} to {worst[1]:.2f} of the weights ({worst[0]}); {len(cases)} "
              f"headers that lie: at most {most / MIB:+.0f} MiB; {len(bad)} bad")
    runs.row("e3", figure, not bad)
    for line in bad:
        print("      ", line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
