#include "data/pack.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/seed.h"
#include "data/loader.h"

namespace ft {
namespace {

using Rows = std::vector<std::vector<int64_t>>;

TEST(Pack, BestFitDecreasing) {
  EXPECT_EQ(pack_best_fit({5, 3, 5, 7, 3, 2}, 10), (Rows{{0, 2}, {1, 3}, {4, 5}}));
  EXPECT_EQ(pack_best_fit({}, 10), Rows{});
  EXPECT_EQ(pack_best_fit({10, 10}, 10), (Rows{{0}, {1}}));
  EXPECT_EQ(pack_best_fit({11, 1}, 10), (Rows{{0}, {1}}));
  EXPECT_EQ(pack_best_fit({4, 4, 4}, 10), (Rows{{0, 1}, {2}}));
}

TEST(Pack, EveryIndexOnceAndNoRowTooLong) {
  Rng rng(1);
  std::vector<int64_t> lengths;
  for (int i = 0; i < 20000; ++i) lengths.push_back(1 + static_cast<int64_t>(rng.below(700)));
  const Rows rows = pack_best_fit(lengths, 1000);
  EXPECT_EQ(rows, pack_best_fit(lengths, 1000));
  std::vector<int> seen(lengths.size());
  int64_t previous = -1;
  for (const auto& row : rows) {
    int64_t total = 0;
    EXPECT_TRUE(std::is_sorted(row.begin(), row.end()));
    EXPECT_GT(row.front(), previous);
    previous = row.front();
    for (const int64_t i : row) {
      total += lengths[static_cast<size_t>(i)];
      ++seen[static_cast<size_t>(i)];
    }
    EXPECT_LE(total, 1000);
  }
  EXPECT_EQ(std::count(seen.begin(), seen.end(), 1), static_cast<std::ptrdiff_t>(seen.size()));
  const int64_t sum = std::accumulate(lengths.begin(), lengths.end(), int64_t{0});
  EXPECT_GT(static_cast<double>(sum) / (1000.0 * static_cast<double>(rows.size())), 0.98);
}

TEST(Pack, BatchKeepsDocumentsApart) {
  Batch batch;
  batch.add({{5, 6, 7}, {kIgnore, 6, 7}});
  batch.add({{}, {}});
  batch.add({{8, 9}, {8, kIgnore}});
  EXPECT_EQ(batch.tokens, (std::vector<int64_t>{5, 6, 7, 8, 9}));
  EXPECT_EQ(batch.targets, (std::vector<int64_t>{6, 7, kIgnore, kIgnore, kIgnore}));
  EXPECT_EQ(batch.positions, (std::vector<int64_t>{0, 1, 2, 0, 1}));
  EXPECT_EQ(batch.bounds, (std::vector<int64_t>{0, 3, 5}));
  EXPECT_EQ(batch.num_targets(), 2);
  EXPECT_EQ(batch.max_document(), 3);
}

std::vector<Example> numbered(int count) {
  std::vector<Example> examples;
  for (int i = 0; i < count; ++i) examples.push_back({{i, i, i}, {kIgnore, i, i}});
  return examples;
}

std::vector<std::vector<int64_t>> tokens_of(const std::vector<Batch>& batches) {
  std::vector<std::vector<int64_t>> tokens;
  for (const Batch& batch : batches) tokens.push_back(batch.tokens);
  return tokens;
}

RunConfig small_run() {
  RunConfig config;
  config.data.max_length = 6;
  config.data.packing = false;
  config.train.batch_size = 2;
  config.train.gradient_accumulation_steps = 2;
  config.train.epochs = 3;
  return config;
}

TEST(Loader, StepsOfAnEpoch) {
  const auto examples = numbered(11);
  RunConfig config = small_run();
  Loader loader(examples, config);
  EXPECT_EQ(loader.steps_per_epoch(), 3);  // 4 + 4 + 3 rows
  EXPECT_EQ(loader.num_steps(), 9);
  EXPECT_EQ(loader.tokens_per_epoch(), 33);
  EXPECT_DOUBLE_EQ(loader.occupancy(), 0.5);
  const auto last = loader.step(2);
  ASSERT_EQ(last.size(), 2u);
  EXPECT_EQ(last[0].num_tokens(), 6);
  EXPECT_EQ(last[1].num_tokens(), 3);
  config.train.max_steps = 4;
  EXPECT_EQ(Loader(examples, config).num_steps(), 4);
  config.train.max_steps.reset();
  config.train.epochs = INT64_MAX;
  EXPECT_EQ(Loader(examples, config).num_steps(), INT64_MAX);
}

TEST(Loader, EachEpochSeesAllRowsInItsOwnOrder) {
  const auto examples = numbered(11);
  Loader loader(examples, small_run());
  std::vector<std::vector<int64_t>> orders;
  for (int64_t epoch = 0; epoch < 2; ++epoch) {
    auto& seen = orders.emplace_back();
    for (int64_t s = 0; s < 3; ++s)
      for (const Batch& batch : loader.step(3 * epoch + s))
        for (size_t i = 0; i < batch.tokens.size(); i += 3) seen.push_back(batch.tokens[i]);
  }
  EXPECT_NE(orders[0], orders[1]);
  for (auto& order : orders) {
    std::sort(order.begin(), order.end());
    std::vector<int64_t> all(11);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(order, all);
  }
}

TEST(Loader, StepDependsOnItsNumberOnly) {
  const auto examples = numbered(11);
  RunConfig config = small_run();
  Loader straight(examples, config), resumed(examples, config);
  std::vector<std::vector<std::vector<int64_t>>> steps;
  for (int64_t s = 0; s < 9; ++s) steps.push_back(tokens_of(straight.step(s)));
  for (const int64_t s : {7, 1, 8, 0, 4})
    EXPECT_EQ(tokens_of(resumed.step(s)), steps[static_cast<size_t>(s)]) << s;
  config.seed = 7;
  EXPECT_NE(tokens_of(Loader(examples, config).step(0)), steps[0]);
}

TEST(Loader, WithoutShuffleInInputOrder) {
  const auto examples = numbered(5);
  RunConfig config = small_run();
  config.data.shuffle = false;
  config.data.packing = true;
  Loader loader(examples, config);
  EXPECT_EQ(loader.rows(), (Rows{{0, 1}, {2, 3}, {4}}));
  EXPECT_EQ(tokens_of(loader.step(0))[0],
            (std::vector<int64_t>{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3}));
  EXPECT_EQ(loader.step(0)[0].bounds, (std::vector<int64_t>{0, 3, 6, 9, 12}));
}

}  // namespace
}  // namespace ft
