"""What the checks of check_interop.py share: running finetune, loading in transformers and PEFT without complaints, small random
models of every family, and the round trips of adapters, merged and full models, for any model and settings.
"""

import contextlib
import functools
import json
import logging
import os
import pathlib
import subprocess
import tempfile
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

    def report(self, *words):
        """What a command says, on both streams."""
        done = subprocess.run([self.program, *map(str, words)], capture_output=True, text=True)
        need(done.returncode == 0, f"finetune {words[0]} ended with {done.returncode}: {done.stderr.strip()[-400:]}")
        return done.stdout + done.stderr

    def refuses(self, *words):
        """The error line of a command that must end with status 3."""
        done = subprocess.run([self.program, *map(str, words)], capture_output=True, text=True)
        need(done.returncode == 3, f"finetune {words[0]} ended with {done.returncode}, 3 is wanted: {done.stderr.strip()[-300:]}")
        last = done.stderr.strip().splitlines()[-1]
        need(last.startswith("error: "), f"no error line: {last}")
        return last

    def train(self, model, data, out, steps=4, **settings):
        keys = {"model": model, "output_dir": out, "device": "cpu", "dtype": "float32", "data.train": data,
                "data.format": "tokens", "data.packing": "true", "data.max_length": 64, "train.learning_rate": "0.02",
                "train.max_steps": steps, "eval.evaluations": 0, "eval.samples": 0}
        keys.update({k.replace("__", "."): v for k, v in settings.items()})
        self("train", "--threads", "1", *[w for k, v in keys.items() for w in ("--set", f"{k}={v}")])
        return out / "final"

    def logprobs(self, model, data, adapter=None, **settings):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "logprobs.jsonl"
            self("eval", "--threads", "1", "--model", model, *(["--adapter", adapter] if adapter else []), "--data", data,
                 "--set", "dtype=float32", "--set", "device=cpu", "--set", "data.packing=false", "--token-logprobs", out, "--json",
                 *[w for k, v in settings.items() for w in ("--set", f"{k}={v}")])
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


def load_4bit(folder):
    """As bitsandbytes packs it."""
    how = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
                                          bnb_4bit_compute_dtype=torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=how, local_files_only=True)


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


GEMMA = {"head_dim": 16, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
ROPE = {"rope_type": "default", "rope_theta": 10000.0}
# Configuration class and what differs from llama's; windows are shorter than most of the documents.
FAMILIES = {
    "llama": (transformers.LlamaConfig, {}),
    "gemma": (transformers.GemmaConfig, GEMMA),
    "gemma2": (transformers.Gemma2Config, {**GEMMA, "sliding_window": 8, "query_pre_attn_scalar": 24}),
    "gemma3_text": (transformers.Gemma3TextConfig, {
        **GEMMA, "sliding_window": 8, "query_pre_attn_scalar": 24, "sliding_window_pattern": 2, "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": 8.0, "rope_theta": 1000000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 5000.0}}}),
    "mistral": (transformers.MistralConfig, {"sliding_window": 8}),
    "qwen2": (transformers.Qwen2Config, {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": (transformers.Qwen3Config, {"head_dim": 24, "sliding_window": None, "rope_parameters": {**ROPE, "rope_theta": 1e6}}),
}
VISION = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14)


def small_config(family="llama", tied=None, biases=False, rope=None, inner=112):
    """tied None: as the family has it by default. gemma3 is the image and text model around gemma3_text."""
    if family == "gemma3":
        text = small_config("gemma3_text", tied, biases, rope, inner)
        return transformers.Gemma3Config(
            text_config=text, vision_config=transformers.SiglipVisionConfig(**VISION), mm_tokens_per_image=4,
            boi_token_index=250, eoi_token_index=251, image_token_index=252, tie_word_embeddings=text.tie_word_embeddings)
    kind, own = FAMILIES[family]
    keys = dict(vocab_size=VOCAB, hidden_size=64, intermediate_size=inner, num_hidden_layers=3, num_attention_heads=4,
                num_key_value_heads=2, max_position_embeddings=256, rope_parameters=dict(ROPE), bos_token_id=1, eos_token_id=2)
    keys.update(own)
    if biases:
        keys.update(attention_bias=True, mlp_bias=True)
    if rope:
        keys["rope_parameters"] = dict(rope)
    if tied is not None:
        keys["tie_word_embeddings"] = tied
    return kind(**json.loads(json.dumps(keys)))


def small_model(folder, seed, dtype=torch.float32, config=None, **variant):
    """A random model; `config` or the variant of small_config."""
    torch.manual_seed(seed)
    config = config or small_config(**variant)
    auto = transformers.AutoModelForImageTextToText if config.model_type == "gemma3" else transformers.AutoModelForCausalLM
    model = auto.from_config(config)
    middle = 0.0 if config.model_type.startswith("gemma") else 1.0  # of norm weights
    for name, parameter in model.named_parameters():
        if name.endswith("norm.weight"):
            torch.nn.init.uniform_(parameter, middle - 0.5, middle + 0.5)
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


# Name and function of every check, in the order in which they run.
CHECKS = []


def check(name):
    def register(function):
        CHECKS.append((name, function))
        return function
    return register


# ----------------------------------------------------------------- round trips


def train_adapter(bench, variant, settings):
    model = bench.model(**variant)
    keys = {"lora.r": 6, "lora.alpha": 12, **settings}
    return model, bench.ours.train(model, bench.train_data, bench.new_folder("run"), method="lora", **keys)


def adapter_to_peft(bench, variant, settings):
    model, adapter = train_adapter(bench, variant, settings)
    ours = bench.ours.logprobs(model, bench.data, adapter)
    need(difference(ours, bench.ours.logprobs(model, bench.data)) > 1e-2, "the adapter changes nothing")
    return difference(ours, logprobs(load_adapter(model, adapter), bench.data))


def adapter_of_4bit_to_peft(bench, variant, settings):
    """Trained on a base that was packed while loading, in PEFT on the base that bitsandbytes packs. Rows are whole blocks:
    of others bitsandbytes' CPU code takes the scales from the wrong places."""
    model = bench.model(**variant, inner=128)
    adapter = bench.ours.train(model, bench.train_data, bench.new_folder("run"), method="qlora",
                               **{"lora.r": 6, "lora.alpha": 12, **settings})
    ours = bench.ours.logprobs(model, bench.data, adapter, method="qlora")
    need(difference(ours, bench.ours.logprobs(model, bench.data, method="qlora")) > 1e-2, "the adapter changes nothing")
    need(difference(ours, bench.ours.logprobs(model, bench.data, adapter)) > 1e-3, "the base is not packed")
    with no_complaints():
        theirs = peft.PeftModel.from_pretrained(load_4bit(model), adapter).train()  # CPU kernels for inference are less exact
    return difference(ours, logprobs(theirs, bench.data))


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


def full_to_transformers(bench, variant, settings, dtype):
    model = bench.model(**variant)
    final = bench.ours.train(model, bench.train_data, bench.new_folder("run"), method="full", dtype=dtype, **settings)
    need(load(final, "auto").dtype == getattr(torch, dtype), "the model comes back in another dtype")
    ours = bench.ours.logprobs(final, bench.data)
    need(difference(ours, bench.ours.logprobs(model, bench.data)) > 1e-2, "training changed nothing")
    return difference(ours, logprobs(load(final), bench.data))
