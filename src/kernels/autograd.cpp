#include "kernels/autograd.h"

#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/function_hook.h>
#include <torch/csrc/autograd/variable.h>

#include "kernels/host_stash.h"

namespace ft {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// Carries the backward closure through the graph. LibTorch takes no undefined inputs: only those
/// at `defined` are its own.
struct Node : torch::CustomClassHolder {
  BackwardMany backward;
  std::vector<bool> needs;      ///< per input of apply()
  std::vector<size_t> defined;  ///< their places among the inputs of apply()
};

struct Function : torch::autograd::Function<Function> {
  static variable_list forward(AutogradContext* context, at::TensorList,
                               const ForwardMany& forward_fn,
                               const c10::intrusive_ptr<Node>& node) {
    Saved saved{{}, node->needs};
    variable_list outputs = forward_fn(saved);
    context->save_for_backward(std::move(saved.tensors));
    context->saved_data["node"] = c10::IValue::make_capsule(node);
    context->set_materialize_grads(false);
    return outputs;
  }

  static variable_list backward(AutogradContext* context, variable_list grads) {
    const auto capsule = context->saved_data["node"].toCapsule();
    const auto node = c10::static_intrusive_pointer_cast<Node>(capsule);
    const Saved saved{context->get_saved_variables(), node->needs};
    const std::vector<Tensor> all = node->backward(grads, saved);
    variable_list result;
    for (const size_t i : node->defined) result.push_back(all[i]);
    result.resize(node->defined.size() + 2);  // two more for the closures, which have no gradient
    return result;
  }
};

struct GradientHook : torch::autograd::PostAccumulateGradHook {
  explicit GradientHook(std::function<void()> f) : call(std::move(f)) {}
  void operator()(const Tensor&) override { call(); }
  std::function<void()> call;
};

}  // namespace

std::vector<Tensor> apply_many(const std::vector<Tensor>& inputs, ForwardMany forward,
                               BackwardMany backward) {
  auto node = c10::make_intrusive<Node>();
  std::vector<Tensor> defined;
  bool recorded = false;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const bool needs =
        at::GradMode::is_enabled() && inputs[i].defined() && inputs[i].requires_grad();
    recorded |= needs;
    node->needs.push_back(needs);
    if (!inputs[i].defined()) continue;
    node->defined.push_back(i);
    defined.push_back(inputs[i]);
  }
  if (!recorded) {
    at::NoGradGuard guard;
    Saved saved{{}, node->needs};
    return forward(saved);
  }
  node->backward = std::move(backward);
  return Function::apply(at::TensorList(defined), forward, node);
}

Tensor apply(const std::vector<Tensor>& inputs, Forward forward, Backward backward) {
  return apply_many(
      inputs, [&](Saved& saved) -> std::vector<Tensor> { return {forward(saved)}; },
      [backward = std::move(backward)](const std::vector<Tensor>& grads, const Saved& saved) {
        return backward(grads[0], saved);
      })[0];
}

void run_backward(const Tensor& root, const Tensor& grad) {
  if (grad.defined()) {
    torch::autograd::backward({root}, {grad});
  } else {
    torch::autograd::backward({root});
  }
}

void on_gradient(const Tensor& leaf, std::function<void()> f) {
  torch::autograd::impl::set_post_acc_grad_hooks(
      leaf, f ? std::make_unique<GradientHook>(std::move(f)) : nullptr);
}

Tensor recompute(const std::function<Tensor(const Tensor&)>& block, const Tensor& x,
                 const std::shared_ptr<HostStash>& stash) {
  // Parameters inside the block are invisible to the graph: a second input that always needs a
  // gradient makes sure that the backward pass comes here although x itself may need none (frozen
  // embedding).
  const Tensor anchor = ops::empty({0}, at::kFloat, x.device()).requires_grad_();
  const auto place = std::make_shared<size_t>();  // in the stash
  const auto forward = [&](Saved& saved) {
    if (stash) {
      *place = stash->put(x);
    } else {
      saved.tensors = {x};
    }
    return block(x);
  };
  return apply(
      {x, anchor}, forward,
      [block, stash, place](const Tensor& grad, const Saved& saved) -> std::vector<Tensor> {
        Tensor again = stash ? stash->take(*place) : saved.tensors[0].detach();
        again.requires_grad_(saved.needs[0]);
        Tensor y;
        {
          at::AutoGradMode on(true);
          y = block(again);
        }
        if (y.requires_grad()) run_backward(y, grad);
        return {saved.needs[0] ? again.grad() : Tensor(), Tensor()};
      });
}

}  // namespace ft
