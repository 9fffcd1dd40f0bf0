// The order of rows within an epoch is drawn from seed(run, epoch, kWindows), the order of packed
// rows within a window from seed(run, number of the window in the run, kShuffle): with a single
// window that number is the epoch. The rows of a window are packed in the order of the files, so
// that packing does not depend on the cut where there is none. A step never crosses a window, or a
// window would depend on the one before it: the last step of one has fewer micro-batches and its
// last micro-batch fewer rows.
#include "data/window.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/seed.h"
#include "data/pack.h"

namespace ft {
namespace {

/// What a row takes, in memory and time: its text, and as much again as this for being a row.
uint64_t cost(const Rows& rows, size_t i) {
  constexpr uint64_t kRow = 512;
  return rows.bytes(i) + kRow;
}

uint64_t cost(const Rows& rows) {
  uint64_t all = 0;
  for (size_t i = 0; i < rows.size(); ++i) all += cost(rows, i);
  return all;
}

}  // namespace

WindowCut::WindowCut(Rows rows, const RunConfig& config, uint64_t window_bytes)
    : rows_(std::move(rows)),
      shuffle_(config.data.shuffle),
      seed_(config.seed),
      cost_(cost(rows_)) {
  num_windows_ =
      std::max<int64_t>(1, static_cast<int64_t>((cost_ + window_bytes - 1) / window_bytes));
}

void WindowCut::cut(int64_t epoch) {
  if (epoch == epoch_) return;
  epoch_ = epoch;
  order_.resize(rows_.size());
  std::iota(order_.begin(), order_.end(), 0);
  if (shuffle_) {
    Rng rng(seed(static_cast<uint64_t>(seed_), static_cast<uint64_t>(epoch), Stream::kWindows));
    rng.shuffle(order_);
  }
  // Window w begins with the first row that has at least w / num_windows of the cost before it.
  const auto windows = static_cast<uint64_t>(num_windows_);
  begins_.clear();
  uint64_t before = 0;
  for (size_t i = 0; i < order_.size(); ++i) {
    while (before * windows >= cost_ * begins_.size()) begins_.push_back(i);
    before += cost(rows_, order_[i]);
  }
  begins_.resize(windows + 1, order_.size());
}

Rows WindowCut::rows(int64_t epoch, int64_t window) {
  if (num_windows_ == 1) return rows_;
  cut(epoch);
  const auto begin = order_.begin();
  const auto w = static_cast<size_t>(window);
  std::vector<uint32_t> chosen(begin + static_cast<ptrdiff_t>(begins_[w]),
                               begin + static_cast<ptrdiff_t>(begins_[w + 1]));
  std::sort(chosen.begin(), chosen.end());
  return rows_.pick(std::move(chosen));
}

int64_t WindowCut::estimate(int64_t of_first) {
  const Rows first = rows(0, 0);
  const double share = static_cast<double>(cost_) / static_cast<double>(cost(first));
  return static_cast<int64_t>(std::round(static_cast<double>(of_first) * share));
}

Window::Window(std::vector<Example> examples, const RunConfig& config)
    : batch_size_(config.train.batch_size),
      accumulation_(config.train.gradient_accumulation_steps),
      max_length_(config.data.max_length),
      seed_(config.seed),
      shuffle_(config.data.shuffle) {
  FT_INVARIANT(batch_size_ > 0 && accumulation_ > 0 && max_length_ > 0);
  Packed packed{std::move(examples), {}};
  if (config.data.packing) {
    std::vector<int64_t> lengths;
    for (const Example& e : packed.examples) lengths.push_back(static_cast<int64_t>(e.ids.size()));
    packed.rows = pack_best_fit(lengths, max_length_);
  } else {
    for (size_t i = 0; i < packed.examples.size(); ++i)
      packed.rows.push_back({static_cast<int64_t>(i)});
  }
  order_.resize(packed.rows.size());
  std::iota(order_.begin(), order_.end(), 0);
  packed_ = std::make_shared<const Packed>(std::move(packed));
}

void Window::shuffle(int64_t number) {
  if (!shuffle_) return;
  std::iota(order_.begin(), order_.end(), 0);
  Rng rng(seed(static_cast<uint64_t>(seed_), static_cast<uint64_t>(number), Stream::kShuffle));
  rng.shuffle(order_);
}

int64_t Window::num_steps() const {
  const int64_t batches = num_rows() / batch_size_ + (num_rows() % batch_size_ != 0);
  return batches / accumulation_ + (batches % accumulation_ != 0);
}

std::vector<Batch> Window::step(int64_t index) const {
  FT_INVARIANT(index >= 0 && index < num_steps());
  std::vector<Batch> micro_batches;
  for (int64_t m = 0; m < accumulation_; ++m) {
    const int64_t batch = index * accumulation_ + m;
    if (batch > (num_rows() - 1) / batch_size_) break;
    const int64_t first = batch * batch_size_;
    const int64_t last = first + std::min(batch_size_, num_rows() - first);
    Batch& out = micro_batches.emplace_back();
    for (int64_t r = first; r < last; ++r)
      for (const int64_t i : rows()[static_cast<size_t>(order_[static_cast<size_t>(r)])])
        out.add(packed_->examples[static_cast<size_t>(i)]);
  }
  return micro_batches;
}

int64_t Window::tokens() const {
  int64_t tokens = 0;
  for (const Example& e : packed_->examples) tokens += static_cast<int64_t>(e.ids.size());
  return tokens;
}

double Window::occupancy() const {
  if (num_rows() == 0) return 0;
  return static_cast<double>(tokens()) /
         (static_cast<double>(num_rows()) * static_cast<double>(max_length_));
}

int64_t num_steps(const RunConfig& config, int64_t steps_per_epoch) {
  int64_t steps = 0;
  if (__builtin_mul_overflow(config.train.epochs, steps_per_epoch, &steps))
    steps = std::numeric_limits<int64_t>::max();
  return config.train.max_steps ? std::min(*config.train.max_steps, steps) : steps;
}

std::vector<Example> take_examples(std::vector<Document>& documents) {
  std::vector<Example> examples;
  examples.reserve(documents.size());
  for (Document& d : documents) examples.push_back(std::move(d.example));
  return examples;
}

}  // namespace ft
