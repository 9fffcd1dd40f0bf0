"""The peers of the benchmark: transformers + PEFT in a plain loop, as fast as that stack honestly goes; on a GPU also the same
loop over models that Liger or Unsloth have patched.

Reads rows of packed documents, {"documents": [[ids], ...]} a line. Training takes one optimizer step per row. A packed row
reaches transformers as one sequence whose position_ids restart at each document, without an attention mask and without a
KV cache: only then does it find the borders and close the documents off from each other. All tokens but the first of a
document are targets. Adapters are bfloat16 like the weights (PEFT's float32 adapters under autocast are slower).

A line "step N ..." or "mark NAME ..." on stderr ends each piece of work: the benchmark reads the clocks of this process there.
"""

import argparse
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

IGNORE = -100
WARM_ROWS = 2  # as bench.py's short file


def say(device, text):
    import torch
    if device == "cuda":
        torch.cuda.synchronize()
        text += f" peak {torch.cuda.max_memory_allocated()}"
    print(text, file=sys.stderr, flush=True)


def row_tensors(documents, device):
    import torch
    ids = [token for document in documents for token in document]
    labels = [token for document in documents for token in [IGNORE] + document[1:]]
    positions = [place for document in documents for place in range(len(document))]
    targets = sum(label != IGNORE for label in labels)
    return {"input_ids": torch.tensor([ids], device=device), "labels": torch.tensor([labels], device=device),
            "position_ids": torch.tensor([positions], device=device)}, targets


def load(args):
    import torch
    import transformers
    packing = {}
    if args.what == "qlora":
        packing["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16)
    attention = "sdpa"
    if args.device == "cuda":
        import importlib.util
        packing["device_map"] = "cuda"
        attention = "flash_attention_2" if importlib.util.find_spec("flash_attn") else "sdpa"
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=torch.bfloat16, attn_implementation=attention, local_files_only=True, **packing)
    if args.stack == "liger":
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
        _apply_liger_kernel_to_instance(model=model)
    return model


def build_unsloth(args):
    """Written against its documented interface."""
    from unsloth import FastLanguageModel
    import torch
    model, _ = FastLanguageModel.from_pretrained(args.model, dtype=torch.bfloat16, load_in_4bit=args.what == "qlora",
                                                 full_finetuning=args.what == "full")
    if args.what != "full":
        model = FastLanguageModel.get_peft_model(
            model, r=16, lora_alpha=16, lora_dropout=0, bias="none", use_dora=args.what == "dora",
            target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
            use_gradient_checkpointing="unsloth" if args.checkpointing else False)
    return model


def build(args):
    if args.stack == "unsloth":
        return build_unsloth(args)
    model = load(args)
    model.config.use_cache = False
    if args.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if args.what != "full":
        import peft
        if args.checkpointing:
            model.enable_input_require_grads()
        config = peft.LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, bias="none", target_modules="all-linear",
                                 task_type="CAUSAL_LM", use_dora=args.what == "dora")
        model = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    return model


def train(args, rows):
    import torch
    model = build(args)
    model.train()
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5 if args.what == "full" else 2e-4, weight_decay=0.0, fused=True)
    for number, documents in enumerate(rows, 1):
        inputs, targets = row_tensors(documents, args.device)
        loss = model(**inputs, num_items_in_batch=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        say(args.device, f"step {number}/{len(rows)} loss {loss.item():.6f}")


def batches_of(way, rows, device):
    """Inputs of one forward each, with the number of targets."""
    import torch
    if way == "packed":
        yield from (row_tensors(row, device) for row in rows)
        return
    documents = sorted((d for row in rows for d in row), key=len)
    size = 8 if way == "padded" else 1
    for begin in range(0, len(documents), size):
        part = documents[begin:begin + size]
        longest = len(part[-1])
        fill = lambda d, value: d + [value] * (longest - len(d))  # noqa: E731
        inputs = {"input_ids": [fill(d, 0) for d in part], "labels": [fill([IGNORE] + d[1:], IGNORE) for d in part]}
        if size > 1:
            inputs["attention_mask"] = [fill([1] * len(d), 0) for d in part]
        yield {k: torch.tensor(v, device=device) for k, v in inputs.items()}, sum(len(d) - 1 for d in part)


def evaluate(args, rows):
    import torch
    model = load(args)
    model.eval()

    def losses(way, part):
        total, count = 0.0, 0
        for inputs, targets in batches_of(way, part, args.device):
            total += model(**inputs, num_items_in_batch=1, use_cache=False).loss.item()  # the sum
            count += targets
        return total, count

    with torch.inference_mode():
        for way in ("packed", "padded", "single"):
            first, first_count = losses(way, rows[:WARM_ROWS])
            say(args.device, f"mark warm_{way} {first / first_count:.6f}")
            rest, count = losses(way, rows[WARM_ROWS:])
            say(args.device, f"mark {way} {(first + rest) / (first_count + count):.6f}")


def generate(args, rows):
    import torch
    model = load(args)
    model.eval()
    ids = torch.tensor([rows[0][0]], device=args.device)

    def answer(count):
        with torch.inference_mode():
            out = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=count,
                                 min_new_tokens=count, use_cache=True, pad_token_id=0)
        return out[0, ids.shape[1]:].tolist()

    answers = {}
    for attention in ("sdpa", "eager"):
        model.set_attn_implementation(attention)
        for name in ("warm", "short"):
            answer(1)
            say(args.device, f"mark {name}_{attention} 1")
        answers[attention] = answer(args.new_tokens)
        say(args.device, f"mark {attention} {args.new_tokens}")
    print(json.dumps(answers))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--what", choices=["lora", "dora", "qlora", "full", "eval", "generate"], required=True)
    parser.add_argument("--stack", choices=["transformers", "liger", "unsloth"], default="transformers")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--new-tokens", type=int, default=0)
    args = parser.parse_args()
    if args.stack == "unsloth":
        import unsloth  # noqa: F401  patches what is imported after it
    import torch
    import transformers
    if args.device == "cpu":
        torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    with open(args.rows, encoding="utf-8") as file:
        rows = [json.loads(line)["documents"] for line in file]
    {"eval": evaluate, "generate": generate}.get(args.what, train)(args, rows)


if __name__ == "__main__":
    main()
