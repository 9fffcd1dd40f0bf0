// What a training step launches on a GPU, taken down while the program itself runs it on meta
// tensors, which have shapes and no numbers: the launches of our own kernels by the call that makes
// them, LibTorch's by its observer of operators. Nothing here is a formula for a layer or a model.
#pragma once

#include <string>
#include <vector>

#include "kernels/ops.h"

namespace ft {

/// Which ceiling a launch runs against, besides the memory's.
enum class LaunchKind {
  kProduct,
  kFloat8Product,
  kAttentionForward,
  kAttentionBackward,
  kElements
};

struct Launches {
  std::string name;   ///< of the kernel or operator
  std::string shape;  ///< what tells apart products of one name: `16384x4096x4144`
  LaunchKind kind = LaunchKind::kElements;
  std::string phase;
  int64_t count = 0;
  double flops = 0, bytes = 0;  ///< of all together
};

/// Takes down what this thread runs while it lives; meta tensors then go the way of CUDA tensors.
/// One at a time.
class Ledger {
 public:
  Ledger();
  ~Ledger();
  Ledger(const Ledger&) = delete;
  Ledger& operator=(const Ledger&) = delete;

  /// The name of what comes next: forward, backward, update.
  void begin(std::string phase) { phase_ = std::move(phase); }
  /// In the order of first appearance; equal launches of a phase are one entry.
  const std::vector<Launches>& entries() const { return entries_; }

  void add(Launches launches);
  size_t num_calls() const { return num_calls_; }  ///< of add()

 private:
  std::string phase_;
  std::vector<Launches> entries_;
  size_t num_calls_ = 0;
  uint64_t observer_;
};

/// Whether a ledger is open and x a meta tensor, hence x stands for one on a GPU.
bool is_noted(const Tensor& x);
/// Notes a product y = x w of meta tensors {x, w, y}.
void note_product(const char* name, const std::vector<Tensor>& operands,
                  LaunchKind kind = LaunchKind::kProduct);
/// Notes a launch for a meta tensor. Bytes: of the tensors that are read or written, undefined ones
/// left out.
void note_launch(const char* name, LaunchKind kind, double flops, at::TensorList touched,
                 int64_t count = 1);

}  // namespace ft
