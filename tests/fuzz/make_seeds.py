#!/usr/bin/env python3
"""Writes tests/fuzz/seeds: small good and bad inputs from which the fuzz targets start. Text and test data of this repository;
run it again after adding some. GGUF seeds are the output of tests/gguf_tiny.h and stay as they are."""
import json
import pathlib
import struct

ROOT = pathlib.Path(__file__).resolve().parents[2]
SEEDS = ROOT / "tests/fuzz/seeds"
DATA = ROOT / "tests/data"


def put(target, name, content):
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())


def container(header, data=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def entry(begin, end, shape, dtype="F32"):
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def safetensors():
    put("safetensors", "good", container({"__metadata__": {"format": "pt"}, "a": entry(0, 16, [2, 2]), "b": entry(16, 18, [1], "BF16")},
                                         bytes(18)))
    put("safetensors", "nothing", container({}))
    put("safetensors", "scalar_and_empty", container({"a": entry(0, 4, []), "b": entry(4, 4, [0, 3])}, bytes(4)))
    put("safetensors", "overlap", container({"a": entry(0, 8, [2]), "b": entry(4, 12, [2])}, bytes(12)))
    put("safetensors", "hole", container({"a": entry(0, 4, [1]), "b": entry(8, 12, [1])}, bytes(12)))
    put("safetensors", "wraps", container({"a": entry(0, 16, [4194305, 4194305, 211106198978564])}, bytes(16)))
    put("safetensors", "negative", container({"a": entry(-8, 8, [4])}, bytes(16)))
    put("safetensors", "twice", container(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
                                          bytes(1)))
    put("safetensors", "long_header", struct.pack("<Q", 2**63) + b"{}")
    put("safetensors", "every_dtype", container({d: entry(8 * i, 8 * i + 8, [8 // s], d) for i, (d, s) in enumerate(
        [("BOOL", 1), ("U8", 1), ("I8", 1), ("I16", 2), ("I32", 4), ("I64", 8), ("F16", 2), ("F32", 4), ("F64", 8)])}, bytes(72)))


def shard_index():
    for name, shards in {"good": {"a": "a.safetensors", "b": "b.safetensors"}, "parent": {"outside": "../outside.safetensors"},
                         "absolute": {"outside": "/dev/shm/outside.safetensors"}, "missing": {"a": "c.safetensors"},
                         "one": {"a": "a.safetensors"}, "wrong": {"a": "b.safetensors"}, "dots": {"a": ".."}}.items():
        put("shard_index", name, json.dumps({"metadata": {"total_size": 32}, "weight_map": shards}))


def tokenizers():
    def specials(*texts):
        return [{"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
                for i, t in enumerate(texts)]

    def tokenizer(model, **parts):
        return json.dumps({"version": "1.0", "truncation": None, "padding": None, "added_tokens": specials("<s>", "</s>"),
                           "normalizer": None, "pre_tokenizer": None, "post_processor": None, "decoder": None, **parts, "model": model})
    letters = {c: i + 2 for i, c in enumerate("abcdefghijklmnopqrstuvwxyzHW,!.' 0123456789\u0120\u010a\u0122\u2581\u00c3\u00a9")}
    letters.update({"<s>": 0, "</s>": 1, "he": 60, "ll": 61, "hell": 62})
    bpe = {"type": "BPE", "dropout": None, "unk_token": None, "continuing_subword_prefix": None, "end_of_word_suffix": None,
           "fuse_unk": False, "byte_fallback": False, "ignore_merges": False, "vocab": letters,
           "merges": [["h", "e"], ["l", "l"], ["he", "ll"]]}
    split = {"type": "Split", "pattern": {"Regex": "(?i:'s|'t)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|\\s+(?!\\S)|\\s+"},
             "behavior": "Isolated", "invert": False}
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    put("tokenizer_json", "byte_level", tokenizer(bpe, pre_tokenizer={"type": "Sequence", "pretokenizers": [split, level]},
                                                  decoder={"type": "ByteLevel"}))
    put("tokenizer_json", "digits", tokenizer(bpe, pre_tokenizer={"type": "Sequence", "pretokenizers": [
        {"type": "Digits", "individual_digits": True}, {**level, "use_regex": True}]}, decoder={"type": "ByteLevel"}))
    fallback = {**bpe, "byte_fallback": True, "fuse_unk": True, "unk_token": "<s>",
                "vocab": {**letters, **{f"<0x{b:02X}>": 100 + b for b in range(256)}}}
    put("tokenizer_json", "byte_fallback", tokenizer(
        fallback, normalizer={"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                                                                  {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]},
        post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                        "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
        decoder={"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                                                  {"type": "ByteFallback"}, {"type": "Fuse"},
                                                  {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}))
    put("tokenizer_json", "unigram", tokenizer({"type": "Unigram", "unk_id": 0, "vocab": [["<s>", 0.0], ["</s>", 0.0], ["a", -1.5]],
                                                "byte_fallback": False}))
    for family in ("gemma_like", "llama_like", "unigram_like"):
        put("sentencepiece", family, (DATA / f"sentencepiece/{family}/tokenizer.model").read_bytes())


def templates():
    for file in sorted((DATA / "chat").glob("*.jinja")):
        put("chat_template", file.stem, file.read_bytes())
    for name, text in {"range": "{% for i in range(1000000000) %}{{ i }}{% endfor %}", "deep": "{{ " + "(" * 200 + "1" + ")" * 200 + " }}",
                       "recursion": "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}", "power": "{{ 10 ** 10 ** 10 }}",
                       "repeat": "{{ 'a' * 10000000000 }}", "doubling": "{% set ns = namespace(x='a') %}{% for i in range(60) %}{% set ns.x = ns.x ~ ns.x %}{% endfor %}{{ ns.x }}",
                       "attributes": "{{ messages.__class__.__mro__ }}", "include": "{% include '/etc/passwd' %}",
                       "slices": "{{ messages[::-1] | map(attribute='content') | join('x') }}{{ 'abc'[-5:7:2] }}"}.items():
        put("chat_template", name, text)


def configurations():
    for file in sorted((ROOT / "configs").glob("*.yaml")):
        put("run_config", file.stem, file.read_bytes())
    whole = "model: m\noutput_dir: o\ndata:\n  train: t.jsonl\n"
    for name, text in {"anchors": whole + "lora: &a\n  r: 4\neval: *a\n", "bomb": "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n",
                       "octal": whole + "seed: 010\n", "hex": whole + "seed: 0x10\n", "open": whole + 'method: "lora\n',
                       "two": whole + "---\n" + whole, "merge": whole + "train:\n  <<: {epochs: 2}\n", "deep": "a: " + "[" * 600,
                       "special": whole + "train: {learning_rate: .inf, betas: [0.9, .nan], warmup_steps: 1e999}\n",
                       "tag": whole + "seed: !!python/object 1\n", "quotes": whole + "data.x: 'it''s'\nlora: {rank_pattern: {\"a\\\"b\": 2}}\n"}.items():
        put("run_config", name, text)


def rows():
    samples = DATA / "samples"
    for file in sorted(samples.glob("*.jsonl")):
        put("json_lines", file.stem, file.read_bytes())
    put("json_lines", "deep", "[" * 5000)
    put("json_lines", "surrogate", '{"text": "\\ud800"}\n')
    put("json_lines", "nul_crlf_bom", b'\xef\xbb\xbf{"text": "a\\u0000b"}\r\n\r\n{"text": "c"}')
    put("json_lines", "labels", '{"input_ids": [5, 6, 7], "labels": [-100, 6, 7]}\n')
    put("csv", "comma", b"1" + (samples / "prompt_completion.csv").read_bytes())
    put("csv", "tab", b"0" + (samples / "prompt_completion.tsv").read_bytes())
    put("csv", "quotes", b'1prompt,completion\n"a ""b"", c","d\ne"\n,\n"",""\n')
    put("csv", "open_quote", b'1a,b\n"x,y\n')
    put("csv", "ragged", b"1a,b\n1\n2,3,4\n")
    put("csv", "same_names", b"1a,a\n1,2\n")
    put("csv", "nul_and_bom", b"1\xef\xbb\xbfa,b\r\n\0,2\r\n")
    put("parquet", "rows", (samples / "rows.parquet").read_bytes())
    put("parquet", "types", (samples / "types.parquet").read_bytes())
    put("parquet", "cut", (samples / "rows.parquet").read_bytes()[:-9])
    put("parquet", "magic", b"PAR1\0\0\0\0PAR1")
    for name, text in {"values": '{"a": [1, -2.5e-3, true, null, "\\u00e9\\n"], "b": {}}', "big": "[18446744073709551615, 1e999, -0.0, 1e-400]",
                       "twice": '{"a": 1, "a": 2}', "deep": "[" * 2000, "nan": "[NaN]"}.items():
        put("json", name, text)


def models():
    for config in sorted(DATA.glob("parity/*/*/model/config.json")):
        put("model_config", config.parts[-3], config.read_bytes())
    tiny = json.loads((DATA / "parity/D_training/llama_lora/model/config.json").read_text())
    for name, change in {"many_layers": {"num_hidden_layers": 10**9}, "wide": {"hidden_size": 2**62}, "no_heads": {"num_attention_heads": 0},
                         "uneven": {"num_key_value_heads": 3}, "text": {"vocab_size": "many"}, "fraction": {"hidden_size": 64.5}}.items():
        put("model_config", name, json.dumps({**tiny, **change}))
    adapter = DATA / "parity/D_training/llama_lora/adapter"
    put("adapter", "config", b"c" + (adapter / "adapter_config.json").read_bytes())
    put("adapter", "weights", b"w" + container({"base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight": entry(0, 2048, [8, 64])}, bytes(2048)))
    put("checkpoint", "state", b's{"step": 3, "tokens": 10, "seconds": 1.5, "best_eval_loss": 2.0, "last_eval_loss": null, '
        b'"evaluations_without_gain": 0, "owes_evaluation": false, "threads": 1, "device": "cpu", "inputs": {"model": "0"}, "config": ""}')
    put("checkpoint", "manifest", b'm{"state.json": {"bytes": 3, "checksum": "0"}}')
    put("checkpoint", "weights", b"t" + container({"a": entry(0, 16, [2, 2]), "b": entry(16, 20, [1])}, bytes(20)))


for write in (safetensors, shard_index, tokenizers, templates, configurations, rows, models):
    write()
