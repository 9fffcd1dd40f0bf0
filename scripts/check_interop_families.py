"""Round trips of the families beside Llama, above all Gemma 3 with its folder layouts. Run by check_interop.py.

Layouts: the three spellings of tensor names of image and text models, read, trained, merged and written in the one
that every reader knows, or as the bare text model. Configurations: sparse ones, and ours as read by transformers 5
and by `OldReader`, which knows only the keys of transformers 4. Embeddings: tied, untied, contradictory. Adapters: every family
both ways, and the damaged ones that PEFT takes with a warning or in silence.
"""

import functools
import json
import re
import shutil
import warnings

from interop_tools import (  # first: it keeps the libraries off the network
    FAMILIES, adapter_to_peft, check, difference, full_to_transformers, load, load_adapter, logprobs,
    make_peft_adapter, merged_to_transformers, need, peft_to_ours, small_config, small_model)

import safetensors.torch
import torch
import transformers

NEIGHBOURS = [name for name in FAMILIES if name != "llama"] + ["gemma3"]
TEXT_LINEAR = r".*language_model\..*\.(q|k|v|o|gate|up|down)_proj"  # of an image and text model; "all-linear" takes the vision tower too


def tensors_of(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def copied(bench, source, tensors=None, config=None):
    """A copy of a model folder with tensors or config.json changed."""
    folder = bench.new_folder("copy")
    shutil.copytree(source, folder)
    if tensors is not None:
        safetensors.torch.save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder


def config_of(folder):
    return json.loads((folder / "config.json").read_text())


def add(title, function, **arguments):
    check(title)(functools.partial(function, **arguments))


# -------------------------------------------------------------------- adapters

OUR_ADAPTERS = {
    "all-linear": {},
    "rslora with patterns": {"lora.use_rslora": "true", "lora.rank_pattern": "{q_proj: 4, 'layers.[01].mlp.up_proj': 3}",
                             "lora.alpha_pattern": "{down_proj: 5}"},
}
PEFT_ADAPTERS = {
    "all-linear": dict(target_modules="all-linear"),
    "rslora with patterns": dict(target_modules="all-linear", use_rslora=True, alpha_pattern={"down_proj": 20},
                                 rank_pattern={"q_proj": 3, "layers.1.mlp.up_proj": 9}),
}
SAVED = ["lm_head", "embed_tokens"]
SAVED_MODELS = {"gemma3_text": {"family": "gemma3_text"}, "gemma3": {"family": "gemma3"}, "gemma2": {"family": "gemma2"},
                "qwen2, tied": {"family": "qwen2", "tied": True}, "mistral, untied": {"family": "mistral"}}


def for_model(variant, settings):
    """The same targets on an image and text model: of its language model only."""
    return {**settings, "target_modules": TEXT_LINEAR} if variant["family"] == "gemma3" else settings


for family in NEIGHBOURS:
    variant = {"family": family}
    for title in OUR_ADAPTERS:
        add(f"our adapter in PEFT: {family}, {title}", adapter_to_peft, variant=variant, settings=OUR_ADAPTERS[title])
        add(f"PEFT's adapter here: {family}, {title}", peft_to_ours, variant=variant, half=False,
            settings=for_model(variant, PEFT_ADAPTERS[title]))
    add(f"our merge in transformers: {family}", merged_to_transformers, variant=variant, settings={})
    add(f"our full model in transformers: {family}", full_to_transformers, variant=variant, dtype="float32",
        settings={"train.learning_rate": "0.003"})

for title, variant in SAVED_MODELS.items():
    for tying in (False, True):
        if tying and "untied" in title:
            continue
        name = f"{title}, saved head and embedding" + (", ensure_weight_tying" if tying else "")
        ours = {"lora.modules_to_save": "[lm_head, embed_tokens]", **({"lora.ensure_weight_tying": "true"} if tying else {})}
        theirs = dict(target_modules=["q_proj"], modules_to_save=list(SAVED), ensure_weight_tying=tying)
        if variant["family"] == "gemma3":
            theirs["target_modules"] = TEXT_LINEAR
        add(f"our adapter in PEFT: {name}", adapter_to_peft, variant=variant, settings=ours)
        add(f"our merge in transformers: {name}", merged_to_transformers, variant=variant, settings=ours)
        add(f"PEFT's adapter here: {name}", peft_to_ours, variant=variant, settings=theirs, half=False)
for saved in (["embed_tokens"], ["lm_head"]):  # PEFT then stores both tensors, whichever was named
    add(f"our adapter in PEFT: gemma3_text, saved {saved[0]}, ensure_weight_tying", adapter_to_peft, variant={"family": "gemma3_text"},
        settings={"lora.modules_to_save": f"[{saved[0]}]", "lora.ensure_weight_tying": "true"})
    add(f"PEFT's adapter here: gemma3_text, saved {saved[0]}, ensure_weight_tying", peft_to_ours, half=False,
        variant={"family": "gemma3_text"}, settings=dict(target_modules=["q_proj"], modules_to_save=saved, ensure_weight_tying=True))
add("our merge in transformers: gemma3_text, bfloat16 base", merged_to_transformers, settings={},
    variant={"family": "gemma3_text", "dtype": torch.bfloat16})
add("our merge in transformers: gemma3, bfloat16 base", merged_to_transformers, settings={},
    variant={"family": "gemma3", "dtype": torch.bfloat16})

SPELLINGS = {  # of the module paths in an adapter for an image and text model
    "transformers 4.52 and later": "base_model.model.model.language_model.layers.",
    "transformers up to 4.51": "base_model.model.language_model.model.layers.",
    "the text model": "base_model.model.model.layers.",
}


def edited_adapter(adapter, edit):
    """Changes the tensors (and the configuration) of an adapter folder in place."""
    file = adapter / "adapter_model.safetensors"
    tensors, config = safetensors.torch.load_file(file), json.loads((adapter / "adapter_config.json").read_text())
    tensors = edit(tensors, config) or tensors
    safetensors.torch.save_file(tensors, file, {"format": "pt"})
    (adapter / "adapter_config.json").write_text(json.dumps(config))


def spelling(bench, prefix):
    model, adapter = make_peft_adapter(bench, {"family": "gemma3"}, dict(target_modules=TEXT_LINEAR), False)
    theirs = logprobs(load_adapter(model, adapter), bench.data)

    def respell(tensors, config):
        config["target_modules"] = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        return {k.replace(SPELLINGS["transformers 4.52 and later"], prefix): v for k, v in tensors.items()}

    edited_adapter(adapter, respell)
    return difference(theirs, bench.ours.logprobs(model, bench.data, adapter))


for title, prefix in SPELLINGS.items():
    add(f"PEFT's adapter here: gemma3, paths of {title}", spelling, prefix=prefix)


@check("PEFT's adapter refused: gemma3, on the vision tower too")
def vision_adapter(bench):
    model, adapter = make_peft_adapter(bench, {"family": "gemma3"}, dict(target_modules="all-linear"), False)
    refused_adapter(bench, model, adapter, "vision_tower")
    return 0.0


# ------------------------------------------------------------ damaged adapters


def refused_adapter(bench, model, adapter, word):
    line = bench.ours.refuses("eval", "--model", model, "--adapter", adapter, "--data", bench.data, "--set", "dtype=float32",
                              "--set", "device=cpu")
    need(word in line, f"the error does not name {word}: {line}")


def one(tensors, ending):
    return next(k for k in tensors if k.endswith(ending))


def wrong_prefix(tensors, config):
    return {k.replace("base_model.model.", "base_model.model.transformer.", 1): v for k, v in tensors.items()}


def no_prefix(tensors, config):
    return {k.removeprefix("base_model.model."): v for k, v in tensors.items()}


def extra_layer(tensors, config):
    name = one(tensors, "layers.0.self_attn.q_proj.lora_A.weight")
    tensors[name.replace("layers.0.", "layers.7.")] = tensors[name].clone()


def extra_module(tensors, config):
    name = one(tensors, "layers.0.self_attn.q_proj.lora_A.weight")
    tensors[name.replace("q_proj", "k_proj")] = tensors[name].clone()


def missing_tensor(tensors, config):
    del tensors[one(tensors, "layers.1.self_attn.v_proj.lora_B.weight")]


def wrong_shape(tensors, config):
    name = one(tensors, "layers.1.self_attn.v_proj.lora_B.weight")
    tensors[name] = torch.cat([tensors[name], tensors[name][:1]])


def field(key, value):
    return lambda tensors, config: config.update({key: value})


DAMAGE = {
    "wrong prefix": (wrong_prefix, "self_attn.q_proj"), "no prefix": (no_prefix, "layers."),
    "extra layer": (extra_layer, "layers.7."), "tensor of a module that is no target": (extra_module, "k_proj"),
    "missing tensor": (missing_tensor, "layers.1.self_attn.v_proj.lora_B"),
    "wrong shape": (wrong_shape, "layers.1.self_attn.v_proj.lora_B"),
    "use_dora without magnitudes": (field("use_dora", True), "lora_magnitude_vector|use_dora"),
    "layer_replication": (field("layer_replication", [[0, 2], [1, 3]]), "layer_replication"),
    "unknown field with effect": (field("use_later_variant", True), "use_later_variant"),
}


def damaged(bench, family, edit, words):
    targets = r".*language_model\..*\.(q|v)_proj" if family == "gemma3" else ["q_proj", "v_proj"]
    model, adapter = make_peft_adapter(bench, {"family": family}, dict(target_modules=targets), False)
    edited_adapter(adapter, edit)
    line = bench.ours.refuses("eval", "--model", model, "--adapter", adapter, "--data", bench.data, "--set", "device=cpu")
    need(re.search(words, line), f"the error does not name {words}: {line}")
    return 0.0


for family in ("llama", "gemma3_text", "gemma3"):
    for title, (edit, words) in DAMAGE.items():
        add(f"damaged adapter is refused: {family}, {title}", damaged, family=family, edit=edit, words=words)


# ------------------------------------------------------------- folder layouts


def respelled(tensors, layout):
    """The tensors of an image and text model as transformers 5 saves them, in another spelling."""
    if layout == "in memory":  # what tools save that write a state_dict of transformers 4.52 and later
        return {"model." + k.replace("language_model.model.", "language_model."): v for k, v in tensors.items()}
    if layout == "siglip inside":  # the published files
        return {k.replace("vision_tower.", "vision_tower.vision_model."): v for k, v in tensors.items()}
    return tensors


def text_folder(bench, source):
    """The language model of an image and text model, extracted by hand."""
    whole, config = tensors_of(source), config_of(source)
    text = {**config["text_config"], "architectures": ["Gemma3ForCausalLM"], "dtype": config["dtype"]}
    prefix = "language_model."
    return copied(bench, source, {k.removeprefix(prefix): v for k, v in whole.items() if k.startswith(prefix)}, text)


def in_layout(bench, layout):
    source = bench.model(family="gemma3")
    return text_folder(bench, source) if layout == "text only" else copied(bench, source, respelled(tensors_of(source), layout))


def written_by(bench, model, how, text_only):
    """A model folder that finetune wrote, and the log-probabilities that it must give."""
    if how == "train":
        more = {"save.text_only": "true"} if text_only else {}
        final = bench.ours.train(model, bench.train_data, bench.new_folder("run"), steps=1, method="full",
                                 **{"train.learning_rate": "0.003", **more})
        return final, bench.ours.logprobs(final, bench.data)
    adapter = bench.ours.train(model, bench.train_data, bench.new_folder("run"), method="lora", **{"lora.r": 4})
    merged = bench.new_folder("merged")
    bench.ours("merge", "--model", model, "--adapter", adapter, "--output", merged, *(["--text-only"] if text_only else []))
    return merged, bench.ours.logprobs(model, bench.data, adapter)


def layout_round_trip(bench, layout, how, text_only):
    model = in_layout(bench, layout)
    before = bench.ours.logprobs(model, bench.data)
    worst = difference(before, logprobs(load(bench.model(family="gemma3")), bench.data))
    written, expected = written_by(bench, model, how, text_only)
    need(difference(before, expected) > 1e-3, "nothing was learnt")
    stored, source = tensors_of(written), tensors_of(bench.model(family="gemma3"))
    vision = {k: v for k, v in source.items() if k.startswith(("vision_tower.", "multi_modal_projector."))}
    loaded = load(written)
    if text_only or layout == "text only":
        need(all(k.startswith("model.") for k in stored), f"not a bare text model: {next(iter(stored))}")
        need(config_of(written)["architectures"] == ["Gemma3ForCausalLM"], "architectures")
        need(type(loaded) is transformers.Gemma3ForCausalLM, f"loads as {type(loaded).__name__}")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            _, info = transformers.Gemma3ForCausalLM.from_pretrained(written, output_loading_info=True)
        need(not info["missing_keys"] and not info["unexpected_keys"], f"{info}")
    else:
        stored = {k.replace("vision_tower.vision_model.", "vision_tower."): v for k, v in stored.items()}
        need(set(stored) == set(source), f"other tensors: {sorted(set(stored) ^ set(source))[:3]}")
        need(all(torch.equal(stored[k], v) for k, v in vision.items()), "vision tensors changed")
        need(type(loaded) is transformers.Gemma3ForConditionalGeneration, f"loads as {type(loaded).__name__}")
    return max(worst, difference(expected, logprobs(loaded, bench.data)),
               difference(expected, bench.ours.logprobs(written, bench.data)))


for layout in ("hub", "siglip inside", "in memory", "text only"):
    for how in ("train", "merge"):
        for text_only in (False, True):
            add(f"gemma3 layout {layout}: {how}{', --text-only' if text_only else ''}", layout_round_trip, layout=layout, how=how,
                text_only=text_only)


@check("gemma3 layout: a missing tensor is refused")
def missing_weight(bench):
    source = bench.model(family="gemma3")
    tensors = tensors_of(source)
    del tensors["language_model.model.layers.1.self_attn.q_norm.weight"]
    line = bench.ours.refuses("eval", "--model", copied(bench, source, tensors), "--data", bench.data)
    need("layers.1.self_attn.q_norm.weight" in line, line)
    return 0.0


# --------------------------------------------------------------- configurations


@check("sparse config: gemma3 with the six keys of published files")
def sparse_gemma3(bench):
    """Everything else by default: 8 heads over 4, 256 to a head, 262208 words."""
    text = {"model_type": "gemma3_text", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 6, "sliding_window": 8,
            "rope_scaling": {"factor": 8.0, "rope_type": "linear"}}
    vision = config_of(bench.model(family="gemma3"))["vision_config"]
    config = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "text_config": text, "vision_config": vision,
              "mm_tokens_per_image": 4, "torch_dtype": "float32", "eos_token_id": [1, 106]}
    folder = bench.new_folder("sparse")
    small_model(folder, 5, config=transformers.Gemma3Config.from_dict(config))
    (folder / "config.json").write_text(json.dumps(config))
    return difference(logprobs(load(folder), bench.data), bench.ours.logprobs(folder, bench.data))


def sparse(bench, family):
    """Without every key that has the family's default."""
    source = bench.model(family=family)
    config, default = config_of(source), FAMILIES[family][0]().to_dict()
    left = {k: v for k, v in config.items() if k in ("model_type", "architectures") or default.get(k) != v}
    need(len(left) < len(config), "nothing was left out")
    folder = copied(bench, source, config=left)
    return difference(logprobs(load(source), bench.data), bench.ours.logprobs(folder, bench.data))


for family in FAMILIES:
    add(f"sparse config: {family}", sparse, family=family)

OLD_KEYS = ("rope_theta", "rope_scaling", "rope_local_base_freq", "torch_dtype", "sliding_window_pattern")
NEW_KEYS = ("rope_parameters", "dtype", "layer_types", "_sliding_window_pattern")


def without(config, keys):
    return {k: without(v, keys) if k == "text_config" else v for k, v in config.items() if k not in keys}


def with_old_keys(config):
    """A config of transformers 5 in the words of transformers 4."""
    if "text_config" in config:
        return without({**config, "text_config": with_old_keys(config["text_config"]), "torch_dtype": config["dtype"]}, NEW_KEYS)
    old, rope = without(config, NEW_KEYS), config["rope_parameters"]
    if "full_attention" in rope:
        old["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        old["sliding_window_pattern"] = config["_sliding_window_pattern"]
        rope = rope["full_attention"]
    old["rope_theta"] = rope["rope_theta"]
    scaling = {k: v for k, v in rope.items() if k != "rope_theta"}
    old["rope_scaling"] = None if scaling["rope_type"] == "default" else scaling
    if "dtype" in config:
        old["torch_dtype"] = config["dtype"]
    return old


def scaling_of(rope):
    """The parameters that change frequencies, under the names of transformers 5."""
    rope = {k: v for k, v in (rope or {}).items() if v is not None and k != "rope_theta"}
    rope["rope_type"] = rope.pop("type", rope.get("rope_type", "default"))
    return rope


def windows(layers, is_sliding, window):
    return [window if window and is_sliding(i) else None for i in range(layers)]


def old_reader(config):
    """What a reader of transformers 4's time makes of a config.json: it knows no new key and has that time's defaults."""
    text = {**config, **config.get("text_config", {})}
    kind, layers, window = text["model_type"], text["num_hidden_layers"], text.get("sliding_window")
    is_gemma3 = kind in ("gemma3", "gemma3_text")
    pattern = text.get("sliding_window_pattern", 6)
    sliding = {"gemma2": lambda i: i % 2 == 0, "mistral": lambda i: True, "gemma3_text": lambda i: (i + 1) % pattern != 0,
               "qwen2": lambda i: text.get("use_sliding_window", False) and i >= text.get("max_window_layers", 28)}
    return {
        "theta": text.get("rope_theta", 1000000.0 if is_gemma3 else 10000.0), "scaling": scaling_of(text.get("rope_scaling")),
        "local_theta": text.get("rope_local_base_freq", 10000.0) if is_gemma3 else None,
        "windows": windows(layers, sliding.get(kind, sliding["qwen2"]), window),
        "dtype": config.get("torch_dtype", "float32"), "head_dim": text.get("head_dim"),
        "tied": config.get("tie_word_embeddings", text.get("tie_word_embeddings", kind.startswith("gemma")))}


def new_reader(folder):
    """The same by transformers 5."""
    whole = transformers.AutoConfig.from_pretrained(folder)
    text, rope = whole.get_text_config(), whole.get_text_config().rope_parameters
    full = rope.get("full_attention", rope)
    kinds = getattr(text, "layer_types", None)
    return {
        "theta": full["rope_theta"], "scaling": scaling_of(full),
        "local_theta": rope["sliding_attention"]["rope_theta"] if "full_attention" in rope else None,
        "windows": windows(text.num_hidden_layers, lambda i: kinds is None or kinds[i] == "sliding_attention",
                           getattr(text, "sliding_window", None)),
        "dtype": str(whole.dtype).removeprefix("torch."), "head_dim": getattr(text, "head_dim", None),
        "tied": whole.tie_word_embeddings}


def same_config(bench, family, style):
    """Our config.json in the eyes of both readers, and with only the old or only the new keys."""
    source = bench.model(family=family)
    original = new_reader(source)
    if style == "old":
        source = copied(bench, source, config=with_old_keys(config_of(source)))
        need(new_reader(source) == original, "the check's own translation is wrong")
    final = bench.ours.train(source, bench.train_data, bench.new_folder("run"), steps=1, method="full",
                             **{"train.learning_rate": "0.003"})
    whole, expected = config_of(final), bench.ours.logprobs(final, bench.data)
    old = old_reader(without(whole, NEW_KEYS))
    need(old["head_dim"] in (original["head_dim"], None), "head_dim")
    old["head_dim"] = original["head_dim"]
    need(old == original, f"with old keys {({k: v for k, v in old.items() if v != original[k]})}, was {original}")
    worst = 0.0
    for keys in ((), OLD_KEYS, NEW_KEYS):
        folder = copied(bench, final, config=without(whole, keys))
        read = new_reader(folder)
        need(read == original, f"without {keys}: {({k: v for k, v in read.items() if v != original[k]})}, was {original}")
        worst = max(worst, difference(expected, logprobs(load(folder), bench.data)),
                    difference(expected, bench.ours.logprobs(folder, bench.data)))
    return worst


for family in NEIGHBOURS:
    for style in ("new", "old"):
        add(f"our config.json for old and new readers: {family}, from {style} keys", same_config, family=family, style=style)


# ------------------------------------------------------------------- embeddings

HEADS = {"llama": "lm_head.weight", "gemma3_text": "lm_head.weight", "qwen2": "lm_head.weight",
         "gemma3": "language_model.lm_head.weight"}


def with_head(bench, family, change):
    """A tied model whose file has a head as well: the embedding's copy, or another."""
    source = bench.model(family=family, tied=True)
    tensors = tensors_of(source)
    embedding = tensors[HEADS[family].replace("lm_head", "model.embed_tokens")]
    tensors[HEADS[family]] = embedding + 0.01 if change else embedding.clone()
    return source, copied(bench, source, tensors)


def stored_head(bench, family):
    source, folder = with_head(bench, family, False)
    final = bench.ours.train(folder, bench.train_data, bench.new_folder("run"), steps=1, method="full",
                             **{"train.learning_rate": "0.003"})
    need(not [k for k in tensors_of(final) if "lm_head" in k], "the tied model was written with a head")
    return max(difference(logprobs(load(source), bench.data), bench.ours.logprobs(folder, bench.data)),
               difference(logprobs(load(final), bench.data), bench.ours.logprobs(final, bench.data)))


def conflicting_head(bench, family):
    _, folder = with_head(bench, family, True)
    line = bench.ours.refuses("eval", "--model", folder, "--data", bench.data)
    need("lm_head" in line and "tie_word_embeddings" in line, f"the error names neither head nor tie: {line}")
    return 0.0


def absent_head(bench, family):
    source = bench.model(family=family, tied=True)
    line = bench.ours.refuses("eval", "--model", copied(bench, source, config={**config_of(source), "tie_word_embeddings": False}),
                              "--data", bench.data)
    need("lm_head.weight" in line, line)
    return 0.0


def untied(bench, family):
    source = bench.model(family=family, tied=False)
    need(any("lm_head" in k for k in tensors_of(source)), "the check's own model is tied")
    return full_to_transformers(bench, {"family": family, "tied": False}, {"train.learning_rate": "0.003"}, "float32")


for family in HEADS:
    add(f"embeddings: {family}, tied and the same head stored too", stored_head, family=family)
    add(f"embeddings: {family}, tied and another head stored", conflicting_head, family=family)
    if family != "gemma3":  # its flag stands in two places
        add(f"embeddings: {family}, untied and no head stored", absent_head, family=family)
        add(f"embeddings: {family}, untied", untied, family=family)


# ------------------------------------------------------------------ merge report


def merge_report(bench, family):
    """A bfloat16 base: the merged model is what the adapter gave but for one rounding, and merge says how large that is."""
    model = bench.model(family=family, dtype=torch.bfloat16)
    adapter = bench.ours.train(model, bench.train_data, bench.new_folder("run"), method="lora")
    merged = bench.new_folder("merged")
    words = ("merge", "--model", model, "--adapter", adapter, "--output", merged)
    report = bench.ours.report(*words)
    off = difference(bench.ours.logprobs(model, bench.data, adapter), bench.ours.logprobs(merged, bench.data))
    need(off < 0.25, f"log-probabilities move by {off:.2e}")
    need(re.search(r"round\w*\D*\d", report), f"the report does not say how far rounding moved the weights: {report.strip()[-200:]}")
    return 0.0


for family in ("llama", "gemma3"):
    add(f"merge report: {family}, bfloat16", merge_report, family=family)
