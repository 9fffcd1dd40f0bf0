"""The peer of the CPU benchmark: transformers + PEFT in a plain loop, as fast as that stack honestly goes.

Reads rows of packed documents, {"documents": [[ids], ...]} a line, and takes one optimizer step per row. A packed row
reaches transformers as one sequence whose position_ids restart at each document, without an attention mask and without a
KV cache: only then does it find the borders and close the documents off from each other. All tokens but the first of a
document are targets. Adapters are bfloat16 like the weights (PEFT's float32 adapters under autocast are slower).

A line "step N ..." on stderr ends each step: the benchmark reads the clocks of this process there.
"""

import argparse
import json
import os
import sys

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch  # noqa: E402
import transformers  # noqa: E402

IGNORE = -100


def row_tensors(documents):
    ids = [token for document in documents for token in document]
    labels = [token for document in documents for token in [IGNORE] + document[1:]]
    positions = [place for document in documents for place in range(len(document))]
    targets = sum(label != IGNORE for label in labels)
    return {"input_ids": torch.tensor([ids]), "labels": torch.tensor([labels]),
            "position_ids": torch.tensor([positions])}, targets


def build(args):
    packing = {}
    if args.method == "qlora":
        packing["quantization_config"] = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=getattr(torch, args.dtype))
    model = transformers.AutoModelForCausalLM.from_pretrained(
        args.model, dtype=getattr(torch, args.dtype), attn_implementation="sdpa", local_files_only=True, **packing)
    model.config.use_cache = False
    if args.checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if args.method != "full":
        import peft
        if args.checkpointing:
            model.enable_input_require_grads()
        config = peft.LoraConfig(r=16, lora_alpha=16, lora_dropout=0.0, bias="none", target_modules="all-linear",
                                 task_type="CAUSAL_LM", use_dora=args.method == "dora")
        model = peft.get_peft_model(model, config, autocast_adapter_dtype=False)
    model.train()
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--rows", required=True)
    parser.add_argument("--method", choices=["lora", "dora", "qlora", "full"], required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--checkpointing", action="store_true")
    parser.add_argument("--steps", type=int, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(0)
    model = build(args)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-5 if args.method == "full" else 2e-4, weight_decay=0.0, fused=True)
    with open(args.rows, encoding="utf-8") as file:
        rows = [json.loads(line)["documents"] for line in file][:args.steps]
    for number, documents in enumerate(rows, 1):
        inputs, targets = row_tensors(documents)
        loss = model(**inputs, num_items_in_batch=targets, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        print(f"step {number}/{len(rows)} loss {loss.item():.6f}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
