// Loading a configuration: file, then --set in order, then every check that needs no weights.
// Problems are collected, not thrown one by one: a user mends a file in one go. A line looks like
//   FILE:LINE: KEY: what is wrong, what is wanted        or        --set KEY: ...
// Checks that read other files (data, model, adapter) belong to the layers that read them.
#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <limits>
#include <map>
#include <set>

#include "base/error.h"
#include "config/fields.h"
#include "config/values.h"
#include "config/yaml.h"

namespace ft {
namespace {

/// A configuration is a page; what is larger is another file by mistake.
constexpr size_t kMaxFileSize = 1 << 20;
/// Past this many the rest is only counted.
constexpr size_t kMaxProblems = 50;

// --- loading --------------------------------------------------------------------------------

class Loader {
 public:
  RunConfig config;

  void read(const std::string& text, const std::string& path);
  void apply(const Override& change);
  void check(Purpose purpose);
  /// Throws what was found, if anything was.
  void finish();

  std::set<std::string> given_keys() const;

  /// Notes that the node sets `key`; what it says of it is in `wrong` ("" when all is well).
  void visited(const std::string& key, const YamlNode& node, const std::string& wrong);
  void unknown(const std::string& section, const YamlNode& node);

 private:
  void report(const std::string& key, const std::string& what);
  void add(int line, const std::string& place, const std::string& key, const std::string& what);
  bool is_given(const std::string& key) const { return places_.contains(key); }
  bool has_failed(const std::string& key) const { return failed_.contains(key); }
  void require(const std::string& key, bool is_there, std::string_view what);
  void check_values();
  void check_unused_sections();
  void check_training();

  struct Place {
    int line;
    std::string text;  ///< "FILE:LINE: " or "--set "
  };
  struct Problem {
    int line;
    std::string text;
  };
  Place place_of(int line) const;

  std::string path_;                     ///< as printed; of the file read, empty without one
  std::string override_key_;             ///< of the override being applied
  std::map<std::string, Place> places_;  ///< where each key was set last
  std::set<std::string> failed_;         ///< keys that were reported
  std::vector<Problem> problems_;
  size_t num_problems_ = 0;
};

/// Sets the one member of `config` that the node is named after.
template <typename Config>
struct Setter {
  Config& config;
  const YamlNode& node;
  std::string section_name;
  Loader& loader;
  bool is_found = false;

  template <typename T>
  void operator()(std::string_view name, T Config::*member, std::string_view,
                  const Rule& rule = {}) {
    if (name != node.key) return;
    is_found = true;
    std::string wrong = read_value(node, rule, config.*member);
    if (!wrong.empty()) wrong += ", wanted " + wanted(rule, T{});
    if constexpr (std::is_same_v<Config, LoraConfig>)
      if (rule.was_list != nullptr && wrong.empty()) config.*rule.was_list = node.is_list();
    loader.visited(section_name.empty() ? node.key : section_name + "." + node.key, node, wrong);
  }
  template <typename Section>
  void section(std::string_view name, Section Config::*member, std::string_view);
};

/// Sets the members that a map names.
template <typename Config>
void fill(Config& config, const YamlNode& map, const std::string& section_name, Loader& loader) {
  for (const YamlNode& item : map.items) {
    Setter<Config> setter{config, item, section_name, loader};
    Fields<Config>::visit(setter);
    if (!setter.is_found) loader.unknown(section_name, item);
  }
}

template <typename Config>
template <typename Section>
void Setter<Config>::section(std::string_view name, Section Config::*member, std::string_view) {
  if (name != node.key) return;
  is_found = true;
  // A section whose lines are all commented out is null: it changes nothing.
  if (node.is_map()) fill(config.*member, node, node.key, loader);
  if (!node.is_map() && !node.is_null())
    loader.visited(node.key, node, wrong_kind(node) + ", wanted a section of keys");
}

std::string read_text(const std::string& path) {
  std::string content(kMaxFileSize + 1, '\0');
  errno = 0;
  std::ifstream in(path, std::ios::binary);
  if (in) in.read(content.data(), static_cast<std::streamsize>(content.size()));
  if (!in.is_open() || in.bad() || (!in && !in.eof()) || std::filesystem::is_directory(path))
    fail_usage(printable(path),
               ": cannot be read: ", errno != 0 ? std::strerror(errno) : "not a file",
               ", wanted a YAML file");
  content.resize(static_cast<size_t>(in.gcount()));
  if (content.size() > kMaxFileSize)
    fail_usage(printable(path), ": larger than 1 MiB, wanted a configuration in YAML");
  return content;
}

void Loader::read(const std::string& text, const std::string& path) {
  path_ = printable(path);
  std::vector<YamlProblem> wrong;
  const YamlNode root = parse_yaml(text, wrong);
  for (const YamlProblem& problem : wrong)
    add(problem.line, place_of(problem.line).text, problem.key, problem.what);
  if (!root.is_map() && !root.is_null())
    add(root.line, place_of(root.line).text, "", "not a configuration, wanted lines KEY: VALUE");
  // After a syntax error there is nothing to read; every key would be reported as missing.
  if (!root.is_map()) return finish();
  fill(config, root, "", *this);
}

void Loader::apply(const Override& change) {
  override_key_ = change.key;
  std::vector<YamlProblem> wrong;
  YamlNode value = parse_yaml(change.value, wrong);
  const size_t first = change.value.find_first_not_of(" \t\r\n");
  const size_t last = change.value.find_last_not_of(" \t\r\n");
  const std::string trimmed =
      first == std::string::npos ? "" : change.value.substr(first, last - first + 1);
  // `#` after a space begins a comment, also where the shell's user meant a text.
  if (wrong.empty() &&
      (value.is_plain() ? value.text != trimmed : value.is_null() && trimmed.starts_with('#')))
    wrong.push_back(
        {0, "", "is cut at # or at a line break, put the text in quotes inside KEY='...'"});
  for (const YamlProblem& problem : wrong) {
    failed_.insert(change.key);
    add(0, "--set ", change.key, problem.what);
  }
  if (!wrong.empty()) return;
  // The section is what stands before the first dot; keys of maps (columns) are no keys of ours.
  const size_t dot = change.key.find('.');
  YamlNode root;
  root.kind = YamlNode::Kind::kMap;
  value.key = change.key.substr(dot == std::string::npos ? 0 : dot + 1);
  if (dot != std::string::npos) {
    YamlNode section;
    section.kind = YamlNode::Kind::kMap;
    section.key = change.key.substr(0, dot);
    section.items.push_back(std::move(value));
    value = std::move(section);
  }
  root.items.push_back(std::move(value));
  fill(config, root, "", *this);
}

void Loader::visited(const std::string& key, const YamlNode& node, const std::string& wrong) {
  const Place place = place_of(node.line);
  places_[key] = place;
  failed_.erase(key);
  if (wrong.empty()) return;
  failed_.insert(key);
  add(place.line, place.text, key, wrong);
}

std::set<std::string> Loader::given_keys() const {
  std::set<std::string> keys;
  for (const auto& [key, place] : places_) keys.insert(key);
  return keys;
}

void Loader::unknown(const std::string& section_name, const YamlNode& node) {
  const bool in_override = !override_key_.empty();
  std::string section = section_name, name = node.key;
  if (in_override && section.empty()) {  // a --set with an unknown section
    const size_t dot = override_key_.find('.');
    section = dot == std::string::npos ? "" : override_key_.substr(0, dot);
    name = override_key_.substr(dot == std::string::npos ? 0 : dot + 1);
  }
  const Place place = place_of(node.line);
  const size_t dot = name.find('.');
  std::string what = "unknown key";
  if (!in_override && section.empty() && dot != std::string::npos)
    what += ", dots are for --set; in a file write the section and below it, indented, the key";
  else if (in_override && !section_name.empty() && dot != std::string::npos)
    what += ", set the whole of \"" + section + "." + printable(name.substr(0, dot)) + "\"";
  else if (problems_.size() < kMaxProblems)  // suggestions cost time
    what += suggest_key(section, name);
  add(place.line, place.text, section.empty() ? name : section + "." + name, what);
}

Loader::Place Loader::place_of(int line) const {
  if (!override_key_.empty()) return {0, "--set "};
  return {line, path_ + ":" + std::to_string(line) + ": "};
}

/// A problem of a key wherever it was set, or of the file when it was not.
void Loader::report(const std::string& key, const std::string& what) {
  failed_.insert(key);
  const auto place = places_.find(key);
  if (place != places_.end())
    add(place->second.line, place->second.text, key, what);
  else
    add(0, (path_.empty() ? "configuration" : path_) + ": ", key, what);
}

void Loader::add(int line, const std::string& place, const std::string& key,
                 const std::string& what) {
  ++num_problems_;
  if (problems_.size() < kMaxProblems)
    problems_.push_back({line == 0 ? std::numeric_limits<int>::max() : line,
                         place + printable(key) + (key.empty() ? "" : ": ") + what});
}

void Loader::finish() {
  if (problems_.empty()) return;
  std::stable_sort(problems_.begin(), problems_.end(),
                   [](const Problem& a, const Problem& b) { return a.line < b.line; });
  std::string text;
  for (const Problem& problem : problems_) text += (text.empty() ? "" : "\nerror: ") + problem.text;
  if (num_problems_ > problems_.size())
    text += str("\nerror: ", path_.empty() ? "configuration" : path_, ": and ",
                num_problems_ - problems_.size(), " more problems");
  fail_usage(text);
}

// --- checks over several keys ---------------------------------------------------------------

void Loader::require(const std::string& key, bool is_there, std::string_view what) {
  if (is_there || has_failed(key)) return;
  report(key, str(is_given(key) ? "is empty" : "is missing", ", wanted ", what));
}

void Loader::check_values() {
  const double warmup = config.train.warmup_steps;
  if (warmup >= 1 && warmup != std::floor(warmup))
    report("train.warmup_steps", "neither whole steps nor a share below 1");
  const int64_t block = config.quantization.block_size;
  if ((block & (block - 1)) != 0)
    report("quantization.block_size", "not a power of two, wanted 64, 128, ... 4096");
  if (!config.data.eval.empty() && config.data.eval_split > 0)
    report(is_given("data.eval_split") ? "data.eval_split" : "data.eval",
           "data.eval and data.eval_split are both given, wanted one of them (data.eval: null or "
           "data.eval_split: 0)");
  if (config.train.fused_update && config.train.gradient_accumulation_steps != 1)
    report("train.fused_update",
           "applies each gradient at once and cannot add up those of several micro-batches, wanted "
           "train.gradient_accumulation_steps: 1 with it");
  if (config.train.fused_update && config.train.max_grad_norm != 0)
    report("train.fused_update",
           "applies each gradient at once, and clipping needs the norm of all of them, wanted "
           "train.max_grad_norm: 0 with it");
  if (config.lora.target_modules.empty())
    report("lora.target_modules", "is empty, wanted all-linear or at least one module");
  if (config.lora.resume_from && (config.lora.init == "pissa" || config.lora.init == "olora"))
    report("lora.init",
           config.lora.init + " is the start of a new adapter, wanted no lora.resume_from with it");
  if (config.lora.base_dtype == "float8") {
    const auto want = [&](bool is_so, const char* what) {
      if (!is_so) report("lora.base_dtype", str("float8 wants ", what));
    };
    want(config.method != "qlora", "method: lora; qlora keeps the base in 4 bits");
    want(config.dtype == "bfloat16", "dtype: bfloat16");
    want(!config.lora.use_dora, "lora.use_dora: false");
    want(config.lora.dropout == 0, "lora.dropout: 0");
    want(config.kernels == "auto", "kernels: auto; the plain twins multiply in dtype");
  }
  const auto check_keys = [&](const std::string& key, const auto& map) {
    if (map.contains("")) report(key, "an empty name, wanted a module name or pattern");
  };
  check_keys("lora.rank_pattern", config.lora.rank_pattern);
  check_keys("lora.alpha_pattern", config.lora.alpha_pattern);
}

/// A setting without effect is refused. What stands at its default is not: a written-out
/// configuration lists every key.
void Loader::check_unused_sections() {
  for (const std::string& key : changed_keys(config, RunConfig{})) {
    if (has_failed(key)) continue;
    if (key.starts_with("lora.") && config.method == "full")
      report(key, "has no effect with method full, leave it out or set method to lora");
    if (key.starts_with("quantization.") && config.method != "qlora")
      report(key, "has no effect with method " + config.method +
                      ", leave it out or set method to qlora");
  }
}

void Loader::check_training() {
  require("model", !config.model.empty(), "the folder of the model");
  require("output_dir", !config.output_dir.empty(), "a folder for the results");
  require("data.train", !config.data.train.empty(), "one or more data files");
  const auto normal = [](const std::string& path) {
    return (std::filesystem::path(path) / "").lexically_normal();
  };
  if (!config.model.empty() && normal(config.model) == normal(config.output_dir))
    report("output_dir", "is the folder of the model, wanted another one");
  if (config.method == "full" && config.dtype == "float16")
    report("dtype",
           "float16 cannot be trained in full: small gradients and updates vanish in its range, "
           "wanted bfloat16 or float32");
  if (config.eval.early_stopping_patience && config.data.eval.empty() &&
      config.data.eval_split == 0 && !has_failed("data.eval") && !has_failed("data.eval_split"))
    report("eval.early_stopping_patience",
           "there is nothing to evaluate on, wanted data.eval or data.eval_split");
}

void Loader::check(Purpose purpose) {
  check_values();
  check_unused_sections();
  if (purpose == Purpose::kTrain) check_training();
}

}  // namespace

Override parse_override(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || equals == 0)
    fail_usage("--set: \"", printable(text),
               "\" is no setting, wanted KEY=VALUE, as in train.learning_rate=1e-5");
  return {text.substr(0, equals), text.substr(equals + 1)};
}

RunConfig read_config(const std::string& text, const std::string& where) {
  Loader loader;
  loader.read(text, where);
  loader.check(Purpose::kOther);
  loader.finish();
  return std::move(loader.config);
}

RunConfig load_config(const std::string& path, const std::vector<Override>& overrides,
                      Purpose purpose) {
  Loader loader;
  if (!path.empty()) loader.read(read_text(path), path);
  for (const Override& change : overrides) loader.apply(change);
  loader.check(purpose);
  loader.finish();
  loader.config.given_keys = loader.given_keys();
  return std::move(loader.config);
}

}  // namespace ft
