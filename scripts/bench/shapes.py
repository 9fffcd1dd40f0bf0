#!/usr/bin/env python3
"""LoRA training at the true shapes of large models, with random weights: tokens per second, the share of the card's peak, and
memory, beside what `plan` and `plan --ledger` say. Needs Python alone.

A shape is a folder with config.json (configs/shapes/). Its model is made here with --layers of its layers, and once more with
half of them: the difference is the time of a layer, and from it comes the figure for the full depth. The weights are normal
numbers of standard deviation 0.02 in bfloat16, one block of a million of them over and over; norms do nothing. The data are
random tokens in documents of about 512 in rows of --tokens.

  scripts/bench/shapes.py configs/shapes/llama3_8b configs/shapes/gemma3_4b --output runs/gpu_check
  scripts/bench/shapes.py configs/shapes/llama3_8b --tiny --device cpu          # tries the script without a GPU
"""

import argparse
import array
import json
import pathlib
import random
import shutil
import statistics
import struct
import subprocess
import sys

TINY = {"hidden_size": 128, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32,
        "vocab_size": 512, "query_pre_attn_scalar": 32}
BLOCK = 1_000_003  # prime, so that rows of a matrix differ


def arguments():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("shapes", nargs="+", help="folders with config.json")
    p.add_argument("--finetune", default="build/finetune")
    p.add_argument("--output", default="runs/gpu_check", help="the table, and the profile of each shape")
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--device", default="cuda")
    p.add_argument("--tokens", type=int, default=16384, help="of a row, of which a step has one")
    p.add_argument("--document", type=int, default=512)
    p.add_argument("--steps", type=int, default=10, help="the first two are not counted")
    p.add_argument("--peak-tflops", type=float, default=989, help="of the card in bfloat16, without sparsity")
    p.add_argument("--base-dtype", default="auto", help="lora.base_dtype")
    p.add_argument("--limit", type=float, default=120, help="seconds for a run")
    p.add_argument("--tiny", action="store_true", help="narrow layers and rows of 512 tokens")
    args = p.parse_args()
    if args.layers < 2 or args.steps < 4:
        p.error("--layers of at least 2 and --steps of at least 4 are wanted")
    if args.tiny:
        args.tokens, args.document = 512, 64
    return args


# ------------------------------------------------------------------------ model and data


def tensors_of(config):
    """Name -> shape, as transformers stores the two families."""
    C, F, V = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    D = config.get("head_dim", C // config["num_attention_heads"])
    q, kv = D * config["num_attention_heads"], D * config["num_key_value_heads"]
    is_gemma3 = config["model_type"] == "gemma3_text"
    if not is_gemma3 and config["model_type"] != "llama":
        sys.exit(f"shapes: model_type {config['model_type']}: only llama and gemma3_text are known here")
    layer = {"self_attn.q_proj": (q, C), "self_attn.k_proj": (kv, C), "self_attn.v_proj": (kv, C), "self_attn.o_proj": (C, q),
             "mlp.gate_proj": (F, C), "mlp.up_proj": (F, C), "mlp.down_proj": (C, F), "input_layernorm": (C,),
             "post_attention_layernorm": (C,)}
    if is_gemma3:
        layer.update({"pre_feedforward_layernorm": (C,), "post_feedforward_layernorm": (C,), "self_attn.q_norm": (D,),
                      "self_attn.k_norm": (D,)})
    shapes = {"model.embed_tokens.weight": (V, C), "model.norm.weight": (C,)}
    for i in range(config["num_hidden_layers"]):
        shapes.update({f"model.layers.{i}.{name}.weight": shape for name, shape in layer.items()})
    if not config["tie_word_embeddings"]:
        shapes["lm_head.weight"] = (V, C)
    return shapes


def random_block():
    rng = random.Random(0)
    wide = array.array("f", (rng.gauss(0, 0.02) for _ in range(BLOCK))).tobytes()
    block = bytearray(2 * BLOCK)  # bfloat16: the upper halves
    block[0::2], block[1::2] = wide[2::4], wide[3::4]
    return bytes(block)


def write_model(folder, config, block):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    norm = b"\x00\x00" if config["model_type"] == "gemma3_text" else b"\x80\x3f"  # Gemma's norms scale by 1 + w
    header, end = {}, 0
    shapes = tensors_of(config)
    for name, shape in shapes.items():
        size = 2 * (shape[0] if len(shape) == 1 else shape[0] * shape[1])
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes.items():
            if len(shape) == 1:
                out.write(norm * shape[0])
                continue
            left = 2 * shape[0] * shape[1]
            while left > 0:
                left -= out.write(block[:left])


def write_documents(file, args, vocabulary):
    rng = random.Random(1)
    with open(file, "w") as out:
        left = args.tokens * (args.steps + 1)
        while left > 0:
            length = rng.randint(args.document * 3 // 4, args.document * 5 // 4)
            ids = [rng.randrange(3, vocabulary) for _ in range(length)]
            out.write(json.dumps({"input_ids": ids}) + "\n")
            left -= length


# ------------------------------------------------------------------------ runs


def finetune(args, command, keys, *more):
    words = [args.finetune, command, *more] + [w for k, v in keys.items() for w in ("--set", f"{k}={v}")]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=args.limit)
    except subprocess.TimeoutExpired:
        sys.exit(f"shapes: {command} of {keys['model']} took more than {args.limit:.0f} s")
    if done.returncode != 0:
        sys.exit(f"shapes: {command} of {keys['model']} ended with {done.returncode}: {done.stderr.strip()[-600:]}")
    return done.stdout


def keys_of(args, model, output, data):
    return {"model": model, "output_dir": output, "device": args.device, "data.train": data, "data.format": "tokens",
            "data.max_length": args.tokens, "data.train_on": "all", "method": "lora", "lora.r": 16, "lora.base_dtype": args.base_dtype,
            "train.batch_size": 1, "train.max_steps": args.steps, "eval.evaluations": 0, "eval.samples": 0,
            "log.tensorboard": "false"}


def ledger(args, keys):
    return json.loads(finetune(args, "plan", {**keys, "train.gradient_checkpointing": "false"}, "--ledger", "--json", "--document",
                               str(args.document), "--peak-tflops", str(args.peak_tflops)))


def measure(args, config, folder, block):
    """One depth: makes the model, trains, removes it."""
    model, run, data = folder / "model", folder / "run", folder / "documents.jsonl"
    write_model(model, config, block)
    write_documents(data, args, config["vocab_size"])
    keys = keys_of(args, model, run, data)
    plan = json.loads(finetune(args, "plan", keys, "--json"))["plan"]
    predicted = ledger(args, keys)
    finetune(args, "train", keys, "--overwrite")
    lines = [json.loads(line) for line in open(run / "metrics.jsonl")]
    steps = [line for line in lines if line["type"] == "train"]
    seconds = [line["step_seconds"] for line in steps[2:]]
    tokens = [b["tokens"] - a["tokens"] for a, b in zip(steps[1:], steps[2:])]
    finetune(args, "train", {**keys, "train.max_steps": 4, "train.profile_steps": 2, "output_dir": folder / "profiled"}, "--overwrite")
    return {"layers": config["num_hidden_layers"], "seconds": statistics.median(seconds), "spread": [min(seconds), max(seconds)],
            "tokens": statistics.median(tokens), "peak_bytes": lines[-1]["peak_memory_bytes"], "planned_bytes": plan["peak_bytes"],
            "model_flops": predicted["model_flops"] * statistics.median(tokens) / predicted["tokens"],
            "ledger_seconds": predicted["seconds"], "ledger_tokens_per_second": predicted["tokens_per_second"],
            "ledger_mfu": predicted["mfu"], "loss": [steps[0]["loss"], steps[-1]["loss"]]}


def check(args, shape, block, output):
    config = json.loads((pathlib.Path(shape) / "config.json").read_text())
    name, depth = pathlib.Path(shape).name, config["num_hidden_layers"]
    if args.tiny:
        config.update({k: v for k, v in TINY.items() if k in config or k == "head_dim"})
    found = []
    for layers in (args.layers // 2, args.layers):
        folder = output / f"{name}-{layers}"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            found.append(measure(args, {**config, "num_hidden_layers": layers}, folder, block))
            shutil.copy(folder / "profiled" / "profile.txt", output / f"{name}-{layers}.profile.txt")
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        print(row(args, name, found[-1]), flush=True)
    less, more = found
    per_layer = (more["seconds"] - less["seconds"]) / (more["layers"] - less["layers"])
    flops = (more["model_flops"] - less["model_flops"]) / (more["layers"] - less["layers"])
    predicted = (more["ledger_seconds"] - less["ledger_seconds"]) / (more["layers"] - less["layers"])
    further = depth - more["layers"]
    full = {"layers": depth, "seconds": more["seconds"] + further * per_layer, "tokens": more["tokens"], "per_layer": per_layer,
            "model_flops": more["model_flops"] + further * flops, "peak_bytes": None, "planned_bytes": None,
            "ledger_seconds": more["ledger_seconds"] + further * predicted}
    full["ledger_tokens_per_second"] = args.tokens / full["ledger_seconds"]
    full["ledger_mfu"] = full["model_flops"] * args.tokens / full["tokens"] / full["ledger_seconds"] / (args.peak_tflops * 1e12)
    print(row(args, name, full), flush=True)
    return {"shape": name, "measured": found, "full_depth": full}


HEAD = ["| shape | layers | tokens/s | ledger: tokens/s | MFU | ledger: MFU | ms a step (smallest-largest) | peak GiB | planned GiB |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]


def row(args, name, r):
    gib = ["-" if r[k] is None else f"{r[k] / 2**30:.2f}" for k in ("peak_bytes", "planned_bytes")]
    mfu = r["model_flops"] / r["seconds"] / (args.peak_tflops * 1e12)
    detail = f"({1e3 * r['spread'][0]:.1f}-{1e3 * r['spread'][1]:.1f})" if "spread" in r else \
        f"(extrapolated: {1e3 * r['per_layer']:.2f} a layer)"
    return (f"| {name} | {r['layers']} | {r['tokens'] / r['seconds']:.0f} | {r['ledger_tokens_per_second']:.0f} | {100 * mfu:.1f} % | "
            f"{100 * r['ledger_mfu']:.1f} % | {1e3 * r['seconds']:.1f} {detail} | {gib[0]} | {gib[1]} |")


def main():
    args = arguments()
    output = pathlib.Path(args.output)
    output.mkdir(parents=True, exist_ok=True)
    print("\n".join(HEAD), flush=True)
    block = random_block()
    results = [check(args, shape, block, output) for shape in args.shapes]
    rows = [row(args, r["shape"], m) for r in results for m in r["measured"] + [r["full_depth"]]]
    (output / "shapes.json").write_text(json.dumps({"arguments": vars(args), "shapes": results}, indent=1))
    (output / "shapes.md").write_text(
        f"LoRA r 16 on {args.device}, one row of {args.tokens} tokens a step in documents of about {args.document}, bfloat16, random weights"
        f"{', narrow layers' if args.tiny else ''}; MFU against {args.peak_tflops:.0f} TFLOP/s. The ledger's figures are for a GPU, nothing "
        "recomputed.\n\n" + "\n".join(HEAD + rows) + "\n")


if __name__ == "__main__":
    main()
