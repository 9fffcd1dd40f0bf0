// The one entry to autograd for hand-differentiated ops. The heavy header stays inside
// autograd.cpp.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "kernels/ops.h"

namespace ft {

class HostStash;

/// What an op keeps for its backward pass.
struct Saved {
  std::vector<Tensor> tensors;  ///< inputs or outputs of the op, or tensors made in it
  std::vector<bool> needs;      ///< per input: is its gradient wanted
};

/// Fills saved.tensors and returns the output. Runs without gradient recording. saved.needs is set.
using Forward = std::function<Tensor(Saved& saved)>;
/// Returns one gradient per input; an undefined tensor where needs is false.
using Backward = std::function<std::vector<Tensor>(const Tensor& grad, const Saved& saved)>;
/// The two halves of an op, for callers that put it into one of their own.
struct OpHalves {
  Forward forward;
  Backward backward;
};

/// Runs forward(); when gradients are recorded and an input needs one, the result carries
/// backward(). An undefined input is allowed and takes no part.
Tensor apply(const std::vector<Tensor>& inputs, Forward forward, Backward backward);

/// The same for several outputs. The gradient of an output that nothing depends on is undefined.
using ForwardMany = std::function<std::vector<Tensor>(Saved& saved)>;
using BackwardMany =
    std::function<std::vector<Tensor>(const std::vector<Tensor>& grads, const Saved& saved)>;
std::vector<Tensor> apply_many(const std::vector<Tensor>& inputs, ForwardMany forward,
                               BackwardMany backward);

/// Runs the backward pass from `root` with gradient `grad` (undefined: 1 for a scalar root).
void run_backward(const Tensor& root, const Tensor& grad = {});

/// Calls f in every backward pass right after the gradient of `leaf` is complete in its .grad; an
/// empty f ends it. Must not throw. Complete means: added up over one graph, and recompute() makes
/// a graph per block.
void on_gradient(const Tensor& leaf, std::function<void()> f);

/// y = block(x), remembering only x: the activations inside are computed again in the backward
/// pass. Gradients of parameters the block uses are accumulated in their .grad. ("Gradient
/// checkpointing"; Chen et al. 2016.) With a stash, x waits there.
Tensor recompute(const std::function<Tensor(const Tensor&)>& block, const Tensor& x,
                 const std::shared_ptr<HostStash>& stash = nullptr);

}  // namespace ft
