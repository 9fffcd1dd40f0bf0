// `finetune plan` through the command line; its figures are checked in train/memory_plan_test.
#include "cli/tiny_run.h"

namespace ft {
namespace {

class PlanCommand : public testing::Test {
 protected:
  Outcome plan(std::vector<std::string> args, std::vector<std::string> settings = {}) {
    args.insert(args.begin(), "plan");
    settings.push_back("model=" + tiny_model().string());
    return run_ok(with_settings(args, settings));
  }
  TestFolder work_;
};

TEST_F(PlanCommand, PartsOfTheChosenMethodStandInItsRow) {
  work_.file("train.jsonl", conversations(24));
  const std::vector<std::string> settings = {"lora.use_dora=true",
                                             "data.train=" + (work_ / "train.jsonl").string()};
  const Json json = plan({"--json", "--memory", "4GiB"}, settings).json();
  EXPECT_EQ(json.get("memory_bytes")->integer(), int64_t{4} << 30);
  EXPECT_TRUE(json.get("fits")->boolean());
  const Json& parts = *json.get("plan");
  int64_t held = 0;
  for (const char* part : {"weights", "adapter", "optimizer", "snapshot", "buffers"})
    held += parts.get(str(part, "_bytes"))->integer();
  EXPECT_GE(parts.get("peak_bytes")->integer(), held);
  std::vector<std::string> methods;
  for (const Json& row : json.get("methods")->array()) {
    methods.push_back(row.get("method")->string());
    EXPECT_GT(row.get("largest_batch_size")->integer(), 1);
    EXPECT_LE(row.get("peak_bytes_true")->integer(), row.get("peak_bytes_false")->integer());
    if (methods.back() == "dora") {
      for (const auto& [key, value] : parts.object())
        EXPECT_EQ(row.get(key)->integer(), value.integer()) << key;
    }
  }
  EXPECT_EQ(methods, (std::vector<std::string>{"dora", "full", "lora", "qlora"}));
  const std::string text = plan({"--memory", "4GiB"}, settings).out;
  for (const char* part : {"24 examples", " of 4.00: fits\n", "\ndora "})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
}

TEST_F(PlanCommand, WhatDoesNotFitIsSaidWithTheLargestThatDoes) {
  const auto memory = [&](const std::string& size) {
    return plan({"--json", "--memory", size}, {"method=lora"}).json();
  };
  const Json none = memory("20MB");
  EXPECT_FALSE(none.get("fits")->boolean());
  EXPECT_EQ(none.get("methods")->array()[0].get("largest_batch_size")->integer(), 0);
  // The largest batch that is named fits; one more does not.
  const int64_t largest =
      memory("400MB").get("methods")->array()[0].get("largest_batch_size")->integer();
  for (const int64_t more : {0, 1}) {
    const Json json = plan({"--json", "--memory", "400MB"},
                           {"method=lora", str("train.batch_size=", largest + more)})
                          .json();
    EXPECT_EQ(json.get("fits")->boolean(), more == 0) << largest;
  }
}

TEST_F(PlanCommand, TheLedgerAddsUp) {
  const Json json = plan({"--ledger", "--json", "--document", "64"}).json();
  EXPECT_EQ(json.get("document")->integer(), 64);
  double flops = 0, bytes = 0, seconds = 0;
  for (const Json& kernel : json.get("kernels")->array()) {
    flops += kernel.get("flops")->number();
    bytes += kernel.get("bytes")->number();
    seconds += kernel.get("seconds")->number();
  }
  EXPECT_DOUBLE_EQ(json.get("flops")->number(), flops);
  EXPECT_DOUBLE_EQ(json.get("bytes")->number(), bytes);
  EXPECT_NEAR(json.get("seconds")->number(), seconds, 1e-9 * seconds);
  // Half the ceilings, twice the time.
  const Json half = plan({"--ledger", "--json", "--document", "64", "--tflops", "1", "--bandwidth",
                          "1e9", "--attention-tflops", "1", "--attention-backward-tflops", "1"})
                        .json();
  const Json quarter =
      plan({"--ledger", "--json", "--document", "64", "--tflops", "0.5", "--bandwidth", "5e8",
            "--attention-tflops", "0.5", "--attention-backward-tflops", "0.5"})
          .json();
  EXPECT_NEAR(quarter.get("seconds")->number() / half.get("seconds")->number(), 2, 1e-9);
  const std::string text = plan({"--ledger"}).out;
  for (const char* part : {"launches   per layer ", "MFU", "backward"})
    EXPECT_NE(text.find(part), std::string::npos) << part << " in\n" << text;
}

}  // namespace
}  // namespace ft
