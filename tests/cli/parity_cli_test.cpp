// The reference cases through the command line: what a user gets from eval, train and merge is what
// transformers, PEFT and torch computed.
#include "cli/run_program.h"
#include "fixtures.h"

namespace ft {
namespace {

Json::Array ids_json(const Tensor& ids) {
  Json::Array list;
  for (const int32_t id : to_ids(ids)) list.emplace_back(static_cast<int64_t>(id));
  return list;
}

std::string tokens_line(const Tensor& ids) {
  return Json(Json::Object{{"input_ids", ids_json(ids)}}).dump() + "\n";
}
std::string tokens_line(const Tensor& ids, const Tensor& labels) {
  return Json(Json::Object{{"input_ids", ids_json(ids)}, {"labels", ids_json(labels)}}).dump() +
         "\n";
}

struct EvalOutput {
  Json summary;
  std::vector<Json> examples, logprobs;
};

EvalOutput run_eval(const TestFolder& folder, const fs::path& model, const std::string& lines,
                    const std::string& packing, std::vector<std::string> more = {}) {
  const std::string examples = (folder / "examples.jsonl").string(),
                    logprobs = (folder / "logprobs.jsonl").string();
  std::vector<std::string> args = {"eval",
                                   "--model",
                                   model.string(),
                                   "--data",
                                   folder.file("tokens.jsonl", lines),
                                   "--set",
                                   "dtype=float32",
                                   "--set",
                                   "data.packing=" + packing,
                                   "--json",
                                   "--token-logprobs",
                                   logprobs,
                                   "--per-example",
                                   examples};
  args.insert(args.end(), more.begin(), more.end());
  const Outcome outcome = run_ok(args);
  return {outcome.json(), read_json_lines(examples), read_json_lines(logprobs)};
}

class EvalParity : public testing::TestWithParam<std::string> {};

TEST_P(EvalParity, ForwardCase) {
  const fs::path folder = parity_case("A_forward", GetParam());
  FT_NEEDS(folder);
  const TestFolder work;
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto at_i = [&](const char* name, size_t i) {
    return expected.at(std::string(name) + "_" + std::to_string(i));
  };
  const EvalOutput got =
      run_eval(work, folder / "model",
               tokens_line(at_i("input_ids", 0)) + tokens_line(at_i("input_ids", 1)), "false");
  ASSERT_EQ(got.examples.size(), 2u);
  double sum = 0;
  int64_t targets = 0;
  for (size_t i = 0; i < 2; ++i) {
    const auto ids = to_ids(at_i("input_ids", i));
    const int64_t n = static_cast<int64_t>(ids.size()) - 1;
    const double loss = value(at_i("loss", i));
    sum += loss * static_cast<double>(n);
    targets += n;
    EXPECT_EQ(got.examples[i].get("index")->integer(), static_cast<int64_t>(i));
    EXPECT_EQ(got.examples[i].get("target_tokens")->integer(), n);
    EXPECT_NEAR(got.examples[i].get("loss")->number(), loss, tolerance(info, "loss_abs"));
    const Tensor logprobs = at_i("logits", i).to(at::kDouble).log_softmax(-1);
    const auto& list = got.logprobs[i].get("logprobs")->array();
    ASSERT_EQ(list.size(), static_cast<size_t>(n));
    for (int64_t t = 0; t < n; ++t)
      EXPECT_NEAR(list[static_cast<size_t>(t)].number(),
                  value(logprobs[t][ids[static_cast<size_t>(t) + 1]]),
                  2 * tolerance(info, "logits_max_abs"));
  }
  const double mean = sum / static_cast<double>(targets);
  EXPECT_EQ(got.summary.get("target_tokens")->integer(), targets);
  EXPECT_NEAR(got.summary.get("loss")->number(), mean, tolerance(info, "loss_abs"));
  EXPECT_NEAR(got.summary.get("perplexity")->number() / std::exp(mean), 1, 1e-4);
}

INSTANTIATE_TEST_SUITE_P(Cases, EvalParity,
                         testing::ValuesIn(parity_cases(
                             "A_forward",
                             {"gemma3_mm", "gemma3_mm_newkeys", "gemma3_mm_oldkeys", "gemma3_text",
                              "gemma3_text_oldcfg", "llama2_mha", "llama2_oldcfg", "llama31_gqa",
                              "llama31_gqa_oldcfg", "llama31_sharded"})),
                         case_name);

struct PackedRun {
  std::string name, packing;
};
class EvalPackingParity : public testing::TestWithParam<PackedRun> {};

std::vector<PackedRun> packed_runs() {
  std::vector<PackedRun> runs;
  for (const std::string& name :
       parity_cases("B_packing", {"gemma3_window", "llama31", "llama_gqa"}))
    for (const char* packing : {"false", "true"}) runs.push_back({name, packing});
  return runs;
}

TEST_P(EvalPackingParity, PackingCase) {
  const fs::path folder = parity_case("B_packing", GetParam().name);
  FT_NEEDS(folder);
  const TestFolder work;
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  std::string lines;
  const auto& bounds = info.get("doc_bounds")->array();
  const auto slice = [&](const char* name, size_t d) {
    const auto& b = bounds[d].array();
    return expected.at(name)[b[0].integer()].narrow(0, b[1].integer(),
                                                    b[2].integer() - b[1].integer());
  };
  for (size_t d = 0; d < bounds.size(); ++d)
    lines += tokens_line(slice("input_ids", d), slice("labels", d));
  const EvalOutput got =
      run_eval(work, folder / "model", lines, GetParam().packing, {"--set", "data.max_length=128"});
  ASSERT_EQ(got.logprobs.size(), bounds.size());
  for (size_t d = 0; d < bounds.size(); ++d) {
    const Tensor losses = slice("token_losses", d);
    const auto& list = got.logprobs[d].get("logprobs")->array();
    ASSERT_EQ(list.size(), static_cast<size_t>(losses.size(0) - 1));
    double sum = 0;
    for (size_t t = 0; t < list.size(); ++t) {
      sum -= list[t].number();
      EXPECT_NEAR(-list[t].number(), value(losses[static_cast<int64_t>(t) + 1]),
                  tolerance(info, "token_loss_abs"));
    }
    EXPECT_NEAR(sum, value(expected.at("doc_loss_sums")[static_cast<int64_t>(d)]),
                tolerance(info, "doc_sum_abs"));
  }
  EXPECT_NEAR(got.summary.get("loss")->number(), value(expected.at("mean_loss")),
              tolerance(info, "mean_abs"));
}

INSTANTIATE_TEST_SUITE_P(Cases, EvalPackingParity, testing::ValuesIn(packed_runs()),
                         [](const auto& run) {
                           return run.param.name +
                                  (run.param.packing == "true" ? "_packed" : "_alone");
                         });

class TrainCommandParity : public testing::TestWithParam<std::string> {};

/// The documents of all micro-batches, one a line: three to a micro-batch.
std::string training_lines(const Json& info, const TensorMap& expected) {
  std::string lines;
  const auto& micro_batches = info.get("doc_bounds_per_micro_batch")->array();
  for (size_t i = 0; i < micro_batches.size(); ++i) {
    EXPECT_EQ(micro_batches[i].array().size(), 3u);
    for (const Json& bound : micro_batches[i].array()) {
      const auto& b = bound.array();
      const auto slice = [&](const char* name) {
        return expected.at(std::string(name) + "_" + std::to_string(i))[b[0].integer()].narrow(
            0, b[1].integer(), b[2].integer() - b[1].integer());
      };
      lines += tokens_line(slice("input_ids"), slice("labels"));
    }
  }
  return lines;
}

TEST_P(TrainCommandParity, LossesNormsAndFinalTensors) {
  const fs::path folder = parity_case("D_training", GetParam());
  FT_NEEDS(folder);
  const TestFolder work;
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const Json& o = *info.get("optimizer");
  const Json& clip = *info.get("clip_norm");
  const auto& betas = o.get("betas")->array();
  const bool is_full = !fs::exists(folder / "adapter");
  run_ok(with_settings(
      {"train"}, {"model=" + (folder / "model").string(), "output_dir=" + (work / "out").string(),
                  "dtype=float32",
                  is_full ? "method=full" : "lora.resume_from=" + (folder / "adapter").string(),
                  "data.train=" + work.file("train.jsonl", training_lines(info, expected)),
                  "data.packing=false", "data.shuffle=false", "train.batch_size=3",
                  "train.gradient_accumulation_steps=" + info.get("grad_accumulation")->dump(),
                  "train.learning_rate=" + o.get("lr")->dump(), "train.eps=" + o.get("eps")->dump(),
                  "train.weight_decay=" + o.get("weight_decay")->dump(),
                  "train.betas=[" + betas[0].dump() + ", " + betas[1].dump() + "]",
                  "train.max_grad_norm=" + (clip.is_null() ? "0" : clip.dump())}));
  const auto lines = read_json_lines(work / "out/metrics.jsonl");
  const int64_t steps = info.get("steps")->integer();
  ASSERT_EQ(lines.size(), static_cast<size_t>(steps) + 1);
  for (int64_t s = 0; s < steps; ++s) {
    const Json& line = lines[static_cast<size_t>(s)];
    EXPECT_NEAR(line.get("loss")->number(), value(expected.at("losses")[s]),
                tolerance(info, "loss_abs"));
    const double norm = value(expected.at("grad_norms")[s]);
    EXPECT_NEAR(line.get("grad_norm")->number(), norm, norm * tolerance(info, "grad_norm_rel"));
    EXPECT_EQ(static_cast<double>(line.get("target_tokens")->integer()),
              value(expected.at("n_targets")[s]));
  }
  const TensorMap got = read_tensors(work / "out/final" /
                                     (is_full ? "model.safetensors" : "adapter_model.safetensors"));
  const TensorMap wanted = read_tensors(folder / "final.safetensors");
  ASSERT_EQ(got.size(), wanted.size());
  for (const auto& [name, tensor] : wanted) {
    ASSERT_TRUE(got.contains(name)) << name;
    EXPECT_LE(relative_l2(got.at(name), tensor), tolerance(info, "final_rel_l2_per_tensor"));
    EXPECT_LE(max_abs(got.at(name), tensor), tolerance(info, "final_max_abs")) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Cases, TrainCommandParity,
    testing::ValuesIn(parity_cases("D_training",
                                   {"gemma3_full", "gemma3_full_accum4_wd_clip03", "llama_lora",
                                    "llama_lora_accum4_wd_clip03", "llama_lora_clip_sometimes"})),
    case_name);

class MergeCommandParity : public testing::TestWithParam<const char*> {};

TEST_P(MergeCommandParity, EveryTensor) {
  const fs::path folder = parity_folder() / "F_merge" / GetParam();
  FT_NEEDS(folder);
  const TestFolder work;
  run_ok({"merge", "--model", (folder / "model").string(), "--adapter",
          (folder / "adapter").string(), "--output", (work / "merged").string()});
  const TensorMap base = read_tensors(folder / "model/model.safetensors"),
                  wanted = read_tensors(folder / "merged.safetensors"),
                  got = read_tensors(work / "merged/model.safetensors");
  ASSERT_EQ(got.size(), base.size());
  for (const auto& [name, tensor] : base) {
    const auto merged = wanted.find(name);
    const Tensor& reference = merged == wanted.end() ? tensor : merged->second;
    ASSERT_TRUE(got.contains(name)) << name;
    ASSERT_EQ(got.at(name).scalar_type(), tensor.scalar_type()) << name;
    if (merged == wanted.end()) {
      EXPECT_EQ(max_abs(got.at(name), tensor), 0) << name;
    } else if (tensor.scalar_type() == at::kFloat) {
      EXPECT_LE(max_abs(got.at(name), reference), 2e-6) << name;
    } else {  // at most one unit in the last place, in at most 1 % of the elements
      const Tensor steps = got.at(name)
                               .view(at::kShort)
                               .to(at::kInt)
                               .sub(reference.view(at::kShort).to(at::kInt))
                               .abs();
      EXPECT_LE(value(steps.max()), 1) << name;
      EXPECT_LE(value(steps.ne(0).to(at::kFloat).mean()), 0.01) << name;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Llama, MergeCommandParity,
                         testing::Values("lora_fp32", "lora_bf16", "rslora_fp32", "rslora_bf16",
                                         "dora_fp32", "dora_bf16"));

}  // namespace
}  // namespace ft
