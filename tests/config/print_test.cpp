// The written-out configuration reads back as it was, key by key; help and shipped configs follow
// the table of keys.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <set>

#include "base/error.h"
#include "config/fields.h"

namespace ft {
namespace {

namespace fs = std::filesystem;

// The keys of the interface, written down a second time on purpose: none may be lost or renamed.
const std::vector<std::string> kInterface = {"model",
                                             "output_dir",
                                             "method",
                                             "dtype",
                                             "device",
                                             "seed",
                                             "deterministic",
                                             "kernels",
                                             "lora.r",
                                             "lora.alpha",
                                             "lora.dropout",
                                             "lora.target_modules",
                                             "lora.use_dora",
                                             "lora.use_rslora",
                                             "lora.init",
                                             "lora.plus_ratio",
                                             "lora.bias",
                                             "lora.base_dtype",
                                             "lora.rank_pattern",
                                             "lora.alpha_pattern",
                                             "lora.modules_to_save",
                                             "lora.ensure_weight_tying",
                                             "lora.resume_from",
                                             "quantization.type",
                                             "quantization.double_quant",
                                             "quantization.block_size",
                                             "data.train",
                                             "data.eval",
                                             "data.eval_split",
                                             "data.format",
                                             "data.columns",
                                             "data.chat_template",
                                             "data.system_prompt",
                                             "data.max_length",
                                             "data.overflow",
                                             "data.packing",
                                             "data.train_on",
                                             "data.shuffle",
                                             "train.epochs",
                                             "train.max_steps",
                                             "train.batch_size",
                                             "train.gradient_accumulation_steps",
                                             "train.learning_rate",
                                             "train.lr_scheduler",
                                             "train.warmup_steps",
                                             "train.optimizer",
                                             "train.fused_update",
                                             "train.weight_decay",
                                             "train.betas",
                                             "train.eps",
                                             "train.max_grad_norm",
                                             "train.master_weights",
                                             "train.gradient_checkpointing",
                                             "train.neftune_alpha",
                                             "train.profile_steps",
                                             "eval.evaluations",
                                             "eval.every_steps",
                                             "eval.max_examples",
                                             "eval.early_stopping_patience",
                                             "eval.samples",
                                             "eval.sample_max_new_tokens",
                                             "save.every_steps",
                                             "save.keep",
                                             "save.keep_best",
                                             "save.background",
                                             "save.text_only",
                                             "log.every_steps",
                                             "log.tensorboard"};

/// Writes the configuration and reads it back.
RunConfig through_yaml(const RunConfig& config, Purpose purpose = Purpose::kOther) {
  const fs::path path =
      fs::temp_directory_path() / ("ft_print_" + std::to_string(::getpid()) + ".yaml");
  std::ofstream(path, std::ios::binary) << to_yaml(config);
  try {
    RunConfig back = load_config(path.string(), {}, purpose);
    fs::remove(path);
    return back;
  } catch (...) {
    fs::remove(path);
    throw;
  }
}

const char* const kTexts[] = {
    "x",
    "null",
    "~",
    "010",
    "1e3",
    "0.5",
    "yes",
    "True",
    "on",
    "",
    " ",
    " a ",
    "a: b",
    "a #b",
    "#a",
    "- a",
    "[a]",
    "{a}",
    "a, b",
    "it's",
    "\"q\"",
    "\\n",
    "two\nlines\n\n",
    "tab\there",
    "\r\n",
    "\x01\x1b\x7f",
    "\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80",
    "\xe2\x80\xa8\xc2\x85\xef\xbb\xbf",
    "!x",
    "&x",
    "*x",
    "%x",
    "@x",
    "`x",
    "|",
    ">",
    "?",
    "-",
    "---",
    "...",
    "<<",
    "=",
    ".inf",
    ".nan",
    "0x1f",
    "../a/b-c_d.jsonl",
    "cuda:0",
    "C:\\dir",
    "2024-01-01",
    "12:30",
    "1_000",
    "+1",
    "-",
    "'",
    "\"",
};

/// Gives each field a value of its own type and range, different from call to call.
template <typename Config>
struct Randomizer {
  Config& config;
  std::mt19937_64& random;

  size_t below(size_t n) { return random() % n; }
  std::string text() { return kTexts[below(std::size(kTexts))]; }
  std::string some_text() {
    const std::string found = text();
    return found.empty() ? "t" : found;
  }

  void make(bool& value, const Rule&) { value = !value; }
  void make(int64_t& value, const Rule& rule) {
    const double high = std::min(rule.high, 9e18);
    value = static_cast<int64_t>(rule.low) +
            static_cast<int64_t>(random() % static_cast<uint64_t>(high - rule.low));
  }
  void make(double& value, const Rule& rule) {
    const double unit = (static_cast<double>(random() >> 11) + 1) * 0x1p-54;  // (0, 1)
    const double scale = std::isfinite(rule.high) ? std::min(rule.high, 0.999) : 1e6;
    const double powers[] = {1, 1e-5, 1e-12, 1e-300};
    value = unit * scale * powers[below(4)];
  }
  void make(std::string& value, const Rule& rule) {
    value = rule.names.empty() ? text() : std::string(rule.names[below(rule.names.size())]);
  }
  void make(std::pair<double, double>& value, const Rule& rule) {
    make(value.first, rule);
    make(value.second, rule);
  }
  void make(std::vector<std::string>& value, const Rule& rule) {
    value.clear();
    for (size_t n = below(3) + (rule.was_list ? 1 : 0); n > 0; --n) value.push_back(some_text());
  }
  template <typename T>
  void make(std::optional<T>& value, const Rule& rule) {
    value.reset();
    if (below(4) != 0) make(value.emplace(), rule);
  }
  template <typename T>
  void make(std::map<std::string, T>& value, const Rule& rule) {
    value.clear();
    for (size_t n = below(4); n > 0; --n) make(value[some_text()], rule);
  }

  template <typename T>
  void operator()(std::string_view, T Config::*member, std::string_view, const Rule& rule = {}) {
    make(config.*member, rule);
    if constexpr (std::is_same_v<Config, LoraConfig>)
      if (rule.was_list) config.*rule.was_list = config.target_modules.size() != 1 || below(2) == 0;
  }
  template <typename Section>
  void section(std::string_view, Section Config::*member, std::string_view) {
    Randomizer<Section> inner{config.*member, random};
    Fields<Section>::visit(inner);
  }
};

RunConfig random_config(std::mt19937_64& random) {
  RunConfig config;
  Randomizer<RunConfig> randomizer{config, random};
  Fields<RunConfig>::visit(randomizer);
  // What the checks over several keys ask for.
  config.method = random() % 2 == 0 ? "lora" : "qlora";
  config.quantization.block_size = 64 << random() % 7;
  if (config.method == "lora") config.quantization = {};
  config.lora.init = "gaussian";
  if (config.lora.base_dtype == "float8") {
    config.method = "lora";
    config.quantization = {};
    config.dtype = "bfloat16";
    config.kernels = "auto";
    config.lora.use_dora = false;
    config.lora.dropout = 0;
  }
  config.train.fused_update = config.train.fused_update && random() % 2 == 0;
  if (config.train.fused_update) {
    config.train.gradient_accumulation_steps = 1;
    config.train.max_grad_norm = 0;
  }
  if (random() % 2 == 0) config.train.warmup_steps = static_cast<double>(random() % 100);
  if (!config.data.eval.empty()) config.data.eval_split = 0;
  return config;
}

TEST(ConfigPrint, ReadsBackTheSame) {
  EXPECT_TRUE(changed_keys(through_yaml(RunConfig{}), RunConfig{}).empty());
  std::mt19937_64 random(1);
  std::set<std::string> varied;
  for (int i = 0; i < 500; ++i) {
    const RunConfig config = random_config(random);
    const std::vector<std::string> changed = changed_keys(config, RunConfig{});
    varied.insert(changed.begin(), changed.end());
    try {
      const std::vector<std::string> lost = changed_keys(config, through_yaml(config));
      EXPECT_TRUE(lost.empty()) << lost[0] << "\n" << to_yaml(config);
    } catch (const Error& e) {
      FAIL() << e.what() << "\n" << to_yaml(config);
    }
  }
  // The test is worth what it varies.
  for (const std::string& key : kInterface) EXPECT_TRUE(varied.contains(key)) << key;
}

TEST(ConfigPrint, EveryTextInEveryPlace) {
  for (const std::string text : kTexts) {
    RunConfig config;
    config.model = config.output_dir = text;
    config.data.system_prompt = text;
    config.lora.resume_from = text;
    if (!text.empty()) {
      config.data.train = {text};
      config.data.eval = {text, "b", text};
      config.data.columns = {{text, text}};
      config.lora.rank_pattern = {{text, 3}};
      config.lora.target_modules = {text};
    }
    const RunConfig back = through_yaml(config);
    EXPECT_EQ(back.data.system_prompt, text);
    EXPECT_TRUE(changed_keys(config, back).empty()) << text << "\n" << to_yaml(config);
  }
}

// A run's config.yaml lists every key, also those of the sections its method does not use.
TEST(ConfigPrint, WrittenOutFullRunLoads) {
  RunConfig config;
  config.model = "m";
  config.output_dir = "o";
  config.data.train = {"t"};
  config.method = "full";
  EXPECT_TRUE(changed_keys(config, through_yaml(config, Purpose::kTrain)).empty());
}

TEST(ConfigPrint, NumbersStayAsWritten) {
  RunConfig config;
  config.train.learning_rate = 1e-5;
  config.lora.dropout = 0.1;
  const std::string yaml = to_yaml(config);
  EXPECT_NE(yaml.find("  learning_rate: 1e-05 "), std::string::npos) << yaml;
  EXPECT_NE(yaml.find("  dropout: 0.1 "), std::string::npos) << yaml;
  EXPECT_NE(yaml.find("  betas: [0.9, 0.999] "), std::string::npos) << yaml;
  EXPECT_NE(to_yaml(RunConfig{}).find("  learning_rate: auto "), std::string::npos);
}

TEST(ConfigPrint, ChangedKeysFollowTheTable) {
  RunConfig a, b;
  b.log.tensorboard = false;
  b.seed = 1;
  b.lora.target_is_list = true;
  EXPECT_EQ(changed_keys(a, b),
            (std::vector<std::string>{"seed", "lora.target_modules", "log.tensorboard"}));
}

TEST(ConfigHelp, CoversEveryKey) {
  const std::string help = "\n" + config_help();
  const std::string yaml = "\n" + to_yaml(RunConfig{});
  for (const std::string& key : kInterface) {
    EXPECT_NE(help.find("\n" + key + "\n    "), std::string::npos) << key;
    const size_t dot = key.find('.');
    const std::string line =
        dot == std::string::npos ? "\n" + key + ": " : "\n  " + key.substr(dot + 1) + ": ";
    EXPECT_NE(yaml.find(line), std::string::npos) << key;
  }
  size_t num_keys = 0;
  for (size_t i = 0; (i = help.find("\n    ", i + 1)) != std::string::npos;) ++num_keys;
  EXPECT_EQ(num_keys, 2 * kInterface.size());
  EXPECT_NE(help.find("full, lora or qlora; default: lora"), std::string::npos);
  EXPECT_NE(help.find("a number above 0 or auto; default: auto"), std::string::npos);
  EXPECT_NE(help.find("a text; required"), std::string::npos);
}

TEST(ConfigFiles, EveryShippedConfigLoads) {
  size_t num_files = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(FT_SOURCE_DIR) / "configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++num_files;
    EXPECT_NO_THROW(load_config(entry.path().string(), {})) << entry.path();
  }
  EXPECT_GE(num_files, 3u);
  const RunConfig quick =
      load_config((fs::path(FT_SOURCE_DIR) / "configs" / "quickstart.yaml").string(), {});
  EXPECT_EQ(quick.train.learning_rate, 5e-4);
  EXPECT_EQ(quick.eval.sample_max_new_tokens, 64);
}

}  // namespace
}  // namespace ft
