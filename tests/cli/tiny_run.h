// Runs on the tiny model: data as a user has it, and the settings that most tests share.
#pragma once

#include "cli/run_program.h"
#include "parity.h"

namespace ft {

/// `n` short conversations, one a line.
inline std::string conversations(int n, int first = 0) {
  std::string lines;
  for (int i = first; i < first + n; ++i) {
    const std::string question = str("What is ", i, " and ", 3 * i % 7, "?"),
                      answer = str("It is ", i + 3 * i % 7, i % 3 ? "." : ", I think.");
    lines +=
        Json(Json::Object{{"messages",
                           Json::Array{Json::Object{{"role", "user"}, {"content", question}},
                                       Json::Object{{"role", "assistant"}, {"content", answer}}}}})
            .dump() +
        "\n";
  }
  return lines;
}

/// Settings of a small float32 LoRA run; later settings replace earlier ones.
class TinyRun {
 public:
  explicit TinyRun(const TestFolder& folder) : folder_(folder) {
    folder.file("train.jsonl", conversations(24));
    folder.file("eval.jsonl", conversations(6, 100));
    set("model", tiny_model().string());
    set("output_dir", (folder / "out").string());
    set("data.train", (folder / "train.jsonl").string());
    set("dtype", "float32");
    set("data.max_length", "128");
    set("train.learning_rate", "1e-3");
  }
  TinyRun& set(const std::string& key, const std::string& value) {
    for (auto& [k, v] : settings_)
      if (k == key) {
        v = value;
        return *this;
      }
    settings_.emplace_back(key, value);
    return *this;
  }
  TinyRun& with_eval() { return set("data.eval", (folder_ / "eval.jsonl").string()); }
  TinyRun& output(const std::string& name) { return set("output_dir", (folder_ / name).string()); }

  std::vector<std::string> args(const std::vector<std::string>& more = {}) const {
    std::vector<std::string> all = {"train"}, pairs;
    for (const auto& [key, value] : settings_) pairs.push_back(key + "=" + value);
    all.insert(all.end(), more.begin(), more.end());
    return with_settings(all, pairs);
  }
  fs::path out() const {
    for (const auto& [key, value] : settings_)
      if (key == "output_dir") return value;
    return {};
  }
  /// Trains, expects success, gives metrics.jsonl.
  std::vector<Json> train(const std::vector<std::string>& more = {}) const {
    const Outcome outcome = run_ok(args(more));
    return outcome.status == 0 ? read_json_lines(out() / "metrics.jsonl") : std::vector<Json>();
  }

 private:
  const TestFolder& folder_;
  std::vector<std::pair<std::string, std::string>> settings_;
};

/// Until it holds, or for 20 s or so.
template <typename Condition>
void wait_until(Condition&& holds) {
  for (int i = 0; i < 20000 && !holds(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
}

inline void wait_for_lines(const fs::path& metrics, long lines) {
  wait_until([&] {
    const std::string text = fs::exists(metrics) ? read_file(metrics) : "";
    return std::count(text.begin(), text.end(), '\n') >= lines;
  });
}

/// Starts the run, sends `signal` once `lines` lines are on record, waits for the end.
inline Outcome interrupt(const std::vector<std::string>& args, const fs::path& metrics, long lines,
                         int signal) {
  Program program(args);
  wait_for_lines(metrics, lines);
  program.kill(signal);
  return program.wait();
}

inline std::vector<Json> lines_of(const std::vector<Json>& metrics, const std::string& type) {
  std::vector<Json> found;
  for (const Json& line : metrics)
    if (line.get("type")->string() == type) found.push_back(line);
  return found;
}

inline std::vector<double> numbers(const std::vector<Json>& lines, const char* key) {
  std::vector<double> found;
  for (const Json& line : lines) found.push_back(line.get(key)->number());
  return found;
}

/// metrics.jsonl without what the clock and the machine decide.
inline std::string repeatable(std::vector<Json> metrics) {
  std::string text;
  for (Json& line : metrics) {
    for (const char* key :
         {"tokens_per_second", "step_seconds", "memory_bytes", "seconds", "peak_memory_bytes"})
      line.erase(key);
    text += line.dump() + "\n";
  }
  return text;
}

inline std::vector<std::string> keys_of(const Json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.object()) keys.push_back(key);
  return keys;
}

/// Every file below a folder, relative, sorted.
inline std::vector<std::string> files_below(const fs::path& folder) {
  std::vector<std::string> files;
  std::error_code dangling;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file(dangling))
      files.push_back(fs::relative(entry.path(), folder).string());
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace ft
