// What a resumed run accepts, refuses and cleans up; what happens to files while a run uses them.
#include "cli/edit_model.h"
#include "cli/tiny_run.h"

namespace ft {
namespace {

std::vector<std::string> names_in(const fs::path& folder) {
  std::vector<std::string> names;
  for (const fs::path& path : list_folder(folder)) names.push_back(path.filename().string());
  return names;
}

TEST(Resume, ListsEverySettingThatMakesAnotherRun) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").train();
  run.set("lora.r", "4").set("train.learning_rate", "2e-3").set("log.every_steps", "2");
  const Outcome refused = run_finetune(run.args({"--resume"}));
  EXPECT_EQ(refused.status, 2);
  EXPECT_NE(refused.err.find("step-2: lora.r, train.learning_rate: "), std::string::npos)
      << refused.err;
}

TEST(Resume, AnEditedOrLostConfigurationHidesNothing) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").train();
  const fs::path file = run.out() / "config.yaml";
  std::string text = read_file(file);
  const std::string before = "learning_rate: 0.001";
  ASSERT_NE(text.find(before), std::string::npos) << text;
  text.replace(text.find(before), before.size(), "learning_rate: 0.5");
  write_file(file, text);
  const Outcome edited = run_finetune({"train", "--config", file.string(), "--resume"});
  EXPECT_EQ(edited.status, 2);
  EXPECT_NE(edited.err.find("step-2: train.learning_rate: "), std::string::npos) << edited.err;
  fs::remove(file);
  const Outcome lost = run_finetune(run.set("seed", "7").args({"--resume"}));
  EXPECT_EQ(lost.status, 2);
  EXPECT_NE(lost.err.find("step-2: seed: "), std::string::npos) << lost.err;
}

TEST(Resume, AFinishedRunIsLengthenedInItsOwnConfiguration) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").train();
  const fs::path file = run.out() / "config.yaml";
  std::string text = read_file(file);
  text.replace(text.find("max_steps: 2"), 12, "max_steps: 3");
  write_file(file, text);
  run_ok({"train", "--config", file.string(), "--resume"});
  EXPECT_EQ(lines_of(read_json_lines(run.out() / "metrics.jsonl"), "train").size(), 3u);
}

TEST(Resume, ALengthIsTakenUpOnce) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "3").train();
  run.set("train.max_steps", "2").train({"--resume"});  // has gone further
  const Outcome again = run_ok(run.args({"--resume"}));
  EXPECT_NE(again.err.find("nothing left to do"), std::string::npos) << again.err;
}

TEST(Resume, MorePatienceGoesOn) {
  const TestFolder work;
  TinyRun run(work);
  // Nothing is learned, so the first evaluation of a trained model stays the best.
  run.with_eval().set("eval.samples", "0").set("eval.every_steps", "1");
  run.set("train.max_steps", "6").set("train.learning_rate", "1e-30");
  const auto steps = [&] {
    return lines_of(read_json_lines(run.out() / "metrics.jsonl"), "train").size();
  };
  run.set("eval.early_stopping_patience", "1").train();
  EXPECT_EQ(steps(), 2u);
  run.set("eval.early_stopping_patience", "3").train({"--resume"});
  EXPECT_EQ(steps(), 4u);
}

TEST(Resume, WithoutAWholeCheckpointNothingIsReplaced) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").set("save.every_steps", "2").train();
  const std::string metrics = read_file(run.out() / "metrics.jsonl");
  run.set("train.max_steps", "3");
  const auto refused = [&] {
    const Outcome outcome = run_finetune(run.args({"--resume"}));
    EXPECT_EQ(outcome.status, 3) << outcome.err;
    EXPECT_NE(outcome.err.find("checkpoints: no whole checkpoint"), std::string::npos)
        << outcome.err;
    EXPECT_EQ(read_file(run.out() / "metrics.jsonl"), metrics);
  };
  write_file(run.out() / "checkpoints/step-2/trained.safetensors", "damaged");
  refused();
  fs::remove_all(run.out() / "checkpoints");
  refused();
  fs::remove_all(run.out() / "final");  // killed before there was any
  run.train({"--resume"});
  run.train({"--overwrite"});
}

TEST(Resume, ADamagedLastLineIsWrittenAgain) {
  const TestFolder work;
  TinyRun run(work);
  const auto whole = run.set("train.max_steps", "2").train();
  append_file(run.out() / "metrics.jsonl", "damaged\n");
  EXPECT_EQ(repeatable(run.train({"--resume"})), repeatable(whole));
}

TEST(Resume, AReportThatCannotBeMadeIsAWarning) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").train();
  work.file("out/samples.jsonl", "damaged\n");
  const Outcome outcome = run_ok(run.args({"--resume"}));
  EXPECT_NE(outcome.err.find("report.html: not written: samples.jsonl:1"), std::string::npos)
      << outcome.err;
}

TEST(Resume, RefusesOtherWeightsUnderTheSameHeader) {
  const TestFolder work;
  TinyRun run(work);
  const fs::path model = copy_model(work);
  run.set("model", model.string()).set("train.max_steps", "2").train();
  edit_tensors(model / "model.safetensors",
               [](TensorMap& t) { t.at("model.embed_tokens.weight").mul_(0.5); });
  const Outcome outcome = run_finetune(run.set("train.max_steps", "4").args({"--resume"}));
  EXPECT_EQ(outcome.status, 3);
  EXPECT_NE(outcome.err.find("model: not what the run in "), std::string::npos) << outcome.err;
}

TEST(Resume, ASignalDuringTheSamplesEndsTheRunAndTheyAreMadeAgain) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "6").set("eval.sample_max_new_tokens", "400");
  run.set("train.max_steps", "2").set("eval.evaluations", "0");
  const auto whole = run.output("whole").train();
  run.output("stopped");
  Program program(run.args());
  wait_until([&] { return fs::exists(run.out() / "final"); });
  program.kill(SIGTERM);
  const Outcome stopped = program.wait();
  EXPECT_EQ(stopped.status, 143) << stopped.err;
  EXPECT_FALSE(fs::exists(run.out() / "samples.jsonl"));
  EXPECT_EQ(repeatable(run.train({"--resume"})), repeatable(whole));
  EXPECT_EQ(read_file(run.out() / "samples.jsonl"), read_file(work / "whole/samples.jsonl"));
}

TEST(Resume, ASaveRequestBeforeTheFirstStepIsMet) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").set("save.every_steps", "100");
  Program program(run.args());
  // Bit 9 of the caught signals: SIGUSR1.
  const std::string status = str("/proc/", program.id(), "/status");
  wait_until([&] {
    const std::string text = read_file(status);
    const size_t at = text.find("SigCgt:");
    return at != std::string::npos && std::stoull(text.substr(at + 8, 16), nullptr, 16) >> 9 & 1;
  });
  program.kill(SIGUSR1);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.status, 0) << outcome.err;
  EXPECT_TRUE(fs::exists(run.out() / "checkpoints/step-1"));
}

TEST(Resume, GoesOnWithMoreEpochsAsIfTheyHadBeenAskedForAtFirst) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("train.epochs", "3");
  const auto whole = lines_of(run.output("whole").train(), "train");
  run.output("longer").set("train.epochs", "1").train();
  const Outcome longer = run_ok(run.set("train.epochs", "3").args({"--resume"}));
  EXPECT_NE(longer.err.find("train.epochs"), std::string::npos) << longer.err;
  EXPECT_EQ(repeatable(lines_of(read_json_lines(run.out() / "metrics.jsonl"), "train")),
            repeatable(whole));
  EXPECT_EQ(read_file(run.out() / "final/adapter_model.safetensors"),
            read_file(work / "whole/final/adapter_model.safetensors"));
}

TEST(Resume, GoesOnWithOtherRecomputationToTheSameBits) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("train.max_steps", "4");
  run.set("train.gradient_checkpointing", "true");
  const auto whole = lines_of(run.output("whole").train(), "train");
  run.output("half").set("train.max_steps", "2").train();
  run.set("train.max_steps", "4").set("train.gradient_checkpointing", "false");
  const Outcome resumed = run_ok(run.args({"--resume"}));
  EXPECT_NE(resumed.err.find("train.gradient_checkpointing"), std::string::npos) << resumed.err;
  EXPECT_EQ(repeatable(lines_of(read_json_lines(run.out() / "metrics.jsonl"), "train")),
            repeatable(whole));
}

struct Change {
  const char* name;
  std::string key;
  std::function<void(const TestFolder&)> make;
};
void PrintTo(const Change& c, std::ostream* out) {
  *out << c.name;
}
class ResumeOfChanged : public testing::TestWithParam<Change> {};

TEST_P(ResumeOfChanged, InputIsRefusedByName) {
  const TestFolder work;
  TinyRun run(work);
  run.set("model", copy_model(work).string()).with_eval().set("eval.samples", "0");
  run.set("train.max_steps", "2").train();
  fs::remove_all(run.out() / "final");
  GetParam().make(work);
  const Outcome refused = run_finetune(run.args({"--resume"}));
  EXPECT_EQ(refused.status, 3) << refused.err;
  EXPECT_NE(refused.err.find("error: " + GetParam().key + ": not what the run in "),
            std::string::npos)
      << refused.err;
}

INSTANTIATE_TEST_SUITE_P(
    Files, ResumeOfChanged,
    testing::Values(Change{"training_data", "data.train",
                           [](const TestFolder& w) { w.file("train.jsonl", conversations(25)); }},
                    Change{
                        "evaluation_data", "data.eval",
                        [](const TestFolder& w) { w.file("eval.jsonl", conversations(5, 100)); }},
                    Change{"tokenizer", "tokenizer",
                           [](const TestFolder& w) {
                             edit_json(w / "model/tokenizer_config.json",
                                       [](Json& c) { c.set("model_max_length", 512); });
                           }},
                    Change{"model_config", "model",
                           [](const TestFolder& w) {
                             edit_json(w / "model/config.json",
                                       [](Json& c) { c.set("rope_theta", 5000.0); });
                           }},
                    Change{"weights_file", "model",
                           [](const TestFolder& w) {
                             edit_tensors(w / "model/model.safetensors", [](TensorMap& weights) {
                               weights.at("model.norm.weight") =
                                   weights.at("model.norm.weight").to(at::kBFloat16);
                             });
                           }}),
    [](const auto& change) { return std::string(change.param.name); });

/// The state as another run would have left it.
void edit_state(const fs::path& checkpoint, const std::function<void(Json&)>& edit) {
  edit_json(checkpoint / "state.json", edit);
  edit_json(checkpoint / "manifest.json", [&](Json& m) {
    m.set("state.json",
          Json::Object{{"bytes", static_cast<int64_t>(fs::file_size(checkpoint / "state.json"))},
                       {"checksum", checksum(checkpoint / "state.json")}});
  });
}

TEST(Resume, AnOwedEvaluationIsMadeOnce) {
  const TestFolder work;
  TinyRun run(work);
  run.with_eval().set("eval.samples", "0").set("eval.every_steps", "2").set("train.max_steps", "2");
  const auto whole = run.train();
  const fs::path checkpoint = run.out() / "checkpoints/step-2";
  edit_state(checkpoint, [](Json& s) { s.set("owes_evaluation", true); });
  fs::remove_all(run.out() / "final");  // killed behind it
  EXPECT_EQ(repeatable(run.train({"--resume"})), repeatable(whole));
  EXPECT_FALSE(read_json(checkpoint / "state.json").get("owes_evaluation")->boolean());
}

TEST(Resume, WarnsOfAnotherNumberOfThreads) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").set("save.every_steps", "1").train();
  edit_state(run.out() / "checkpoints/step-2", [](Json& s) { s.set("threads", 7); });
  const Outcome resumed = run_ok(run.set("train.max_steps", "3").args({"--resume"}));
  EXPECT_NE(resumed.err.find("threads: the checkpoint was made with 7, this run has 1"),
            std::string::npos)
      << resumed.err;
}

TEST(Resume, RemovesWhatAKilledRunLeftHalfWritten) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.max_steps", "2").train();
  fs::rename(run.out() / "final", run.out() / ".final.old");  // killed between two renames
  for (const char* name : {".best.staging/a", "checkpoints/.step-9.staging/state.json",
                           ".metrics.jsonl.new", ".optimizer-Ab3dEf"})
    work.file("out/" + std::string(name), "half");
  run.set("train.max_steps", "3").train({"--resume"});
  EXPECT_EQ(names_in(run.out() / "checkpoints"), (std::vector<std::string>{"step-2", "step-3"}));
  EXPECT_EQ(names_in(run.out()),
            (std::vector<std::string>{".lock", "checkpoints", "config.yaml", "final",
                                      "metrics.jsonl", "report.html", "tensorboard"}));
}

TEST(Checkpoints, ADamagedOneCountsForNone) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("save.every_steps", "2").set("train.max_steps", "8").train();
  const fs::path checkpoints = run.out() / "checkpoints";
  ASSERT_EQ(names_in(checkpoints), (std::vector<std::string>{"step-6", "step-8"}));
  std::string bytes = read_file(checkpoints / "step-8/trained.safetensors");
  bytes.back() ^= 1;
  write_file(checkpoints / "step-8/trained.safetensors", bytes);
  // Goes on from 6 and ends at 7: 6 must stay although 8 and 7 are two.
  run.set("train.max_steps", "7").train({"--resume"});
  const auto names = names_in(checkpoints);
  EXPECT_NE(std::find(names.begin(), names.end(), "step-6"), names.end());
  EXPECT_NE(std::find(names.begin(), names.end(), "step-7"), names.end());
}

TEST(Checkpoints, AFaultBesideTrainingStopsTheRunAtAStep) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("save.every_steps", "2").set("train.epochs", "2000");
  Program program(run.args());
  wait_for_lines(run.out() / "metrics.jsonl", 5);
  // A file where the next checkpoints want their folder.
  std::error_code ignored;
  for (int i = 0; i < 200 && fs::is_directory(run.out() / "checkpoints"); ++i)
    fs::rename(run.out() / "checkpoints", run.out() / str("moved", i), ignored);
  work.file("out/checkpoints", "");
  const Outcome outcome = program.wait(60);
  EXPECT_EQ(outcome.status, 5) << outcome.err;
  EXPECT_NE(outcome.err.find("is not saved (it needs "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find("out/checkpoints"), std::string::npos) << outcome.err;
}

TEST(Lock, NamesTheHolderAndGoesWithIt) {
  const TestFolder work;
  TinyRun run(work);
  run.set("data.packing", "false").set("train.epochs", "2000");
  Program holder(run.args());
  wait_for_lines(run.out() / "metrics.jsonl", 1);
  const std::string pid = read_file(run.out() / ".lock");
  const Outcome second = run_finetune(run.args({"--overwrite"}));
  EXPECT_EQ(second.status, 5);
  EXPECT_NE(second.err.find("process " + pid), std::string::npos) << second.err;
  holder.kill(SIGKILL);
  EXPECT_EQ(holder.wait().status, 1009);
  EXPECT_EQ(run_finetune(run.set("train.epochs", "1").args({"--overwrite"})).status, 0);
}

constexpr size_t kFewAddresses = size_t{6} << 30;

/// From now on the program gets no memory to speak of beyond what it has.
void take_memory_from(const Program& program) {
  constexpr rlim_t kMore = 48 << 20;
  std::istringstream sizes(read_file(str("/proc/", program.id(), "/statm")));
  rlim_t pages = 0;
  sizes >> pages;
  const rlimit limit{pages * 4096 + kMore, pages * 4096 + kMore};
  EXPECT_EQ(::prlimit(program.id(), RLIMIT_AS, &limit, nullptr), 0);
}

/// Conversations of 64,000 tokens in all, which a step or an evaluation takes at once.
std::string long_conversations() {
  std::string words, lines;
  for (int i = 0; i < 4000; ++i) words += " a";
  for (int i = 0; i < 16; ++i)
    lines +=
        R"({"messages": [{"role": "user", "content": "b"}, {"role": "assistant", "content": ")" +
        words + "\"}]}\n";
  return lines;
}

TEST(OutOfMemory, InAStepNamesWhatToLowerAndTheLastCheckpoint) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the address sanitizer wants addresses without end";
#endif
  const TestFolder work;
  TinyRun run(work);
  work.file("train.jsonl", conversations(1600) + long_conversations());
  run.set("data.packing", "false").set("data.shuffle", "false").set("data.max_length", "65536");
  run.set("train.batch_size", "16").set("save.every_steps", "50");
  Program program(run.args(), "", 0, kFewAddresses);
  wait_for_lines(run.out() / "metrics.jsonl", 5);
  take_memory_from(program);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.status, 4) << outcome.err;
  for (const char* part :
       {"error: step 101: out of memory (planned ", "GiB)", "train.batch_size (16)",
        "data.max_length (65536)", "go on from step 100 with --resume"})
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in " << outcome.err;
  EXPECT_EQ(lines_of(run.train({"--resume"}), "train").size(), 101u);
}

TEST(OutOfMemory, InAnEvaluationKeepsTheStepsBeforeIt) {
#ifdef __SANITIZE_ADDRESS__
  GTEST_SKIP() << "the address sanitizer wants addresses without end";
#endif
  const TestFolder work;
  TinyRun run(work);
  work.file("train.jsonl", conversations(400));
  work.file("eval.jsonl", long_conversations());
  run.with_eval().set("eval.samples", "0").set("data.packing", "false");
  run.set("data.max_length", "65536").set("save.every_steps", "1000");
  run.set("eval.every_steps", "300").set("train.max_steps", "301");
  const auto whole = run.output("whole").train();
  run.output("stopped");
  EXPECT_EQ(interrupt(run.args(), run.out() / "metrics.jsonl", 5, SIGTERM).status, 143);
  Program program(run.args({"--resume"}), "", 0, kFewAddresses);  // which has not evaluated before
  wait_for_lines(run.out() / "metrics.jsonl", 50);
  take_memory_from(program);
  const Outcome outcome = program.wait();
  EXPECT_EQ(outcome.status, 4) << outcome.err;
  for (const char* part : {"error: evaluation after step 300: out of memory (planned ",
                           "go on from step 300 with --resume"})
    EXPECT_NE(outcome.err.find(part), std::string::npos) << part << " in " << outcome.err;
  EXPECT_EQ(repeatable(run.train({"--resume"})), repeatable(whole));
}

TEST(MappedFiles, OneThatShrinksInUseIsNamed) {
  const TestFolder work;
  TinyRun run(work);
  const fs::path model = copy_model(work);
  run.set("model", model.string()).set("data.packing", "false").set("train.epochs", "2000");
  Program program(run.args());
  wait_for_lines(run.out() / "metrics.jsonl", 3);
  fs::resize_file(model / "model.safetensors", 4096);
  const Outcome outcome = program.wait(60);
  EXPECT_EQ(outcome.status, 3) << outcome.err;
  EXPECT_NE(outcome.err.find("error: " + (model / "model.safetensors").string()), std::string::npos)
      << outcome.err;
}

}  // namespace
}  // namespace ft
