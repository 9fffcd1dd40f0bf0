// Loading: values, overrides, and the one line that each mistake gets.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "base/error.h"
#include "finetune/config.h"

namespace ft {
namespace {

/// A file that is gone after the test.
class File {
 public:
  explicit File(const std::string& text)
      : path_(std::filesystem::temp_directory_path() /
              ("ft_config_" + std::to_string(::getpid()) + ".yaml")) {
    std::ofstream(path_, std::ios::binary) << text;
  }
  ~File() { std::filesystem::remove(path_); }
  std::string path() const { return path_.string(); }

 private:
  std::filesystem::path path_;
};

const std::string kNeeded = "model: m\noutput_dir: o\ndata: {train: t.jsonl}\n";

RunConfig load(const std::string& text, const std::vector<std::string>& sets = {},
               Purpose purpose = Purpose::kTrain) {
  const File file(text);
  std::vector<Override> overrides;
  for (const auto& set : sets) overrides.push_back(parse_override(set));
  return load_config(file.path(), overrides, purpose);
}

/// The message with the file's path replaced by F; "" when all is well.
std::string error_of(const std::string& text, const std::vector<std::string>& sets = {},
                     Purpose purpose = Purpose::kTrain) {
  const File file(text);
  try {
    std::vector<Override> overrides;
    for (const auto& set : sets) overrides.push_back(parse_override(set));
    load_config(file.path(), overrides, purpose);
    return "";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kUsage);
    std::string message = e.what();
    for (size_t i; (i = message.find(file.path())) != std::string::npos;)
      message.replace(i, file.path().size(), "F");
    return message;
  }
}

/// The error of a good file with one more line 4 (and on).
std::string line4(const std::string& line) {
  return error_of(kNeeded + line);
}

TEST(Config, DefaultsAndValues) {
  const RunConfig c = load(kNeeded);
  EXPECT_EQ(c.method, "lora");
  EXPECT_EQ(c.data.train, std::vector<std::string>{"t.jsonl"});
  EXPECT_FALSE(c.train.learning_rate);
  const RunConfig d = load(
      "model: ../m\noutput_dir: 2024\nseed: 7\ndevice: cuda:3\n"
      "data:\n  train: [a.jsonl, b.csv]\n  eval: e.jsonl\n  columns: {prompt: q, completion: 1}\n"
      "  system_prompt: \"null\"\n  chat_template: t/my.jinja\n"
      "train: {learning_rate: 5e-4, warmup_steps: 0.1, betas: [0.8, 0.95], max_steps: null}\n"
      "lora: {r: 8, alpha: 16, target_modules: [q_proj], rank_pattern: {q_proj: 4}}\n"
      "eval:\n");
  EXPECT_EQ(d.model, "../m");
  EXPECT_EQ(d.output_dir, "2024");
  EXPECT_EQ(d.data.train.size(), 2u);
  EXPECT_EQ(d.data.columns.at("completion"), "1");
  EXPECT_EQ(d.data.system_prompt, "null");
  EXPECT_EQ(d.train.learning_rate, 5e-4);
  EXPECT_EQ(d.train.betas, std::make_pair(0.8, 0.95));
  EXPECT_TRUE(d.lora.target_is_list);
  EXPECT_EQ(d.lora.rank_pattern.at("q_proj"), 4);
  EXPECT_FALSE(load(kNeeded + "lora: {target_modules: '.*_proj'}\n").lora.target_is_list);
}

TEST(Config, PurposeSaysWhatIsRequired) {
  EXPECT_EQ(error_of("", {}, Purpose::kOther), "");
  EXPECT_EQ(load_config("", {}, Purpose::kOther).model, "");
  EXPECT_EQ(error_of(""),
            "F: model: is missing, wanted the folder of the model\n"
            "error: F: output_dir: is missing, wanted a folder for the results\n"
            "error: F: data.train: is missing, wanted one or more data files");
  EXPECT_EQ(error_of("model: ''\noutput_dir: o\ndata: {train: []}\n"),
            "F:1: model: is empty, wanted the folder of the model\n"
            "error: F:3: data.train: is empty, wanted one or more data files");
  EXPECT_EQ(error_of("model: [x]\noutput_dir: o\ndata: {train: t}\n"),
            "F:1: model: is a list, wanted a text");
  try {
    load_config("", {{"model", "m"}});
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(std::string(e.what()).find("configuration: output_dir: is missing"), 0u) << e.what();
  }
}

TEST(Config, Overrides) {
  const RunConfig c =
      load(kNeeded, {"train.learning_rate=1e-5", "data.train=[a, b]", "lora.r=4", "lora.r=8",
                     "data.columns={x: 1}", "data.system_prompt=a = b", "eval.max_examples=3",
                     "eval.max_examples=null", "lora={dropout: 0.5}"});
  EXPECT_EQ(c.train.learning_rate, 1e-5);
  EXPECT_EQ(c.data.train, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(c.lora.r, 8);
  EXPECT_EQ(c.lora.dropout, 0.5);
  EXPECT_EQ(c.data.columns.at("x"), "1");
  EXPECT_EQ(c.data.system_prompt, "a = b");
  EXPECT_FALSE(c.eval.max_examples);
  EXPECT_FALSE(
      load(kNeeded, {"train.learning_rate=1", "train.learning_rate=auto"}).train.learning_rate);
  EXPECT_EQ(parse_override("a=b=c").value, "b=c");
  EXPECT_THROW(parse_override("model"), Error);
  EXPECT_THROW(parse_override("=m"), Error);
}

TEST(Config, OverrideMistakes) {
  const auto with = [](const std::string& set) { return error_of(kNeeded, {set}); };
  EXPECT_EQ(with("lora.r=x"),
            "--set lora.r: \"x\" is not a decimal number, wanted a whole number "
            "from 1 to 65536");
  EXPECT_EQ(with("train.learnig_rate=1"),
            "--set train.learnig_rate: unknown key (did you mean \"learning_rate\"?)");
  EXPECT_EQ(with("trian.learning_rate=1"),
            "--set trian.learning_rate: unknown key (did you mean \"train.learning_rate\"?)");
  EXPECT_EQ(with("data.columns.prompt=q"),
            "--set data.columns.prompt: unknown key, set the whole of \"data.columns\"");
  EXPECT_EQ(with("data.train=[a"), "--set data.train: a [ without its ]");
  EXPECT_EQ(with("model=\"x"), "--set model: a quote that is never closed");
  EXPECT_EQ(with("model="), "--set model: has no value (null), wanted a text");
  EXPECT_NE(with("data.system_prompt=You are: kind").find("quotes"), std::string::npos);
  EXPECT_NE(with("data.system_prompt=# title").find("cut at #"), std::string::npos);
  EXPECT_NE(with("data.system_prompt=a #b").find("cut at #"), std::string::npos);
  EXPECT_NE(with("lora=3").find("wanted a section"), std::string::npos);
  EXPECT_NE(with("r=3").find("did you mean \"lora.r\""), std::string::npos);
}

TEST(Config, UnknownKeysAndSuggestions) {
  EXPECT_EQ(line4("lora:\n  rnak: 3\n"),
            "F:5: lora.rnak: unknown key (did you mean \"lora.r\" or "
            "\"lora.init\"?)");
  EXPECT_EQ(line4("learning_rate: 1e-4\n"),
            "F:4: learning_rate: unknown key (did you mean \"train.learning_rate\"?)");
  EXPECT_EQ(line4("train: {max_length: 3}\n"),
            "F:4: train.max_length: unknown key (did you mean \"data.max_length\"?)");
  EXPECT_EQ(line4("trian: {epochs: 3}\n"), "F:4: trian: unknown key (did you mean \"train\"?)");
  EXPECT_EQ(line4("lora_alpha: 3\n"),
            "F:4: lora_alpha: unknown key (did you mean \"lora.alpha\"?)");
  EXPECT_EQ(line4("zzzzzzzz: 3\n"), "F:4: zzzzzzzz: unknown key");
  EXPECT_NE(line4("train.epochs: 3\n").find("indented"), std::string::npos);
  EXPECT_EQ(line4("\"a\\e[2J\\nb\": 3\n"), "F:4: a\\x1b[2J\\x0ab: unknown key");
}

TEST(Config, EachMistakeIsNamed) {
  struct Case {
    std::string text, says;
  };
  const Case cases[] = {
      {"seed: 010", "seed: 010 has a leading zero"},
      {"seed: 0x10", "seed: \"0x10\" is not a decimal number"},
      {"seed: 1_000", "is not a decimal number"},
      {"seed: 1e3", "seed: 1e3 is not a whole number, write 1000"},
      {"seed: 8.5", "seed: 8.5 is not a whole number, wanted"},
      {"seed: \"8\"", "seed: \"8\" in quotes is a text"},
      {"seed: -1", "seed: -1 is out of range, wanted a whole number of at least 0"},
      {"seed: 9223372036854775808", "out of range"},
      {"seed: null", "seed: has no value (null), wanted a whole number of at least 0"},
      {"seed: true", "is not a decimal number"},
      {"seed: [1]", "seed: is a list"},
      {"seed: {a: 1}", "seed: is a map"},
      {"deterministic: yes", "deterministic: \"yes\" is no truth value, wanted true or false"},
      {"deterministic: 1", "is no truth value"},
      {"deterministic: 'true'", "\"true\" in quotes is no truth value"},
      {"method: lroa",
       "method: \"lroa\" is unknown (did you mean \"lora\" or \"qlora\"?), wanted full, lora or "
       "qlora"},
      {"method: null", "method: has no value (null), wanted full, lora or qlora"},
      {"method: 3", "method: \"3\" is unknown, wanted"},
      {"dtype: float61", "did you mean \"float16\""},
      {"device: cuda:x", "wanted auto, cpu, cuda or cuda:N"},
      {"device: 'cuda:'", "device: "},
      {"device: cuda:01", "device: "},
      {"device: gpu", "device: \"gpu\" is unknown"},
      {"kernels: fast", "wanted auto or reference"},
      {"lora: {bias: ~}", "lora.bias: has no value"},
      {"train: 3", "train: \"3\" is a single value, wanted a section of keys"},
      {"train: {epochs: 0}", "train.epochs: 0 is out of range"},
      {"train: {batch_size: 0}", "train.batch_size: 0 is out of range"},
      {"train: {gradient_accumulation_steps: 9223372036854775807}", "out of range"},
      {"train: {learning_rate: .nan}", "\".nan\" is not finite"},
      {"train: {learning_rate: -.inf}", "is not finite"},
      {"train: {learning_rate: 1e999}", "1e999 is out of range"},
      {"train: {learning_rate: 0}", "0 is out of range, wanted a number above 0 or auto"},
      {"train: {learning_rate: null}", "wanted a number above 0 or auto"},
      {"train: {learning_rate: fast}", "wanted a number above 0 or auto"},
      {"train: {learning_rate: 1e}", "is not a number"},
      {"train: {lr_scheduler: cosin}", "did you mean \"cosine\""},
      {"train: {warmup_steps: 1.5}", "neither whole steps nor a share below 1"},
      {"train: {warmup_steps: -1}", "out of range"},
      {"train: {optimizer: sgd}", "wanted adamw, "},
      {"train: {fused_update: true}",
       "train.fused_update: applies each gradient at once, and clip"},
      {"train: {fused_update: true, max_grad_norm: 0, gradient_accumulation_steps: 2}",
       "train.fused_update: applies each gradient at once and cannot add up"},
      {"train: {betas: [0.9]}", "train.betas: is a list of 1, wanted a list of two numbers"},
      {"train: {betas: [0.9, 1.0]}", "1.0 is out of range"},
      {"train: {betas: 0.9}", "wanted a list of two numbers, each of at least 0 and below 1"},
      {"train: {eps: 0}", "train.eps: 0 is out of range"},
      {"train: {weight_decay: -0.1}", "out of range"},
      {"train: {max_grad_norm: -1}", "out of range"},
      {"train: {master_weights: fp32}", "wanted kahan, stochastic, float32 or none"},
      {"train: {neftune_alpha: -5}", "out of range"},
      {"train: {max_steps: 0}", "wanted a whole number from 1 to 1000000000 or null"},
      {"lora: {r: 0}", "lora.r: 0 is out of range"},
      {"lora: {alpha: 0}", "lora.alpha: 0 is out of range, wanted a number above 0"},
      {"lora: {dropout: 1}", "lora.dropout: 1 is out of range"},
      {"lora: {use_dora: perhaps}", "lora.use_dora: "},
      {"lora: {base_dtype: fp8}", "lora.base_dtype: \"fp8\" is unknown, wanted auto or float8"},
      {"lora: {base_dtype: float8, use_dora: true}",
       "lora.base_dtype: float8 wants lora.use_dora: false"},
      {"lora: {base_dtype: float8, dropout: 0.1}", "lora.base_dtype: float8 wants lora.dropout: 0"},
      {"dtype: float32\nlora: {base_dtype: float8}",
       "lora.base_dtype: float8 wants dtype: bfloat16"},
      {"method: qlora\nlora: {base_dtype: float8}", "lora.base_dtype: float8 wants method: lora"},
      {"kernels: reference\nlora: {base_dtype: float8}",
       "lora.base_dtype: float8 wants kernels: auto"},
      {"lora: {init: pissa, resume_from: a}", "lora.init: pissa is the start of a new adapter"},
      {"lora: {init: olora, resume_from: a}", "lora.init: olora is the start of a new adapter"},
      {"lora: {plus_ratio: 0}",
       "lora.plus_ratio: 0 is out of range, wanted a number above 0 or null"},
      {"lora: {init: gausian}", "did you mean \"gaussian\""},
      {"lora: {bias: some}", "wanted none, lora_only or all"},
      {"lora: {rank_pattern: {q: 0}}", "lora.rank_pattern: q: 0 is out of range"},
      {"lora: {rank_pattern: [q]}", "wanted a map {name: value}"},
      {"lora: {rank_pattern: null}", "has no value"},
      {"lora: {rank_pattern: {'': 3}}", "an empty name"},
      {"lora: {alpha_pattern: {q: x}}", "lora.alpha_pattern: q: "},
      {"lora: {target_modules: []}", "lora.target_modules: is empty"},
      {"lora: {target_modules: ''}", "an empty text"},
      {"lora: {target_modules: null}", "has no value"},
      {"lora: {modules_to_save: lm_head}", "wanted a list of texts"},
      {"lora: {modules_to_save: [[a]]}", "element 1: is a list"},
      {"quantization: {type: fp4}", "quantization.type: has no effect with method lora"},
      {"quantization: {type: nf5}", "did you mean \"nf4\""},
      {"quantization: {block_size: 100}", "not a power of two"},
      {"eval: {every_steps: 0}", "eval.every_steps: 0 is out of range"},
      {"eval: {early_stopping_patience: 2}", "nothing to evaluate on"},
      {"save: {keep: 0}", "save.keep: 0 is out of range"},
      {"log: {every_steps: 0}", "log.every_steps: 0 is out of range"},
      {"log: {tensorboard: null}", "wanted true or false"},
      {"method: full\nlora: {r: 8}", "lora.r: has no effect with method full"},
      {"method: full\ndtype: float16", "F:5: dtype: float16 cannot be trained in full"},
      {"seed: 1\nseed: 2", "F:5: seed: given twice, first in line 4"},
      {"- 3", ""},
  };
  for (const Case& c : cases) {
    const std::string message = line4(c.text + "\n");
    EXPECT_NE(message.find("F:"), std::string::npos) << c.text;
    EXPECT_NE(message.find(c.says), std::string::npos) << c.text << "\n" << message;
    EXPECT_EQ(message.find('\n'), std::string::npos) << c.text << "\n" << message;
  }
}

TEST(Config, DataMistakes) {
  const auto data = [](const std::string& lines) {
    return error_of("model: m\noutput_dir: o\ndata: {train: t, " + lines + "}\n");
  };
  EXPECT_NE(data("eval: e, eval_split: 0.1").find("F:3: data.eval_split: data.eval and"),
            std::string::npos);
  for (const char* bad :
       {"eval_split: 1", "eval_split: -0.1", "format: chat", "columns: [a]", "columns: {a: [b]}",
        "columns: {a: null}", "max_length: 1", "overflow: cut", "train_on: none", "packing: on",
        "chat_template: lama3", "eval: ['']", "eval: {a: 1}", "system_prompt: true",
        "shuffle: null", "system_prompt: [a]", "columns: null"})
    EXPECT_EQ(data(bad).find("F:3: data."), 0u) << bad << data(bad);
  for (const char* good : {"eval: null", "eval: []", "eval: [a, b]", "system_prompt: null",
                           "eval_split: 0.99", "chat_template: my.jinja", "chat_template: llama3",
                           "system_prompt: ''", "system_prompt: yes"})
    EXPECT_EQ(data(good), "") << good;
  EXPECT_NE(error_of("model: m\noutput_dir: o\ndata: {train: null}\n").find("data.train: has no"),
            std::string::npos);
}

TEST(Config, AllProblemsTogetherInOrderOfLines) {
  EXPECT_EQ(
      error_of("seed: x\nmodel: m\noutput_dir: m/\nlora:\n  r: 0\nseed: 1\n", {"train.epochs=0"}),
      "F:1: seed: \"x\" is not a decimal number, wanted a whole number of at least 0\n"
      "error: F:3: output_dir: is the folder of the model, wanted another one\n"
      "error: F:5: lora.r: 0 is out of range, wanted a whole number from 1 to 65536\n"
      "error: F:6: seed: given twice, first in line 1, wanted once\n"
      "error: --set train.epochs: 0 is out of range, wanted a whole number from 1 to "
      "1000000000\n"
      "error: F: data.train: is missing, wanted one or more data files");
}

TEST(Config, OtherCommandsTakeWhatTrainingRefuses) {
  EXPECT_EQ(error_of("method: full\ndtype: float16\n", {}, Purpose::kOther), "");
  EXPECT_EQ(error_of("method: qlora\n", {}, Purpose::kOther), "");
}

TEST(Config, UnreadableFiles) {
  for (const std::string path : {"/nowhere/x.yaml", "/tmp", "/dev/zero", "\x1b.yaml"}) {
    try {
      load_config(path, {});
      FAIL() << path;
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), Code::kUsage);
      const std::string message = e.what();
      EXPECT_TRUE(message.find("cannot be read") != message.npos ||
                  message.find("larger than") != message.npos)
          << message;
      EXPECT_EQ(message.find('\x1b'), message.npos);
    }
  }
  EXPECT_NE(error_of("just text\n").find("F:1: not a configuration"), std::string::npos);
  EXPECT_NE(error_of("- a\n").find("F:1: not a configuration"), std::string::npos);
}

TEST(Config, ManyProblemsAreCountedAndQuick) {
  std::string text = kNeeded;
  for (int i = 0; i < 60000; ++i) text += "learning_ratee" + std::to_string(i) + ": 1\n";
  const auto start = std::chrono::steady_clock::now();
  const std::string message = error_of(text.substr(0, 1000000));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
  EXPECT_EQ(std::count(message.begin(), message.end(), '\n'), 50);
  EXPECT_NE(message.find(" more problems"), std::string::npos);
}

}  // namespace
}  // namespace ft
