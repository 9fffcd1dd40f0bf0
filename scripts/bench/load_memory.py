#!/usr/bin/env python3
"""Peak memory of loading a checkpoint while it is packed into four bits.

    scripts/bench/load_memory.py [--layers 10] [--folder DIR] [--program build/finetune]

Writes a random Llama in bfloat16 (1.1 GB with 10 layers) and one of a few kilobytes, runs
`finetune eval` with method=qlora on two tokens of each, and prints the peaks of resident memory
(the kernel's count, which has the pages of the mapped file in it) and their difference. Standard
library only.
"""
import argparse
import json
import os
import pathlib
import random
import struct
import subprocess
import tempfile


def tensor_shapes(c):
    width, inner, kv = c["hidden_size"], c["intermediate_size"], c["num_key_value_heads"] * c["head_dim"]
    yield "model.embed_tokens.weight", [c["vocab_size"], width]
    for i in range(c["num_hidden_layers"]):
        layer = f"model.layers.{i}."
        for name, shape in (("input_layernorm", [width]), ("post_attention_layernorm", [width]),
                            ("self_attn.q_proj", [width, width]), ("self_attn.k_proj", [kv, width]),
                            ("self_attn.v_proj", [kv, width]), ("self_attn.o_proj", [width, width]),
                            ("mlp.gate_proj", [inner, width]), ("mlp.up_proj", [inner, width]),
                            ("mlp.down_proj", [width, inner])):
            yield layer + name + ".weight", shape
    yield "model.norm.weight", [width]
    yield "lm_head.weight", [c["vocab_size"], width]


def write_model(folder, hidden, inner, layers, vocab):
    """A Llama whose weights repeat one random megabyte: what they are does not matter here."""
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": hidden,
              "intermediate_size": inner, "num_hidden_layers": layers, "num_attention_heads": hidden // 64,
              "num_key_value_heads": max(1, hidden // 512), "head_dim": 64, "vocab_size": vocab,
              "max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": False,
              "torch_dtype": "bfloat16"}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config, indent=2))
    random.seed(0)
    # The upper halves of float32 numbers are bfloat16 numbers.
    page = b"".join(struct.pack("<f", random.gauss(0, 0.02))[2:] for _ in range(1 << 19))
    header, end = {}, 0
    for name, shape in tensor_shapes(config):
        size = 2
        for extent in shape:
            size *= extent
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for left in range(end, 0, -len(page)):
            file.write(page[:left])
    return end


def peak_of_eval(program, model, data):
    command = [program, "eval", "--model", str(model), "--data", str(data), "--set", "method=qlora", "--json"]
    child = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode != 0:
        raise SystemExit(f"{' '.join(command)}: exit status {child.returncode}")
    return usage.ru_maxrss * 1024, usage.ru_utime + usage.ru_stime


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--folder", help="where the models go, and stay (default: a temporary folder)")
    parser.add_argument("--program", default="build/finetune")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        work = pathlib.Path(options.folder or scratch)
        data = pathlib.Path(scratch) / "tokens.jsonl"
        data.write_text('{"input_ids": [1, 2]}\n')
        peaks = {}
        for name, sizes in (("base", (64, 128, 1, 320)), ("model", (2048, 5632, options.layers, 32000))):
            folder = work / name
            if not folder.exists():
                write_model(folder, *sizes)
            bytes_stored = (folder / "model.safetensors").stat().st_size
            peaks[name], seconds = peak_of_eval(options.program, folder, data)
            print(f"{name:6} {bytes_stored / 1e9:6.3f} GB stored, peak {peaks[name] / 1e9:6.3f} GB, "
                  f"{seconds:.1f} s of CPU time")
        print(f"above the program's base: {(peaks['model'] - peaks['base']) / 1e9:.3f} GB")


if __name__ == "__main__":
    main()
