// What stands in a file's place, ends a text early, or bears a strange name; and results that must
// not fall on what they are made from.
#include <sys/stat.h>

#include "bad_input/bad_input.h"

namespace ft {
namespace {

using Args = std::vector<std::string>;

class BadSpecial : public testing::TestWithParam<BadInput> {};
TEST_P(BadSpecial, IsRefused) {
  check_bad_input(GetParam());
}

Args model_with_pipe(Scene& s, const char* name) {
  return s.model([&](const fs::path& m) {
    fs::remove(m / name);
    ASSERT_EQ(::mkfifo((m / name).c_str(), 0644), 0);
  });
}
Args model_with_text_behind(Scene& s, const char* name, const std::string& text) {
  return s.model([&](const fs::path& m) { append_file(m / name, text); });
}
Args eval_to(Scene& s, const Args& more) {
  Args args = {"eval", "--model", tiny_model().string(), "--data", s.path("eval.jsonl")};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

const std::string kNul(1, '\0');

INSTANTIATE_TEST_SUITE_P(
    Files, BadSpecial,
    testing::ValuesIn(std::vector<BadInput>{
        {"weights_are_a_pipe",
         3,
         {"model.safetensors", "not a regular file"},
         [](Scene& s) { return model_with_pipe(s, "model.safetensors"); }},
        {"config_is_a_pipe",
         3,
         {"config.json"},
         [](Scene& s) { return model_with_pipe(s, "config.json"); }},
        {"data_is_a_pipe",
         3,
         {"pipe.jsonl", "not a regular file"},
         [](Scene& s) {
           EXPECT_EQ(::mkfifo(s.path("pipe.jsonl").c_str(), 0644), 0);
           return s.set("data.train", s.path("pipe.jsonl"));
         }},
        {"json_data_are_a_pipe",
         3,
         {"pipe.json", "not a regular file"},
         [](Scene& s) {
           EXPECT_EQ(::mkfifo(s.path("pipe.json").c_str(), 0644), 0);
           return s.set("data.train", s.path("pipe.json"));
         }},
        {"model_is_a_loop_of_links",
         3,
         {"loop: "},
         [](Scene& s) {
           fs::create_symlink(s.path("loop"), s.path("loop"));
           return s.set("model", s.path("loop"));
         }},
        {"config_has_no_end",
         3,
         {"config.json", "larger than"},
         [](Scene& s) {
           return s.model(
               [](const fs::path& m) { fs::resize_file(m / "config.json", uint64_t{1} << 40); });
         }},
        {"tokenize_of_a_folder",
         3,
         {"not a regular file"},
         [](Scene& s) {
           return Args{"tokenize", "--model", tiny_model().string(), "--file",
                       s.work.path().string()};
         }},
        {"a_name_with_an_error_in_it",
         3,
         {"x\\x0aerror: y"},
         [](Scene& s) {
           return Args{"eval", "--model", "x\nerror: y", "--data", s.path("eval.jsonl")};
         }}}),
    bad_input_name);

INSTANTIATE_TEST_SUITE_P(
    Nul, BadSpecial,
    testing::ValuesIn(std::vector<BadInput>{
        {"behind_config",
         3,
         {"config.json", "NUL"},
         [](Scene& s) { return model_with_text_behind(s, "config.json", kNul + " {{{"); }},
        {"behind_tokenizer",
         3,
         {"tokenizer.json", "NUL"},
         [](Scene& s) { return model_with_text_behind(s, "tokenizer.json", kNul + "}}junk"); }},
        {"in_a_row",
         3,
         {"nul.jsonl:1", "NUL"},
         [](Scene& s) {
           return s.data("nul.jsonl", R"({"text": "a"})" + kNul + R"({"x": 1}garbage)" + "\n");
         }}}),
    bad_input_name);

INSTANTIATE_TEST_SUITE_P(
    Results, BadSpecial,
    testing::ValuesIn(std::vector<BadInput>{
        {"per_example_is_the_data",
         2,
         {"--per-example", "eval.jsonl"},
         [](Scene& s) {
           return eval_to(s, {"--per-example", s.path("eval.jsonl")});
         }},
        {"two_in_one_file",
         2,
         {"--per-example and --token-logprobs"},
         [](Scene& s) {
           return eval_to(s, {"--per-example", s.path("a"), "--token-logprobs", s.path("a")});
         }},
        {"no_folder_for_them",
         5,
         {"there is no folder"},
         [](Scene& s) {
           return eval_to(s, {"--per-example", s.path("none/a")});
         }},
        {"output_has_a_name_too_long",
         5,
         {"aaa"},
         [](Scene& s) { return s.set("output_dir", s.path(std::string(300, 'a'))); }},
        {"output_is_a_loop_of_links",
         5,
         {"loop"},
         [](Scene& s) {
           fs::create_symlink("loop", s.path("loop"));
           return s.set("output_dir", s.path("loop"));
         }},
        {"losses_in_a_name_too_long",
         5,
         {"aaa"},
         [](Scene& s) {
           return eval_to(s, {"--per-example", s.path(std::string(300, 'a'))});
         }},
        {"template_in_the_folder_to_be_emptied",
         2,
         {"data.chat_template"},
         [](Scene& s) {
           s.work.file("out/best/t.jinja", read_file(tiny_model() / "chat_template.jinja"));
           Args args = s.set("data.chat_template", s.path("out/best/t.jinja"));
           args.emplace_back("--overwrite");
           return args;
         }},
        {"temperature_is_no_number",
         2,
         {"--temperature"},
         [](Scene&) {
           return Args{"generate",      "--model", tiny_model().string(), "--prompt", "a",
                       "--temperature", "nan"};
         }},
        {"prompt_of_a_line_outside_the_vocabulary",
         3,
         {"prompts.jsonl:2: ", "99999"},
         [](Scene& s) {
           return Args{
               "generate", "--model", tiny_model().string(), "--prompts",
               s.work.file("prompts.jsonl", "{\"prompt\": \"a\"}\n{\"input_ids\": [1, 99999]}\n")};
         }},
        {"prompt_of_a_line_is_empty",
         3,
         {"prompts.jsonl:1: "},
         [](Scene& s) {
           return Args{"generate", "--model", tiny_model().string(), "--prompts",
                       s.work.file("prompts.jsonl", "{\"input_ids\": []}\n")};
         }}}),
    bad_input_name);

int shell(const std::string& command) {
  const int status = std::system(command.c_str());
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}
std::string quoted(const Args& args) {
  std::string text = "OMP_NUM_THREADS=1 '" FT_BINARY "'";
  for (const std::string& a : args) text += " '" + a + "'";
  return text;
}

TEST(StandardFiles, ClosedOnesAreNotTakenForTheRunsOwn) {
  const TestFolder work;
  TinyRun run(work);
  run.set("train.optimizer", "paged_adamw8bit").set("lora.r", "64").set("train.max_steps", "4");
  Args args = run.output("open").args({"--threads", "1"});
  EXPECT_EQ(shell(quoted(args) + " 2>/dev/null"), 0);
  args = run.output("closed").args({"--threads", "1"});
  EXPECT_EQ(shell(quoted(args) + " <&- >&- 2>&-"), 0);
  EXPECT_EQ(read_file(work / "open/final/adapter_model.safetensors"),
            read_file(work / "closed/final/adapter_model.safetensors"));
  EXPECT_LT(fs::file_size(work / "closed/.lock"), 10u);
}

TEST(StandardFiles, ResultsThatCannotBeWrittenAreAnError) {
  const TestFolder work;
  const Args plan = {"plan", "--json", "--model", tiny_model().string()};
  const std::string err = work.file("err", "");
  for (const char* out : {"/dev/full", "&-"}) {
    EXPECT_EQ(shell(quoted(plan) + " >" + out + " 2>'" + err + "'"), 5) << out;
    EXPECT_NE(read_file(err).find("error: stdout: cannot be written"), std::string::npos)
        << read_file(err);
  }
  EXPECT_EQ(shell(quoted({"--help"}) + " >/dev/full 2>'" + err + "'"), 5);
  // It stops at the first line, not at the end of what never ends.
  EXPECT_EQ(
      shell("yes '{\"text\": \"a\"}' 2>/dev/null | " +
            quoted({"tokenize", "--model", tiny_model().string()}) + " >/dev/full 2>'" + err + "'"),
      5);
  EXPECT_EQ(shell(quoted({"tokenize", "--model", tiny_model().string()}) + " <'" +
                  work.path().string() + "' 2>'" + err + "'"),
            3);
  EXPECT_NE(read_file(err).find("error: stdin: cannot be read: "), std::string::npos)
      << read_file(err);
}

TEST(StandardFiles, LossesMayGoToStdout) {
  const TestFolder work;
  const std::string data = work.file("data.jsonl", conversations(3)),
                    out = work.file("out.jsonl", "");
  for (const char* to : {" 2>/dev/null >", " 2>/dev/null | cat >"}) {
    EXPECT_EQ(shell(quoted({"eval", "--model", tiny_model().string(), "--data", data, "--json",
                            "--per-example", "/dev/stdout"}) +
                    to + "'" + out + "'"),
              0);
    const auto lines = read_json_lines(out);
    ASSERT_EQ(lines.size(), 4u) << to;
    EXPECT_TRUE(lines[0].get("index"));
    EXPECT_TRUE(lines[3].get("perplexity"));
  }
  // Another pipe of the shell's, under a name that leads to none.
  EXPECT_EQ(shell("{ " +
                  quoted({"eval", "--model", tiny_model().string(), "--data", data, "--per-example",
                          "/dev/fd/9"}) +
                  " 9>&1 >/dev/null 2>/dev/null; } | cat >'" + out + "'"),
            0);
  EXPECT_EQ(read_json_lines(out).size(), 3u);
}

TEST(EvalResults, AnOlderFileStaysWhereANewOneCannotBeWritten) {
  const TestFolder work;
  const std::string data = work.file("data.jsonl", conversations(200)),
                    old = work.file("old.jsonl", "old\n");
  const Args args = {"eval", "--model", tiny_model().string(), "--data",
                     data,   "--json",  "--per-example",       old};
  const Outcome outcome = Program(args, "", 4096).wait();
  EXPECT_EQ(outcome.status, 5) << outcome.err;
  EXPECT_EQ(read_file(old), "old\n");
  EXPECT_EQ(files_below(work.path()), (Args{"data.jsonl", "old.jsonl"}));
  run_ok(args);
  EXPECT_EQ(read_json_lines(old).size(), 200u);
  Args to_nothing = args;
  to_nothing.back() = "/dev/null";
  run_ok(to_nothing);
  fs::create_symlink("new.jsonl", work / "link.jsonl");
  Args to_link = args;
  to_link.back() = (work / "link.jsonl").string();
  run_ok(to_link);
  EXPECT_EQ(read_json_lines(work / "new.jsonl").size(), 200u);
}

TEST(MergeOutput, GoesWhereALinkPoints) {
  const TestFolder work;
  fs::create_directories(work / "disk/real");
  fs::create_symlink(work / "disk/real", work / "link");
  TinyRun run(work);
  run.set("train.max_steps", "1").train();
  run_ok({"merge", "--model", tiny_model().string(), "--adapter", (run.out() / "final").string(),
          "--output", (work / "link").string()});
  EXPECT_TRUE(fs::is_symlink(work / "link"));
  EXPECT_TRUE(fs::exists(work / "disk/real/model.safetensors"));
  fs::remove_all(work / "disk/real");
  run_ok({"merge", "--model", tiny_model().string(), "--adapter", (run.out() / "final").string(),
          "--output", (work / "link").string()});
  EXPECT_TRUE(fs::exists(work / "disk/real/model.safetensors"));
}

}  // namespace
}  // namespace ft
