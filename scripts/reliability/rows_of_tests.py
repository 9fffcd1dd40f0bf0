#!/usr/bin/env python3
"""The rows that are tests: a7, b1 and b2, d1 to d10, f3, with how near to their limits they came. Three rows also compare with the
Python libraries directly, where there is a Python that has them (PYTHON of scripts/peer_python.sh), with real models from FINETUNE_ASSETS:
  d2: log-probabilities of target tokens, transformers in float32 being the truth: ours in float32, ours and theirs in bfloat16.
  d3: 50 steps of LoRA on the same batches from the same start as PEFT with torch's AdamW, in float32.
  d7: the ids of 100,000 lines of mixed text, as the tokenizers library gives them.      rows_of_tests.py [ROW ...]"""
import importlib.util
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import xml.etree.ElementTree

import runs

sys.path.insert(0, str(runs.ROOT / "scripts"))
BUILD = pathlib.Path(runs.PROGRAM).parent
TESTS = {
    "a7": {"tensor_tests": "Resume.*:*ResumeOf*"},
    "b1": {"tensor_tests": "*/Bad*:*OddInput*:FullDisk*:MappedFiles*"},  # and b2: the figure is the longest processor time of one
    "d1": {"tensor_tests": "Catalogue/KernelGradients*"},
    "d2": {"tensor_tests": "*ForwardParity*"},
    "d3": {"tensor_tests": "*TrainingParity*:*TrainCommandParity*"},
    "d4": {"tensor_tests": "TrainNumbers.AccumulationEqualsALargerBatch"},
    "d5": {"tensor_tests": "QuantizedParity*:Quantized.*:*QuantizedModel*:Adamw8bit*"},
    "d6": {"tensor_tests": "*MergeParity*:*MergeCommandParity*:MergeCommand.*:Merge.*"},
    "d7": {"tensor_tests": "*TokenizeParity*", "core_tests": "TokenizerParity*"},
    "d8": {"tensor_tests": "TokenizeChat*", "core_tests": "TokenizerParity.ChatIds*:ChatTemplate*"},
    "d9": {"tensor_tests": "TrainNumbers.Deterministic*:Train.ConfigYamlRepeatsTheRun"},
    "d10": {"tensor_tests": "TrainStops*:Metrics.ALoss*:Ahead.AStep*"},
    "f3": {"core_tests": "Jinja.Limits*:Jinja.DeepSource*:Jinja.WhatNo*:ChatTemplate.InputCannot*"},
}


def tested(row):
    """(good, text): how many tests passed, and the largest of each figure they left."""
    passed, others, figures = 0, [], {}
    for program, names in TESTS[row].items():
        with tempfile.NamedTemporaryFile(suffix=".xml") as out:
            subprocess.run([BUILD / program, f"--gtest_filter={names}", f"--gtest_output=xml:{out.name}"], env=runs.ENVIRONMENT,
                           capture_output=True)
            for case in xml.etree.ElementTree.parse(out.name).iter("testcase"):
                name = f"{case.get('classname')}.{case.get('name')}"
                if case.find("failure") is not None:
                    others.append(f"{name} failed")
                elif case.find("skipped") is not None:
                    others.append(f"{name} skipped")
                else:
                    passed += 1
                for p in case.iter("property"):
                    figures[p.get("name")] = max(figures.get(p.get("name"), 0), float(p.get("value")))
    failed = [o for o in others if o.endswith("failed")]
    text = f"{passed} tests" + (f", {len(others) - len(failed)} skipped" if len(others) > len(failed) else "")
    text += "".join(f", {n.replace('_', ' ')} {v:.2g}" for n, v in figures.items())
    return passed > 0 and not failed, text + "".join(f"; {f}" for f in failed)


def real_models():
    assets = pathlib.Path(os.environ.get("FINETUNE_ASSETS", "/nowhere"))
    return [assets / name for name in ("smollm2", "gemma3-270m") if (assets / name / "model.safetensors").exists()]


def documents(folder, model, count, length):
    """Rows of ids: of this repository's README, or for models without a tokenizer words that come again and again."""
    draw, ids = random.Random(5), []
    if (model / "tokenizer.json").exists():
        import tokenizers
        text = (runs.ROOT / "README.md").read_text() + (runs.ROOT / "src/README.md").read_text()
        ids = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json")).encode(text).ids
    else:
        vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
        words = [[draw.randrange(3, vocabulary) for _ in range(draw.randrange(1, 4))] for _ in range(60)]
        ids = [token for _ in range(count * length) for token in draw.choice(words)]
    file = folder / f"rows-{model.name}-{count}.jsonl"
    with open(file, "w") as out:
        for i in range(count):
            out.write(json.dumps({"input_ids": ids[i * length:(i + 1) * length]}) + "\n")
    assert len(ids) >= count * length
    return file


def models(folder):
    import interop_tools
    return [interop_tools.small_model(folder / family, 7, family=family) for family in ("llama", "gemma3_text")] + real_models()


def bfloat16(folder):
    """Mean error of log-probabilities; ours may be a tenth above transformers'."""
    import interop_tools
    import torch
    ours, texts, good = interop_tools.Ours(runs.PROGRAM), [], True
    for model in models(folder):
        data = documents(folder, model, 6, 60)
        truth = interop_tools.logprobs(interop_tools.load(model), data)
        theirs = interop_tools.logprobs(interop_tools.load(model, torch.bfloat16), data)
        mean = lambda x: float(torch.cat([a - b for a, b in zip(x, truth)]).abs().mean())
        exact, low, peer = interop_tools.difference(ours.logprobs(model, data), truth), mean(ours.logprobs(model, data, dtype="bfloat16")), mean(theirs)
        good &= exact <= 1e-4 * max(1, float(torch.cat(truth).abs().max())) and low <= 1.1 * peer
        texts.append(f"{model.name}: float32 max {exact:.1e}, bfloat16 mean {low:.4f} (transformers {peer:.4f})")
    return good, "; ".join(texts)


def fifty_steps(folder):
    import interop_tools
    import peft
    import safetensors.torch
    import torch
    steps, batch, texts, good = 50, 2, [], True
    for model in models(folder)[:3]:
        data = documents(folder, model, steps * batch, 48)
        torch.manual_seed(1)
        theirs = peft.get_peft_model(interop_tools.load(model), peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear"))
        start = folder / f"start-{model.name}"
        theirs.save_pretrained(start)
        rows = torch.tensor([json.loads(line)["input_ids"] for line in open(data)])
        trained = [p for p in theirs.parameters() if p.requires_grad]
        optimizer, losses = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.0), []
        for step in range(steps):
            ids = rows[step * batch:(step + 1) * batch]
            loss = theirs(input_ids=ids, labels=ids, use_cache=False).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
        output = folder / f"trained-{model.name}"
        final = interop_tools.Ours(runs.PROGRAM).train(
            model, data, output, steps=steps, data__packing="false", data__shuffle="false", train__batch_size=batch,
            train__learning_rate="1e-3", lora__resume_from=start)
        lines = [json.loads(line) for line in open(output / "metrics.jsonl")]
        found = [line["loss"] for line in lines if line["type"] == "train"]
        worst = max(abs(a / b - 1) for a, b in zip(found, losses, strict=True))
        mine = safetensors.torch.load_file(final / "adapter_model.safetensors")
        wanted = peft.get_peft_model_state_dict(theirs, save_embedding_layers=False)
        cosine = min(float(torch.nn.functional.cosine_similarity(mine[n].double().flatten(), wanted[n].double().flatten(), dim=0))
                     for n in wanted)
        good &= worst <= 1e-4 and cosine >= 0.9999 and set(mine) == set(wanted)
        texts.append(f"{model.name}: losses {losses[0]:.2f} to {losses[-1]:.2f} within {worst:.1e}, least cosine 1 - {1 - cosine:.1e}")
    return good, f"{steps} steps of PEFT, " + "; ".join(texts)


# First and last code point of what lines are mixed from: letters of many scripts, right to left ones, marks, signs, emoji, controls.
RANGES = [(0x20, 0x7E), (0x20, 0x7E), (0x61, 0x7A), (0x61, 0x7A), (0x30, 0x39), (0xA0, 0x24F), (0x300, 0x36F), (0x370, 0x52F), (0x590, 0x6FF),
          (0x900, 0xE7F), (0x1E00, 0x206F), (0x2070, 0x2BFF), (0x3000, 0x30FF), (0x4E00, 0x9FFF), (0xAC00, 0xD7A3), (0xE000, 0xE0FF),
          (0xFE00, 0xFFFD), (0x1F300, 0x1FAFF), (0x1F1E6, 0x1F1FF), (0x20000, 0x2A6DF), (0xE0001, 0xE01EF), (1, 0x1F), (0x7F, 0x9F)]
SPACES = ["\n", "\n\n", "\r\n", "\t", " ", "  ", "\u00a0", "\u200b", "\u3000", "\u2028"]
WORDS = ["the", "don't", "I'LL", "we've", "def f(x):", "https://a.b/c?d=e&f", "3.14159", "12345678", "-->", "...", "<|im_end|>", "<eos>",
         "👩‍👩‍👧‍👦", "🇩🇪", "e\u0301", "\ufeff", "\u202eabc\u202c", "مرحبا", "שלום", "日本語", "한국어", "ไทย", "नमस्ते"]


def line(draw):
    parts = []
    for _ in range(draw.randrange(1, 10)):
        kind = draw.randrange(10)
        if kind < 4:
            low, high = draw.choice(RANGES)
            parts.append("".join(chr(draw.randint(low, high)) for _ in range(draw.randrange(1, 9))))
        elif kind < 7:
            parts.append(draw.choice(WORDS))
        elif kind < 9:
            parts.append(draw.choice(SPACES) * draw.randrange(1, 4))
        else:
            parts.append(draw.choice(["a", "=", " ", "\n", "0", "哈", "🙂"]) * draw.choice([3, 17, 130]))
        if draw.random() < 0.5:
            parts.append(" ")
    return "".join(parts)


def hundred_thousand_lines(folder):
    import tokenizers
    draw, count, texts, good = random.Random(7), 100_000, [], True
    lines = [line(draw) for _ in range(count)]
    (folder / "lines.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in lines))
    for model in sorted((runs.ROOT / "tests/data/tokenizer_variants").iterdir()) + real_models():
        with open(folder / "ids.jsonl", "w") as out:
            subprocess.run([runs.PROGRAM, "tokenize", "--model", model, "--file", folder / "lines.jsonl", "--parse-special"], stdout=out,
                           check=True)
        theirs = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
        differ, tokens = 0, 0
        with open(folder / "ids.jsonl") as found:
            for begin in range(0, count, 10_000):
                for encoded in theirs.encode_batch(lines[begin:begin + 10_000], add_special_tokens=False):
                    ids = json.loads(next(found))["ids"]
                    differ += ids != encoded.ids
                    tokens += len(ids)
        good &= differ == 0
        texts.append(f"{model.name} {differ} of {tokens} tokens' lines")
    return good, f"{count} lines, other than tokenizers': " + ", ".join(texts)


DIRECT = {"d2": bfloat16, "d3": fifty_steps, "d7": hundred_thousand_lines}


def main():
    status = 0
    has_peers = importlib.util.find_spec("peft") is not None
    if has_peers:
        import torch
        import transformers
        torch.set_num_threads(1)
        transformers.utils.logging.disable_progress_bar()
    for row in sys.argv[1:] or TESTS:
        status |= not runs.row(row, *reversed(tested(row)))
        if row not in DIRECT:
            continue
        if not has_peers:
            print("      without PEFT and transformers: not compared with them directly")
            continue
        with tempfile.TemporaryDirectory(prefix="finetune-reliability-") as folder:
            status |= not runs.row(row, *reversed(DIRECT[row](pathlib.Path(folder))))
    return status


if __name__ == "__main__":
    sys.exit(main())
