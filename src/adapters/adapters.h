// Adapters of a whole model: which layers carry one, and the PEFT folder they are kept in.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "adapters/lora.h"
#include "finetune/config.h"
#include "model/load.h"

namespace ft {

struct AdapterSet {
  LoraConfig config;  ///< as resolved: target_modules is the list of layer kinds
  std::shared_ptr<AdapterState> state;
  std::vector<Param*> params;  ///< everything that is trained and saved, named as in PEFT's file
  struct Layer {
    Linear* linear;
    std::shared_ptr<Adapter> adapter;
  };
  std::vector<Layer> layers;
  struct Replaced {
    Param** slot;  ///< where the model holds the module's weight or bias
    Param *original, *trained;
  };
  std::vector<Replaced> replaced;  ///< biases and modules trained in full
  /// Where A and B started, when that was taken out of the base weights (PiSSA, OLoRA).
  std::map<const Param*, Tensor> starts;
  std::vector<std::string> saved_modules;  ///< module paths trained in full
  /// Second names, in PEFT's file, of a trained embedding and head that are one tensor.
  std::vector<std::pair<std::string, const Param*>> tied_copies;
};

/// Puts a fresh adapter on the model and marks its tensors for training; they go into `store`
/// (null: the model's own). Error (usage) when the targets match nothing.
AdapterSet attach_adapter(Model& model, const LoraConfig& config, uint64_t seed,
                          ParamStore* store = nullptr);

/// As attach_adapter, on the layers that the PEFT folder's adapter, of settings `config`, has in
/// this model. Error (input) when there are none.
AdapterSet attach_as_stored(Model& model, const LoraConfig& config,
                            const std::filesystem::path& folder, ParamStore* store = nullptr);

/// Puts the adapter of a PEFT folder on the model. Every stored tensor is used and none is missing,
/// or Error (input). With stores of their own a model can have several adapters, one of them put
/// on.
AdapterSet load_adapter(Model& model, const std::filesystem::path& folder,
                        ParamStore* store = nullptr);

/// Gives the model its own layers and modules back, or those of the adapter again.
void take_off(const AdapterSet& adapters);
void put_on(const AdapterSet& adapters);

/// adapter_config.json of a PEFT folder as a LoraConfig; fields with an effect that is not built
/// are refused by name.
LoraConfig read_adapter_config(const std::filesystem::path& folder);

/// Writes adapter_config.json and adapter_model.safetensors (float32) into an existing folder. A
/// start that was taken out of the base is written as PEFT converts it: twice the rank, [A; A0] and
/// [B, -B0], a plain LoRA of the base as it is on disk.
void save_adapter(const Model& model, const AdapterSet& adapters,
                  const std::filesystem::path& folder);

struct MergedWeights {
  NamedTensors tensors;
  bool is_tied = true;        ///< the head is still the embedding
  double worst_rounding = 0;  ///< largest distance of a merged weight from its float32 value
  std::string worst_tensor;   ///< where that is; empty when nothing was rounded
};

struct WeightedAdapter {
  const AdapterSet* adapters;
  double weight = 1;
};

/// All weights with what each adapter changes in them, times its weight, added; float32 arithmetic,
/// one rounding to the dtype in the base's file.
MergedWeights merge_weights(Model& model, const std::vector<WeightedAdapter>& adapters);

}  // namespace ft
