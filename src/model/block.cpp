// Each half of a block is one op with the gradient written out: attention with its projections, and
// the gated MLP. What they keep is what their comments say; the rest is made again or was
// overwritten by what replaces it. Where the ops are the plain twins, so are the halves: the same
// formulas, put together from differentiable ops.
#include "model/block.h"

#include "base/error.h"
#include "kernels/attention.h"
#include "kernels/autograd.h"
#include "kernels/mode.h"

namespace ft {
namespace {

/// A weight in the dtype of the activations (trained copies beside an adapter are float32).
Tensor weight_for(const Param* param, const Tensor& x) {
  return param ? param->value.to(x.scalar_type()) : Tensor();
}

/// Several layers as one group, or null where one of them is not one product.
std::shared_ptr<LinearGroup> group_of(const std::vector<const Linear*>& layers,
                                      const std::shared_ptr<LinearBorder>& border,
                                      at::ScalarType dtype) {
  std::vector<LinearPart> parts;
  for (const Linear* layer : layers) {
    auto part = layer->part(dtype);
    if (!part) return nullptr;
    parts.push_back(std::move(*part));
  }
  return std::make_shared<LinearGroup>(std::move(parts), border);
}

/// The groups of a block for activations like x; without them the halves are put together.
struct Groups {
  std::shared_ptr<LinearGroup> qkv, o, gate_up, down;
  bool all() const { return qkv && o && gate_up && down; }
};

Groups groups_of(const Block& b, const Tensor& x) {
  if (!use_cpu_loops(x) && !is_on_cuda(x)) return {};
  const auto dtype = x.scalar_type();
  return {group_of({&b.q, &b.k, &b.v}, b.qkv_border, dtype), group_of({&b.o}, b.o_border, dtype),
          group_of({&b.gate, &b.up}, b.gate_up_border, dtype),
          group_of({&b.down}, b.down_border, dtype)};
}

Tensor norm_of(const Tensor& x, const Param* weight, const ModelSpec& spec) {
  return weight ? rms_norm(x, weight_for(weight, x), spec.norm) : x;
}

SumAndNorm add_and_norm(const Residual& in, const Param* weight, const ModelSpec& spec,
                        int64_t spare) {
  return residual_norm(in.x, in.y, in.y_weight, weight_for(weight, in.x), spec.norm,
                       {spare, in.spare});
}

// ---- The halves, put together from differentiable ops.

Tensor attend_plainly(const Block& b, int64_t layer, const Tensor& x, const Sequence& s,
                      const ModelSpec& spec, const Rotation& r) {
  const int64_t N = x.size(0), H = spec.num_heads, K = spec.num_kv_heads, D = spec.head_dim;
  const Tensor q = rope(norm_of(b.q(x).view({N, H, D}), b.q_norm, spec), r);
  const Tensor k = rope(norm_of(b.k(x).view({N, K, D}), b.k_norm, spec), r);
  const Tensor v = b.v(x).view({N, K, D});
  const AttentionSettings settings = spec.attention(layer);
  const Tensor y = s.cache ? s.cache->attend(layer, q, k, v, s.documents, settings)
                           : attention(q, k, v, s.documents, settings);
  return b.o(y.view({N, H * D}));  // [N, C]
}

Tensor feed_forward_plainly(const Block& b, const Tensor& x, Activation activation) {
  return b.down(gated_act(b.gate(x), b.up(x), activation));
}

/// The loops of the CPU want rows without gaps.
Tensor dense(const Tensor& t) {
  return t.is_cpu() ? t.contiguous() : t;
}

// ---- Attention as one op.

/// From forward to backward: x (the op's input); q, k, v, rotated in the place where the products
/// left them; with norms q and k also from before those; attention's own; the groups.
struct AttentionOp {
  std::shared_ptr<LinearGroup> qkv, o;
  HeadNorms norms;
  Rotation rotation;
  int64_t heads, kv_heads, dim;
  OpHalves way;
  QueriesAndKeys raw;
  Saved of_attention;

  Tensor as_heads(const Tensor& x, int64_t count) const { return x.unflatten(1, {count, dim}); }
  Tensor forward(const Tensor& x, const Saved& saved, const Sequence& s, int64_t layer,
                 const AttentionSettings& settings);
  std::vector<Tensor> backward(const Tensor& dy, const Saved& saved);
  /// Places of the groups' inputs among those of the op: x, the norms' weights, qkv's, o's.
  static constexpr size_t kOfQkv = 3;
  size_t of_o() const { return kOfQkv + qkv->num_inputs(); }
};

Tensor AttentionOp::forward(const Tensor& x, const Saved& saved, const Sequence& s, int64_t layer,
                            const AttentionSettings& settings) {
  const std::vector<Tensor> outputs = qkv->forward(x, saved.needs, kOfQkv);
  const Tensor q = as_heads(outputs[0], heads), k = as_heads(outputs[1], kv_heads),
               v = as_heads(outputs[2], kv_heads);
  const QueriesAndKeys turned = rotate({q, k}, norms, rotation);
  Tensor y;
  if (s.cache) {
    y = s.cache->attend(layer, turned.q, turned.k, v, s.documents, settings);
  } else {
    auto halves = attention_halves(turned.q, turned.k, v, s.documents, settings);
    FT_INVARIANT(halves);
    y = halves->forward(of_attention);
    way.backward = std::move(halves->backward);
  }
  if (norms.q_weight.defined()) raw = {q, k};
  return o->forward(y.flatten(1), saved.needs, of_o())[0];
}

std::vector<Tensor> AttentionOp::backward(const Tensor& dy, const Saved& saved) {
  // Every way keeps q, k, v and the output first.
  Tensor dout = as_heads(o->input_gradient({dy}, true), heads);
  std::vector<Tensor> of_o_inputs =
      o->gradients(o->reads_input() ? of_attention.tensors[3].flatten(1) : Tensor());
  const Tensor q = of_attention.tensors[0], k = of_attention.tensors[1],
               v = of_attention.tensors[2];
  std::vector<Tensor> d = way.backward(dout, of_attention);
  of_attention.tensors.clear();
  dout = Tensor();
  // Where the outputs of the products lie in one matrix their gradients take their places there.
  const bool in_place = qkv->is_joined();
  const QueriesAndKeys places = !in_place         ? QueriesAndKeys{d[0], d[1]}
                                : raw.q.defined() ? raw
                                                  : QueriesAndKeys{q, k};
  std::vector<Tensor> grads = {Tensor()};
  ops::append(grads, rotate_backward({d[0], d[1]}, raw, norms, rotation,
                                     saved.needs[1] || saved.needs[2], places));
  if (in_place) v.copy_(d[2]);
  const Tensor dv = in_place ? v : d[2];
  raw = {};
  d.clear();
  grads[0] = qkv->input_gradient({places.q.flatten(1), places.k.flatten(1), dv.flatten(1)},
                                 saved.needs[0]);
  ops::append(grads, qkv->gradients(saved.tensors[0]));
  ops::append(grads, std::move(of_o_inputs));
  return grads;
}

Tensor attend(const Block& b, const Groups& groups, int64_t layer, const Tensor& x,
              const Sequence& s, const ModelSpec& spec, const Rotation& rotation) {
  const auto op = std::make_shared<AttentionOp>(
      AttentionOp{groups.qkv,
                  groups.o,
                  {weight_for(b.q_norm, x), weight_for(b.k_norm, x), spec.norm},
                  rotation,
                  spec.num_heads,
                  spec.num_kv_heads,
                  spec.head_dim,
                  {},
                  {},
                  {}});
  std::vector<Tensor> inputs = {x, op->norms.q_weight, op->norms.k_weight};
  for (const auto& group : {op->qkv, op->o}) ops::append(inputs, group->inputs());
  return apply(
      inputs,
      [&](Saved& saved) {
        const Tensor y = op->forward(x, saved, s, layer, spec.attention(layer));
        saved.tensors = {op->qkv->reads_input() ? x : Tensor()};
        return y;
      },
      [op](const Tensor& dy, const Saved& saved) { return op->backward(dense(dy), saved); });
}

// ---- The MLP as one op.

/// From forward to backward: x; gate and up, unless they are made again.
struct FeedForwardOp {
  std::shared_ptr<LinearGroup> gate_up, down;
  Activation activation;
  bool again;
  Tensor gate, up;

  /// Places of the groups' inputs among those of the op.
  static constexpr size_t kOfGateUp = 1;
  size_t of_down() const { return kOfGateUp + gate_up->num_inputs(); }

  Tensor forward(const Tensor& x, const Saved& saved) {
    const std::vector<Tensor> both = gate_up->forward(x, saved.needs, kOfGateUp);
    Float8Rows rounded;
    Float8Rows* to = down->is_float8() ? &rounded : nullptr;
    const Tensor h = gated_act_forward(both[0], both[1], activation, down->spare(), to);
    if (again) {
      gate_up->forget();
    } else {
      gate = both[0], up = both[1];
    }
    return down->forward(h, saved.needs, of_down(), to)[0];
  }

  std::vector<Tensor> backward(const Tensor& dy, const Saved& saved) {
    const Tensor& x = saved.tensors[0];
    if (again) {
      const std::vector<Tensor> both = gate_up->forward(x, saved.needs, kOfGateUp);
      gate = both[0], up = both[1];
    }
    std::vector<Tensor> grads = {Tensor()}, of_down_inputs;
    Float8Rows rounded;
    Float8Rows* to = gate_up->is_float8() && saved.needs[0] ? &rounded : nullptr;
    {
      // The gradient of h becomes h, those of gate and up take their places.
      const Tensor dh = down->input_gradient({dy}, true);
      const bool wanted = down->reads_input();
      gated_act_backward(dh, gate, up, activation, gate, up, wanted ? dh : Tensor(), to);
      of_down_inputs = down->gradients(wanted ? dh : Tensor());
    }
    grads[0] = gate_up->input_gradient({gate, up}, saved.needs[0], to);
    gate = up = Tensor();
    ops::append(grads, gate_up->gradients(x));
    ops::append(grads, std::move(of_down_inputs));
    return grads;
  }
};

Tensor feed_forward(const Groups& groups, const Tensor& x, Activation activation, bool again) {
  const auto op = std::make_shared<FeedForwardOp>(
      FeedForwardOp{groups.gate_up, groups.down, activation, again, {}, {}});
  std::vector<Tensor> inputs = {x};
  for (const auto& group : {op->gate_up, op->down}) ops::append(inputs, group->inputs());
  return apply(
      inputs,
      [&](Saved& saved) {
        const Tensor y = op->forward(x, saved);
        saved.tensors = {again || op->gate_up->reads_input() ? x : Tensor()};
        return y;
      },
      [op](const Tensor& dy, const Saved& saved) { return op->backward(dense(dy), saved); });
}

}  // namespace

Residual run_block(const Block& b, int64_t layer, const Residual& in, const Sequence& s,
                   const ModelSpec& spec, const BlockRun& how) {
  const Groups groups = groups_of(b, in.x);
  const bool is_fused = groups.all();
  const auto spare_of = [&](const std::shared_ptr<LinearGroup>& group) {
    return is_fused ? group->spare() : 0;
  };
  const auto weight_if = [&](bool has_norm, const Param* weight) {
    return has_norm ? weight_for(weight, in.x) : Tensor();
  };
  const Rotation& r =
      spec.window_rope && spec.attention(layer).window != 0 ? s.window_rotation : s.rotation;
  const SumAndNorm first = add_and_norm(in, b.input_norm, spec, spare_of(groups.qkv));
  const Tensor attended = is_fused ? attend(b, groups, layer, first.norm, s, spec, r)
                                   : attend_plainly(b, layer, first.norm, s, spec, r);
  Residual middle{first.sum, attended, weight_if(spec.has_output_norms, b.post_attention_norm),
                  spare_of(groups.o)};
  if (how.only_targets) {
    middle.x = take_targets(middle.x, s.targets);
    middle.y = take_targets(middle.y, s.targets);
  }
  const SumAndNorm second =
      add_and_norm(middle, spec.has_output_norms ? b.pre_feedforward_norm : b.post_attention_norm,
                   spec, spare_of(groups.gate_up));
  const Tensor fed = is_fused ? feed_forward(groups, second.norm, spec.activation,
                                             how.recompute == Recompute::kGateUp)
                              : feed_forward_plainly(b, second.norm, spec.activation);
  const Residual out{second.sum, fed, weight_if(spec.has_output_norms, b.post_feedforward_norm),
                     spare_of(groups.down)};
  return how.closed ? Residual{add_and_norm(out, nullptr, spec, 0).sum} : out;
}

Tensor final_norm(const Residual& in, const Param* weight, const ModelSpec& spec) {
  return add_and_norm(in, weight, spec, 0).norm;
}

void add_borders(Block& b, at::ScalarType dtype, bool in_float8) {
  const auto border_of = [&](const std::vector<Linear*>& layers) -> std::shared_ptr<LinearBorder> {
    std::vector<LinearPart> parts;
    std::vector<Tensor*> weights;
    bool has_adapter = false;
    for (Linear* layer : layers) {
      auto part = layer->part(dtype);
      // A weight that is cast at use is not what the matrix would hold.
      if (!part || !LinearBorder::can_hold(*part) ||
          (!part->w.quantized && !part->w.dense.is_alias_of(layer->weight->value)))
        return nullptr;
      has_adapter = has_adapter || part->lora.a.defined();
      parts.push_back(std::move(*part));
      weights.push_back(&layer->weight->value);
    }
    if (!has_adapter) return nullptr;
    for (Linear* layer : layers) layer->weight->is_mapped = false;
    if (!in_float8 || !LinearBorder::can_hold_float8(parts))
      return std::make_shared<LinearBorder>(parts, weights, dtype);
    const auto border = LinearBorder::in_float8(parts, dtype);
    for (size_t i = 0; i < layers.size(); ++i) {
      Param& weight = *layers[i]->weight;
      weight.quantized = std::make_shared<QuantizedWeight>(quantized_rows(
          border->rows(), border->first_out(i), border->out_of(i), weight.value.scalar_type()));
      weight.value = Tensor();
    }
    return border;
  };
  b.qkv_border = border_of({&b.q, &b.k, &b.v});
  b.o_border = border_of({&b.o});
  b.gate_up_border = border_of({&b.gate, &b.up});
  b.down_border = border_of({&b.down});
}

}  // namespace ft
