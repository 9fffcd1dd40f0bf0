#include "data/pack.h"

#include <gtest/gtest.h>

#include <numeric>

#include "base/seed.h"
#include "data/window.h"

namespace ft {
namespace {

using PackedRows = std::vector<std::vector<int64_t>>;

TEST(Pack, BestFitDecreasing) {
  EXPECT_EQ(pack_best_fit({5, 3, 5, 7, 3, 2}, 10), (PackedRows{{0, 2}, {1, 3}, {4, 5}}));
  EXPECT_EQ(pack_best_fit({}, 10), PackedRows{});
  EXPECT_EQ(pack_best_fit({10, 10}, 10), (PackedRows{{0}, {1}}));
  EXPECT_EQ(pack_best_fit({11, 1}, 10), (PackedRows{{0}, {1}}));
  EXPECT_EQ(pack_best_fit({4, 4, 4}, 10), (PackedRows{{0, 1}, {2}}));
}

TEST(Pack, EveryIndexOnceAndNoRowTooLong) {
  Rng rng(1);
  std::vector<int64_t> lengths;
  for (int i = 0; i < 20000; ++i) lengths.push_back(1 + static_cast<int64_t>(rng.below(700)));
  const PackedRows rows = pack_best_fit(lengths, 1000);
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

RunConfig small_run() {
  RunConfig config;
  config.data.max_length = 6;
  config.data.packing = false;
  config.train.batch_size = 2;
  config.train.gradient_accumulation_steps = 2;
  config.train.epochs = 3;
  return config;
}

TEST(Window, StepsOfAnEpoch) {
  RunConfig config = small_run();
  const Window window(numbered(11), config);
  EXPECT_EQ(window.num_steps(), 3);  // 4 + 4 + 3 rows
  EXPECT_EQ(window.tokens(), 33);
  EXPECT_DOUBLE_EQ(window.occupancy(), 0.5);
  const auto last = window.step(2);
  ASSERT_EQ(last.size(), 2u);
  EXPECT_EQ(last[0].num_tokens(), 6);
  EXPECT_EQ(last[1].num_tokens(), 3);
  EXPECT_EQ(num_steps(config, 3), 9);
  config.train.max_steps = 4;
  EXPECT_EQ(num_steps(config, 3), 4);
  config.train.max_steps.reset();
  config.train.epochs = INT64_MAX;
  EXPECT_EQ(num_steps(config, 3), INT64_MAX);
}

TEST(Window, EachNumberHasItsOwnOrder) {
  Window window(numbered(11), small_run());
  std::vector<std::vector<int64_t>> orders;
  for (const int64_t number : {0, 1, 0}) {
    window.shuffle(number);
    auto& seen = orders.emplace_back();
    for (int64_t s = 0; s < 3; ++s)
      for (const Batch& batch : window.step(s))
        for (size_t i = 0; i < batch.tokens.size(); i += 3) seen.push_back(batch.tokens[i]);
  }
  EXPECT_NE(orders[0], orders[1]);
  EXPECT_EQ(orders[0], orders[2]);
  for (auto& order : orders) {
    std::sort(order.begin(), order.end());
    std::vector<int64_t> all(11);
    std::iota(all.begin(), all.end(), 0);
    EXPECT_EQ(order, all);
  }
}

TEST(Window, WithoutShuffleInInputOrder) {
  RunConfig config = small_run();
  config.data.shuffle = false;
  config.data.packing = true;
  Window window(numbered(5), config);
  window.shuffle(3);
  EXPECT_EQ(window.rows(), (PackedRows{{0, 1}, {2, 3}, {4}}));
  const auto step = window.step(0);
  EXPECT_EQ(step[0].tokens, (std::vector<int64_t>{0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3}));
  EXPECT_EQ(step[0].bounds, (std::vector<int64_t>{0, 3, 6, 9, 12}));
}

}  // namespace
}  // namespace ft
