// What a run will need, by part, from config.json alone: the arithmetic is in memory_plan.cpp and
// nowhere else.
#pragma once

#include <functional>
#include <iterator>
#include <memory>
#include <optional>

#include "data/loader.h"
#include "finetune/config.h"
#include "model/load.h"

namespace ft {

/// The largest micro-batch of a run.
struct BatchSize {
  int64_t tokens = 0;
  int64_t targets = 0;   ///< rows of it that have a target
  int64_t document = 0;  ///< tokens of its longest document
};

/// The largest numbers among the micro-batches of a run's first epoch, or, of several windows, what
/// they cannot pass (without packing: those of the window that `loader` stands at).
BatchSize largest_batch(const Loader& loader, const RunConfig& config);

/// Bytes at the moment of the peak.
struct MemoryPlan {
  int64_t weights = 0, adapter = 0, gradients = 0, optimizer = 0, activations = 0, logits = 0,
          snapshot = 0, buffers = 0;
  int64_t peak() const {
    return weights + adapter + gradients + optimizer + activations + logits + snapshot + buffers;
  }
};

/// A model with the shapes and the trained tensors of the run that `config` describes, and no
/// weights: every parameter is a meta tensor. lora.resume_from must have been resolved.
std::unique_ptr<Model> outline_of_run(const RunConfig& config);

/// The micro-batch of config's batch_size and max_length when every row is full and all is trained.
BatchSize full_batch(const RunConfig& config);

/// Every way to recompute, in the order of the enumeration.
struct RecomputeName {
  Recompute recompute;
  const char *key, *text;  ///< of train.gradient_checkpointing; for a person
};
inline constexpr RecomputeName kRecomputes[] = {
    {Recompute::kNothing, "false", "nothing is computed again"},
    {Recompute::kGateUp, "selective", "gate and up are computed again"},
    {Recompute::kBlocks, "true", "blocks are computed again"},
    {Recompute::kOffload, "offload", "blocks are computed again, from inputs in host memory"}};
inline constexpr size_t kNumRecomputes = std::size(kRecomputes);
inline const RecomputeName& recompute_name(Recompute recompute) {
  return kRecomputes[static_cast<size_t>(recompute)];
}

/// train.gradient_checkpointing, nullopt for auto.
std::optional<Recompute> asked_recompute(const TrainConfig& train);
using PlanOf = std::function<MemoryPlan(Recompute)>;
/// The least recomputation whose plan stays within `memory` bytes, else all; on a GPU, whose memory
/// is not the host's, then from there.
Recompute choose_recompute(const PlanOf& plan, int64_t memory, bool is_cuda);
/// What was asked for; for auto what fits a share of 0.9 of the usable `memory`. On a CPU nothing
/// is offloaded.
Recompute recompute_for(const TrainConfig& train, const PlanOf& plan, int64_t memory, bool is_cuda);

/// Whether a run of at most train.max_steps writes a checkpoint while training goes on, from a
/// copy.
bool saves_beside(const RunConfig& config);

/// `outline`: outline_of_run(config). `program_bytes`: the program with tokenizer and data but
/// without a model, as resident_memory() counts it; 0 on CUDA, whose peak is the device's.
MemoryPlan plan_memory(const RunConfig& config, Recompute recompute, Model& outline,
                       const BatchSize& batch, bool is_cuda, int64_t program_bytes);

}  // namespace ft
