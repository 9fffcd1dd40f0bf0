// Steps whose numbers are read when the next one is begun, as on a GPU: here on the CPU, where they
// must give the same bits.
#include "base/error.h"
#include "cli/tiny_run.h"
#include "data/temporary_file.h"
#include "train/resolve.h"
#include "train/trainer.h"

namespace ft {
namespace {

class Ahead : public testing::Test {
 protected:
  TestFolder work;
  fs::path data = work.file("train.jsonl", conversations(40));

  /// The text of the error that ended the run, empty when none did.
  std::string train(const std::string& output, bool runs_ahead,
                    const std::vector<std::string>& more = {}) const {
    std::vector<Override> overrides;
    std::vector<std::string> settings = {str("model=", tiny_model().string()),
                                         str("data.train=", data.string()),
                                         str("output_dir=", (work / output).string()),
                                         "dtype=float32",
                                         "device=cpu",
                                         "data.max_length=64",
                                         "data.eval_split=0.1",
                                         "save.every_steps=3",
                                         "save.keep=100",
                                         "eval.samples=0"};
    settings.insert(settings.end(), more.begin(), more.end());
    for (const std::string& text : settings) overrides.push_back(parse_override(text));
    try {
      EXPECT_EQ(Trainer(resolve(load_config("", overrides)), {.runs_ahead = runs_ahead}).run(), 0);
      return "";
    } catch (const Error& e) {
      std::string text = e.what();
      for (size_t at; (at = text.find(work.path().string() + "/" + output)) != std::string::npos;)
        text.erase(at, (work.path().string() + "/" + output).size());
      return text;
    }
  }
  /// What the metrics say but for times.
  std::vector<std::string> metrics(const std::string& output) const {
    std::vector<std::string> lines;
    for (const Json& line : read_json_lines(work / output / "metrics.jsonl")) {
      std::string text;
      for (const char* key : {"type", "step", "epoch", "loss", "grad_norm", "learning_rate",
                              "tokens", "target_tokens"})
        if (const Json* value = line.get(key)) text += str(key, "=", value->dump(), " ");
      lines.push_back(text);
    }
    return lines;
  }
  std::vector<std::string> checkpoints(const std::string& output) const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(work / output / "checkpoints"))
      names.push_back(entry.path().filename());
    std::ranges::sort(names);
    return names;
  }
};

TEST_F(Ahead, GivesTheSameRun) {
  for (const std::string method : {"lora", "full"}) {
    SCOPED_TRACE(method);
    const std::vector<std::string> more = {"method=" + method, "train.max_grad_norm=0.5",
                                           "train.gradient_accumulation_steps=2"};
    ASSERT_EQ(train(method, false, more), "");
    ASSERT_EQ(train(method + "_ahead", true, more), "");
    EXPECT_GT(metrics(method).size(), 8u);
    EXPECT_EQ(metrics(method), metrics(method + "_ahead"));
    EXPECT_EQ(checkpoints(method), checkpoints(method + "_ahead"));
    const char* file =
        method == "full" ? "final/model.safetensors" : "final/adapter_model.safetensors";
    EXPECT_EQ(read_file(work / method / file), read_file(work / (method + "_ahead") / file));
  }
}

TEST_F(Ahead, FusedUpdatesGiveTheSameRun) {
  for (const char* method : {"method=full", "method=lora", "lora.use_dora=true"}) {
    SCOPED_TRACE(method);
    const std::vector<std::string> more = {method, "train.max_grad_norm=0",
                                           "train.learning_rate=1e-2"};
    std::vector<std::string> fused = more;
    fused.emplace_back("train.fused_update=true");
    ASSERT_EQ(train(str(method, "_plain"), false, more), "");
    ASSERT_EQ(train(str(method, "_fused"), false, fused), "");
    ASSERT_EQ(train(str(method, "_ahead"), true, fused), "");
    EXPECT_EQ(metrics(str(method, "_plain")), metrics(str(method, "_fused")));
    EXPECT_EQ(metrics(str(method, "_plain")), metrics(str(method, "_ahead")));
  }
}

TEST_F(Ahead, AStepWithoutNumbersStopsBothAtTheSamePlace) {
  const std::vector<std::string> more = {"method=full", "train.learning_rate=1e30",
                                         "train.max_grad_norm=0"};
  const std::string error = train("here", false, more);
  EXPECT_NE(error.find("is nan"), std::string::npos) << error;
  EXPECT_NE(error.find("its documents begin"), std::string::npos) << error;
  EXPECT_EQ(train("ahead", true, more), error);
  EXPECT_EQ(metrics("here"), metrics("ahead"));
  EXPECT_EQ(checkpoints("here"), checkpoints("ahead"));
  const std::string last = checkpoints("here").back();
  for (const char* file : {"trained.safetensors", "optimizer.safetensors"}) {
    const fs::path path = fs::path("checkpoints") / last / file;
    ASSERT_TRUE(fs::exists(work / "here" / path)) << path;
    EXPECT_EQ(read_file(work / "here" / path), read_file(work / "ahead" / path));
  }
}

}  // namespace
}  // namespace ft
