// Everything the user decides about a run, typed. Defaults are the member initialisers;
// src/config/fields.h names and documents every key once.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

namespace ft {

struct LoraConfig {
  int64_t r = 16;
  double alpha = 16;
  double dropout = 0.0;
  /// One entry that is "all-linear" or a regular expression, or a list of module names (see
  /// target_is_list).
  std::vector<std::string> target_modules = {"all-linear"};
  bool target_is_list = false;
  bool use_dora = false;
  bool use_rslora = false;
  std::string init = "default";
  /// LoRA+ (Hayou et al. 2024); nullopt is off.
  std::optional<double> plus_ratio;
  std::string bias = "none";
  std::string base_dtype = "auto";
  std::map<std::string, int64_t> rank_pattern;
  std::map<std::string, double> alpha_pattern;
  std::vector<std::string> modules_to_save;
  bool ensure_weight_tying = false;
  std::optional<std::string> resume_from;
};

struct QuantizationConfig {
  std::string type = "nf4";
  bool double_quant = true;
  int64_t block_size = 64;
};

struct DataConfig {
  std::vector<std::string> train;
  std::vector<std::string> eval;
  double eval_split = 0.0;
  std::string format = "auto";
  std::map<std::string, std::string> columns;
  std::string chat_template = "auto";
  std::optional<std::string> system_prompt;
  int64_t max_length = 2048;
  std::string overflow = "truncate";
  bool packing = true;
  std::string train_on = "assistant";
  bool shuffle = true;
};

struct TrainConfig {
  int64_t epochs = 1;
  std::optional<int64_t> max_steps;
  int64_t batch_size = 1;
  int64_t gradient_accumulation_steps = 1;
  /// nullopt is `auto`: 1e-5 for full, 2e-4 for lora and qlora.
  std::optional<double> learning_rate;
  std::string lr_scheduler = "constant";
  double warmup_steps = 0;
  std::string optimizer = "adamw";
  bool fused_update = false;
  double weight_decay = 0.0;
  std::pair<double, double> betas = {0.9, 0.999};
  double eps = 1e-8;
  double max_grad_norm = 1.0;
  std::string master_weights = "kahan";
  std::string gradient_checkpointing = "auto";
  double neftune_alpha = 0;
  int64_t profile_steps = 0;
};

struct EvalConfig {
  int64_t evaluations = 10;
  std::optional<int64_t> every_steps;
  std::optional<int64_t> max_examples;
  std::optional<int64_t> early_stopping_patience;
  int64_t samples = 10;
  int64_t sample_max_new_tokens = 256;
};

struct SaveConfig {
  std::optional<int64_t> every_steps;
  int64_t keep = 2;
  bool keep_best = true;
  bool background = true;
  bool text_only = false;
};

struct LogConfig {
  int64_t every_steps = 1;
  bool tensorboard = true;
};

struct RunConfig {
  std::string model;
  std::string output_dir;
  std::string method = "lora";
  std::string dtype = "bfloat16";
  std::string device = "auto";
  int64_t seed = 42;
  bool deterministic = true;
  std::string kernels = "auto";
  LoraConfig lora;
  QuantizationConfig quantization;
  DataConfig data;
  TrainConfig train;
  EvalConfig eval;
  SaveConfig save;
  LogConfig log;
  /// Keys that the file or --set named, whatever their value. No key itself.
  std::set<std::string> given_keys;
};

/// A `--set KEY=VALUE`.
struct Override {
  std::string key;
  std::string value;
};

/// Splits KEY=VALUE; Error (usage) when there is no '='.
Override parse_override(const std::string& text);

/// Which keys have to be there: all of a training run, or only what the other commands read.
enum class Purpose { kTrain, kOther };

/// Reads `path` (empty: only defaults), applies the overrides in order, and checks all that can be
/// checked without weights. All problems are reported together, one line each, in one Error
/// (usage).
RunConfig load_config(const std::string& path, const std::vector<Override>& overrides,
                      Purpose purpose = Purpose::kTrain);

/// Every key with its value, as YAML that load_config reads back to the same RunConfig.
std::string to_yaml(const RunConfig& config);

/// One block per key: name, type, default, help.
std::string config_help();

}  // namespace ft
