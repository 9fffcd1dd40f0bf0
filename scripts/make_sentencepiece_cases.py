#!/usr/bin/env python3
"""Makes tests/data/sentencepiece: two small models of the kinds in use and what the reference library does with them.

  python3 scripts/make_sentencepiece_cases.py      needs the Python packages sentencepiece (0.2.3) and protobuf

llama_like: BPE, byte fallback, a space put before the text (Llama 2, Mistral). gemma_like: BPE, byte fallback, no such
space, user-defined pieces (runs of newlines and spaces, HTML tags, turn markers). unigram_like: unigram, rules that
rewrite characters, spaces joined, no byte fallback: what the library does beyond what these families need. Trained on our own text (configs/quickstart_data).
Cases: text, ids, surface ranges in bytes, decoded; and ids alone for the decoder (cut characters, control pieces).
"""
import io
import json
import os
import pathlib
import random
import tempfile

import sentencepiece as spm

ROOT = pathlib.Path(__file__).resolve().parent.parent
OUT = ROOT / "tests/data/sentencepiece"
GEMMA_SYMBOLS = (["<mask>", "<start_of_turn>", "<end_of_turn>", "<unused0>", "<unused1>"]
                 + ["\n" * n for n in range(1, 6)] + ["\u2581" * n for n in range(2, 9)]
                 + ["<b>", "</b>", "<table>"])
MODELS = {
    "llama_like": dict(model_type="bpe", vocab_size=900, byte_fallback=True, normalization_rule_name="identity",
                       remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True),
    "gemma_like": dict(model_type="bpe", vocab_size=900, byte_fallback=True, normalization_rule_name="identity",
                       remove_extra_whitespaces=False, add_dummy_prefix=False, split_digits=True,
                       pad_id=0, eos_id=1, bos_id=2, unk_id=3, pad_piece="<pad>", eos_piece="<eos>", bos_piece="<bos>",
                       user_defined_symbols=GEMMA_SYMBOLS),
    "unigram_like": dict(model_type="unigram", vocab_size=400, normalization_rule_tsv="rules.tsv"),
}
# Characters and what they become, in code points; one grows, one goes.
RULES = "FF21\t41\nFF22\t42\nFB01\t66 69\n2460\t28 31 29\n200D\t\nA0\t20\n65 301\tE9\n"
TEXTS = ["", " ", "  ", "a", " a", "a ", "The keeper lit the lamp.", "  two  spaces   three    ", "tab\there", "line\nline\r\n",
         "\n\n\n", "1234567 and 3.14", "na\u00efve caf\u00e9 \u00c5ngstr\u00f6m", "\u4f60\u597d\uff0c\u4e16\u754c", "\u3053\u3093\u306b\u3061\u306f",
         "\U0001F600 smile \U0001F468\u200d\U0001F469\u200d\U0001F467", "e\u0301 combining", "\u2581 literal block \u2581\u2581", "\ufffd",
         "\u00a0nbsp\u3000wide", "\uff21\uff22\uff23 \u2460 \ufb01", "<s>", "a </s> b", "<unk>", "<0x41>", "<bos>hi<eos>",
         "<b>bold</b> <table>", "x" * 100, "the " * 40, "code: if (a[i] != b) { return 0; }", "\u0000nul", "\x7f\x01",
         " \n \n ", "a" + " " * 12 + "b", "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627", "lighthouse-keeper's", "ALL CAPS",
         "<start_of_turn>user\nhi<end_of_turn>\n"]


def sentences():
    for name in ("train", "eval"):
        for line in open(ROOT / f"configs/quickstart_data/{name}.jsonl", encoding="utf-8"):
            for message in json.loads(line)["messages"]:
                yield message["content"]


def cases(processor, rng):
    bos = processor.bos_id()
    texts = TEXTS + rng.sample([s for s in sentences() if len(s) < 200], 25)
    alphabet = [chr(c) for c in range(32, 127)] + list("\u00e9\u00df\u4e2d\u6587\U0001F642\n\t ")
    texts += ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 40))) for _ in range(25)]
    for text in texts:
        found = processor.encode(text, return_type="proto")
        ids = [p.id for p in found.pieces]
        yield {"text": text, "ids": ids, "ranges": [[p.begin, p.end] for p in found.pieces], "decoded": processor.decode(ids)}
        if len(ids) > 2:
            yield {"ids": ids[rng.randint(1, len(ids) - 1):], "decoded": None}
            yield {"ids": ids[:rng.randint(1, len(ids) - 1)], "decoded": None}
    byte = processor.piece_to_id("<0xE4>")
    for ids in [[bos], [bos] + processor.encode("a b"), [processor.unk_id()], processor.encode("a") + [processor.unk_id()]]:
        yield {"ids": ids, "decoded": None}
    if not processor.is_unknown(byte):
        for ids in [[byte], [byte, byte], [byte, bos, byte], processor.encode("a") + [byte] + processor.encode(" b")]:
            yield {"ids": ids, "decoded": None}


def main():
    os.chdir(tempfile.mkdtemp())  # a model remembers the name of its rules
    pathlib.Path("rules.tsv").write_text(RULES, encoding="utf-8")
    for name, options in MODELS.items():
        rng = random.Random(7)
        model = io.BytesIO()
        spm.SentencePieceTrainer.train(sentence_iterator=sentences(), model_writer=model, num_threads=1, minloglevel=2,
                                       **options)
        folder = OUT / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "tokenizer.model").write_bytes(model.getvalue())
        processor = spm.SentencePieceProcessor(model_proto=model.getvalue())
        with open(folder / "cases.jsonl", "w", encoding="utf-8") as out:
            for case in cases(processor, rng):
                if case["decoded"] is None:
                    case["decoded"] = processor.decode(case["ids"])
                out.write(json.dumps(case) + "\n")
        print(name, len(model.getvalue()), "bytes", processor.get_piece_size(), "pieces")


if __name__ == "__main__":
    main()
