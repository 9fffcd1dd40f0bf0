// One optimizer step over the same eight documents, laid out in every way: as one batch,
// accumulated, packed into rows. Loss, gradient norm and what is learnt are the same, in every
// family; most of the documents are longer than the sliding windows.
#include "cli/edit_model.h"
#include "cli/tiny_run.h"

namespace ft {
namespace {

class StepLayout : public testing::TestWithParam<std::string> {};

/// Eight documents of 9 to 30 tokens; every third leaves its first half out of the loss.
std::string eight_documents() {
  std::string lines;
  for (int64_t d = 0; d < 8; ++d) {
    Json::Array ids, labels;
    for (int64_t t = 0; t < 9 + 3 * d; ++t) {
      ids.emplace_back(3 + (7 * d + 5 * t + t * t * (d + 1)) % 61);
      labels.emplace_back(d % 3 == 0 && t < 4 ? int64_t{-100} : ids.back().integer());
    }
    lines += Json(Json::Object{{"input_ids", ids}, {"labels", labels}}).dump() + "\n";
  }
  return lines;
}

struct Layout {
  const char *batch, *accumulation, *packing;
};

TEST_P(StepLayout, DoesNotChangeTheStep) {
  const TestFolder work;
  const fs::path model = parity_case("B_packing", GetParam()) / "model";
  FT_NEEDS(model);
  TinyRun run(work);
  work.file("train.jsonl", eight_documents());
  run.set("model", model.string()).set("method", "full").set("train.max_steps", "1");
  run.set("data.max_length", "48").set("data.shuffle", "false").set("train.max_grad_norm", "0");
  std::vector<Json> steps;
  std::vector<TensorMap> learnt;
  for (const Layout& layout : {Layout{"8", "1", "false"}, Layout{"4", "2", "false"},
                               Layout{"1", "8", "false"}, Layout{"8", "1", "true"}}) {
    run.output(str("out", steps.size())).set("data.packing", layout.packing);
    run.set("train.batch_size", layout.batch);
    const auto lines = lines_of(
        run.set("train.gradient_accumulation_steps", layout.accumulation).train(), "train");
    ASSERT_EQ(lines.size(), 1u) << layout.batch << "x" << layout.accumulation;
    steps.push_back(lines[0]);
    learnt.push_back(read_tensors(run.out() / "final/model.safetensors"));
  }
  for (size_t i = 1; i < steps.size(); ++i) {
    EXPECT_EQ(*steps[i].get("target_tokens"), *steps[0].get("target_tokens")) << i;
    EXPECT_NEAR(steps[i].get("loss")->number() / steps[0].get("loss")->number(), 1, 1e-5) << i;
    EXPECT_NEAR(steps[i].get("grad_norm")->number() / steps[0].get("grad_norm")->number(), 1, 1e-4)
        << i;
    ASSERT_EQ(learnt[i].size(), learnt[0].size());
    for (const auto& [name, tensor] : learnt[0])
      EXPECT_LE(relative_l2(learnt[i].at(name), tensor), 1e-3) << i << " " << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, StepLayout,
                         testing::ValuesIn(parity_cases("B_packing",
                                                        {"gemma3_window", "llama31", "llama_gqa"})),
                         case_name);

}  // namespace
}  // namespace ft
