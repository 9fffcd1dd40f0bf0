// A memory probe: the logits of 4096 tokens over 262,144 words would be 4 GiB; no step of training
// or evaluation may hold more than 256 MiB for them. The model is so narrow that all else is small.
#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>

#include <atomic>
#include <cstdlib>

#include "base/error.h"
#include "fixtures.h"
#include "kernels/autograd.h"
#include "kernels/compare.h"
#include "objectives/sft.h"

namespace ft {
namespace {

constexpr int64_t kVocab = 262144, kTokens = 4096, kWidth = 8;

/// Counts what is alive while it lives.
class Probe : public c10::Allocator {
 public:
  Probe() : before_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this, kPriority); }
  ~Probe() override { c10::SetCPUAllocator(before_, kPriority); }

  c10::DataPtr allocate(size_t bytes) override {
    auto* p = static_cast<std::byte*>(std::aligned_alloc(kHeader, (bytes / kHeader + 2) * kHeader));
    *reinterpret_cast<size_t*>(p) = bytes;
    alive += bytes;
    if (alive > peak) peak = alive.load();
    return {p + kHeader, p + kHeader, release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }

  static inline std::atomic<size_t> alive = 0, peak = 0;

 private:
  static constexpr size_t kHeader = 64;
  static constexpr uint8_t kPriority = 200;
  static void release(void* data) {
    auto* p = static_cast<std::byte*>(data) - kHeader;
    alive -= *reinterpret_cast<size_t*>(p);
    std::free(p);
  }
  c10::Allocator* before_;
};

std::unique_ptr<Model> narrow_model(at::ScalarType dtype, double softcap, bool is_tied,
                                    int64_t vocab = kVocab) {
  const Json config = parse_json(str(R"({"model_type": "llama", "hidden_size": )", kWidth,
                                     R"(, "intermediate_size": 8, "num_hidden_layers": 1,
      "num_attention_heads": 1, "vocab_size": )",
                                     vocab, "}"),
                                 "config");
  auto model = std::make_unique<Model>();
  ModelSpec spec = make_spec(config, "config");
  spec.logit_softcap = softcap;
  spec.is_tied = is_tied;
  const auto add = [&](const std::string& name, std::vector<int64_t> sizes) {
    model->params.add(name, normal(sizes, model->params.all().size()).to(dtype));
  };
  const std::string layer = "model.layers.0.";
  add("model.embed_tokens.weight", {vocab, kWidth});
  for (const char* module : {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj",
                             "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj"})
    add(layer + module + ".weight", {kWidth, kWidth});
  for (const char* module : {"input_layernorm", "post_attention_layernorm"})
    add(layer + module + ".weight", {kWidth});
  add("model.norm.weight", {kWidth});
  if (!is_tied) add("lm_head.weight", {vocab, kWidth});
  model->decoder = make_decoder(spec, model->params, dtype);
  return model;
}

Batch long_batch(int64_t tokens = kTokens, int64_t vocab = kVocab) {
  std::vector<int32_t> ids;
  for (int64_t i = 0; i < tokens; ++i) ids.push_back(static_cast<int32_t>(i * 7919 % vocab));
  return single_document(ids);
}

struct LogitsCase {
  const char* name;
  at::ScalarType dtype;
  double softcap;
  bool trains_head, is_reference;
};
void PrintTo(const LogitsCase& c, std::ostream* out) {
  *out << c.name;
}

class LogitsMemory : public testing::TestWithParam<LogitsCase> {};

TEST_P(LogitsMemory, StaysBelow256MiB) {
  const LogitsCase& c = GetParam();
  std::optional<PlainTwins> plain;
  if (c.is_reference) plain.emplace();
  const auto model = narrow_model(c.dtype, c.softcap, true);
  for (Param& p : model->params.all())
    if (c.trains_head || p.name != "model.embed_tokens.weight") p.train();
  const Batch batch = long_batch();
  const Probe probe;
  const auto peak_of = [](const std::function<void()>& step) {
    const size_t before = Probe::alive;
    Probe::peak = before;
    step();
    return Probe::peak - before;
  };
  constexpr size_t kLimit = size_t{256} << 20;
  const size_t trained = peak_of([&] { run_backward(sft_loss(*model, batch)); });
  EXPECT_LE(trained, kLimit);
  EXPECT_GE(trained, kLimit / 16);  // the probe sees the chunks
  EXPECT_LE(peak_of([&] { sft_token_losses(*model, batch); }), kLimit);
  for (Param& p : model->params.all()) p.value.mutable_grad() = Tensor();
}

INSTANTIATE_TEST_SUITE_P(
    Steps, LogitsMemory,
    testing::Values(LogitsCase{"bfloat16", at::kBFloat16, 0, false, false},
                    LogitsCase{"bfloat16_full", at::kBFloat16, 0, true, false},
                    LogitsCase{"bfloat16_capped", at::kBFloat16, 30, false, false},
                    LogitsCase{"float32", at::kFloat, 0, false, false},
                    LogitsCase{"float32_full_capped", at::kFloat, 30, true, false},
                    LogitsCase{"float32_plain", at::kFloat, 0, true, true}),
    [](const auto& c) { return std::string(c.param.name); });

/// Attention over one document of 8192 tokens: its scores would be 128 MiB in bfloat16 for the one
/// head, its mask 64 MiB. Every way that attention goes on the CPU, forward and backward.
TEST(AttentionMemory, NothingIsAsLargeAsTheSquareOfTheTokens) {
  constexpr int64_t kLong = 8192, kSmallVocab = 64;
  for (const at::ScalarType dtype : {at::kBFloat16, at::kFloat})
    for (const double softcap : {0.0, 30.0})
      for (const auto mode : {KernelMode::kAuto, KernelMode::kNoMatrixUnit}) {
        SCOPED_TRACE(testing::Message() << toString(dtype) << ", soft cap " << softcap);
        set_kernel_mode(mode);
        const auto model = narrow_model(dtype, 0, true, kSmallVocab);
        model->decoder.spec.attention_softcap = softcap;
        for (Param& p : model->params.all()) p.train();
        const Batch batch = long_batch(kLong, kSmallVocab);
        const Probe probe;
        const size_t before = Probe::alive;
        Probe::peak = before;
        run_backward(sft_loss(*model, batch));
        EXPECT_LE(Probe::peak - before, size_t{48} << 20);
        EXPECT_GE(Probe::peak - before, size_t{1} << 20);  // the probe sees the step
        for (Param& p : model->params.all()) p.value.mutable_grad() = Tensor();
        set_kernel_mode(KernelMode::kAuto);
      }
}

}  // namespace
}  // namespace ft
