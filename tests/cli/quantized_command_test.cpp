// 4-bit bases through the command line: as transformers stores them and packed while loading, in
// eval, train and merge; and what is refused.
#include "cli/edit_model.h"
#include "cli/tiny_run.h"
#include "fixtures.h"
#include "kernels/quantized.h"

namespace ft {
namespace {

bool is_block_linear(const std::string& name) {
  return name.find("_proj.weight") != std::string::npos;
}

struct Packing {
  std::string type = "nf4";
  bool is_double = true;
  at::ScalarType storage = at::kByte;  ///< the dtype that the packed bytes are declared as
  std::string skipped = "none";        ///< part of the names that stay dense
};

/// A copy of the tiny model as transformers saves it when bitsandbytes has packed it.
fs::path packed_copy(const TestFolder& work, const std::string& name, const Packing& how = {}) {
  const fs::path folder = copy_model(work, name);
  edit_json(folder / "config.json", [&](Json& c) {
    c.set("quantization_config",
          Json::Object{{"quant_method", "bitsandbytes"}, {"load_in_4bit", true}});
  });
  edit_tensors(folder / "model.safetensors", [&](TensorMap& tensors) {
    const TensorMap before = tensors;
    for (const auto& [key, w] : before) {
      if (!is_block_linear(key) || key.find(how.skipped) != std::string::npos) continue;
      const QuantizedWeight q = quantize(w, how.type, 64, how.is_double);
      Json state = Json::Object{{"quant_type", how.type},
                                {"blocksize", int64_t{64}},
                                {"dtype", dtype_text(w.scalar_type())},
                                {"shape", Json::Array{w.size(0), w.size(1)}}};
      tensors[key] = q.codes.view(how.storage).unsqueeze(1);
      tensors[key + ".absmax"] = q.absmax;
      tensors[key + ".quant_map"] = q.code_map;
      if (how.is_double) {
        state.set("nested_blocksize", q.nested_block_size);
        state.set("nested_offset", q.nested_offset);
        tensors[key + ".nested_absmax"] = q.nested_absmax;
        tensors[key + ".nested_quant_map"] = q.nested_map;
      }
      const std::string text = state.dump();
      std::vector<int64_t> bytes(text.begin(), text.end());
      tensors[key + ".quant_state.bitsandbytes__" + how.type] =
          ops::from_vector(bytes).to(at::kByte);
    }
  });
  return folder;
}

double eval_loss(const TestFolder& work, const fs::path& model,
                 const std::vector<std::string>& settings, std::vector<std::string> more = {}) {
  std::vector<std::string> args = {"eval",
                                   "--model",
                                   model.string(),
                                   "--data",
                                   work.file("held_out.jsonl", conversations(6, 100)),
                                   "--json"};
  args.insert(args.end(), more.begin(), more.end());
  return run_ok(with_settings(args, settings)).json().get("loss")->number();
}

class QuantizedEval : public testing::TestWithParam<std::string> {};

TEST_P(QuantizedEval, TokenLogprobsOfStoredModels) {
  const fs::path folder = parity_case("E_nf4", GetParam());
  FT_NEEDS(folder);
  const TestFolder work;
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto ids = to_ids(expected.at("input_ids"));
  Json::Array list;
  for (const int32_t id : ids) list.emplace_back(static_cast<int64_t>(id));
  const std::string line = Json(Json::Object{{"input_ids", list}}).dump() + "\n";
  const std::string file = (work / "logprobs.jsonl").string();
  for (const char* logits : {"logits", "logits_with_adapter"}) {
    std::vector<std::string> args = {"eval",
                                     "--model",
                                     (folder / "model").string(),
                                     "--data",
                                     work.file("tokens.jsonl", line),
                                     "--token-logprobs",
                                     file};
    if (std::string(logits) != "logits")
      args.insert(args.end(), {"--adapter", (folder / "adapter").string()});
    run_ok(with_settings(args, {"dtype=float32", "data.packing=false"}));
    const auto got = read_json_lines(file).at(0).get("logprobs")->array();
    const Tensor wanted = expected.at(logits).to(at::kDouble).log_softmax(-1);
    ASSERT_EQ(got.size(), ids.size() - 1);
    for (size_t t = 0; t < got.size(); ++t)
      EXPECT_NEAR(got[t].number(), value(wanted[static_cast<int64_t>(t)][ids[t + 1]]),
                  2 * tolerance(info, "logits_max_abs"));
  }
}

INSTANTIATE_TEST_SUITE_P(Cases, QuantizedEval,
                         testing::Values("llama_bnb4_bf16_double", "llama_bnb4_fp32"), case_name);

// A stored 4-bit model gives the numbers of the 16-bit one packed while loading, to the last digit.
TEST(QuantizedCommand, StoredAsPackedWhileLoading) {
  const TestFolder work;
  const fs::path plain = copy_model(work);
  int i = 0;
  for (const Packing& how : {Packing{"nf4", true, at::kByte},
                             {"nf4", false, at::kBFloat16},
                             {"fp4", true, at::kFloat},
                             {"fp4", false, at::kByte}}) {
    const fs::path packed = packed_copy(work, str("packed", i++), how);
    EXPECT_EQ(eval_loss(work, packed, {"dtype=float32"}),
              eval_loss(work, plain,
                        {"dtype=float32", "method=qlora", "quantization.type=" + how.type,
                         str("quantization.double_quant=", how.is_double ? "true" : "false")}));
  }
}

TEST(QuantizedCommand, SkippedModulesStayAsTheyAre) {
  const TestFolder work;
  const double plain = eval_loss(work, copy_model(work), {"dtype=float32"}),
               packed = eval_loss(work, packed_copy(work, "packed"), {"dtype=float32"}),
               partly = eval_loss(work, packed_copy(work, "partly", {.skipped = "mlp"}),
                                  {"dtype=float32", "method=qlora"});
  EXPECT_NE(partly, packed);
  EXPECT_NE(partly, plain);
  EXPECT_EQ(eval_loss(work, packed_copy(work, "none", {.skipped = "_proj"}), {"dtype=float32"}),
            plain);
}

TEST(QuantizedCommand, TrainsEvaluatesRepeatsAndGoesOn) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("method", "qlora").set("train.epochs", "4");
  const auto metrics = run.train();
  const auto evals = lines_of(metrics, "eval");
  EXPECT_LT(evals.back().get("loss")->number(), evals.front().get("loss")->number() - 0.05);
  EXPECT_EQ(repeatable(run.output("again").train()), repeatable(metrics));
  const fs::path adapter = work / "out/final";
  const Json config = read_json(adapter / "adapter_config.json");
  EXPECT_EQ(config.get("base_model_name_or_path")->string(), tiny_model().string());
  EXPECT_EQ(config.get("peft_type")->string(), "LORA");
  EXPECT_NEAR(eval_loss(work, tiny_model(), {"dtype=float32", "method=qlora"},
                        {"--adapter", adapter.string()}),
              evals.back().get("loss")->number(), 1e-5);
  // The stored base trains to the same adapter, under either name of the method.
  const auto read_adapter = [&](const char* name) {
    return read_file(work / name / "final/adapter_model.safetensors");
  };
  const fs::path packed = packed_copy(work, "packed");
  for (const char* method : {"lora", "qlora"}) {
    run.output(method).set("model", packed.string()).set("method", method).train();
    EXPECT_EQ(read_adapter(method), read_adapter("out"));
  }
}

TEST(QuantizedCommand, MergeWritesADequantisedModelOnRequest) {
  const TestFolder work;
  const fs::path packed = packed_copy(work, "packed");
  TinyRun run(work);
  run.set("model", packed.string()).train();
  const std::string adapter = (work / "out/final").string(), merged = (work / "merged").string();
  const std::vector<std::string> args = {"merge", "--model",  packed.string(), "--adapter",
                                         adapter, "--output", merged};
  const Outcome refused = run_finetune(args);
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("--dequantize"), std::string::npos) << refused.err;
  EXPECT_FALSE(fs::exists(merged));
  std::vector<std::string> asked = args;
  asked.emplace_back("--dequantize");
  const Outcome done = run_ok(asked);
  EXPECT_NE(done.err.find("dequantised"), std::string::npos) << done.err;
  EXPECT_EQ(read_json(work / "merged/config.json").get("quantization_config"), nullptr);
  EXPECT_NEAR(eval_loss(work, merged, {"dtype=float32"}),
              eval_loss(work, packed, {"dtype=float32"}, {"--adapter", adapter}), 1e-3);
  asked[2] = tiny_model().string();  // not in 4 bits
  asked[6] = (work / "other").string();
  EXPECT_EQ(run_finetune(asked).status, 2);
}

struct BadPacked {
  const char* mention;
  std::function<void(const fs::path&)> change;
};

TEST(QuantizedCommand, WhatIsRefusedIsNamed) {
  const TestFolder work;
  const std::string q = "model.layers.0.self_attn.q_proj.weight";
  const auto tensors = [](const std::function<void(TensorMap&)>& change) {
    return [=](const fs::path& m) { edit_tensors(m / "model.safetensors", change); };
  };
  const BadPacked cases[] = {
      {".quant_map", tensors([=](TensorMap& t) { t.erase(q + ".quant_map"); })},
      {".absmax",
       tensors([=](TensorMap& t) { t[q + ".absmax"] = t[q + ".absmax"].narrow(0, 0, 3); })},
      {".nested_quant_map",
       tensors([=](TensorMap& t) { t[q + ".nested_quant_map"] = t[q + ".quant_map"]; })},
      {"packed bytes", tensors([=](TensorMap& t) { t[q] = t[q].narrow(0, 0, 100).clone(); })},
      {"q_proj", tensors([=](TensorMap& t) { t.erase(q); })},
      {"q_proj", tensors([=](TensorMap& t) { t.erase(q + ".quant_state.bitsandbytes__nf4"); })},
      {"8 bits",
       [](const fs::path& m) {
         edit_json(m / "config.json", [](Json& c) {
           c.set("quantization_config",
                 Json::Object{{"quant_method", "bitsandbytes"}, {"load_in_8bit", true}});
         });
       }},
  };
  const std::string data = work.file("held_out.jsonl", conversations(6, 100));
  int i = 0;
  for (const BadPacked& bad : cases) {
    SCOPED_TRACE(i);
    const fs::path folder = packed_copy(work, str("bad", i++));
    bad.change(folder);
    const Outcome outcome = run_finetune({"eval", "--model", folder.string(), "--data", data});
    EXPECT_EQ(outcome.status, 3);
    EXPECT_EQ(outcome.err.find("error: "), 0u) << outcome.err;
    EXPECT_NE(outcome.err.find(bad.mention), std::string::npos) << outcome.err;
  }
  TinyRun run(work);
  run.set("model", packed_copy(work, "packed").string());
  for (const std::vector<std::string>& settings :
       {std::vector<std::string>{"method=full"},
        {"lora.modules_to_save=[down_proj]", "lora.target_modules=[q_proj]"},
        {"method=qlora", "quantization.type=fp4"}}) {
    const Outcome outcome = run_finetune(with_settings(run.args(), settings));
    EXPECT_EQ(outcome.status, 2) << outcome.err;
    EXPECT_NE(outcome.err.find("4 bits"), std::string::npos) << outcome.err;
  }
}

}  // namespace
}  // namespace ft
