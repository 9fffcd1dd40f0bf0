// Training data goes through memory in windows: an epoch's order of rows is cut into parts of about
// kWindowBytes, text and what each row takes besides, and each part is tokenised, packed and
// shuffled by itself. What a window holds is a pure function of (data, configuration, epoch,
// window). Data that fits into one window is packed once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "data/batch.h"
#include "data/dataset.h"
#include "finetune/config.h"

namespace ft {

/// Large enough for full rows and few short steps, small enough to be tokenised in two seconds and
/// held twice.
constexpr uint64_t kWindowBytes = 16 << 20;

/// Which rows each window of an epoch has.
class WindowCut {
 public:
  WindowCut(Rows rows, const RunConfig& config, uint64_t window_bytes = kWindowBytes);
  /// The same for every epoch.
  int64_t num_windows() const { return num_windows_; }
  /// The rows of a window, in the order of the files.
  Rows rows(int64_t epoch, int64_t window);
  const Rows& all() const { return rows_; }
  /// From a number that the first window has, about that of all of them: as much for the same cost.
  int64_t estimate(int64_t of_first);

 private:
  void cut(int64_t epoch);

  Rows rows_;
  bool shuffle_;
  int64_t seed_;
  uint64_t cost_;  ///< of all rows
  int64_t num_windows_ = 1;
  int64_t epoch_ = -1;           ///< of the two below
  std::vector<uint32_t> order_;  ///< of all rows
  std::vector<size_t> begins_;   ///< in order_, of each window, and the end
};

/// A window ready to be trained on: rows of packed documents in their order. Copies share the
/// documents.
class Window {
 public:
  Window(std::vector<Example> examples, const RunConfig& config);
  /// `number` is that of the window in the whole run; without data.shuffle the order stays.
  void shuffle(int64_t number);

  int64_t num_rows() const { return static_cast<int64_t>(order_.size()); }
  int64_t num_steps() const;
  /// The micro-batches of step 0, 1, ...: gradient_accumulation_steps of them, fewer in the last
  /// one.
  std::vector<Batch> step(int64_t index) const;
  int64_t tokens() const;
  /// The share of row capacity that is filled.
  double occupancy() const;
  /// Numbers of examples, row by row, in packing order.
  const std::vector<std::vector<int64_t>>& rows() const { return packed_->rows; }

 private:
  struct Packed {
    std::vector<Example> examples;
    std::vector<std::vector<int64_t>> rows;
  };
  std::shared_ptr<const Packed> packed_;
  std::vector<int64_t> order_;  ///< of rows
  int64_t batch_size_, accumulation_, max_length_, seed_;
  bool shuffle_;
};

/// Optimizer steps of a run: epochs * steps_per_epoch, cut by train.max_steps.
int64_t num_steps(const RunConfig& config, int64_t steps_per_epoch);

/// The examples of documents, which keep the rest of what they are.
std::vector<Example> take_examples(std::vector<Document>& documents);

}  // namespace ft
