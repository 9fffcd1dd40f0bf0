// Which rows are trained on and which are held out. Membership is drawn from seed(run, 0, kSplit)
// and nothing else; both parts keep the order of the files, the loader shuffles training rows.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "base/seed.h"
#include "data/dataset.h"

namespace ft {
namespace {

/// For each row whether it is held out: `held_out` of them, drawn, or the last ones.
std::vector<bool> draw(size_t rows, size_t held_out, bool shuffle, int64_t run_seed) {
  std::vector<uint32_t> order(rows);
  std::iota(order.begin(), order.end(), 0);
  if (shuffle) {
    Rng rng(seed(static_cast<uint64_t>(run_seed), 0, Stream::kSplit));
    rng.shuffle(order);
  }
  std::vector<bool> is_held_out(rows);
  for (size_t i = rows - held_out; i < rows; ++i) is_held_out[order[i]] = true;
  return is_held_out;
}

}  // namespace

SplitRows read_split(const DataConfig& config, int64_t run_seed) {
  if (config.train.empty()) fail_usage("data.train: no file is named");
  if (!config.eval.empty() && config.eval_split > 0)
    fail_usage("data.eval_split: data.eval names files already; keep one of the two");
  if (!(config.eval_split >= 0 && config.eval_split < 1))
    fail_usage("data.eval_split: a share from 0 to below 1 is wanted");
  const Rows rows(config.train);
  if (config.eval_split == 0) return {rows, config.eval.empty() ? Rows() : Rows(config.eval)};
  if (rows.size() < 2)
    fail_input(config.train[0],
               ": a single row cannot be shared between training and data.eval_split");
  const double wanted = std::round(config.eval_split * static_cast<double>(rows.size()));
  const size_t held_out = std::clamp<size_t>(static_cast<size_t>(wanted), 1, rows.size() - 1);
  const std::vector<bool> is_held_out = draw(rows.size(), held_out, config.shuffle, run_seed);
  std::vector<uint32_t> train, eval;
  train.reserve(rows.size() - held_out);
  for (uint32_t i = 0; i < rows.size(); ++i) (is_held_out[i] ? eval : train).push_back(i);
  return {rows.pick(std::move(train)), rows.pick(std::move(eval))};
}

}  // namespace ft
