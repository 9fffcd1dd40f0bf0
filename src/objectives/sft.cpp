#include "objectives/sft.h"

namespace ft {

Tensor sft_loss(const Model& model, const Batch& batch) {
  const Sequence sequence = make_training_sequence(model.decoder.spec, batch, model.device);
  const Targets& targets = sequence.targets;
  return linear_cross_entropy(
      model.decoder.forward(sequence, targets.is_part()), model.decoder.head->value,
      targets.is_part() ? targets_of_taken(targets) : targets, model.decoder.spec.logit_softcap);
}

Tensor sft_token_losses(const Model& model, const Batch& batch) {
  at::NoGradGuard guard;
  const Sequence sequence = make_training_sequence(model.decoder.spec, batch, model.device);
  return token_losses(model.decoder.forward(sequence), model.decoder.head->value, sequence.targets,
                      model.decoder.spec.logit_softcap)
      .to(at::kCPU);
}

}  // namespace ft
