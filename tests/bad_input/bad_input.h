// Tables of wrong inputs. Every case must end with its status, say so in lines that begin with
// "error: " and name what is wrong, write nothing, and do so at once.
#pragma once

#include <functional>

#include "cli/edit_model.h"
#include "cli/tiny_run.h"

namespace ft {

/// What a case may use to build its command line.
struct Scene {
  TestFolder work;
  TinyRun run{work};

  std::string path(const std::string& name) const { return (work / name).string(); }
  /// `train` with a configuration file of this text; nothing else is set.
  std::vector<std::string> config(const std::string& text) {
    return {"train", "--config", work.file("run.yaml", text)};
  }
  /// A whole configuration file with one more line.
  std::vector<std::string> config_with(const std::string& lines) {
    return config(str("model: ", tiny_model().string(), "\noutput_dir: ", path("out"),
                      "\ndata:\n  train: ", path("train.jsonl"), "\n", lines, "\n"));
  }
  std::vector<std::string> set(const std::string& key, const std::string& value) {
    return run.set(key, value).args();
  }
  /// Training on a data file of this name and content.
  std::vector<std::string> data(const std::string& name, const std::string& content) {
    return set("data.train", work.file(name, content));
  }
  /// Training on a changed copy of the tiny model.
  std::vector<std::string> model(const std::function<void(const fs::path&)>& change) {
    const fs::path folder = copy_model(work);
    change(folder);
    return set("model", folder.string());
  }
  std::vector<std::string> model_config(const std::string& key, Json value) {
    return model([&](const fs::path& m) {
      edit_json(m / "config.json", [&](Json& c) { c.set(key, std::move(value)); });
    });
  }
};

struct BadInput {
  const char* name;
  int status;
  /// What stderr must name.
  std::vector<std::string> mentions;
  std::function<std::vector<std::string>(Scene&)> make;
  int problems = 1;  ///< lines of errors
};
inline void PrintTo(const BadInput& bad, std::ostream* out) {
  *out << bad.name;
}

inline std::vector<std::string> all_files(const fs::path& folder) {
  return fs::exists(folder) ? files_below(folder) : std::vector<std::string>();
}

inline void check_bad_input(const BadInput& bad) {
  Scene scene;
  const std::vector<std::string> args = bad.make(scene);
  const auto before = all_files(scene.work.path());
  const Outcome outcome = run_finetune(args);
  EXPECT_EQ(outcome.status, bad.status);
  int errors = 0;
  size_t lines = 0;
  for (size_t at = 0; at < outcome.err.size(); at = outcome.err.find('\n', at) + 1, ++lines) {
    errors += outcome.err.compare(at, 7, "error: ") == 0;
    if (outcome.err.find('\n', at) == std::string::npos) break;
  }
  EXPECT_EQ(errors, bad.problems);
  EXPECT_EQ(outcome.err.empty() ? 0 : outcome.err.back(), '\n');
  if (bad.status == 2) {
    EXPECT_EQ(lines, static_cast<size_t>(errors));
  }
  for (const std::string& mention : bad.mentions)
    EXPECT_NE(outcome.err.find(mention), std::string::npos) << "not named: " << mention;
  EXPECT_LT(outcome.err.size(), 1200u * static_cast<size_t>(bad.problems));
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(all_files(scene.work.path()), before);
#ifdef __SANITIZE_ADDRESS__
  constexpr double kLongest = 5;  // LibTorch alone takes one to load
#else
  constexpr double kLongest = 1;
#endif
  EXPECT_LT(figure("cpu_seconds", outcome.cpu_seconds), kLongest);
  if (testing::Test::HasFailure()) std::cout << "stderr: " << outcome.err << "\n";
}

inline std::string bad_input_name(const testing::TestParamInfo<BadInput>& bad) {
  return bad.param.name;
}

}  // namespace ft
