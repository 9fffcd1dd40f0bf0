// train.profile_steps on the tiny model: what the two files hold, and that the run is the same.
#include <iterator>
#include <map>
#include <sstream>

#include "cli/tiny_run.h"

namespace ft {
namespace {

struct Scope {
  std::string name, kind;
  double begin, end;
  int64_t thread;
};

std::vector<Scope> scopes_of(const fs::path& file) {
  std::vector<Scope> scopes;
  const Json trace = read_json(file);
  for (const Json& e : trace.get("traceEvents")->array())
    scopes.push_back({e.get("name")->string(), e.get("cat")->string(), e.get("ts")->number(),
                      e.get("ts")->number() + e.get("dur")->number(), e.get("tid")->integer()});
  return scopes;
}

class ProfileOfSteps : public testing::Test {
 protected:
  TestFolder work;
  TinyRun run{work};
  std::vector<Json> train(const std::string& output, const std::string& steps) {
    run.output(output).set("train.max_steps", "6").set("train.gradient_accumulation_steps", "2");
    run.set("save.background", "false");  // what saves has a thread of its own
    return run.set("train.profile_steps", steps).set("data.packing", "false").train();
  }
};

TEST_F(ProfileOfSteps, PhasesAreTheStepAndScopesNest) {
  // Steps of 80 rows: what is beside them, a line of metrics, is little.
  work.file("train.jsonl", conversations(480));
  run.set("train.batch_size", "40");
  const auto lines = lines_of(train("out", "3"), "train");
  ASSERT_EQ(lines.size(), 6u);
  const auto scopes = scopes_of(run.out() / "profile.json");
  double steps = 0;
  std::vector<double> lengths, four;  // of each step: its own, and that of its phases
  std::map<std::string, double> phases;
  std::map<std::string, int> calls;
  std::vector<Scope> open;
  for (const Scope& s : scopes) {
    EXPECT_EQ(s.thread, 0) << s.name;  // on the CPU the backward pass runs in the caller
    const double length = s.end - s.begin;
    (s.name == "step" ? steps : phases[s.kind == "phase" ? s.name : "none"]) += length;
    ++calls[s.name];
    if (s.name == "step") {
      lengths.push_back(length);
      four.push_back(0);
    } else if (s.kind == "phase" && !four.empty()) {
      four.back() += length;
    }
    while (!open.empty() && open.back().end <= s.begin) open.pop_back();
    if (open.empty()) {
      EXPECT_EQ(s.name, "step");
    } else {
      EXPECT_LE(s.end, open.back().end + 1e-3) << s.name << " in " << open.back().name;
    }
    open.push_back(s);
  }
  EXPECT_EQ(calls["step"], 3);
  EXPECT_EQ(calls["data"], 3);
  EXPECT_EQ(calls["forward"], 6);
  EXPECT_EQ(calls["backward"], 6);
  EXPECT_EQ(calls["optimizer"], 3);
  EXPECT_EQ(calls["adamw"] % 3, 0);
  for (const char* name : {"adamw", "attention", "attention backward", "residual_norm", "rope",
                           "gated_act backward", "multiply", "cross_entropy", "aten::mm"})
    EXPECT_GT(calls[name], 0) << name;
  // The trainer's own clock saw the same steps, and the four phases are nearly all of them; in the
  // step that other programs disturbed least.
  double other_clock = 1, outside = 1;
  for (size_t i = 0; i < lengths.size(); ++i) {
    const double measured = 1e6 * lines[i + 1].get("step_seconds")->number();
    other_clock = std::min(other_clock, std::abs(lengths[i] / measured - 1));
    outside = std::min(outside, std::abs(four[i] / lengths[i] - 1));
  }
  EXPECT_LE(other_clock, 0.1);
  EXPECT_LE(outside, 0.1);

  // The table's own times are those of the trace: their sum is the step.
  const std::string table = read_file(run.out() / "profile.txt");
  EXPECT_TRUE(table.starts_with("Steps 2 to 4 on "));
  const auto sum_of = [&](const std::string& head) {
    double sum = 0;
    size_t at = table.find('\n', table.find("\n" + head) + 1) + 1;
    for (size_t end; at < table.size() && table[at] != '\n'; at = end + 1) {
      end = table.find('\n', at);
      std::istringstream row(table.substr(at, end - at));
      const std::vector<std::string> words{std::istream_iterator<std::string>(row), {}};
      EXPECT_GE(words.size(), 5u) << row.str();  // name, calls, ms, share, %
      sum += std::stod(words.at(words.size() - 3));
    }
    return sum;
  };
  EXPECT_NEAR(sum_of("phase "), steps / 3e3, 0.01 * steps / 3e3);
  EXPECT_NEAR(sum_of("operator "), steps / 3e3, 0.05 * steps / 3e3);  // rounded line by line
}

TEST_F(ProfileOfSteps, ChangesNothingElse) {
  const auto with = train("with", "2"), without = train("without", "0");
  EXPECT_EQ(repeatable(with), repeatable(without));
  EXPECT_TRUE(fs::exists(run.out() / "config.yaml"));
  EXPECT_FALSE(fs::exists(run.out() / "profile.txt"));
  EXPECT_FALSE(fs::exists(run.out() / "profile.json"));
}

TEST_F(ProfileOfSteps, OfMoreThanThereAreIsOfThoseThatCame) {
  run.set("train.profile_steps", "9").set("train.max_steps", "3");
  const Outcome outcome = run_ok(run.args());
  EXPECT_NE(outcome.err.find("9 wanted, but only 2 steps after the first one were there"),
            std::string::npos)
      << outcome.err;
  EXPECT_TRUE(read_file(run.out() / "profile.txt").starts_with("Steps 2 to 3 on "));
}

}  // namespace
}  // namespace ft
