"""Round trips between finetune and transformers / PEFT: adapters, full models, merged models, tokenizers, configurations.

Each check makes a folder with one side and reads it with the other. Both then give the log-probability of every target token
of the same documents in float32, which must agree within 1e-4. Missing or surplus tensors, and any warning of PEFT's or
transformers' about them, fail a check. Small random models stand for the variants: of Llama here (tied, untied, with biases,
scaled rotary embeddings), of the other families in check_interop_families.py; a real one, where it is there, for real shapes and
its tokenizer. One line a check: its name and the largest difference.
"""

import argparse
import concurrent.futures
import functools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings

from interop_tools import (  # first: it keeps the libraries off the network
    CHECKS, LIMIT, LLAMA3, Bench, Failure, adapter_of_4bit_to_peft, adapter_to_peft, check, difference, full_to_transformers, load,
    load_adapter, logprobs, make_peft_adapter, merged_to_transformers, need, peft_to_ours)

import peft
import safetensors.torch
import torch
import transformers

# ----------------------------------------------------------------------- checks

ADAPTERS = {
    "all-linear": ({}, {}),
    "all-linear, tied": ({"tied": True}, {}),
    "gaussian start, alpha 6.5": ({}, {"lora.init": "gaussian", "lora.alpha": 6.5}),
    "rslora with patterns": ({}, {"lora.use_rslora": "true",
                                  "lora.rank_pattern": "{q_proj: 4, 'layers.[01].mlp.up_proj': 3}",
                                  "lora.alpha_pattern": "{down_proj: 5, 'layers.2.self_attn.v_proj': 9.5}"}),
    "saved head and embedding, untied": ({}, {"lora.modules_to_save": "[lm_head, embed_tokens]"}),
    "saved head and embedding, tied": ({"tied": True}, {"lora.modules_to_save": "[lm_head, embed_tokens]"}),
    "saved head, tied": ({"tied": True}, {"lora.modules_to_save": "[lm_head]"}),
    "saved embedding, tied": ({"tied": True}, {"lora.modules_to_save": "[embed_tokens]"}),
    "saved norms": ({}, {"lora.modules_to_save": "[norm, input_layernorm]"}),
    "saved layer with bias": ({"biases": True}, {"lora.target_modules": "[q_proj]", "lora.modules_to_save": "[down_proj]"}),
    "bias all": ({"biases": True}, {"lora.bias": "all"}),
    "bias all, few targets": ({"biases": True}, {"lora.bias": "all", "lora.target_modules": "[q_proj, up_proj]"}),
    "bias lora_only": ({"biases": True}, {"lora.bias": "lora_only", "lora.target_modules": "[v_proj, down_proj]"}),
    "target regex": ({}, {"lora.target_modules": r"model\.layers\.(0|2)\..*(q|gate)_proj"}),
    "scaled rotary embedding": ({"rope": tuple(LLAMA3.items())}, {}),
    "DoRA": ({}, {"lora.use_dora": "true"}),
    "DoRA, rslora with patterns, dropout, biases": ({"biases": True}, {
        "lora.use_dora": "true", "lora.use_rslora": "true", "lora.dropout": 0.1, "lora.bias": "all",
        "lora.rank_pattern": "{q_proj: 4}", "lora.alpha_pattern": "{down_proj: 5}"}),
    "DoRA, saved head": ({"tied": True}, {"lora.use_dora": "true", "lora.modules_to_save": "[lm_head]"}),
    "PiSSA, converted": ({}, {"lora.init": "pissa", "train.learning_rate": "0.002"}),
    "PiSSA, rslora with patterns, converted": ({}, {
        "lora.init": "pissa", "lora.use_rslora": "true", "lora.rank_pattern": "{q_proj: 4}",
        "lora.alpha_pattern": "{down_proj: 5}", "train.learning_rate": "0.002"}),
    "PiSSA with DoRA, converted": ({}, {"lora.init": "pissa", "lora.use_dora": "true", "train.learning_rate": "0.002"}),
    "OLoRA, converted": ({}, {"lora.init": "olora", "train.learning_rate": "0.0005"}),
}


for title, (variant, settings) in ADAPTERS.items():
    check(f"our adapter in PEFT: {title}")(functools.partial(adapter_to_peft, variant=variant, settings=settings))
for title in ("all-linear", "all-linear, tied", "DoRA", "bias all",
              "saved head, tied", "DoRA, saved head"):
    variant, settings = ADAPTERS[title]
    check(f"our adapter of a 4-bit base in PEFT: {title}")(functools.partial(
        adapter_of_4bit_to_peft, variant=variant, settings=settings))
for title in ("all-linear", "all-linear, tied", "saved head and embedding, tied", "saved head, tied", "bias all",
              "rslora with patterns", "saved norms", "DoRA", "DoRA, saved head", "PiSSA, converted"):
    variant, settings = ADAPTERS[title]
    check(f"our merge in transformers: {title}")(functools.partial(merged_to_transformers, variant=variant, settings=settings))
    if title in ("all-linear", "saved head and embedding, tied"):
        check(f"our merge in transformers: {title}, bfloat16 base")(functools.partial(
            merged_to_transformers, variant={**variant, "dtype": torch.bfloat16}, settings=settings))

PEFT_ADAPTERS = {
    "all-linear": ({}, dict(target_modules="all-linear")),
    "two kinds, bfloat16": ({}, dict(target_modules=["q_proj", "v_proj"], r=16, lora_alpha=32, lora_dropout=0.1)),
    "rslora with patterns": ({}, dict(target_modules="all-linear", use_rslora=True, rank_pattern={"q_proj": 3, "layers.1.mlp.up_proj": 9},
                                      alpha_pattern={"down_proj": 20, r"layers\.[02]\.self_attn\.k_proj": 3.5})),
    "pattern anchored at the start": ({}, dict(target_modules=["q_proj"], rank_pattern={"^model.layers.0.self_attn.q_proj": 2})),
    "overlapping patterns": ({}, dict(target_modules=["q_proj"], alpha_pattern={"q_proj": 3, "layers.0.self_attn.q_proj": 90})),
    "target regex": ({}, dict(target_modules=r".*\.[12]\..*(k|down)_proj")),
    "names that the model lacks": ({}, dict(target_modules=["q_proj", "c_attn", "wi"])),
    "one module by its path": ({}, dict(target_modules=["model.layers.1.mlp.gate_proj", "layers.0.self_attn.o_proj"])),
    "some layers": ({}, dict(target_modules=["q_proj", "up_proj"], layers_to_transform=[0, 2])),
    "some layers by pattern": ({}, dict(target_modules=["q_proj"], layers_to_transform=1, layers_pattern="layers")),
    "excluded modules": ({}, dict(target_modules="all-linear", exclude_modules=["k_proj"])),
    "excluded by regex": ({}, dict(target_modules="all-linear", exclude_modules=r".*\.1\..*")),
    "saved head and embedding, untied": ({}, dict(target_modules=["q_proj"], modules_to_save=["lm_head", "embed_tokens"])),
    "saved head and embedding, tied": ({"tied": True}, dict(target_modules="all-linear", modules_to_save=["embed_tokens", "lm_head"])),
    "saved head that is a target too": ({}, dict(target_modules=["q_proj", "lm_head"], modules_to_save=["lm_head"])),
    "bias all": ({"biases": True}, dict(target_modules=["q_proj", "down_proj"], bias="all")),
    "bias lora_only": ({"biases": True}, dict(target_modules="all-linear", bias="lora_only")),
    "DoRA": ({}, dict(target_modules="all-linear", use_dora=True)),
    "DoRA, rslora with patterns, biases": ({"biases": True}, dict(
        target_modules=["q_proj", "down_proj"], use_dora=True, use_rslora=True, bias="all", rank_pattern={"q_proj": 3})),
    "orthogonal start": ({}, dict(target_modules=["o_proj"], init_lora_weights="orthogonal", r=4)),
}


for title, (variant, settings) in PEFT_ADAPTERS.items():
    check(f"PEFT's adapter here: {title}")(functools.partial(
        peft_to_ours, variant=variant, settings=settings, half=title.endswith("bfloat16")))



@functools.lru_cache(None)
def started_adapter(bench, start):
    """PEFT's model with a start that changes the base, its weights as they begin, and the folder of the start."""
    torch.manual_seed(5)
    folder = bench.model()
    config = peft.LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear", r=6, lora_alpha=12, init_lora_weights=start)
    model = peft.get_peft_model(load(folder), config)
    begin = bench.new_folder("begin")
    model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(begin)
    return folder, model, begin


def same_start(bench, start):
    """Our start against PEFT's: the product of B and A, which is what has no free signs."""
    folder, model, begin = started_adapter(bench, start)
    ours = bench.ours.train(folder, bench.train_data, bench.new_folder("run"), steps=1, method="lora", **{
        "lora.init": start, "lora.r": 6, "lora.alpha": 12, "train.learning_rate": "1e-30"})
    mine, theirs = (safetensors.torch.load_file(f / "adapter_model.safetensors") for f in (ours, begin))
    worst = 0.0
    for name, a in theirs.items():
        if "lora_A" not in name:
            continue
        other = name.replace("lora_A", "lora_B")
        first_a, first_b = mine[name][:6], mine[other][:, :6]
        need(mine[name].shape[0] == 12 and (mine[name][6:] - first_a).abs().max() < 1e-20, f"{name}: is not twice the start")
        worst = max(worst, float((first_b @ first_a - theirs[other] @ a).abs().max()))
    return worst


def converted_to_ours(bench, start):
    """PEFT's own conversion, read here."""
    folder, model, begin = started_adapter(bench, start)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            with torch.no_grad():
                parameter.add_(torch.randn_like(parameter) * 0.05)
    adapter = bench.new_folder("converted")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = logprobs(model, bench.data)
        model.save_pretrained(adapter, path_initial_model_for_weight_conversion=str(begin))
    return difference(theirs, bench.ours.logprobs(folder, bench.data, adapter))


for start in ("pissa", "olora"):
    check(f"our start as PEFT's: {start}")(functools.partial(same_start, start=start))
    check(f"PEFT's adapter here: {start}, converted")(functools.partial(converted_to_ours, start=start))


REFUSED = {  # what changes the result and is not built must be refused by name, never ignored
    "pissa residual": (dict(target_modules=["q_proj"], init_lora_weights="pissa", r=4), "init_lora_weights"),
    "olora residual": (dict(target_modules=["q_proj"], init_lora_weights="olora", r=4), "init_lora_weights"),
    "adapter on the head": (dict(target_modules=["q_proj", "lm_head"]), "lm_head"),
    "adapter on the embedding": (dict(target_modules=["q_proj", "embed_tokens"]), "embed_tokens"),
}


def refused(bench, settings, word):
    model, adapter = make_peft_adapter(bench, {}, settings, False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = logprobs(peft.PeftModel.from_pretrained(load(model), adapter), bench.data)
    try:
        ours = bench.ours.logprobs(model, bench.data, adapter)
    except Failure as e:
        need("ended with 3" in str(e) and word in str(e), f"another error: {e}")
        return 0.0
    return difference(theirs, ours)


for title, (settings, word) in REFUSED.items():
    check(f"PEFT's adapter here or refused: {title}")(functools.partial(refused, settings=settings, word=word))


for title, variant in {"untied": {}, "tied": {"tied": True}, "biases": {"biases": True}}.items():
    for dtype in ("float32", "bfloat16"):
        check(f"our full model in transformers: {title}, {dtype}")(functools.partial(
            full_to_transformers, variant=variant, settings={"train.learning_rate": "0.003"}, dtype=dtype))


# ---------------------------------------------------------------- configurations


def rope_of(config):
    return {k: v for k, v in (config.rope_parameters or {}).items() if v is not None}


def same_config(bench, variant, style):
    """The configuration of a model that we wrote, as readers see it that know only the old or only the new keys."""
    source = bench.model(**variant)
    original = transformers.AutoConfig.from_pretrained(source)
    if style == "old":  # a source of the old kind: rope_theta, rope_scaling and torch_dtype alone
        copy = bench.new_folder("old")
        shutil.copytree(source, copy)
        source = copy
        config = json.loads((source / "config.json").read_text())
        rope = config.pop("rope_parameters")
        config["rope_theta"] = rope.pop("rope_theta")
        config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
        config["torch_dtype"] = config.pop("dtype")
        (source / "config.json").write_text(json.dumps(config))
    final = bench.ours.train(source, bench.train_data, bench.new_folder("run"), steps=1, method="full",
                             **{"train.learning_rate": "0.003"})
    whole = json.loads((final / "config.json").read_text())
    expected = bench.ours.logprobs(final, bench.data)
    worst = 0.0
    for drop in ([], ["rope_parameters", "dtype"], ["rope_theta", "rope_scaling", "torch_dtype"]):
        left = {k: v for k, v in whole.items() if k not in drop}
        reader = bench.new_folder("reader")
        shutil.copytree(final, reader)
        (reader / "config.json").write_text(json.dumps(left))
        config = transformers.AutoConfig.from_pretrained(reader)
        need(rope_of(config) == rope_of(original), f"without {drop}: rotary embedding {rope_of(config)}, was {rope_of(original)}")
        need(config.dtype == torch.float32, f"without {drop}: dtype {config.dtype}")
        need(config.tie_word_embeddings == original.tie_word_embeddings, f"without {drop}: tie_word_embeddings")
        lost = {k for k in original.to_dict() if k not in ("transformers_version", "_name_or_path") and
                original.to_dict()[k] != config.to_dict().get(k)}
        need(not lost, f"without {drop}: {sorted(lost)} changed")
        worst = max(worst, difference(expected, logprobs(load(reader), bench.data)),
                    difference(expected, bench.ours.logprobs(reader, bench.data)))
    return worst


for title, variant in {"default rotary embedding": {}, "tied": {"tied": True},
                       "llama3 scaling": {"rope": tuple(LLAMA3.items())},
                       "linear scaling": {"rope": (("rope_type", "linear"), ("rope_theta", 20000.0), ("factor", 4.0))}}.items():
    for style in ("new", "old"):
        check(f"our config.json for old and new readers: {title}, from {style} keys")(
            functools.partial(same_config, variant=variant, style=style))

# ---------------------------------------------------------------- a real model

TEXTS = ["The lighthouse keeper trims the lamp at dusk.", "def add(a, b):\n    return a + b\n", "  Zwölf Boxkämpfer\tjagen Viktor 🙂 12345",
         "<|im_start|>user\nHello<|im_end|>\n"]


def real_data(bench, count=4):
    path = bench.folder / "real.jsonl"
    if not path.exists():
        tokenizer = transformers.AutoTokenizer.from_pretrained(bench.real)
        with open(path, "w") as out:
            for i in range(count):
                ids = tokenizer(" ".join(TEXTS[i % 3:] + TEXTS[:3]), add_special_tokens=False).input_ids
                out.write(json.dumps({"input_ids": ids}) + "\n")
    return path


def same_tokenizer(bench, folder):
    theirs, original = (transformers.AutoTokenizer.from_pretrained(f) for f in (folder, bench.real))
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    for text in TEXTS:
        need(theirs(text).input_ids == original(text).input_ids, f"AutoTokenizer reads {text!r} differently")
    need(theirs.apply_chat_template(chat, tokenize=False) == original.apply_chat_template(chat, tokenize=False),
         "the chat template differs")
    lines = "".join(json.dumps({"text": t}) + "\n" for t in TEXTS)
    done = subprocess.run([bench.ours.program, "tokenize", "--model", str(folder), "--parse-special"], input=lines,
                          capture_output=True, text=True, check=True)
    for text, line in zip(TEXTS, done.stdout.splitlines()):
        need(json.loads(line)["ids"] == theirs(text, add_special_tokens=False).input_ids,
             f"finetune tokenize reads {text!r} differently")


@check("real model: itself")
def real_model(bench):
    data = real_data(bench)
    return difference(bench.ours.logprobs(bench.real, data), logprobs(load(bench.real), data))


@check("real model: our adapter in PEFT, tokenizer, merge")
def real_adapter(bench):
    data = real_data(bench)
    adapter = bench.ours.train(bench.real, data, bench.new_folder("run"), steps=2, method="lora", dtype="bfloat16",
                               **{"train.learning_rate": "0.002"})
    same_tokenizer(bench, adapter)
    ours = bench.ours.logprobs(bench.real, data, adapter)
    need(difference(ours, bench.ours.logprobs(bench.real, data)) > 1e-3, "the adapter changes nothing")
    model = load_adapter(bench.real, adapter)
    worst = difference(ours, logprobs(model, data))
    merged = bench.new_folder("merged")
    bench.ours("merge", "--model", bench.real, "--adapter", adapter, "--output", merged)
    same_tokenizer(bench, merged)
    theirs = model.merge_and_unload().state_dict()
    for name, value in load(merged).state_dict().items():
        off = ((value - theirs[name]).abs() / (theirs[name].abs() + 0.01)).max()
        need(off <= 2.0 ** -8, f"{name}: differs by {float(off):.2e} of its size")
    return max(worst, difference(bench.ours.logprobs(merged, data), logprobs(load(merged), data)))


@check("real model: our full model in transformers, tokenizer")
def real_full(bench):
    data = real_data(bench)
    final = bench.ours.train(bench.real, data, bench.new_folder("run"), steps=2, method="full", dtype="bfloat16",
                             **{"train.learning_rate": "1e-4"})
    same_tokenizer(bench, final)
    need(load(final, "auto").dtype == torch.bfloat16, "the model comes back in another dtype")
    return difference(bench.ours.logprobs(final, data), logprobs(load(final), data))


import check_interop_families  # noqa: E402,F401  its checks run last

# ------------------------------------------------------------------------- main


@functools.cache
def bench_of_process(program, folder, real):
    """Each process has models and results of its own."""
    own = pathlib.Path(tempfile.mkdtemp(dir=folder))
    return Bench(program, own, pathlib.Path(real))


def run_check(index, program, folder, real):
    """The line of a check, whether it passed, and the traceback when it did not."""
    name, function = CHECKS[index]
    try:
        worst = function(bench_of_process(program, folder, real))
        need(worst <= LIMIT, f"log-probabilities differ by {worst:.2e}")
        return f"ok    {name}: {worst:.1e}", True, ""
    except Exception as e:  # every failure is a line; the others still run
        kind = "" if isinstance(e, Failure) else f"{type(e).__name__} "
        return f"FAIL  {name}: {kind}{e}", False, traceback.format_exc()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finetune", default="build/finetune")
    parser.add_argument("--model", default="models/smollm2-135m-instruct")
    parser.add_argument("--jobs", type=int, default=min(4, os.cpu_count()), help="checks at a time")
    parser.add_argument("--traceback", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    chosen = [i for i, (name, _) in enumerate(CHECKS) if not args.names or any(word in name for word in args.names)]
    skipped = [i for i in chosen if CHECKS[i][0].startswith("real model")]
    if (pathlib.Path(args.model) / "config.json").exists():
        skipped = []
    for i in skipped:
        print(f"skip  {CHECKS[i][0]}: {args.model} is not there", flush=True)
    chosen = [i for i in chosen if i not in skipped]
    passed = 0
    with tempfile.TemporaryDirectory() as folder, concurrent.futures.ProcessPoolExecutor(args.jobs) as pool:
        run = functools.partial(run_check, program=args.finetune, folder=folder, real=args.model)
        for line, is_good, trace in pool.map(run, chosen):
            passed += is_good
            print(line, flush=True)
            if trace and args.traceback:
                print(trace, flush=True)
    print(f"{passed} of {len(chosen)} checks passed" + (f", {len(skipped)} skipped" if skipped else ""))
    sys.exit(1 if passed < len(chosen) or not chosen else 0)


if __name__ == "__main__":
    main()
