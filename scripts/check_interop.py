"""Round trips between finetune and transformers / PEFT: adapters, full models, merged models, tokenizers, configurations.

Each check makes a folder with one side and reads it with the other. Both then give the log-probability of every target token
of the same documents in float32, which must agree within 1e-4. Missing or surplus tensors, and any warning of PEFT's or transformers' about
them, fail a check. Small random Llama models stand for the variants (tied, untied, with biases, scaled rotary
embeddings); a real one, where it is there, for real shapes and its tokenizer. One line a check: its name and the largest difference.
"""

import argparse
import contextlib
import functools
import json
import logging
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import traceback
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import peft  # noqa: E402
import safetensors.torch  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

LIMIT = 1e-4
VOCAB = 259
LLAMA3 = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}


class Failure(Exception):
    pass


def need(condition, text):
    if not condition:
        raise Failure(text)


# -------------------------------------------------------------- the two programs


class Ours:
    def __init__(self, program):
        self.program = str(pathlib.Path(program).resolve())

    def __call__(self, *words):
        done = subprocess.run([self.program, *map(str, words)], capture_output=True, text=True)
        need(done.returncode == 0, f"finetune {words[0]} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout

    def train(self, model, data, out, steps=4, **settings):
        keys = {"model": model, "output_dir": out, "device": "cpu", "dtype": "float32", "data.train": data,
                "data.format": "tokens", "data.packing": "true", "data.max_length": 64, "train.learning_rate": "0.02",
                "train.max_steps": steps, "eval.evaluations": 0, "eval.samples": 0}
        keys.update({k.replace("__", "."): v for k, v in settings.items()})
        self("train", "--threads", "1", *[w for k, v in keys.items() for w in ("--set", f"{k}={v}")])
        return out / "final"

    def logprobs(self, model, data, adapter=None):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "logprobs.jsonl"
            self("eval", "--threads", "1", "--model", model, *(["--adapter", adapter] if adapter else []), "--data", data,
                 "--set", "dtype=float32", "--set", "device=cpu", "--set", "data.packing=false", "--token-logprobs", out, "--json")
            return [torch.tensor(json.loads(line)["logprobs"], dtype=torch.float64) for line in open(out)]


@contextlib.contextmanager
def no_complaints():
    """Fails on warnings about tensors that are missing, surplus or of another shape, by warnings or by logging."""
    said = []
    handler = logging.Handler()
    handler.emit = lambda record: said.append(record.getMessage())
    loggers = [logging.getLogger(name) for name in ("transformers", "peft")]
    for logger in loggers:
        logger.addHandler(handler)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        for logger in loggers:
            logger.removeHandler(handler)
    said += [str(w.message) for w in caught]
    words = ("missing", "unexpected", "not initialized", "newly initialized", "mismatch", "not used")
    bad = [s for s in said if any(w in s.lower() for w in words)]
    need(not bad, f"warned: {bad[0] if bad else ''}")


def load(folder, dtype=torch.float32):
    with no_complaints():
        model, info = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, output_loading_info=True, local_files_only=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        need(not info.get(kind), f"{kind}: {list(info.get(kind) or [])[:3]}")
    return model.eval()


def load_adapter(model_folder, adapter):
    base = load(model_folder)
    with no_complaints():
        model = peft.PeftModel.from_pretrained(base, adapter)
    stored = safetensors.torch.load_file(adapter / "adapter_model.safetensors")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it guesses at a changed vocabulary from what it finds on the hub
        held = peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    if set(stored) != set(held):
        raise Failure(f"PEFT keeps other tensors: {sorted(set(stored) ^ set(held))[:4]}")
    need(all(torch.equal(stored[k].float(), held[k].float()) for k in stored), "PEFT holds other values than the file")
    return model.eval()


def logprobs(model, data):
    result = []
    for line in open(data):
        row = json.loads(line)
        ids = torch.tensor([row["input_ids"]])
        labels = torch.tensor(row.get("labels", row["input_ids"]))[1:]
        with torch.no_grad():
            logp = model(input_ids=ids, use_cache=False).logits[0, :-1].double().log_softmax(-1)
        chosen = logp.gather(1, labels.clamp(min=0)[:, None])[:, 0]
        result.append(chosen[labels >= 0])
    return result


def difference(a, b):
    need(len(a) == len(b), f"{len(a)} documents and {len(b)}")
    for x, y in zip(a, b):
        need(x.shape == y.shape, f"{tuple(x.shape)} targets and {tuple(y.shape)}")
        need(bool(x.isfinite().all() and y.isfinite().all()), "log-probabilities are not finite")
    return max(float((x - y).abs().max()) for x, y in zip(a, b) if x.numel())


# ------------------------------------------------------------------ small models


def small_model(folder, seed, tied=False, biases=False, dtype=torch.float32, rope=None):
    torch.manual_seed(seed)
    config = transformers.LlamaConfig(
        vocab_size=VOCAB, hidden_size=64, intermediate_size=112, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=256, tie_word_embeddings=tied, attention_bias=biases,
        mlp_bias=biases, rope_parameters=dict(rope or {"rope_type": "default", "rope_theta": 10000.0}), bos_token_id=1,
        eos_token_id=2)
    model = transformers.LlamaForCausalLM(config)
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, 0.5, 1.5)
        else:
            torch.nn.init.normal_(parameter, std=0.15 if "embed" in name or "lm_head" in name else 0.08)
    model.to(dtype).save_pretrained(folder)
    return folder


def random_documents(path, seed, count=12):
    generator = torch.Generator().manual_seed(seed)
    with open(path, "w") as out:
        for i in range(count):
            ids = torch.randint(3, VOCAB, (5 + 5 * i % 57,), generator=generator).tolist()
            row = {"input_ids": ids}
            if i % 3 == 0:
                row["labels"] = [-100] * (len(ids) // 2) + ids[len(ids) // 2:]
            out.write(json.dumps(row) + "\n")
    return path


class Bench:
    """Where the checks find the program, the models (made when first asked for) and the data."""

    def __init__(self, program, folder, real):
        self.ours, self.folder, self.real, self.count = Ours(program), folder, real, 0
        self.train_data = random_documents(folder / "train.jsonl", 1, 24)
        self.data = random_documents(folder / "eval.jsonl", 2)

    @functools.cache
    def model(self, **variant):
        name = "model-" + "-".join(f"{k}={v}" for k, v in variant.items() if k != "rope") + ("-rope" if "rope" in variant else "")
        if "rope" in variant:
            variant["rope"] = dict(variant["rope"])
        return small_model(self.folder / name, 7, **variant)

    def new_folder(self, name):
        self.count += 1
        return self.folder / f"{name}-{self.count}"


# ----------------------------------------------------------------------- checks

CHECKS = []


def check(name):
    def register(function):
        CHECKS.append((name, function))
        return function
    return register


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
}


def train_adapter(bench, variant, settings):
    model = bench.model(**variant)
    keys = {"lora.r": 6, "lora.alpha": 12, **settings}
    return model, bench.ours.train(model, bench.train_data, bench.new_folder("run"), method="lora", **keys)


def adapter_to_peft(bench, variant, settings):
    model, adapter = train_adapter(bench, variant, settings)
    ours = bench.ours.logprobs(model, bench.data, adapter)
    need(difference(ours, bench.ours.logprobs(model, bench.data)) > 1e-2, "the adapter changes nothing")
    return difference(ours, logprobs(load_adapter(model, adapter), bench.data))


def merged_to_transformers(bench, variant, settings):
    """Our merge against PEFT's in float32, rounded once to the dtype of the base."""
    model, adapter = train_adapter(bench, variant, settings)
    merged = bench.new_folder("merged")
    bench.ours("merge", "--model", model, "--adapter", adapter, "--output", merged)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it tells that a tied model is not tied afterwards
        theirs = load_adapter(model, adapter).merge_and_unload()
    dtype = transformers.AutoConfig.from_pretrained(model).dtype
    loaded = load(merged, "auto")
    need(loaded.dtype == dtype, f"dtype {loaded.dtype}, the base has {dtype}")
    theirs, mine = theirs.state_dict(), loaded.float().state_dict()
    need(set(theirs) == set(mine), f"other tensors: {sorted(set(theirs) ^ set(mine))[:4]}")
    step = {torch.float32: 2e-6, torch.bfloat16: 2.0 ** -8}[dtype]  # one rounding may fall the other way
    for name, value in mine.items():
        off = ((value - theirs[name]).abs() / (theirs[name].abs() + 0.05)).max()
        need(off <= step, f"{name}: differs by {float(off):.2e} of its size")
    return difference(logprobs(loaded, bench.data), bench.ours.logprobs(merged, bench.data))


for title, (variant, settings) in ADAPTERS.items():
    check(f"our adapter in PEFT: {title}")(functools.partial(adapter_to_peft, variant=variant, settings=settings))
for title in ("all-linear", "all-linear, tied", "saved head and embedding, tied", "saved head, tied", "bias all",
              "rslora with patterns", "saved norms"):
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
    "orthogonal start": ({}, dict(target_modules=["o_proj"], init_lora_weights="orthogonal", r=4)),
}


def make_peft_adapter(bench, variant, settings, half):
    torch.manual_seed(11)
    model_folder, adapter = bench.model(**variant), bench.new_folder("adapter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = peft.get_peft_model(load(model_folder), peft.LoraConfig(task_type="CAUSAL_LM", **settings))
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                with torch.no_grad():
                    parameter.add_(torch.randn_like(parameter) * (0.02 if "lora_" not in name else 0.1))
        model.save_pretrained(adapter)
    if half:
        file = adapter / "adapter_model.safetensors"
        safetensors.torch.save_file({k: v.bfloat16() for k, v in safetensors.torch.load_file(file).items()}, file)
    return model_folder, adapter


def peft_to_ours(bench, variant, settings, half):
    model, adapter = make_peft_adapter(bench, variant, settings, half)
    theirs = logprobs(load_adapter(model, adapter), bench.data)
    need(difference(theirs, bench.ours.logprobs(model, bench.data)) > 1e-2, "the adapter changes nothing")
    worst = difference(theirs, bench.ours.logprobs(model, bench.data, adapter))
    # Trained on by a step that changes nothing, it comes back to PEFT as it was.
    again = bench.ours.train(model, bench.train_data, bench.new_folder("run"), steps=1, method="lora", **{
        "lora.resume_from": adapter, "train.learning_rate": "1e-30"})
    return max(worst, difference(theirs, logprobs(load_adapter(model, again), bench.data)))


for title, (variant, settings) in PEFT_ADAPTERS.items():
    check(f"PEFT's adapter here: {title}")(functools.partial(
        peft_to_ours, variant=variant, settings=settings, half=title.endswith("bfloat16")))

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


def full_to_transformers(bench, variant, settings, dtype):
    model = bench.model(**variant)
    final = bench.ours.train(model, bench.train_data, bench.new_folder("run"), method="full", dtype=dtype, **settings)
    need(load(final, "auto").dtype == getattr(torch, dtype), "the model comes back in another dtype")
    ours = bench.ours.logprobs(final, bench.data)
    need(difference(ours, bench.ours.logprobs(model, bench.data)) > 1e-2, "training changed nothing")
    return difference(ours, logprobs(load(final), bench.data))


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


# ------------------------------------------------------------------------- main


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--finetune", default="build/finetune")
    parser.add_argument("--model", default="models/smollm2-135m-instruct")
    parser.add_argument("--traceback", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.disable_progress_bar()
    failed = skipped = done = 0
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(args.finetune, pathlib.Path(folder), pathlib.Path(args.model))
        for name, function in CHECKS:
            if args.names and not any(word in name for word in args.names):
                continue
            if name.startswith("real model") and not (bench.real / "config.json").exists():
                skipped += 1
                print(f"skip  {name}: {bench.real} is not there", flush=True)
                continue
            done += 1
            try:
                worst = function(bench)
                need(worst <= LIMIT, f"log-probabilities differ by {worst:.2e}")
                print(f"ok    {name}: {worst:.1e}", flush=True)
            except Exception as e:  # every failure is a line; the others still run
                failed += 1
                print(f"FAIL  {name}: {type(e).__name__ if not isinstance(e, Failure) else ''} {e}", flush=True)
                if args.traceback:
                    traceback.print_exc()
    print(f"{done - failed} of {done} checks passed" + (f", {skipped} skipped" if skipped else ""))
    sys.exit(1 if failed or not done else 0)


if __name__ == "__main__":
    main()
