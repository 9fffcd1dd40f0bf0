// Memory that does not move: the short version of scripts/check_memory.sh.
#include "cli/tiny_run.h"

namespace ft {
namespace {

TEST(TrainMemory, PeakStaysWhereItWasAfterTheFirstSteps) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the address sanitizer keeps memory that was given back";
#endif
  const TestFolder work;
  TinyRun run(work);
  std::string documents;  // of very different lengths: no two packed rows are alike
  for (int i = 0; i < 300; ++i) {
    std::string text;
    for (int words = i * i % 37; words >= 0; --words) text += str(" ", i * words % 991);
    documents += Json(Json::Object{{"prompt", str("number ", i)}, {"completion", text}}).dump();
    documents += "\n";
  }
  work.file("train.jsonl", documents);
  run.with_eval().set("eval.samples", "0").set("eval.every_steps", "25").set("dtype", "bfloat16");
  run.set("train.epochs", "1000").set("train.max_steps", "500").set("data.max_length", "256");
  run.set("method", "full").set("train.optimizer", "adamw8bit");
  const auto memory = numbers(lines_of(run.train(), "train"), "memory_bytes");
  ASSERT_EQ(memory.size(), 500u);
  EXPECT_LE(memory.back(), 1.01 * memory[49]);
}

}  // namespace
}  // namespace ft
