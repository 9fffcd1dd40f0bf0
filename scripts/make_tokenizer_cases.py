#!/usr/bin/env python3
"""Makes tests/data/tokenizer_parts: small tokenizer.json files, one for each part of the pipeline that the larger ones in
tokenizer_variants do not have, and what the reference library does with them.

  python3 scripts/make_tokenizer_cases.py [OUT [RANDOM]]      needs the Python packages tokenizers (0.23) and sentencepiece; RANDOM: random texts a file, 12

Trained on our own text (configs/quickstart_data). Cases have the fields of those in tokenizer_variants.
"""
import json
import pathlib
import random
import sys

from make_sentencepiece_cases import ROOT, TEXTS, sentences
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

MARK = "\u2581"
FLAGS = {"<strip>": dict(lstrip=True, rstrip=True), "<left>": dict(lstrip=True), "<right>": dict(rstrip=True), "<word>": dict(single_word=True),
         "word": dict(single_word=True, special=False), "\u00e9t\u00e9": dict(normalized=True, special=False)}
NEAR_FLAGS = [f"{a}{token}{b}" for token in FLAGS for a in ("", " ", "a", "\u00e9", " \t\u00a0", "-", "1_") for b in ("", " ", "b", "\u4f60", "\u3000\n", ".")]
NEAR_FLAGS += ["<left><right>", " <strip>  <strip> ", "swordfish word words", "<word><word>", "<right> <left>"]


def metaspace(scheme, split=True):
    return dict(pre=pre_tokenizers.Metaspace(MARK, scheme, split), decoder=decoders.Metaspace(MARK, scheme, split), bytes=True)


PARTS = {
    "metaspace_always": metaspace("always"),
    "metaspace_first": metaspace("first"),
    "metaspace_never": metaspace("never"),
    "metaspace_whole": metaspace("first", split=False),
    "whitespace": dict(pre=pre_tokenizers.Whitespace()),
    "whitespace_split": dict(pre=pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Digits(individual_digits=True)])),
    "punctuation": dict(pre=pre_tokenizers.Sequence([pre_tokenizers.Punctuation("merged_with_previous"), pre_tokenizers.Digits()])),
    "split_inverted": dict(pre=pre_tokenizers.Split(Regex(r"\w+|[^\w\s]+"), "removed", invert=True)),
    "strip_both": dict(norm=normalizers.Sequence([normalizers.Strip(), normalizers.NFKC(), normalizers.Replace(Regex(r" {2,}"), " ")]),
                       pre=pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "merged_with_next"), pre_tokenizers.ByteLevel(add_prefix_space=False)]),
                       decoder=decoders.ByteLevel()),
    "prefix_space": dict(pre=pre_tokenizers.ByteLevel(add_prefix_space=True), decoder=decoders.ByteLevel()),
    "flags_bytes": dict(pre=pre_tokenizers.ByteLevel(add_prefix_space=False), decoder=decoders.ByteLevel(), flags=True),
    "flags_metaspace": dict(metaspace("first"), flags=True),
    "flags_normalized": dict(norm=normalizers.Sequence([normalizers.NFD(), normalizers.Prepend(MARK), normalizers.Replace(" ", MARK)]),
                             decoder=decoders.Sequence([decoders.Replace(MARK, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]),
                             bytes=True, flags=True),
}


def make(part):
    fallback = part.get("bytes", False)
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=fallback, fuse_unk=fallback))
    special = ["<unk>", "<s>", "</s>"] + ([f"<0x{b:02X}>" for b in range(256)] if fallback else [])
    trainer = trainers.BpeTrainer(vocab_size=460 if fallback else 420, special_tokens=special, show_progress=False,
                                  initial_alphabet=pre_tokenizers.ByteLevel.alphabet() if "ByteLevel" in repr(part["pre"] if "pre" in part else "") else [])
    if "norm" in part:
        tokenizer.normalizer = part["norm"]
    if "pre" in part:
        tokenizer.pre_tokenizer = part["pre"]
    tokenizer.train_from_iterator(sentences(), trainer)
    # The bytes are no special tokens: only the trainer puts them first that way.
    raw = json.loads(tokenizer.to_str())
    raw["added_tokens"] = [t for t in raw["added_tokens"] if not t["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(raw))
    if "decoder" in part:
        tokenizer.decoder = part["decoder"]
    if part.get("flags"):
        for text, flags in FLAGS.items():
            flags = dict(special=True, normalized=False) | flags
            tokenizer.add_tokens([AddedToken(text, **flags)]) if not flags["special"] else tokenizer.add_special_tokens([AddedToken(text, **flags)])
    return tokenizer


def cases(tokenizer, texts):
    for n, text in enumerate(texts):
        found = tokenizer.encode(text, add_special_tokens=False)
        yield {"n": n, "text": text, "ids": found.ids, "ids_special": tokenizer.encode(text).ids,
               "decoded": tokenizer.decode(found.ids, skip_special_tokens=False), "decoded_skip_special": tokenizer.decode(found.ids)}


def main():
    out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/data/tokenizer_parts"
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    for name, part in PARTS.items():
        rng = random.Random(name)
        alphabet = [chr(c) for c in range(32, 127)] + list("    \u00e9\u00df\u4e2d\u6587\U0001F642\n\t\u00a0\u3000\u2581\u0301\ufb01") + list(part.get("flags") and FLAGS or "")
        texts = TEXTS + (NEAR_FLAGS if part.get("flags") else []) + rng.sample([s for s in sentences() if len(s) < 200], 10)
        texts += ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 30))) for _ in range(count)]
        folder = out / name
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = make(part)
        (folder / "tokenizer.json").write_text(json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":")))
        with open(folder / "cases.jsonl", "w", encoding="utf-8") as lines:
            for case in cases(tokenizer, texts):
                lines.write(json.dumps(case, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
