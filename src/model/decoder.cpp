// The decoder of the Llama family (Touvron et al. 2023) and its neighbours: pre-norm attention and
// gated MLP, each with a residual (block.cpp); Gemma 2 and 3 norm the two outputs as well. All
// activations are [N, ...] with the documents of a batch laid end to end.
#include "model/decoder.h"

#include <cmath>

#include "base/seed.h"
#include "kernels/autograd.h"
#include "kernels/host_stash.h"
#include "kernels/matrix_unit.h"
#include "model/decode.h"

namespace ft {
namespace {

Tensor embedding_noise(const Documents& documents, int64_t C, double alpha, uint64_t key) {
  const int64_t N = documents.bounds.back();
  Tensor noise = ops::empty({N, C}, at::kFloat);
  auto* out = static_cast<float*>(noise.data_ptr());
  Rng rng(key);
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s) {
    const int64_t size = (documents.bounds[s + 1] - documents.bounds[s]) * C;
    const double most = alpha / std::sqrt(static_cast<double>(size));
    for (int64_t i = 0; i < size; ++i) *out++ = static_cast<float>((2 * rng.uniform() - 1) * most);
  }
  return noise;
}

}  // namespace

Tensor Decoder::embed_tokens(const Tensor& tokens) const {
  const Tensor x = embedding(tokens, embed->value);
  if (!spec.scales_embedding) return x.to(dtype);
  // A number of the weight's dtype, as transformers keeps it.
  const double scale = std::sqrt(static_cast<double>(spec.hidden_size));
  return x.mul(ops::full({}, scale, x.scalar_type()).item()).to(dtype);
}

Tensor Decoder::forward(const Sequence& sequence, bool only_targets) const {
  Tensor x = embed_tokens(sequence.tokens);  // [N, C]
  if (noise_key != 0 && noise_alpha > 0)
    x = x.add(embedding_noise(sequence.documents, x.size(1), noise_alpha, noise_key)
                  .to(x.device(), x.scalar_type()));
  if (const auto decoded = decode_token(*this, x, sequence)) {
    sequence.cache->advance(sequence.documents);
    return *decoded;
  }
  // A recomputed block runs again in the backward pass, when the caller's sequence may be gone.
  const auto kept = std::make_shared<const Sequence>(sequence);
  const bool blocks_again = recompute >= Recompute::kBlocks && at::GradMode::is_enabled();
  const auto stash =
      recompute == Recompute::kOffload ? std::make_shared<HostStash>(x.device()) : nullptr;
  Residual stream{x};
  for (int64_t layer = 0; layer < spec.num_layers; ++layer) {
    const BlockRun how{recompute, blocks_again, only_targets && layer + 1 == spec.num_layers};
    const auto run = [this, layer, kept, how](const Residual& in) {
      return run_block(blocks[static_cast<size_t>(layer)], layer, in, *kept, spec, how);
    };
    if (blocks_again) {
      // The last one is wanted again at once.
      stream = {ft::recompute([run](const Tensor& in) { return run({in}).x; }, stream.x,
                              layer + 1 < spec.num_layers ? stash : nullptr)};
    } else {
      stream = run(stream);
    }
  }
  if (sequence.cache) sequence.cache->advance(sequence.documents);
  return final_norm(stream, norm, spec);
}

Tensor Decoder::logits(const Tensor& h) const {
  const at::NoGradGuard guard;
  return soft_cap(multiply({{Packed(h.contiguous()), {head->value.to(h.scalar_type()), true}}}),
                  spec.logit_softcap);
}

void Decoder::add_borders(bool in_float8) {
  for (Block& block : blocks) ft::add_borders(block, dtype, in_float8);
}

std::vector<Linear*> Decoder::linears() {
  std::vector<Linear*> all;
  for (Block& b : blocks)
    for (Linear* linear : {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down}) all.push_back(linear);
  return all;
}

namespace {

/// oneDNN compiles and keeps its products per shape: with a new number of tokens every step, time
/// and memory go into that. On the CPU a batch is filled up to a multiple of 64 by a last document
/// without targets.
Batch fill_up(Batch batch) {
  constexpr int64_t kMultiple = 64;
  const int64_t missing = (kMultiple - batch.num_tokens() % kMultiple) % kMultiple;
  for (int64_t i = 0; i < missing; ++i) {
    batch.tokens.push_back(0);
    batch.targets.push_back(kIgnore);
    batch.positions.push_back(i);
  }
  if (missing > 0) batch.bounds.push_back(batch.num_tokens());
  return batch;
}

}  // namespace

Sequence make_training_sequence(const ModelSpec& spec, const Batch& batch, at::Device device) {
  return make_sequence(spec, device.is_cpu() ? fill_up(batch) : batch, device);
}

Sequence make_sequence(const ModelSpec& spec, const Batch& batch, at::Device device) {
  Sequence s;
  s.tokens = ops::from_vector(batch.tokens, device);
  s.targets = make_targets(batch.targets, device);
  s.documents.bounds = batch.bounds;
  if (!device.is_cpu())
    s.documents.device_bounds = ops::from_vector(batch.bounds).to(device, at::kInt);
  const Tensor positions = ops::from_vector(batch.positions, device).to(at::kFloat);
  const auto rotation = [&](const RopeSpec& rope) -> Rotation {
    const Tensor frequencies = ops::from_vector(rope_frequencies(rope, spec.head_dim), device);
    const Tensor angles = positions.unsqueeze(1).mul(frequencies.unsqueeze(0));  // [N, D/2]
    return {angles.cos(), angles.sin()};
  };
  s.rotation = rotation(spec.rope);
  if (spec.window_rope) s.window_rotation = rotation(*spec.window_rope);
  return s;
}

Decoder make_decoder(const ModelSpec& spec, ParamStore& params, at::ScalarType dtype) {
  Decoder d;
  d.spec = spec;
  d.dtype = dtype;
  const std::string trunk = spec.trunk();
  d.embed = &params.at(trunk + "embed_tokens.weight");
  for (int64_t i = 0; i < spec.num_layers; ++i) {
    const std::string layer = trunk + "layers." + std::to_string(i) + ".";
    const auto norm_at = [&](const char* module) {
      return params.find(layer + module + ".weight");
    };
    const auto linear_at = [&](const std::string& module) {
      const std::string name = layer + module;
      return Linear{name, &params.at(name + ".weight"), params.find(name + ".bias"), nullptr};
    };
    d.blocks.push_back({norm_at("input_layernorm"),
                        linear_at("self_attn.q_proj"),
                        linear_at("self_attn.k_proj"),
                        linear_at("self_attn.v_proj"),
                        linear_at("self_attn.o_proj"),
                        norm_at("self_attn.q_norm"),
                        norm_at("self_attn.k_norm"),
                        norm_at("post_attention_layernorm"),
                        norm_at("pre_feedforward_layernorm"),
                        norm_at("post_feedforward_layernorm"),
                        linear_at("mlp.gate_proj"),
                        linear_at("mlp.up_proj"),
                        linear_at("mlp.down_proj"),
                        {},
                        {},
                        {},
                        {}});
  }
  d.norm = &params.at(trunk + "norm.weight");
  d.head = spec.is_tied ? d.embed : &params.at("lm_head.weight");
  return d;
}

}  // namespace ft
