// One function per command. Everything is decided by the arguments; errors are ft::Error.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "finetune/config.h"

namespace ft {

/// Runs on `threads` threads (0: all cores that this process may use). Call once, before anything
/// else.
void set_threads(int threads);

struct TrainOptions {
  RunConfig config;
  bool resume = false;
  bool overwrite = false;
};
/// One fine-tuning run. Returns 0, or 128 + N when signal N stopped it after a complete checkpoint.
int train(const TrainOptions& options);

struct EvalOptions {
  RunConfig config;  ///< model, data.eval and how to read it
  std::optional<std::string> adapter;
  std::optional<std::string> per_example;  ///< file for one JSON line per example
  std::optional<std::string>
      token_logprobs;  ///< file for one JSON line of log-probabilities per example
};
struct EvalResult {
  double loss = 0, perplexity = 0, seconds = 0;
  int64_t target_tokens = 0, examples = 0;
};
EvalResult evaluate(const EvalOptions& options);

struct SamplingOptions {
  int64_t max_new_tokens = 256;
  double temperature = 0.0;  ///< 0: greedy
  int64_t top_k = 0;         ///< 0: off
  double top_p = 1.0;
  double min_p = 0.0;
  double repetition_penalty = 1.0;
  uint64_t seed = 42;
  int64_t n = 1;  ///< samples per prompt
  std::vector<std::string> stop;
};
/// A PEFT folder and what prompts call it.
struct NamedAdapter {
  std::string name, folder;
};
struct GenerateOptions {
  RunConfig config;
  /// A prompt takes the first unless its line in prompts_file names another one, or null for the
  /// base alone.
  std::vector<NamedAdapter> adapters;
  std::vector<std::string> prompts;  ///< given on the command line
  std::optional<std::string>
      prompts_file;  ///< JSON Lines: {"prompt": ...}, {"messages": [...]} or {"input_ids": [...]}
  std::optional<std::string> system;
  bool raw = false;  ///< no chat template
  SamplingOptions sampling;
};
struct Completion {
  std::string prompt, text;
  std::vector<int32_t> token_ids;
  std::string finish_reason;  ///< stop | length
};
struct GenerateResult {
  std::vector<Completion> completions;
  double tokens_per_second = 0;
};
/// `on_text` gets the text of a single prompt's single sample as it grows.
GenerateResult generate(const GenerateOptions& options,
                        const std::function<void(const std::string&)>& on_text = {});
/// A conversation: reads a user turn from `read` until it gives nullopt, writes the answer through
/// `write` as it grows.
void chat(const GenerateOptions& options, const std::function<std::optional<std::string>()>& read,
          const std::function<void(const std::string&)>& write);

/// Adds what each adapter changes, times its weight (none given: 1 each), to the base and writes an
/// HF model folder (save.text_only applies). A base in 4 bits is refused unless it shall be
/// dequantised.
void merge(const RunConfig& config, const std::vector<std::string>& adapters,
           const std::vector<double>& weights, const std::string& output, bool dequantize = false);

/// What an adapter folder holds: rank, targets, parameters, and norms layer by layer, of what it
/// adds to the weights where config.model is set, else of A and B. Text, or one JSON document.
std::string inspect_adapter(const RunConfig& config, const std::string& adapter, bool json);

/// The data as the model will see it: text for a person, or one JSON document.
std::string inspect(const RunConfig& config, int64_t num_examples, bool json);

struct PlanOptions {
  RunConfig config;
  std::optional<int64_t> memory_bytes;  ///< to fit into; default: the card's, or the machine's
  bool json = false;
};
/// What a run will need, without loading a weight: text for a person, or one JSON document.
std::string plan(const PlanOptions& options);

struct LedgerOptions {
  RunConfig config;
  std::optional<int64_t> document;  ///< tokens of a document; default: the whole row
  double tflops = 790, float8_tflops = 1350;
  double attention_forward_tflops = 330, attention_backward_tflops = 300;
  double bandwidth = 4.3e12;  ///< bytes a second
  double peak_tflops = 989;   ///< what MFU is a share of
  bool json = false;
};
/// The kernels of one training step on a GPU with their FLOPs, bytes and launches, taken from the
/// program as it runs the step on tensors without numbers; and what they come to at the ceilings.
std::string ledger(const LedgerOptions& options);

struct TokenizeRequest {
  std::string model;
  std::optional<std::string> chat_template;
  bool add_special_tokens = false, parse_special = false;
};
/// One input line -> one output line. Lines that fail give {"error": ...}.
void tokenize(const TokenizeRequest& options,
              const std::function<std::optional<std::string>()>& read,
              const std::function<void(const std::string&)>& write);

/// GGUF file -> HF folder.
void convert(const std::string& input, const std::string& output);

}  // namespace ft
