"""Makes the reference cases of the families beside llama in parity/{A_forward,B_packing,C_backward} with transformers and PEFT.

Random models with fixed seeds, small enough to travel with the repository, with weights so large that every part of an
architecture shows: norm weights and biases are random, attention is sharp enough for soft caps to bend it, documents are
longer than the sliding window. Weights are stored in bfloat16 and computed in float32 with eager attention, the one that applies
the soft caps of Gemma 2. The reference says of itself how exact it is: `reference_rounding_noise` is its distance to the same
computation with every float32 operation in float64. `wrong_variant_*` is how far the usual mistakes land, and the program stops
when one of them does not show.

    python tests/data/make_family_cases.py [OUT]      OUT: tests/data/parity

The same versions of torch, transformers and PEFT on a CPU make the same models, adapters and inputs; expected numbers move by
rounding. Trap: a reference in double precision needs more than model.double(), for norms, softmax and rotary angles
ask for float32 by name.
"""

import json
import pathlib
import shutil
import sys
import warnings

import peft
import torch
import transformers
from safetensors.torch import save_file
from torch.overrides import TorchFunctionMode

BASE = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 40, "num_attention_heads": 2, "num_key_value_heads": 1,
        "max_position_embeddings": 128, "rms_norm_eps": 1e-6}
GEMMA = {**BASE, "head_dim": 16, "bos_token_id": 2, "eos_token_id": 1, "pad_token_id": 0}
SLIDING, FULL = "sliding_attention", "full_attention"


def v4(**keys):
    return {**keys, "torch_dtype": "bfloat16"}


def v5(theta, **keys):
    return {**keys, "dtype": "bfloat16", "rope_parameters": {"rope_type": "default", "rope_theta": theta}}


# For each case: config.json of section A, then what sections B and C change in it. Both styles of config occur, with the keys in
# use at the time of each family; what a family's files leave out (soft caps, thetas, ties) is left out here.
FAMILIES = {
    "gemma": dict(
        A=v4(model_type="gemma", **GEMMA, num_hidden_layers=2, hidden_act="gelu", rope_theta=10000.0),
        other=v5(10000.0, model_type="gemma", **GEMMA, num_hidden_layers=2, hidden_act="gelu_pytorch_tanh"),
        note="old config: hidden_act gelu means the tanh approximation; tied by default"),
    "gemma2": dict(
        A=v4(model_type="gemma2", **GEMMA, num_hidden_layers=3, query_pre_attn_scalar=12, sliding_window=8,
             hidden_activation="gelu_pytorch_tanh", rope_theta=10000.0),
        other=v5(10000.0, model_type="gemma2", **GEMMA, num_hidden_layers=2, query_pre_attn_scalar=24, sliding_window=7,
                 attn_logit_softcapping=40.0, final_logit_softcapping=20.0, layer_types=[SLIDING, FULL]),
        note="layers 0 and 2 slide; A has the caps by default (50, 30), B and C others"),
    "mistral": dict(
        A=v4(model_type="mistral", **BASE, num_hidden_layers=2, sliding_window=8, rope_theta=10000.0, tie_word_embeddings=False),
        other=v5(20000.0, model_type="mistral", **BASE, num_hidden_layers=2, sliding_window=7, head_dim=None),
        note="every layer slides"),
    "mistral_nowindow": dict(
        A=v4(model_type="mistral", **BASE, num_hidden_layers=2, sliding_window=None, head_dim=8, rope_theta=1000000.0),
        other=v5(1000000.0, model_type="mistral", **BASE, num_hidden_layers=2, sliding_window=None, head_dim=8),
        note="no window; heads x head_dim is not hidden_size"),
    "qwen2": dict(
        A=v4(model_type="qwen2", **BASE, num_hidden_layers=2, use_sliding_window=False, sliding_window=8, max_window_layers=1,
             rope_theta=1000000.0, tie_word_embeddings=True),
        other=v5(1000000.0, model_type="qwen2", **BASE, num_hidden_layers=2, use_sliding_window=False, sliding_window=8,
                 max_window_layers=1, tie_word_embeddings=True),
        note="biases on q, k, v; use_sliding_window false switches the window off"),
    "qwen2_window": dict(
        A=v4(model_type="qwen2", **BASE, num_hidden_layers=3, use_sliding_window=True, sliding_window=8, max_window_layers=1,
             rope_theta=1000000.0, tie_word_embeddings=False),
        other=v5(1000000.0, model_type="qwen2", **BASE, num_hidden_layers=2, use_sliding_window=True, sliding_window=7,
                 max_window_layers=1, layer_types=[FULL, SLIDING], tie_word_embeddings=False),
        note="layers from max_window_layers on slide"),
    "qwen3": dict(
        A=v4(model_type="qwen3", **BASE, num_hidden_layers=2, head_dim=24, sliding_window=None, use_sliding_window=False,
             rope_theta=1000000.0, tie_word_embeddings=True),
        other=v5(1000000.0, model_type="qwen3", **BASE, num_hidden_layers=2, head_dim=24, sliding_window=None,
                 tie_word_embeddings=False),
        note="norms of q and k with plain weights"),
    "gemma3_sparse": dict(
        A={"architectures": ["Gemma3ForCausalLM"], "model_type": "gemma3_text", "vocab_size": 64, "hidden_size": 32,
           "intermediate_size": 40, "num_hidden_layers": 6, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 16,
           "sliding_window": 8, "rope_scaling": {"rope_type": "linear", "factor": 8.0}},
        note="as sparse as published text_configs: thetas, pattern of six, score scale 256, ties and ids by default"),
    "gemma3_pattern": dict(
        A=v4(model_type="gemma3_text", **GEMMA, num_hidden_layers=4, query_pre_attn_scalar=12, sliding_window=8,
             sliding_window_pattern=3, rope_theta=500000.0, rope_local_base_freq=5000.0, rope_scaling=None,
             final_logit_softcapping=20.0, attn_logit_softcapping=None),
        note="pattern of three: layer 2 is full; final soft cap set; no scaling of positions"),
    "gemma3_layer_types": dict(
        A={"model_type": "gemma3_text", **GEMMA, "num_hidden_layers": 4, "query_pre_attn_scalar": 24, "sliding_window": 8,
           "layer_types": [FULL, SLIDING, SLIDING, FULL], "sliding_window_pattern": 6, "dtype": "bfloat16",
           "tie_word_embeddings": False,
           "rope_parameters": {FULL: {"rope_type": "linear", "factor": 4.0, "rope_theta": 200000.0},
                               SLIDING: {"rope_type": "default", "rope_theta": 8000.0}}},
        note="layer_types wins over the pattern; untied"),
}
A_LENGTHS = (21, 38)
ROWS, ROW_LENGTH = [[19, 27], [11, 24, 9]], 48


# ------------------------------------------------------------------------------- models


def make_model(folder, config, seed):
    """A random model in `folder` with config.json exactly as given; its weights in bfloat16."""
    folder.mkdir(parents=True)
    config = dict(config)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.from_pretrained(folder))
    config.setdefault("architectures", [type(model).__name__])
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    generator = torch.Generator().manual_seed(seed)
    one_plus = config["model_type"].startswith("gemma")
    has_caps = config["model_type"] == "gemma2"
    tensors = {}
    for name, parameter in model.state_dict().items():
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        size, width = parameter.shape, parameter.shape[-1]
        if name.endswith("norm.weight") or "layernorm" in name:
            value = torch.rand(size, generator=generator) + (-0.5 if one_plus else 0.5)
        elif name.endswith("bias"):
            value = torch.randn(size, generator=generator)
        elif "embed" in name:  # tied: also the head, whose logits are to pass 30 only for soft caps
            value = torch.randn(size, generator=generator) * (1.2 if has_caps else 0.6)
        elif "lm_head" in name:
            value = torch.randn(size, generator=generator) * 0.6
        else:
            scale = 1.3 if any(p in name for p in ("q_proj", "k_proj")) else 1.0
            if has_caps and scale > 1:
                scale = 3.2
            value = torch.randn(size, generator=generator) * scale / width ** 0.5
        tensors[name] = value.bfloat16().contiguous()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


def load(folder):
    model, info = transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    for kind in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        assert not info[kind], (folder, kind, info[kind])
    return model.eval()


class InDouble(TorchFunctionMode):
    """Every float32 asked for by name becomes float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        swap = lambda v: torch.float64 if v is torch.float32 else v  # noqa: E731
        if function is torch.Tensor.float:
            return args[0].double()
        return function(*map(swap, args), **{k: swap(v) for k, v in (kwargs or {}).items()})


def token_losses(model, ids, positions=None):
    """[T]: at t the loss of predicting token t, 0 at the first."""
    logits = model(input_ids=ids[None], position_ids=positions, use_cache=False).logits[0]
    losses = torch.nn.functional.cross_entropy(logits[:-1], ids[1:], reduction="none")
    return torch.cat([losses.new_zeros(1), losses])


# ----------------------------------------------------------------- wrong variants of a model


def set_all(model, key, value):
    for module in model.modules():
        if hasattr(module, key):
            setattr(module, key, value)


def wrong_variants(folder):
    """Names and models with one usual mistake each."""
    config = transformers.AutoConfig.from_pretrained(folder)
    kind = config.model_type
    changes = {"theta": lambda m: m.model.rotary_emb.__init__(changed(m.config, theta=3.0))}
    kinds = getattr(config, "layer_types", None) or [SLIDING if getattr(config, "sliding_window", None) else FULL]
    if SLIDING in kinds:
        window = config.sliding_window
        changes["window+1"] = lambda m: setattr(m.config, "sliding_window", window + 1)
        changes["window-1"] = lambda m: setattr(m.config, "sliding_window", window - 1)
        changes["no_window"] = lambda m: setattr(m.config, "sliding_window", 1000)
    if len(set(kinds)) == 2:
        swapped = [SLIDING if k == FULL else FULL for k in kinds]
        changes["the_other_layers_slide"] = lambda m: setattr(m.config, "layer_types", swapped)
    if kind.startswith("gemma"):
        changes["exact_gelu"] = lambda m: set_all(m, "act_fn", torch.nn.GELU())
        changes["plain_norm_weights"] = plain_norms
        changes["no_embedding_scale"] = lambda m: m.model.embed_tokens.embed_scale.fill_(1)
        changes["embedding_scale_in_bfloat16"] = lambda m: m.model.embed_tokens.embed_scale.copy_(
            m.model.embed_tokens.embed_scale.bfloat16())
    if kind in ("gemma2", "gemma3_text"):
        changes["score_scale_of_head_dim"] = lambda m: set_all(m, "scaling", config.head_dim ** -0.5)
    if kind == "gemma2":
        changes["no_attention_cap"] = lambda m: set_all(m, "attn_logit_softcapping", None)
    if getattr(config, "final_logit_softcapping", None):
        changes["no_final_cap"] = lambda m: setattr(m.config, "final_logit_softcapping", None)
    if kind == "qwen2":
        changes["no_biases"] = lambda m: [p.zero_() for n, p in m.named_parameters() if n.endswith("bias")]
    if kind == "qwen3":
        changes["no_qk_norm"] = lambda m: [set_all(m, k, torch.nn.Identity()) for k in ("q_norm", "k_norm")]
        changes["qk_norm_1+w"] = lambda m: [
            p.add_(1) for n, p in m.named_parameters() if n.endswith(("q_norm.weight", "k_norm.weight"))]
    if kind == "gemma3_text":
        changes["local_theta_everywhere"] = lambda m: m.model.rotary_emb.__init__(changed(m.config, same=True))
        if config.rope_parameters[FULL].get("factor"):
            changes["no_rope_scaling"] = lambda m: m.model.rotary_emb.__init__(changed(m.config, scaling=False))
    for name, change in changes.items():
        model = load(folder)
        change(model)
        yield name, model


def changed(config, theta=None, same=False, scaling=True):
    """The config with other rotary parameters."""
    config = type(config).from_dict(config.to_dict())
    rope = config.rope_parameters
    for part in ([rope] if "rope_theta" in rope else rope.values()):
        part["rope_theta"] *= theta or 1
    if same:
        rope[FULL] = dict(rope[SLIDING])
    if not scaling:
        rope[FULL] = {"rope_type": "default", "rope_theta": rope[FULL]["rope_theta"]}
    return config


def plain_norms(model):
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.sub_(1)


# ------------------------------------------------------------------------------ writing


def meanings(tensors, words):
    dtypes = {torch.int64: "I64", torch.float32: "F32"}
    return {name: {"shape": list(t.shape), "dtype": dtypes[t.dtype],
                   **({} if name.startswith("grad.") else {"is": words[name.removesuffix("_0").removesuffix("_1")]})}
            for name, t in tensors.items()}


def write_case(folder, info, tensors, words):
    save_file({k: v.detach().contiguous() for k, v in tensors.items()}, folder / "expected.safetensors")
    info["tensors"] = meanings(tensors, words)
    lines = ",\n".join(f'  "{name}": {json.dumps(entry)}' for name, entry in info.pop("tensors").items())  # a line a tensor
    text = json.dumps({**info, "tensors": None}, indent=1)
    (folder / "case.json").write_text(text.replace('"tensors": null', '"tensors": {\n' + lines + "\n }") + "\n")


def dims(config):
    return {k: config.get(k) for k in ("model_type", "hidden_size", "intermediate_size", "num_hidden_layers",
                                       "num_attention_heads", "num_key_value_heads", "head_dim", "sliding_window",
                                       "tie_word_embeddings", "vocab_size")}


def tolerance_above(noise, least):
    """At least four times what the reference itself is off by, to one digit."""
    return max(least, float(f"{4 * noise:.0e}"))


# ---------------------------------------------------------------------------- A forward


def forward_all(model, ids):
    caught = {}
    hooks = [model.model.layers[0].register_forward_hook(lambda m, i, o: caught.__setitem__("layer0", o)),
             model.model.norm.register_forward_hook(lambda m, i, o: caught.__setitem__("norm", o))]
    logits = model(input_ids=ids[None], use_cache=False).logits[0]
    for hook in hooks:
        hook.remove()
    layer0 = caught["layer0"][0] if isinstance(caught["layer0"], tuple) else caught["layer0"]
    return {"logits": logits, "loss": torch.nn.functional.cross_entropy(logits[:-1], ids[1:]),
            "hidden_layer0": layer0.reshape(len(ids), -1), "hidden_norm": caught["norm"].reshape(len(ids), -1)}


@torch.no_grad()
def make_forward(folder, name, entry, seed):
    make_model(folder / "model", entry["A"], seed)
    generator = torch.Generator().manual_seed(seed + 1)
    sequences = [torch.randint(3, 64, (n,), generator=generator) for n in A_LENGTHS]
    model, exact = load(folder / "model"), load(folder / "model").double()
    tensors, noise = {}, {"logits": 0.0, "hidden": 0.0, "loss": 0.0}
    for i, ids in enumerate(sequences):
        tensors[f"input_ids_{i}"] = ids
        got = forward_all(model, ids)
        with InDouble():
            best = forward_all(exact, ids)
        for key, value in got.items():
            tensors[f"{key}_{i}"] = value
            noise[key.split("_")[0]] = max(noise[key.split("_")[0]], float((value - best[key]).abs().max()))
    wrong = {}
    for variant, other in wrong_variants(folder / "model"):
        wrong[variant] = max(float((other(input_ids=ids[None], use_cache=False).logits[0] - tensors[f"logits_{i}"]).abs().max())
                             for i, ids in enumerate(sequences))
    tolerance = {"logits_max_abs": tolerance_above(noise["logits"], 1e-4), "loss_abs": tolerance_above(noise["loss"], 1e-5),
                 "hidden_max_abs": tolerance_above(noise["hidden"], 1e-4)}
    for variant, distance in wrong.items():
        assert distance > 5 * tolerance["logits_max_abs"], (name, variant, distance, tolerance)
    info = {"case": name, "section": "A_forward", "model": "model", "checkpoint_dtype": "BF16", "compute_dtype": "F32",
            "attention": "eager", "dims": dims(entry["A"]), "sequences": 2, "sequence_lengths": list(A_LENGTHS), "seed": seed,
            "note": entry["note"], "tolerance": tolerance,
            "logits_abs_max": max(float(tensors[f"logits_{i}"].abs().max()) for i in (0, 1)),
            "scores_abs_max": largest_score(model, sequences[1]),
            "reference_rounding_noise": {f"{k}_fp32_vs_fp64": v for k, v in noise.items()}, "wrong_variant_logits_diff": wrong}
    write_case(folder, info, tensors, {
        "input_ids": "token ids of the sequence", "logits": "fp32 logits for every position [len, vocab]",
        "loss": "mean CE over the len-1 shifted targets", "hidden_layer0": "residual stream after decoder layer 0",
        "hidden_norm": "output of the final norm (input of lm_head)"})
    return info


def largest_score(model, ids):
    """The largest score before any soft cap: what the caps see."""
    seen = []
    module = sys.modules[type(model).__module__]
    repeat = module.repeat_kv

    def watch(query, key, scaling):
        seen.append(float((query @ repeat(key, query.shape[1] // key.shape[1]).transpose(2, 3) * scaling).abs().max()))

    original = module.eager_attention_forward

    def forward(m, query, key, value, attention_mask, scaling=None, **rest):
        watch(query, key, m.scaling if scaling is None else scaling)
        return original(m, query, key, value, attention_mask, scaling=scaling, **rest) if scaling is not None else original(
            m, query, key, value, attention_mask, **rest)
    module.eager_attention_forward = forward
    try:
        model(input_ids=ids[None], use_cache=False)
    finally:
        module.eager_attention_forward = original
    return max(seen)


# ---------------------------------------------------------------------------- B packing


def packed_inputs(seed):
    """Rows of documents; padding at the end. A few tokens inside documents are no targets."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.zeros(len(ROWS), ROW_LENGTH, dtype=torch.int64)
    positions, docs, labels = torch.zeros_like(ids), torch.full_like(ids, -1), torch.full_like(ids, -100)
    bounds = []
    for row, lengths in enumerate(ROWS):
        begin = 0
        for n in lengths:
            end = begin + n
            ids[row, begin:end] = torch.randint(3, 64, (n,), generator=generator)
            positions[row, begin:end] = torch.arange(n)
            docs[row, begin:end] = len(bounds)
            labels[row, begin + 1:end] = ids[row, begin + 1:end]
            bounds.append([row, begin, end])
            begin = end
        positions[row, begin:] = torch.arange(ROW_LENGTH - begin)
    return {"input_ids": ids, "position_ids": positions, "doc_ids": docs, "labels": labels}, bounds


PACKED_WORDS = {"input_ids": "packed rows, 0 = padding at the end of a row", "position_ids": "restart at every document",
                "doc_ids": "document number per token, -1 = padding",
                "labels": "id of the token itself, -100 where it is not a target (first token of a document, padding)"}


@torch.no_grad()
def make_packing(folder, name, entry, seed):
    make_model(folder / "model", entry["other"], seed)
    packed, bounds = packed_inputs(seed + 1)
    ids = packed["input_ids"]
    model, exact = load(folder / "model"), load(folder / "model").double()
    losses, sums, noise = torch.zeros(ids.shape), [], 0.0
    for row, begin, end in bounds:
        alone = token_losses(model, ids[row, begin:end])
        with InDouble():
            noise = max(noise, float((alone - token_losses(exact, ids[row, begin:end])).abs().max()))
        losses[row, begin:end] = alone
        sums.append(alone.sum())
    targets = int((packed["labels"] >= 0).sum())
    together = torch.stack([token_losses(model, ids[r], packed["position_ids"][r][None]) for r in range(len(ids))])
    joined = torch.stack([token_losses(model, ids[r]) for r in range(len(ids))])
    is_target = packed["labels"] >= 0
    off = float((together - losses)[is_target].abs().max())
    assert off < 1e-3, (name, off)
    tolerance = {"token_loss_abs": tolerance_above(noise, 1e-4), "doc_sum_abs": tolerance_above(20 * noise, 2e-3),
                 "mean_abs": tolerance_above(noise, 2e-5)}
    wrong = {"documents_not_isolated_max_token_loss_diff": float((joined - losses)[is_target].abs().max())}
    for variant, other in wrong_variants(folder / "model"):
        if variant in ("window+1", "window-1"):
            wrong[variant] = max(float((token_losses(other, ids[r, b:e]) - losses[r, b:e]).abs().max()) for r, b, e in bounds)
    assert min(wrong.values()) > 10 * tolerance["token_loss_abs"], (name, wrong)
    info = {"case": name, "section": "B_packing", "model": "model", "compute_dtype": "F32", "doc_bounds": bounds,
            "row_length": ROW_LENGTH, "n_targets": targets, "seed": seed, "note": entry["note"], "tolerance": tolerance,
            "checked": {"packed_in_transformers_vs_alone_max_token_loss_diff": off},
            "reference_rounding_noise": {"token_loss_fp32_vs_fp64": noise}, "wrong_variant": wrong,
            "doc_bounds_are": "[row, start, end) of every document, in order"}
    write_case(folder, info, {**packed, "token_losses": losses, "doc_loss_sums": torch.stack(sums),
                              "mean_loss": torch.stack(sums).sum() / targets}, {
        **PACKED_WORDS, "doc_loss_sums": "sum of the token losses of each document",
        "mean_loss": "sum of all losses / number of targets",
        "token_losses": "at [row, t]: CE of predicting token t from the tokens before it in its own document; 0 where no target"})
    return info


# --------------------------------------------------------------------------- C backward


def gradients(model, packed, bounds):
    """Loss and gradients by name, every document run alone."""
    for parameter in model.parameters():
        parameter.grad = None
    targets = int((packed["labels"] >= 0).sum())
    loss = sum(token_losses(model, packed["input_ids"][r, b:e]).sum() for r, b, e in bounds) / targets
    loss.backward()
    return loss.detach(), {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


def add_adapter(model, seed):
    config = peft.LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = peft.get_peft_model(model, config)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name:
            value = torch.randn(parameter.shape, generator=generator) * 0.15
            parameter.data.copy_(value.bfloat16())
    return wrapped.eval()


def save_adapter(wrapped, folder):
    wrapped.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    file = folder / "adapter_config.json"
    config = json.loads(file.read_text())
    config["base_model_name_or_path"] = "../model"
    config["target_modules"] = sorted(config["target_modules"])
    file.write_text(json.dumps(config, indent=1) + "\n")


def make_backward(folder, name, entry, seed, method):
    make_model(folder / "model", entry["other"], seed)
    packed, bounds = packed_inputs(seed + 1)
    model, exact = load(folder / "model"), load(folder / "model").double()
    if method == "adapter":
        model, exact = add_adapter(model, seed + 2), add_adapter(exact, seed + 2).double()
        save_adapter(model, folder / "adapter")
    row, begin, end = bounds[0]
    with torch.no_grad():
        logits = model(input_ids=packed["input_ids"][row, begin:end][None], use_cache=False).logits[0]
    loss, grads = gradients(model, packed, bounds)
    with InDouble():
        exact_loss, exact_grads = gradients(exact, packed, bounds)
    noise = max(float((g - exact_grads[n]).norm() / exact_grads[n].norm()) for n, g in grads.items())
    biggest = max(float((g - exact_grads[n]).abs().max()) for n, g in grads.items())
    assert all(float(g.norm()) > 1e-4 for g in grads.values()), {n: float(g.norm()) for n, g in grads.items()}
    stored = {f"grad.{n.replace('.default.', '.')}": g for n, g in grads.items()}
    info = {"case": name, "section": "C_backward", "method": method, "model": "model",
            **({"adapter": "adapter"} if method == "adapter" else {}), "doc_bounds": bounds,
            "n_targets": int((packed["labels"] >= 0).sum()),
            "grad_norm": float(torch.stack([g.double().norm() for g in grads.values()]).norm()),
            "seed": seed, "note": entry["note"],
            "names": "grad.<tensor name in adapter_model.safetensors>" if method == "adapter" else "grad.<name in the checkpoint>",
            "tolerance": {"grad_rel_l2_per_tensor": tolerance_above(noise, 1e-4), "grad_max_abs": tolerance_above(biggest, 1e-5),
                          "loss_abs": tolerance_above(abs(float(loss - exact_loss)), 1e-5), "logits_max_abs": 1e-4},
            "reference_rounding_noise": {"fp32_vs_fp64_rel_l2_max": noise, "fp32_vs_fp64_max_abs": biggest}}
    write_case(folder, info, {**packed, "loss": loss, "logits": logits, **stored}, {
        **PACKED_WORDS, "loss": "sum CE over targets / number of targets", "logits": "[len, vocab] of document 0 run alone"})
    return info


# --------------------------------------------------------------------------------- main


def main():
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.set_num_threads(1)
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "parity")
    for number, (name, entry) in enumerate(FAMILIES.items()):
        makers = [("A_forward", name, make_forward, ())]
        if "other" in entry:
            makers += [("B_packing", name, make_packing, ()), ("C_backward", f"full_{name}", make_backward, ("full",)),
                       ("C_backward", f"lora_{name}", make_backward, ("adapter",))]
        for section, (kind, case, make, more) in enumerate(makers):
            folder = out / kind / case
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            info = make(folder, case, entry, 1000 + 100 * number + 10 * section, *more)
            size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
            assert size < 160 << 10, (case, size)
            wrong = {**info.get("wrong_variant_logits_diff", {}), **info.get("wrong_variant", {})}
            print(f"{kind}/{case}: {size >> 10} KiB, noise", json.dumps(info["reference_rounding_noise"]),
                  {k: f"{info[k]:.3g}" for k in ("logits_abs_max", "scores_abs_max", "grad_norm") if k in info},
                  {k: f"{v:.2g}" for k, v in wrong.items()})


if __name__ == "__main__":
    main()
