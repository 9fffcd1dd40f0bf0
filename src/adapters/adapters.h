// Adapters of a whole model: which layers carry one, and the PEFT folder they are kept in.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "adapters/lora.h"
#include "finetune/config.h"
#include "model/load.h"

namespace ft {

struct AdapterSet {
  LoraConfig config;  ///< as resolved: target_modules is the list of layer kinds
  std::shared_ptr<DropoutState> dropout;
  std::vector<Param*> params;  ///< everything that is trained and saved, named as in PEFT's file
  std::vector<std::string> saved_modules;  ///< module paths trained in full
  /// Second names, in PEFT's file, of a trained embedding and head that are one tensor.
  std::vector<std::pair<std::string, const Param*>> tied_copies;
};

/// Puts a fresh adapter on the model and marks its tensors for training. Error (usage) when the
/// targets match nothing.
AdapterSet attach_adapter(Model& model, const LoraConfig& config, uint64_t seed);

/// Puts the adapter of a PEFT folder on the model. Every stored tensor is used and none is missing,
/// or Error (input).
AdapterSet load_adapter(Model& model, const std::filesystem::path& folder);

/// adapter_config.json of a PEFT folder as a LoraConfig; fields with an effect that is not built
/// are refused by name.
LoraConfig read_adapter_config(const std::filesystem::path& folder);

/// Writes adapter_config.json and adapter_model.safetensors (float32) into an existing folder.
void save_adapter(const Model& model, const AdapterSet& adapters,
                  const std::filesystem::path& folder);

struct MergedWeights {
  NamedTensors tensors;
  bool is_tied = true;        ///< the head is still the embedding
  double worst_rounding = 0;  ///< largest distance of a merged weight from its float32 value
  std::string worst_tensor;   ///< where that is; empty when nothing was rounded
};

/// All weights with the adapter folded in, float32 arithmetic, one rounding to the dtype in the
/// base's file.
MergedWeights merge_weights(Model& model);

}  // namespace ft
