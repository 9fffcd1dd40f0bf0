// Data in several windows: each epoch has every row once, a run can go on from any step, and what
// is wrong with a row ends it where it must.
#include "data/loader.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <numeric>
#include <set>

#include "data/line_file.h"
#include "temporary_file.h"

namespace ft {
namespace {

constexpr int kRows = 300;
constexpr uint64_t kWindow = 28000;  // of about 165000 bytes, with what a row costs

/// Row i is the token i, some times over.
std::string token_rows() {
  std::string lines;
  for (int i = 0; i < kRows; ++i) {
    std::string ids = str(i);
    for (int k = 0; k < 1 + i % 3; ++k) ids += str(", ", i);
    lines += str("{\"input_ids\": [", ids, "]}\n");
  }
  return lines;
}

RunConfig small_run() {
  RunConfig config;
  config.data.max_length = 8;
  config.train.batch_size = 2;
  config.train.gradient_accumulation_steps = 2;
  config.train.epochs = 2;
  return config;
}

struct Taken {
  std::vector<LoadedStep> steps;
  std::string error;
};

Taken run(const std::string& file, const RunConfig& config, const LoaderPosition& start = {},
          uint64_t window_bytes = kWindow, int64_t vocab_size = kRows) {
  const DataContext context{.config = config.data, .vocab_size = vocab_size, .keep_texts = false};
  Loader loader(Rows({file}), context, config, start, window_bytes);
  loader.begin();
  Taken taken;
  try {
    while (auto step = loader.next()) taken.steps.push_back(std::move(*step));
  } catch (const Error& e) {
    taken.error = e.what();
  }
  return taken;
}

/// First tokens of the documents, step by step.
std::vector<std::vector<int64_t>> documents(const std::vector<LoadedStep>& steps) {
  std::vector<std::vector<int64_t>> all;
  for (const LoadedStep& step : steps) {
    auto& own = all.emplace_back();
    for (const Batch& batch : step.batches)
      for (size_t d = 0; d + 1 < batch.bounds.size(); ++d)
        own.push_back(batch.tokens[static_cast<size_t>(batch.bounds[d])]);
  }
  return all;
}

TEST(Loader, EveryEpochHasEveryRowOnceAcrossWindows) {
  const TemporaryFile file("a.jsonl", token_rows());
  const Taken both = run(file.path(), small_run());
  ASSERT_EQ(both.error, "");
  std::vector<std::vector<int64_t>> epochs(2);
  std::set<int64_t> windows;
  double before = 0;
  const auto steps = documents(both.steps);
  for (size_t s = 0; s < both.steps.size(); ++s) {
    const LoadedStep& step = both.steps[s];
    const int64_t epoch = step.after.epochs_done <= 1 ? 0 : 1;
    for (const int64_t d : steps[s]) epochs[static_cast<size_t>(epoch)].push_back(d);
    if (step.after.epoch == 0) windows.insert(step.after.window);
    EXPECT_GT(step.after.epochs_done, before);
    before = step.after.epochs_done;
    EXPECT_EQ(step.is_last, s + 1 == both.steps.size());
  }
  EXPECT_EQ(windows, (std::set<int64_t>{0, 1, 2, 3, 4, 5}));
  EXPECT_EQ(both.steps.back().after.epochs_done, 2);
  EXPECT_EQ(both.steps.back().after.counts.rows, kRows);
  EXPECT_EQ(both.steps.back().after.counts.examples, kRows);
  EXPECT_NE(epochs[0], epochs[1]);
  std::vector<int64_t> all(kRows);
  std::iota(all.begin(), all.end(), 0);
  for (auto& epoch : epochs) {
    EXPECT_NE(epoch, all);
    std::sort(epoch.begin(), epoch.end());
    EXPECT_EQ(epoch, all);
  }
  // Close to what was to be expected from the first window.
  const int64_t expected = 2 * both.steps[0].after.steps_per_epoch;
  EXPECT_NEAR(static_cast<double>(both.steps.size()), static_cast<double>(expected),
              0.05 * static_cast<double>(expected));
}

TEST(Loader, WithoutShuffleInFileOrder) {
  const TemporaryFile file("a.jsonl", token_rows());
  RunConfig config = small_run();
  config.data.shuffle = false;
  config.data.packing = false;
  config.train.epochs = 1;
  std::vector<int64_t> seen, all(kRows);
  for (const auto& step : documents(run(file.path(), config).steps))
    seen.insert(seen.end(), step.begin(), step.end());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(seen, all);
}

TEST(Loader, RowsOfOtherContainersGoThroughWindowsToo) {
  std::string lines = token_rows();
  lines.pop_back();
  for (size_t at; (at = lines.find('\n')) != std::string::npos;) lines[at] = ',';
  const TemporaryFile file("a.json", "[" + lines + "]");
  RunConfig config = small_run();
  config.train.epochs = 1;
  const Taken taken = run(file.path(), config);
  ASSERT_EQ(taken.error, "");
  std::vector<int64_t> seen, all(kRows);
  for (const auto& step : documents(taken.steps)) seen.insert(seen.end(), step.begin(), step.end());
  std::sort(seen.begin(), seen.end());
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(seen, all);
  EXPECT_GT(taken.steps[taken.steps.size() - 2].after.window, 3);
}

TEST(Loader, GoesOnFromEveryStep) {
  const TemporaryFile file("a.jsonl", token_rows());
  for (const uint64_t window_bytes : {kWindow, kWindowBytes}) {
    const Taken whole = run(file.path(), small_run(), {}, window_bytes);
    const auto steps = documents(whole.steps);
    for (size_t s = 0; s < steps.size(); s += 3) {
      const Taken rest = run(file.path(), small_run(), whole.steps[s].after, window_bytes);
      const std::vector<std::vector<int64_t>> wanted(steps.begin() + static_cast<ptrdiff_t>(s) + 1,
                                                     steps.end());
      ASSERT_EQ(documents(rest.steps), wanted) << s;
      if (wanted.empty()) continue;
      EXPECT_EQ(rest.steps.back().after.counts.rows, kRows);
      EXPECT_EQ(rest.steps.back().after.epochs_done, 2);
    }
    EXPECT_TRUE(
        run(file.path(), small_run(), whole.steps.back().after, window_bytes).steps.empty());
  }
}

TEST(Loader, OneWindowIsPackedOnceAndShuffledByEpoch) {
  const TemporaryFile file("a.jsonl", token_rows());
  const RunConfig config = small_run();
  const Taken both = run(file.path(), config, {}, kWindowBytes);
  std::vector<Example> examples;
  for (int32_t i = 0; i < kRows; ++i) {
    Example& e = examples.emplace_back();
    e.ids.assign(static_cast<size_t>(2 + i % 3), i);
    e.labels = e.ids;
    e.labels[0] = kIgnore;
  }
  Window window(examples, config);
  ASSERT_EQ(static_cast<int64_t>(both.steps.size()), 2 * window.num_steps());
  for (size_t s = 0; s < both.steps.size(); ++s) {
    const int64_t index = static_cast<int64_t>(s) % window.num_steps();
    if (index == 0) window.shuffle(static_cast<int64_t>(s) / window.num_steps());
    const auto batches = window.step(index);
    ASSERT_EQ(batches.size(), both.steps[s].batches.size());
    for (size_t b = 0; b < batches.size(); ++b)
      ASSERT_EQ(batches[b].tokens, both.steps[s].batches[b].tokens) << s;
  }
}

TEST(Loader, ARowThatCannotBeUsedEndsTheRunWhereItsWindowWouldBegin) {
  const TemporaryFile file("a.jsonl", token_rows());
  const auto whole = documents(run(file.path(), small_run()).steps);
  // The row of the last token is beyond the vocabulary.
  const Taken cut = run(file.path(), small_run(), {}, kWindow, kRows - 1);
  EXPECT_NE(cut.error.find("a.jsonl:300: input_ids[0]: 299"), std::string::npos) << cut.error;
  ASSERT_GT(cut.steps.size(), 0u);
  EXPECT_FALSE(cut.steps.back().is_last);
  EXPECT_EQ(cut.steps.back().after.step, 0);
  const auto steps = documents(cut.steps);
  EXPECT_TRUE(std::equal(steps.begin(), steps.end(), whole.begin()));
  const auto has_it = [](const auto& step) {
    return std::count(step.begin(), step.end(), 299) > 0;
  };
  const auto at = std::find_if(whole.begin(), whole.end(), has_it) - whole.begin();
  EXPECT_LE(static_cast<ptrdiff_t>(steps.size()), at);
  EXPECT_LT(at - static_cast<ptrdiff_t>(steps.size()), 20) << "not the window before";
}

TEST(Loader, ABrokenLineIsFoundLongBeforeItsTurn) {
  std::string lines = token_rows();
  RunConfig config = small_run();
  config.data.shuffle = false;
  config.train.epochs = 1;
  for (const char* broken : {"{\"input_ids\": [1, 2\n", "{\"ids\": [1, 2]}\n"}) {
    const TemporaryFile file("a.jsonl", lines + broken);
    const DataContext context{.config = config.data, .vocab_size = kRows, .keep_texts = false};
    Loader loader(Rows({file.path()}), context, config, {}, kWindow);
    loader.begin();
    int taken = 0;
    const std::string error = error_of([&] {
      for (; loader.next(); ++taken) std::this_thread::sleep_for(std::chrono::milliseconds(100));
    });
    EXPECT_NE(error.find("a.jsonl:301: "), std::string::npos) << error;
    EXPECT_LT(taken, 30);  // of about 75
  }
}

TEST(Loader, EndsInTheMiddleOfItsWork) {
  const TemporaryFile file("a.jsonl", token_rows());
  const RunConfig config = small_run();
  const DataContext context{.config = config.data, .vocab_size = kRows, .keep_texts = false};
  for (int taken = 0; taken < 20; ++taken) {
    Loader loader(Rows({file.path()}), context, config, {}, kWindow);
    loader.begin();
    for (int i = 0; i < taken; ++i) ASSERT_TRUE(loader.next());
  }
}

TEST(LineFile, KnowsItsLines) {
  const std::string long_line(3 << 20, 'x');
  const TemporaryFile file("a.jsonl",
                           "\xef\xbb\xbf"
                           "a\r\n\n \t\nbc\n" +
                               long_line + "\n\nlast");
  const LineFile lines(file.path());
  ASSERT_EQ(lines.size(), 4u);
  EXPECT_EQ(lines.text(0), "a\r");
  EXPECT_EQ(lines.text(1), "bc");
  EXPECT_EQ(lines.text(2), long_line);
  EXPECT_EQ(lines.text(3), "last");
  std::vector<int64_t> numbers;
  for (size_t i = 0; i < lines.size(); ++i) numbers.push_back(lines.line(i));
  EXPECT_EQ(numbers, (std::vector<int64_t>{1, 4, 5, 7}));
}

TEST(LineFile, NoticesThatTheFileChanged) {
  const TemporaryFile file("a.jsonl", "{\"a\": 1}\n{\"a\": 2}\n");
  const LineFile lines(file.path());
  const auto before = Rows({file.path()}).fingerprint();
  std::ofstream(file.path()) << "{\"a\": 1,          ";
  EXPECT_NE(error_of([&] { (void)lines.text(0); }).find("a.jsonl:1: the file was changed"),
            std::string::npos);
  std::ofstream(file.path()) << "{\"a\": 1}\n{\"a\": 3}\n";
  EXPECT_FALSE(Rows({file.path()}).fingerprint() == before);
}

}  // namespace
}  // namespace ft
