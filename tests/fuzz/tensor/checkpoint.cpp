// A checkpoint's files: the first byte says which one the rest is ('m': the manifest, 's': the
// state, 't': the trained tensors, else the optimizer's). Each is read alone too: a checksum keeps
// damage out, not malice.
#include "train/checkpoint.h"

#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  if (data.empty()) return;
  ft::Param param{"a", ft::ops::zeros({2, 2}, at::kFloat, at::kCPU), at::kFloat};
  param.value.set_requires_grad(true);
  const ft::TrainConfig config;
  const ft::Optimizer optimizer({&param}, config, 1);
  ft::CheckpointWriter writer(ft::fuzz_folder() / "run", {}, {&param}, optimizer);
  static const bool is_prepared = [&] {
    ft::TrainState state;
    state.step = 3;
    writer.save(state);
    return true;
  }();
  (void)is_prepared;
  const ft::fs::path checkpoints = ft::fuzz_folder() / "run/checkpoints",
                     folder = checkpoints / "step-3";
  const std::string name = data[0] == 'm'   ? "manifest.json"
                           : data[0] == 's' ? "state.json"
                           : data[0] == 't' ? "trained.safetensors"
                                            : "optimizer.safetensors";
  const std::string good = ft::read_file(folder / name);
  const std::string bad(data.substr(1));
  ft::fuzz_file("run/checkpoints/step-3/" + name, bad);
  const bool passes = ft::newest_checkpoint(checkpoints).has_value();
  ft::expect_refusal_or_success([&] {
    ft::load_state(folder);
    ft::load_tensors(folder, {&param}, optimizer);
  });
  ft::fuzz_file("run/checkpoints/step-3/" + name, good);
  if (passes && bad != good && name != "manifest.json")
    ft::finding("damage that passes for a whole checkpoint");
}
