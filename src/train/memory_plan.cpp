// The memory of a run. What stays (weights, adapter, optimizer state) is counted tensor by tensor
// over an outline of the model; what comes and goes is the largest of a few moments of a step, each
// a sum of the buffers that are alive then. The moments follow kernels/*.cpp: when an op there
// keeps something else, this file changes with it, and the comparison at the end of every run tells
// when it was forgotten. Letters as in src/README.md; e is the bytes of an activation.
#include "train/memory_plan.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "adapters/adapters.h"
#include "kernels/device.h"
#include "kernels/kernels.h"
#include "kernels/matrix_unit.h"

namespace ft {
namespace {

constexpr int64_t kMiB = int64_t{1} << 20;
constexpr int64_t kRowMultiple = 64;  // CPU batches and target rows are filled up to this

int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

int64_t bytes_of(const Tensor& t) {
  return t.numel() * static_cast<int64_t>(t.element_size());
}

/// Everything the formulae below read.
struct Facts {
  const RunConfig& config;
  Recompute recompute;
  Model& model;
  const ModelSpec& spec;
  bool is_cuda;
  int64_t e;  ///< bytes of an activation
  int64_t N, n, T;
  bool is_adapted() const { return config.method != "full"; }
  bool is_quantised() const { return config.method == "qlora"; }
};

/// bfloat16 on the CPU's matrix unit, whose code keeps no buffers and no code per shape.
bool is_on_unit(const Facts& f) {
  return !f.is_cuda && f.e == 2 && has_matrix_unit() && f.config.kernels != "reference";
}

/// A 4-bit weight: half a byte, and a scale per block: float32, or with double quantisation one
/// byte and a float32 per 256 scales and the float32 mean of all.
int64_t quantised_bytes(int64_t numel, const QuantizationConfig& q) {
  const int64_t blocks = (numel + q.block_size - 1) / q.block_size;
  const int64_t scales = q.double_quant ? blocks + 4 * ((blocks + 255) / 256) + 4 : 4 * blocks;
  return (numel + 1) / 2 + scales;
}

/// AdamW's state of one trained tensor.
///   adamw:       two float32 moments, and for bfloat16 weights the compensation (kahan, 2 bytes)
///   or
///                the float32 weight
///   adamw8bit:   two moments of one byte and a float32 scale per 256 of each; bitsandbytes keeps
///                tensors of fewer than 4096 elements in float32
///   paged_...:   the same, outside of the device: pinned host memory, or on the CPU a mapped file
int64_t state_bytes(const Tensor& w, const TrainConfig& train) {
  const int64_t numel = w.numel();
  int64_t bytes = 8 * numel;
  const bool is_8bit = train.optimizer.ends_with("8bit") && numel >= 4096;
  if (is_8bit) bytes = 2 * numel + 8 * ((numel + 255) / 256);
  if (train.optimizer.starts_with("paged")) bytes = 0;
  if (w.scalar_type() == at::kBFloat16) {
    if (train.master_weights == "kahan") bytes += 2 * numel;
    if (train.master_weights == "float32") bytes += 4 * numel;
  }
  return bytes;
}

/// What lives from the first step to the last.
void add_residents(const Facts& f, MemoryPlan& plan) {
  std::set<const Param*> quantised;
  if (f.is_quantised())
    for (const Block& b : f.model.decoder.blocks)
      for (const Linear* l : {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down})
        quantised.insert(l->weight);
  for (const Param& p : f.model.params.all()) {
    const bool is_adapter = f.is_adapted() && p.is_trainable();
    (is_adapter ? plan.adapter : plan.weights) +=
        quantised.contains(&p) ? quantised_bytes(p.value.numel(), f.config.quantization)
                               : bytes_of(p.value);
    if (p.is_trainable()) plan.optimizer += state_bytes(p.value, f.config.train);
  }
  if (!f.is_adapted() || !f.config.lora.use_dora) return;
  // DoRA: a magnitude per output of each adapted layer, float32, with two moments of its own.
  for (const Block& b : f.model.decoder.blocks)
    for (const Linear* l : {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down})
      if (l->adapter) {
        plan.adapter += 4 * l->weight->value.size(0);
        plan.optimizer += 8 * l->weight->value.size(0);
      }
}

/// Does the backward pass of this layer want its input?
bool keeps_input(const Linear& l) {
  return l.adapter || l.weight->is_trainable();
}

/// Rank of a layer's adapter, 0: none. A is a parameter of its own, [R, in].
int64_t rank_of(const Facts& f, const Linear& l) {
  const Param* a = f.model.params.find("base_model.model." + l.name + ".lora_A.weight");
  return a ? a->value.size(0) : 0;
}

/// What a block keeps for its backward pass, elements a token (e bytes each):
///   x C, the input of its first norm; q H D, k K D after the rotation, v K D; attention's output
///   H D; the sum after attention C; gate F, up F, unless these are made again. With norms on q and
///   k also these before the norm, (H + K) D; with norms on the outputs both outputs, 2 C.
///   The input of layers that are trained or adapted, or run again: C for q, k, v together, C for
///   gate and up (o's is attention's output, which is there anyway; down's is made again). An
///   adapter's x A^T, R. DoRA: the product before the magnitude, `out` elements, which its gradient
///   needs.
/// Attention's log-sum-exp is apart: 4 H bytes.
int64_t kept_by_block(const Facts& f, const Block& b) {
  const bool mlp_again = f.recompute == Recompute::kGateUp;
  const ModelSpec& s = f.spec;
  const int64_t C = s.hidden_size, F = s.intermediate_size, q = s.num_heads * s.head_dim,
                kv = s.num_kv_heads * s.head_dim;
  int64_t elements = C + 2 * q + 2 * kv + C + (mlp_again ? 0 : 2 * F);
  if (s.has_qk_norm) elements += q + kv;
  if (s.has_output_norms) elements += 2 * C;
  if (keeps_input(b.q) || keeps_input(b.k) || keeps_input(b.v)) elements += C;
  if (mlp_again || keeps_input(b.gate) || keeps_input(b.up)) elements += C;
  for (const Linear* l : {&b.q, &b.k, &b.v, &b.o, &b.gate, &b.up, &b.down}) {
    if (mlp_again && (l == &b.gate || l == &b.up)) continue;
    elements += rank_of(f, *l);
    if (l->adapter && f.config.lora.use_dora) elements += l->weight->value.size(0);
    // Dropout: the float32 mask is cast and kept, and the dropped input is made for a moment.
    if (l->adapter && f.config.lora.dropout > 0) elements += l->weight->value.size(1);
  }
  return f.N * (elements * f.e + 4 * s.num_heads);
}

/// The largest moment of a block's backward pass beyond what it keeps.
///   MLP: the gradient of h, F, which becomes h, while gate's and up's take their places; on the
///   matrix unit, later, these two as tiles, 2 F; gate and up themselves where they are made again.
///   C for the gradient of the block's output and that of its input. Attention: its output's
///   gradient and dq, dk, dv, on the matrix unit, later, these as tiles; one document's copies of
///   them; layers with a window sum dk and dv in float32. The matrix unit's code has instead, per
///   thread, one key head's dk and dv in float32 and k twice and v as tiles. On CUDA flash
///   attention sums dq in float32, D rounded up to 32.
int64_t backward_of_block(const Facts& f) {
  const ModelSpec& s = f.spec;
  const int64_t C = s.hidden_size, F = s.intermediate_size, q = s.num_heads * s.head_dim,
                kv = s.num_kv_heads * s.head_dim;
  const bool mlp_again = f.recompute == Recompute::kGateUp, tiles = is_on_unit(f);
  const int64_t mlp = f.N * ((tiles ? 2 : 1) * F + 2 * C + (mlp_again ? 2 * F : 0)) * f.e;
  int64_t attention = f.N * (2 * C + (tiles ? 2 * (q + 2 * kv) : 2 * q + 2 * kv)) * f.e;
  if (is_on_unit(f)) {
    attention += num_threads() * f.T * s.head_dim * (2 * 4 + 3 * f.e);
  } else {
    attention += f.T * (q + 2 * kv) * f.e;
  }
  if (f.is_cuda) attention += f.N * s.num_heads * round_up(s.head_dim, 32) * 4;
  const bool has_long = std::ranges::any_of(s.windows, [&](int64_t w) { return w > 0 && f.T > w; });
  if (has_long && !f.is_cuda && !is_on_unit(f)) attention += 2 * f.N * kv * 4;
  // What the block kept of its MLP is gone by then: gate and up.
  if (!mlp_again) attention -= f.N * 2 * F * f.e;
  return std::max(mlp, attention);
}

/// What lives while one product uses it: a dense copy of the largest 4-bit weight; of a base in
/// eight bits (two matrices of a byte a weight, which are no more than one in 16 bits) the codes of
/// the widest operand, the gradients of gate and up.
int64_t product_bytes(const Facts& f) {
  const ModelSpec& s = f.spec;
  if (f.is_cuda && f.config.lora.base_dtype == "float8") return f.N * 2 * s.intermediate_size;
  if (!f.is_quantised()) return 0;
  const int64_t widest = std::max(s.intermediate_size, s.num_heads * s.head_dim);
  return widest * s.hidden_size * f.e;
}

/// Rows of logits at a time: chunk_rows() of kernels/linear_cross_entropy.cpp.
int64_t chunk_rows(const Facts& f) {
  const bool spare =
      is_on_unit(f) && f.spec.logit_softcap == 0 && !f.model.decoder.head->is_trainable();
  const int64_t limit = (f.is_cuda ? 192 : spare ? 128 : 64) * kMiB, most = f.is_cuda ? 4096 : 1024;
  const int64_t fitting = limit / (f.spec.vocab_size * f.e);
  return std::min(f.n,
                  std::clamp<int64_t>(fitting / kRowMultiple * kRowMultiple, kRowMultiple, most));
}

/// The head and the loss, with r rows at a time: logits r V (three times for a moment under a soft
/// cap; twice, the second time as tiles, where the matrix unit makes the gradient of a trained
/// head), those rows of the hidden states and of their gradient, 2 r C. A trained head [V, C] has a
/// float32 sum 4 V C, to which the chunk's share is added: e V C as LibTorch's product leaves it,
/// and again in float32, which the matrix unit's is from the start. A float32 head beside an
/// adapter is cast first, e V C.
int64_t head_bytes(const Facts& f) {
  const int64_t r = chunk_rows(f), V = f.spec.vocab_size, C = f.spec.hidden_size;
  const Tensor& w = f.model.decoder.head->value;
  const int64_t copies = f.spec.logit_softcap != 0 ? 3 : is_on_unit(f) && w.requires_grad() ? 2 : 1;
  int64_t bytes = copies * r * V * f.e + 2 * r * C * f.e;
  if (w.requires_grad()) bytes += V * C * (is_on_unit(f) ? 8 : f.e == 4 ? 8 : 8 + f.e);
  if (static_cast<int64_t>(w.element_size()) != f.e) bytes += V * C * f.e;
  return bytes;
}

/// Gradients: all trained tensors' at the end of a backward pass, in their dtype; with several
/// micro-batches beside the float32 sums of those before.
int64_t gradient_bytes(const Facts& f, bool only_head) {
  int64_t fresh = 0, sums = 0;
  for (const Param& p : f.model.params.all()) {
    if (!p.is_trainable()) continue;
    if (!only_head || &p == f.model.decoder.head) fresh += bytes_of(p.value);
    sums += 4 * p.value.numel();
  }
  return fresh + (f.config.train.gradient_accumulation_steps > 1 ? sums : 0);
}

/// The buffers of the whole step: ids and targets, 16 bytes a token, and the angles' cosine and
/// sine, D/2 float32 each, twice where layers with a window have a rotation of their own.
int64_t sequence_bytes(const Facts& f) {
  return f.N * (16 + (f.spec.window_rope ? 2 : 1) * f.spec.head_dim * 4);
}

/// The moments of a step that can be the largest, and the parts of each.
void add_step(const Facts& f, MemoryPlan& plan) {
  const Decoder& d = f.model.decoder;
  const int64_t L = f.spec.num_layers, hidden = f.N * f.spec.hidden_size * f.e;
  const bool recomputes = f.recompute >= Recompute::kBlocks;
  // Of the blocks' inputs: all, or the last, the one at hand and the one on its way.
  const int64_t inputs = f.recompute == Recompute::kOffload ? std::min<int64_t>(L, 3) : L;
  int64_t one = 0, all = 0;  // of the block that keeps most, of all
  for (const Block& b : d.blocks) {
    one = std::max(one, kept_by_block(f, b));
    all += kept_by_block(f, b);
  }
  const int64_t kept = sequence_bytes(f) + (recomputes ? inputs * hidden : all);
  const int64_t again = recomputes ? one - hidden : 0;  // its input is there
  struct Moment {
    int64_t activations, logits, gradients;
  };
  // After the last block: its output, the final norm's, and the gradient of that.
  const Moment head{
      kept + 3 * hidden, head_bytes(f),
      gradient_bytes(f, true) - (d.head->is_trainable() ? bytes_of(d.head->value) : 0)};
  const int64_t work = again + backward_of_block(f) + product_bytes(f);
  const Moment last_block{kept + work, 0, gradient_bytes(f, true)};
  // The first block, when all gradients but the embedding's are there; then the embedding's, made
  // as a whole, beside that of a tied head.
  const Moment first_block{sequence_bytes(f) + (recomputes ? hidden : one) + work, 0,
                           gradient_bytes(f, false)};
  const bool is_shared = d.embed->is_trainable() && d.embed == d.head;
  const Moment embedding{sequence_bytes(f) + hidden, 0,
                         gradient_bytes(f, false) + (is_shared ? bytes_of(d.embed->value) : 0)};
  const auto total = [](const Moment& m) { return m.activations + m.logits + m.gradients; };
  const Moment peak =
      std::max({head, last_block, first_block, embedding},
               [&](const Moment& a, const Moment& b) { return total(a) < total(b); });
  plan.activations = peak.activations;
  plan.logits = peak.logits;
  plan.gradients = peak.gradients;
}

/// What belongs to no tensor of ours.
///   CUDA: allocations are rounded up to 512 bytes, half of that for each of the tensors that live
///   through the step; cuBLAS keeps a workspace of 32 MiB (Hopper) for its stream.
///   CPU: the program itself, and what a step adds to it whatever the model, as smaps shows it for
///   a Llama of 135M and a Gemma 3 of 270M: 18 MiB of LibTorch's code that no one touched before.
///   Packing a 4-bit base while loading leaves 8 MiB. The matrix unit's code has 8 MiB of panels.
///   Where LibTorch multiplies, per thread three packing buffers of 4 MiB that MKL keeps; and what
///   oneDNN compiled, about 0.3 MiB a shape with its code, some 50 shapes for the linear layers and
///   100 for the inner products of attention, whose blocks end where documents end. Documents of
///   new lengths add to these.
int64_t buffer_bytes(const Facts& f, int64_t program_bytes) {
  if (f.is_cuda) {
    const auto tensors = static_cast<int64_t>(f.model.params.all().size());
    return 4 * tensors * 256 + 32 * kMiB;
  }
  const int64_t packing = f.is_quantised() ? 8 : 0;
  return program_bytes + (packing + (is_on_unit(f) ? 26 : 18 + 12 * num_threads() + 45)) * kMiB;
}

}  // namespace

std::unique_ptr<Model> outline_of_run(const RunConfig& config) {
  auto model = outline_model(config.model, parse_dtype(config.dtype));
  if (config.method == "full") {
    for (Param& p : model->params.all()) p.train();
  } else {
    LoraConfig lora = config.lora;
    lora.use_dora = false;  // its magnitudes start from norms of the weights; counted by formula
    lora.init = "default";
    if (lora.resume_from) {
      attach_as_stored(*model, lora, *lora.resume_from);
    } else {
      attach_adapter(*model, lora, 0);
    }
  }
  return model;
}

BatchSize largest_batch(const Loader& loader, const RunConfig& config) {
  // A later window may have any batch that packing makes.
  if (loader.num_windows() > 1 && config.data.packing) return full_batch(config);
  BatchSize most;
  const Window& window = loader.window();
  const int64_t steps = std::min(loader.num_steps(), window.num_steps());
  for (int64_t i = 0; i < steps; ++i)
    for (const Batch& b : window.step(i))
      most = {std::max(most.tokens, b.num_tokens()), std::max(most.targets, b.num_targets()),
              std::max(most.document, b.max_document())};
  return most;
}

BatchSize full_batch(const RunConfig& config) {
  const int64_t tokens = config.train.batch_size * config.data.max_length;
  return {tokens, tokens, config.data.max_length};
}

std::optional<Recompute> asked_recompute(const TrainConfig& train) {
  for (const RecomputeName& name : kRecomputes)
    if (train.gradient_checkpointing == name.key) return name.recompute;
  return std::nullopt;
}

Recompute choose_recompute(const PlanOf& plan, int64_t memory, bool is_cuda) {
  for (const Recompute r : {Recompute::kNothing, Recompute::kGateUp, Recompute::kBlocks})
    if (plan(r).peak() <= memory) return r;
  return is_cuda ? Recompute::kOffload : Recompute::kBlocks;
}

Recompute recompute_for(const TrainConfig& train, const PlanOf& plan, int64_t memory,
                        bool is_cuda) {
  const auto asked = asked_recompute(train);
  if (!asked)
    return choose_recompute(plan, static_cast<int64_t>(0.9 * static_cast<double>(memory)), is_cuda);
  return is_cuda ? *asked : std::min(*asked, Recompute::kBlocks);
}

bool saves_beside(const RunConfig& config) {
  const int64_t steps = config.train.max_steps.value_or(INT64_MAX);
  const bool before_the_end = config.save.every_steps   ? *config.save.every_steps < steps
                              : config.eval.every_steps ? *config.eval.every_steps < steps
                                                        : config.eval.evaluations > 0 && steps > 1;
  return before_the_end && config.save.background && !config.train.optimizer.starts_with("paged");
}

MemoryPlan plan_memory(const RunConfig& config, Recompute recompute, Model& outline,
                       const BatchSize& batch, bool is_cuda, int64_t program_bytes) {
  const int64_t multiple = is_cuda ? 1 : kRowMultiple;
  const Facts f{config,
                recompute,
                outline,
                outline.decoder.spec,
                is_cuda,
                static_cast<int64_t>(c10::elementSize(outline.decoder.dtype)),
                round_up(batch.tokens, multiple),
                round_up(batch.targets, multiple),
                batch.document};
  MemoryPlan plan;
  add_residents(f, plan);
  add_step(f, plan);
  // CheckpointWriter's copy, which is in the memory of the host.
  if (!is_cuda && saves_beside(config))
    plan.snapshot = (f.is_adapted() ? plan.adapter : plan.weights) + plan.optimizer;
  plan.buffers = buffer_bytes(f, program_bytes);
  return plan;
}

}  // namespace ft
