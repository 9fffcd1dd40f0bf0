// Rows are packed once; an epoch is a permutation of them drawn from seed(run, epoch, kShuffle).
// Step i is thus a pure function of (examples, configuration, i): a resumed run asks for step i and
// gets the batches that the uninterrupted run would have had. A step never crosses an epoch: the
// last one of an epoch has fewer micro-batches and its last micro-batch fewer rows.
#include "data/loader.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "base/seed.h"
#include "data/pack.h"

namespace ft {

Loader::Loader(const std::vector<Example>& examples, const RunConfig& config)
    : examples_(examples),
      batch_size_(config.train.batch_size),
      accumulation_(config.train.gradient_accumulation_steps),
      epochs_(config.train.epochs),
      max_length_(config.data.max_length),
      seed_(config.seed),
      max_steps_(config.train.max_steps),
      shuffle_(config.data.shuffle),
      packing_(config.data.packing) {
  FT_INVARIANT(batch_size_ > 0 && accumulation_ > 0 && epochs_ >= 0 && max_length_ > 0);
  if (packing_) {
    std::vector<int64_t> lengths;
    for (const Example& e : examples) lengths.push_back(static_cast<int64_t>(e.ids.size()));
    rows_ = pack_best_fit(lengths, max_length_);
  } else {
    for (size_t i = 0; i < examples.size(); ++i) rows_.push_back({static_cast<int64_t>(i)});
  }
  order_.resize(rows_.size());
}

int64_t Loader::steps_per_epoch() const {
  const int64_t batches = num_rows() / batch_size_ + (num_rows() % batch_size_ != 0);
  return batches / accumulation_ + (batches % accumulation_ != 0);
}

int64_t Loader::num_steps() const {
  int64_t steps = 0;
  if (__builtin_mul_overflow(epochs_, steps_per_epoch(), &steps))
    steps = std::numeric_limits<int64_t>::max();
  return max_steps_ ? std::min(*max_steps_, steps) : steps;
}

void Loader::shuffle_for(int64_t epoch) {
  if (epoch == epoch_) return;
  epoch_ = epoch;
  std::iota(order_.begin(), order_.end(), 0);
  if (!shuffle_) return;
  Rng rng(seed(static_cast<uint64_t>(seed_), static_cast<uint64_t>(epoch), Stream::kShuffle));
  rng.shuffle(order_);
}

std::vector<Batch> Loader::step(int64_t index) {
  FT_INVARIANT(index >= 0 && num_rows() > 0);
  shuffle_for(index / steps_per_epoch());
  const int64_t in_epoch = index % steps_per_epoch();
  std::vector<Batch> micro_batches;
  for (int64_t m = 0; m < accumulation_; ++m) {
    const int64_t batch = in_epoch * accumulation_ + m;
    if (batch > (num_rows() - 1) / batch_size_) break;
    const int64_t first = batch * batch_size_;
    const int64_t last = first + std::min(batch_size_, num_rows() - first);
    Batch& out = micro_batches.emplace_back();
    for (int64_t r = first; r < last; ++r)
      for (const int64_t i : rows_[static_cast<size_t>(order_[static_cast<size_t>(r)])])
        out.add(examples_[static_cast<size_t>(i)]);
  }
  return micro_batches;
}

int64_t Loader::tokens_per_epoch() const {
  int64_t tokens = 0;
  for (const Example& e : examples_) tokens += static_cast<int64_t>(e.ids.size());
  return tokens;
}

double Loader::occupancy() const {
  if (rows_.empty()) return 0;
  return static_cast<double>(tokens_per_epoch()) /
         (static_cast<double>(num_rows()) * static_cast<double>(max_length_));
}

}  // namespace ft
