// Runs over data in several windows, in this process: only so can a window be small.
#include <algorithm>

#include "cli/tiny_run.h"
#include "data/temporary_file.h"
#include "train/resolve.h"
#include "train/trainer.h"

namespace ft {
namespace {

constexpr uint64_t kWindow = 16000;  // 24 conversations, with what a row costs

class Windows : public testing::Test {
 protected:
  TestFolder work;
  fs::path data = work.file("train.jsonl", conversations(72));

  RunConfig config(const std::string& output, const std::vector<std::string>& more = {}) const {
    std::vector<Override> overrides;
    const auto set = [&](const std::string& text) { overrides.push_back(parse_override(text)); };
    for (const std::string& text :
         {str("model=", tiny_model().string()), str("data.train=", data.string()),
          str("data.eval=", work.file("eval.jsonl", conversations(4, 100))),
          str("output_dir=", (work / output).string()), std::string("dtype=float32"),
          std::string("device=cpu"), std::string("data.max_length=128"),
          std::string("train.epochs=2"), std::string("train.lr_scheduler=cosine"),
          std::string("eval.samples=0"), std::string("save.every_steps=1"),
          std::string("save.keep=1000"), std::string("lora.dropout=0.1")})
      set(text);
    for (const std::string& text : more) set(text);
    return resolve(load_config("", overrides));
  }
  static int train(const RunConfig& config, bool resume = false) {
    return Trainer(config, {.resume = resume, .window_bytes = kWindow}).run();
  }
  std::vector<Json> metrics(const std::string& output) const {
    return read_json_lines(work / output / "metrics.jsonl");
  }
  /// A run that was killed after `step`: what it had written by then.
  void copy_until(int64_t step, const std::string& from, const std::string& to) const {
    const std::string checkpoint = str("checkpoints/step-", step);
    fs::create_directories(work / to / "checkpoints");
    fs::copy(work / from / checkpoint, work / to / checkpoint);
    fs::copy(work / from / "metrics.jsonl", work / to / "metrics.jsonl");
    fs::copy(work / from / "best", work / to / "best", fs::copy_options::recursive);
  }
  Json position(const std::string& output, int64_t step) const {
    return *read_json(work / output / "checkpoints" / str("step-", step) / "state.json")
                .get("data");
  }
};

TEST_F(Windows, ResumeInTheMiddleOfTheSecondOneGivesTheSameBits) {
  ASSERT_EQ(train(config("whole")), 0);
  const auto whole = metrics("whole");
  const auto steps = static_cast<int64_t>(lines_of(whole, "train").size());
  EXPECT_EQ(lines_of(whole, "eval").back().get("step")->integer(), steps);
  EXPECT_EQ(lines_of(whole, "train").back().get("epoch")->number(), 2);
  EXPECT_EQ(position("whole", steps).get("counts")->get("rows")->integer(), 72);
  int64_t middle = 1;
  while (position("whole", middle).get("window")->integer() != 1 ||
         position("whole", middle).get("step")->integer() == 0)
    ++middle;
  ASSERT_LT(middle, steps);
  for (const int64_t step : {middle, steps / 2, steps}) {
    SCOPED_TRACE(step);
    const std::string output = str("from-", step);
    copy_until(step, "whole", output);
    ASSERT_EQ(train(config(output), true), 0);
    EXPECT_EQ(repeatable(metrics(output)), repeatable(whole));
    const char* weights = "final/adapter_model.safetensors";
    EXPECT_EQ(read_file(work / output / weights), read_file(work / "whole" / weights));
  }
}

TEST_F(Windows, ResumeRefusesOtherData) {
  ASSERT_EQ(train(config("out", {"train.max_steps=2"})), 0);
  fs::remove_all(work / "out/final");
  std::string text = read_file(data);
  text[text.find("What is 50")] = 'w';
  write_file(data, text);
  const std::string error = error_of([&] { train(config("out", {"train.max_steps=2"}), true); });
  EXPECT_TRUE(error.starts_with("data.train: not what the run in ")) << error;
  EXPECT_NE(error.find(data.string() + " has changed since"), std::string::npos) << error;
}

TEST_F(Windows, ABrokenLineEndsTheRunAfterACheckpoint) {
  write_file(data, read_file(data) + "{\"messages\": [\n");
  const RunConfig broken = config("out", {"data.shuffle=false", "save.every_steps=1000",
                                          "eval.evaluations=0", "train.epochs=1"});
  std::string error;
  try {
    train(broken);
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kInput);
    error = e.what();
  }
  EXPECT_TRUE(error.starts_with(data.string() + ":73: not valid JSON")) << error;
  EXPECT_NE(error.find("the state before it is in "), std::string::npos) << error;
  const auto steps = lines_of(metrics("out"), "train").size();
  EXPECT_TRUE(fs::exists(work / "out/checkpoints" / str("step-", steps) / "manifest.json"));
}

}  // namespace
}  // namespace ft
