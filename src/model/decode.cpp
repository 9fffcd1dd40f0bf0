// The loops of the blocks' ops called one after the other. A token of a small model takes a few
// milliseconds more than it takes to read the weights once, and operators, which are made for
// gradients and for many rows, were most of that.
#include "model/decode.h"

#include <algorithm>

#include "kernels/dispatch.h"
#include "kernels/matrix_unit.h"

namespace ft {
namespace {

using cpu::Bf16;

bool is_plain(const Param* param) {
  return !param || (param->value.defined() && param->value.scalar_type() == at::kBFloat16 &&
                    param->value.is_contiguous());
}

bool is_plain(const Block& b) {
  const auto linears = {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down};
  const auto norms = {
      b.input_norm,           b.q_norm, b.k_norm, b.post_attention_norm, b.pre_feedforward_norm,
      b.post_feedforward_norm};
  return std::all_of(linears.begin(), linears.end(),
                     [](const Linear* l) {
                       return !l->adapter && is_plain(l->weight) && is_plain(l->bias);
                     }) &&
         std::all_of(norms.begin(), norms.end(), [](const Param* p) { return is_plain(p); });
}

/// The sequence with the new token, or -1 where a token is not all that there is to do.
int64_t sequence_of(const Decoder& d, const Tensor& x, const Sequence& s) {
  if (!s.cache || x.size(0) != 1 || !use_matrix_unit(x) || !is_plain(d.norm) ||
      !std::all_of(d.blocks.begin(), d.blocks.end(), [](const Block& b) { return is_plain(b); }))
    return -1;
  const auto& bounds = s.documents.bounds;
  const auto end = std::find(bounds.begin(), bounds.end(), 1);
  const int64_t sequence = end - bounds.begin() - 1;
  return s.cache->length(sequence) > 0 ? sequence : -1;
}

const Bf16* data(const Param* param) {
  return param ? cpu::data<Bf16>(param->value) : nullptr;
}

/// One token, [1, size] each, on its way through the blocks.
class Token {
 public:
  Token(const ModelSpec& spec, const Tensor& x) : spec_(spec), x_(x) {
    sum_ = row(spec.hidden_size), y_ = row(spec.hidden_size), norm_ = row(spec.hidden_size);
    q_ = row(spec.num_heads * spec.head_dim), attended_ = row(spec.num_heads * spec.head_dim);
    k_ = row(spec.num_kv_heads * spec.head_dim), v_ = row(spec.num_kv_heads * spec.head_dim);
    gate_ = row(spec.intermediate_size), up_ = row(spec.intermediate_size);
  }

  void attend(const Block& b, int64_t layer, int64_t sequence, const Sequence& s) {
    const AttentionSettings settings = spec_.attention(layer);
    const Rotation& r = spec_.window_rope && settings.window != 0 ? s.window_rotation : s.rotation;
    multiply(b.q, norm_, q_), multiply(b.k, norm_, k_), multiply(b.v, norm_, v_);
    turn(q_, spec_.num_heads, b.q_norm, r), turn(k_, spec_.num_kv_heads, b.k_norm, r);
    s.cache->attend_token(layer, sequence, q_, k_, v_, attended_, settings);
    multiply(b.o, attended_, y_);
  }

  void feed_forward(const Block& b) {
    multiply(b.gate, norm_, gate_), multiply(b.up, norm_, up_);
    auto* gate = cpu::data<Bf16>(gate_);
    cpu::gated_act<Bf16>({0, 1, spec_.intermediate_size}, gate, cpu::data<Bf16>(up_), gate,
                         spec_.activation);
    multiply(b.down, gate_, y_);
  }

  /// x += y, if there is one, through its norm where that has a weight; the norm of that.
  void add_and_norm(bool adds, const Param* y_weight, const Param* w) {
    cpu::residual_norm<Bf16>(
        {0, 1, spec_.hidden_size},
        {cpu::data<Bf16>(x_), adds ? cpu::data<Bf16>(y_) : nullptr, data(y_weight), data(w),
         cpu::data<Bf16>(sum_), cpu::data<Bf16>(norm_), static_cast<float>(spec_.norm.eps),
         spec_.norm.adds_one});
    if (adds) std::swap(x_, sum_);
  }

  const Tensor& norm() const { return norm_; }

 private:
  static Tensor row(int64_t size) { return ops::empty({1, size}, at::kBFloat16); }

  static void multiply(const Linear& l, const Tensor& from, const Tensor& to) {
    unit::multiply_row(from, l.weight->value, l.bias ? l.bias->value : Tensor(), to);
  }

  void turn(const Tensor& x, int64_t heads, const Param* norm, const Rotation& r) const {
    auto* p = cpu::data<Bf16>(x);
    const cpu::RowRange rows{0, heads, spec_.head_dim};
    if (norm)
      cpu::residual_norm<Bf16>(rows, {p, nullptr, nullptr, data(norm), nullptr, p,
                                      static_cast<float>(spec_.norm.eps), spec_.norm.adds_one});
    cpu::rope<Bf16>(rows, heads, p, cpu::data<float>(r.cos), cpu::data<float>(r.sin), p, 1.0f);
  }

  const ModelSpec& spec_;
  Tensor x_, sum_, y_, norm_, q_, k_, v_, attended_, gate_, up_;
};

}  // namespace

std::optional<Tensor> decode_token(const Decoder& d, const Tensor& x, const Sequence& s) {
  const int64_t sequence = sequence_of(d, x, s);
  if (sequence < 0) return std::nullopt;
  const ProfileScope scope("decode_token");
  const bool norms_outputs = d.spec.has_output_norms;
  Token token(d.spec, x);
  const Param* of_fed = nullptr;
  for (int64_t layer = 0; layer < d.spec.num_layers; ++layer) {
    const Block& b = d.blocks[static_cast<size_t>(layer)];
    token.add_and_norm(layer > 0, of_fed, b.input_norm);
    token.attend(b, layer, sequence, s);
    token.add_and_norm(true, norms_outputs ? b.post_attention_norm : nullptr,
                       norms_outputs ? b.pre_feedforward_norm : b.post_attention_norm);
    token.feed_forward(b);
    of_fed = norms_outputs ? b.post_feedforward_norm : nullptr;
  }
  token.add_and_norm(true, of_fed, d.norm);
  return token.norm();
}

}  // namespace ft
