// The field table: each key of the configuration once, with its member, a line of help and what
// values it takes. Defaults are the member initialisers in config.h. The YAML reader, --set, the
// printer, the help and the comparison of two runs are all visitors over this table.
//
// A visitor has   operator()(name, pointer to member, help, Rule)   and, for the sections of
// RunConfig,      section(name, pointer to member, help).
// Members are named by pointer so that a visitor may hold no object at all (help), or two.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "config/rule.h"
#include "finetune/config.h"

namespace ft {

template <typename Config>
struct Fields;  // visit(v): one specialisation per struct

template <>
struct Fields<LoraConfig> {
  template <typename V>
  static void visit(V& v) {
    using C = LoraConfig;
    v("r", &C::r, "rank of the adapter", between(1, 65536));
    v("alpha", &C::alpha, "the adapter is scaled by alpha / r", above(0));
    v("dropout", &C::dropout, "share of the adapter's inputs dropped in training", share());
    v("target_modules", &C::target_modules,
      "all-linear (every linear layer of the decoder blocks), a list of module names, or a regular "
      "expression",
      Rule{.or_one = true, .was_list = &C::target_is_list});
    v("use_dora", &C::use_dora, "learn the magnitude of each output apart (DoRA)");
    v("use_rslora", &C::use_rslora, "scale by alpha / sqrt(r) instead");
    v("init", &C::init,
      "start of the adapter weights; pissa and olora begin with what matters most in the base, and "
      "are saved as plain LoRA of twice the rank",
      one_of({"default", "gaussian", "pissa", "olora"}));
    v("plus_ratio", &C::plus_ratio, "learning rate of B in units of A's (LoRA+), 16 say",
      Rule{.low = 0, .above_low = true, .absent = "null"});
    v("bias", &C::bias, "biases trained besides", one_of({"none", "lora_only", "all"}));
    v("base_dtype", &C::base_dtype,
      "what the frozen layers multiply in: dtype, or float8 (E4M3 with a scale per row; a GPU of "
      "compute capability 8.9 or later, elsewhere dtype): faster, a little less exact",
      one_of({"auto", "float8"}));
    v("rank_pattern", &C::rank_pattern, "module name or pattern -> its own r", between(1, 65536));
    v("alpha_pattern", &C::alpha_pattern, "module name or pattern -> its own alpha", above(0));
    v("modules_to_save", &C::modules_to_save,
      "trained in full and saved beside the adapter: [lm_head, embed_tokens]");
    v("ensure_weight_tying", &C::ensure_weight_tying,
      "a tied embedding and head among modules_to_save stay one tensor; otherwise two are trained");
    v("resume_from", &C::resume_from, "adapter folder to go on from", or_null());
  }
};

template <>
struct Fields<QuantizationConfig> {
  template <typename V>
  static void visit(V& v) {
    using C = QuantizationConfig;
    v("type", &C::type, "4-bit code of the frozen weights", one_of({"nf4", "fp4"}));
    v("double_quant", &C::double_quant, "quantise the block scales too");
    v("block_size", &C::block_size, "weights that share a scale, a power of two",
      between(64, 4096));
  }
};

template <>
struct Fields<DataConfig> {
  template <typename V>
  static void visit(V& v) {
    using C = DataConfig;
    v("train", &C::train, "training data: .jsonl .json .csv .tsv .parquet, or a list of them",
      Rule{.or_one = true});
    v("eval", &C::eval, "evaluation data, as train; or use eval_split",
      Rule{.absent = "null", .or_one = true});
    v("eval_split", &C::eval_split, "share of train held out, after the shuffle with seed",
      share());
    v("format", &C::format, "what a row holds",
      one_of({"auto", "messages", "sharegpt", "prompt_completion", "alpaca", "text", "tokens"}));
    v("columns", &C::columns, "rename columns: {prompt: parent_text, completion: comment_body}");
    v("chat_template", &C::chat_template, "auto is the model's own",
      Rule{.names = {"auto", "gemma", "llama2", "llama3", "chatml", "mistral"},
           .also = is_file_name,
           .also_text = "a .jinja file"});
    v("system_prompt", &C::system_prompt, "put before conversations without one", or_null());
    v("max_length", &C::max_length, "tokens in a row", between(2, 1 << 24));
    v("overflow", &C::overflow,
      "what happens to documents longer than max_length, which are counted",
      one_of({"truncate", "drop", "split"}));
    v("packing", &C::packing, "several documents per row, no attention across documents");
    v("train_on", &C::train_on, "tokens that carry loss", one_of({"assistant", "all"}));
    v("shuffle", &C::shuffle, "a new order each epoch, from seed");
  }
};

template <>
struct Fields<TrainConfig> {
  template <typename V>
  static void visit(V& v) {
    using C = TrainConfig;
    v("epochs", &C::epochs, "passes over the training data", count_from(1));
    v("max_steps", &C::max_steps, "stop after that many optimizer steps", count_or_null());
    v("batch_size", &C::batch_size, "rows of max_length tokens per forward", between(1, 65536));
    v("gradient_accumulation_steps", &C::gradient_accumulation_steps, "forwards per optimizer step",
      between(1, 1 << 20));
    v("learning_rate", &C::learning_rate, "auto is 1e-5 for full, 2e-4 for lora and qlora",
      Rule{.low = 0, .above_low = true, .absent = "auto"});
    v("lr_scheduler", &C::lr_scheduler, "course of the rate after the warmup",
      one_of({"constant", "linear", "cosine"}));
    v("warmup_steps", &C::warmup_steps, "steps, or below 1 a share of the run",
      between(0, kMaxCount));
    v("optimizer", &C::optimizer,
      "8bit: states of 8 bits for matrices of at least 4096 weights; paged: states outside the "
      "device's memory, in pinned host memory or, on the CPU, in a file in output_dir that goes "
      "with the run",
      one_of({"adamw", "adamw8bit", "paged_adamw8bit", "paged_adamw"}));
    v("fused_update", &C::fused_update,
      "update each tensor in the backward pass and drop its gradient at once: less memory; needs "
      "gradient_accumulation_steps 1 and max_grad_norm 0. The gradient norm is known only after "
      "the update: a run that meets a gradient that is not finite stops with its last checkpoint");
    v("weight_decay", &C::weight_decay, "decoupled decay; norms and biases are left out",
      at_least(0));
    v("betas", &C::betas, "decay of the two moment estimates", share());
    v("eps", &C::eps, "added to the root of the second moment", above(0));
    v("max_grad_norm", &C::max_grad_norm, "gradients are clipped to this norm; 0 = off",
      at_least(0));
    v("master_weights", &C::master_weights, "how full fine-tuning in bfloat16 keeps small updates",
      one_of({"kahan", "stochastic", "float32", "none"}));
    v("gradient_checkpointing", &C::gradient_checkpointing,
      "activations computed again in the backward pass, for less memory and more time: true, all "
      "of a block; selective, the outputs of gate and up; offload, as true, with the blocks' "
      "inputs "
      "in host memory (on a GPU); auto, as little as the plan says will fit",
      one_of({"auto", "true", "false", "selective", "offload"}));
    v("neftune_alpha", &C::neftune_alpha, "noise on the embeddings in training; 0 = off",
      at_least(0));
    v("profile_steps", &C::profile_steps,
      "time that many steps after the first one, operator by operator, into profile.txt and "
      "profile.json (for chrome://tracing or Perfetto)",
      between(0, 1000));
  }
};

template <>
struct Fields<EvalConfig> {
  template <typename V>
  static void visit(V& v) {
    using C = EvalConfig;
    v("evaluations", &C::evaluations,
      "spread over the run; one more before the first step and one after the last", count_from(0));
    v("every_steps", &C::every_steps, "instead of evaluations", count_or_null());
    v("max_examples", &C::max_examples, "use only the first so many", count_or_null());
    v("early_stopping_patience", &C::early_stopping_patience,
      "stop after that many evaluations without improvement", count_or_null());
    v("samples", &C::samples, "prompts of the eval set generated at the end", count_from(0));
    v("sample_max_new_tokens", &C::sample_max_new_tokens, "length limit of a sample",
      between(1, 1 << 24));
  }
};

template <>
struct Fields<SaveConfig> {
  template <typename V>
  static void visit(V& v) {
    using C = SaveConfig;
    v("every_steps", &C::every_steps, "resumable checkpoints; null: at each evaluation",
      count_or_null());
    v("keep", &C::keep, "how many of them stay on disk", count_from(1));
    v("keep_best", &C::keep_best, "keep the weights with the lowest eval loss");
    v("background", &C::background,
      "write checkpoints beside training, from a copy of what is trained and of the optimizer's "
      "states where memory has room for it (paged states have no copy)");
    v("text_only", &C::text_only,
      "of an image and text model, write only the language model (method full)");
  }
};

template <>
struct Fields<LogConfig> {
  template <typename V>
  static void visit(V& v) {
    using C = LogConfig;
    v("every_steps", &C::every_steps, "steps between two lines", count_from(1));
    v("tensorboard", &C::tensorboard, "write event files");
  }
};

template <>
struct Fields<RunConfig> {
  template <typename V>
  static void visit(V& v) {
    using C = RunConfig;
    v("model", &C::model, "folder with config.json, *.safetensors and tokenizer files");
    v("output_dir", &C::output_dir, "folder the run writes to");
    v("method", &C::method, "what is trained", one_of({"full", "lora", "qlora"}));
    v("dtype", &C::dtype, "compute type", one_of({"bfloat16", "float16", "float32"}));
    v("device", &C::device, "where to run",
      Rule{.names = {"auto", "cpu", "cuda"}, .also = is_cuda_index, .also_text = "cuda:N"});
    v("seed", &C::seed, "start of every random number", at_least(0));
    v("deterministic", &C::deterministic,
      "same machine, thread count and inputs: bit-identical metrics and weights");
    v("kernels", &C::kernels, "fused ops where there are some, or their plain twins",
      one_of({"auto", "reference"}));
    v.section("lora", &C::lora, "method lora and qlora; names are PEFT's");
    v.section("quantization", &C::quantization, "method qlora");
    v.section("data", &C::data, "what is learned");
    v.section("train", &C::train, "the optimisation");
    v.section("eval", &C::eval, "measuring on held-out data");
    v.section("save", &C::save, "checkpoints");
    v.section("log", &C::log, "what is reported");
  }
};

/// What to_yaml() wrote; `where` names it in errors.
RunConfig read_config(const std::string& text, const std::string& where);

/// The dotted keys whose values differ, in the order of the table.
std::vector<std::string> changed_keys(const RunConfig& a, const RunConfig& b);

/// ` (did you mean ...?)` for an unknown key of a section ("" at the top): the same name in another
/// section, then near names of its section, then of all sections. Empty when none is near.
std::string suggest_key(const std::string& section, const std::string& name);

}  // namespace ft
