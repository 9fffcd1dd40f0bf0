// Data, prompts and GGUF files that cannot be used: status 3, file and line named.
#include "bad_input/bad_input.h"

namespace ft {
namespace {

using Args = std::vector<std::string>;

class BadData : public testing::TestWithParam<BadInput> {};
TEST_P(BadData, IsRefused) {
  check_bad_input(GetParam());
}

/// A good conversation before the wrong line: messages must name line 2.
Args second_line(Scene& s, const std::string& line) {
  return s.data("d.jsonl", conversations(1) + line + "\n");
}
Args second_tokens(Scene& s, const std::string& line) {
  return s.data("d.jsonl", "{\"input_ids\": [5, 6, 7]}\n" + line + "\n");
}
Args messages(Scene& s, const std::string& list) {
  return second_line(s, "{\"messages\": " + list + "}");
}

INSTANTIATE_TEST_SUITE_P(
    Rows, BadData,
    testing::ValuesIn(std::vector<BadInput>{
        {"file_is_absent",
         3,
         {"absent.jsonl"},
         [](Scene& s) { return s.set("data.train", s.path("absent.jsonl")); }},
        {"file_is_a_folder",
         3,
         {"finetune-"},
         [](Scene& s) { return s.set("data.train", s.work.path().string()); }},
        {"unknown_kind",
         3,
         {"d.docx", ".jsonl"},
         [](Scene& s) { return s.data("d.docx", "text"); }},
        {"empty_file", 3, {"d.jsonl"}, [](Scene& s) { return s.data("d.jsonl", ""); }},
        {"only_blank_lines", 3, {"d.jsonl"}, [](Scene& s) { return s.data("d.jsonl", "\n\n"); }},
        {"no_json", 3, {"d.jsonl:2"}, [](Scene& s) { return second_line(s, "What?"); }},
        {"cut_json",
         3,
         {"d.jsonl:2"},
         [](Scene& s) { return second_line(s, "{\"messages\": [{"); }},
        {"a_list", 3, {"d.jsonl:2"}, [](Scene& s) { return second_line(s, "[1, 2]"); }},
        {"a_number", 3, {"d.jsonl:2"}, [](Scene& s) { return second_line(s, "7"); }},
        {"deep_json",
         3,
         {"d.jsonl:2"},
         [](Scene& s) { return second_line(s, std::string(200000, '[')); }},
        {"not_utf8",
         3,
         {"d.jsonl:2"},
         [](Scene& s) { return messages(s, "[{\"role\": \"user\", \"content\": \"\xff\xfe\"}]"); }},
        {"key_given_twice",
         3,
         {"d.jsonl:2", "messages"},
         [](Scene& s) { return second_line(s, R"({"messages": [], "messages": []})"); }},
        {"another_format_below",
         3,
         {"d.jsonl:2", "messages"},
         [](Scene& s) { return second_line(s, R"({"text": "a"})"); }},
        {"unknown_format",
         3,
         {"d.jsonl:1", "question", "data.columns"},
         [](Scene& s) { return s.data("d.jsonl", R"({"question": "a", "answer": "b"})"); }},
        {"preference_data",
         3,
         {"d.jsonl:1", "chosen"},
         [](Scene& s) {
           return s.data("d.jsonl", R"({"prompt": "a", "chosen": "b", "rejected": "c"})");
         }},
        {"wrong_format_given",
         3,
         {"d.jsonl:1", "instruction"},
         [](Scene& s) {
           return s.run.set("data.format", "alpaca"), s.data("d.jsonl", conversations(2));
         }},
        {"column_is_absent",
         2,
         {"prompt_text"},
         [](Scene& s) {
           s.run.set("data.columns", "{prompt: prompt_text}");
           return s.data("d.jsonl", R"({"prompt": "a", "completion": "b"})");
         }},
        {"messages_are_text",
         3,
         {"d.jsonl:2", "messages"},
         [](Scene& s) { return messages(s, "\"hello\""); }},
        {"no_messages", 3, {"d.jsonl:2", "messages"}, [](Scene& s) { return messages(s, "[]"); }},
        {"message_without_role",
         3,
         {"d.jsonl:2", "role"},
         [](Scene& s) { return messages(s, R"([{"content": "a"}])"); }},
        {"content_is_a_number",
         3,
         {"d.jsonl:2", "content"},
         [](Scene& s) { return messages(s, R"([{"role": "user", "content": 7}])"); }},
        {"no_answer_anywhere",
         3,
         {"d.jsonl", "no trainable token"},
         [](Scene& s) {
           return s.data("d.jsonl", R"({"messages": [{"role": "user", "content": "a"}]})");
         }},
        {"answers_cut_off",
         3,
         {"data.max_length"},
         [](Scene& s) {
           return s.run.set("data.max_length", "4"), s.data("d.jsonl", conversations(3));
         }},
        {"ids_are_text",
         3,
         {"d.jsonl:2", "input_ids"},
         [](Scene& s) { return second_tokens(s, R"({"input_ids": ["5"]})"); }},
        {"ids_are_fractions",
         3,
         {"d.jsonl:2", "input_ids[1]"},
         [](Scene& s) { return second_tokens(s, R"({"input_ids": [5, 6.5]})"); }},
        {"id_past_the_vocabulary",
         3,
         {"d.jsonl:2", "input_ids[2]", "320"},
         [](Scene& s) { return second_tokens(s, R"({"input_ids": [5, 6, 320]})"); }},
        {"negative_id",
         3,
         {"d.jsonl:2", "input_ids[0]"},
         [](Scene& s) { return second_tokens(s, R"({"input_ids": [-1, 6]})"); }},
        {"id_past_32_bits",
         3,
         {"d.jsonl:2", "input_ids[1]"},
         [](Scene& s) { return second_tokens(s, R"({"input_ids": [5, 4294967301]})"); }},
        {"fewer_labels",
         3,
         {"d.jsonl:2", "labels"},
         [](Scene& s) { return second_tokens(s, R"({"input_ids": [5, 6], "labels": [5]})"); }},
        {"wrong_label",
         3,
         {"d.jsonl:2", "labels[1]"},
         [](Scene& s) { return second_tokens(s, R"({"input_ids": [5, 6], "labels": [5, -1]})"); }},
        {"labels_shifted_already",
         3,
         {"d.jsonl:2", "labels", "shift"},
         [](Scene& s) {
           return second_tokens(s,
                                R"({"input_ids": [5, 6, 7, 8, 9], "labels": [6, 7, 8, 9, -100]})");
         }},
        {"padding",
         3,
         {"d.jsonl:2", "attention_mask"},
         [](Scene& s) {
           return second_tokens(s, R"({"input_ids": [5, 6], "attention_mask": [0, 1]})");
         }},
        {"no_targets",
         3,
         {"d.jsonl", "no trainable token"},
         [](Scene& s) {
           return s.data("d.jsonl", R"({"input_ids": [5, 6], "labels": [-100, -100]})");
         }},
        {"no_targets_to_evaluate",
         3,
         {"d.jsonl"},
         [](Scene& s) {
           return Args{"eval", "--model", tiny_model().string(), "--data",
                       s.work.file("d.jsonl", R"({"input_ids": [5]})")};
         }},
        {"bad_eval_file",
         3,
         {"e.jsonl:1"},
         [](Scene& s) { return s.set("data.eval", s.work.file("e.jsonl", "x")); }},
        {"split_leaves_nothing",
         3,
         {"data.eval_split"},
         [](Scene& s) {
           return s.run.set("data.eval_split", "0.5"), s.data("d.jsonl", conversations(1));
         }},
        {"ragged_csv",
         3,
         {"d.csv:3"},
         [](Scene& s) { return s.data("d.csv", "prompt,completion\na,b\nc,d,e\n"); }},
        {"open_quote_in_csv",
         3,
         {"d.csv"},
         [](Scene& s) { return s.data("d.csv", "prompt,completion\n\"a,b\nc,d\n"); }},
        {"parquet_of_garbage",
         3,
         {"d.parquet"},
         [](Scene& s) { return s.data("d.parquet", "PAR1 this is none PAR1"); }},
        {"parquet_is_cut",
         3,
         {"d.parquet"},
         [](Scene& s) {
           const std::string good = read_file(test_data() / "samples/rows.parquet");
           return s.data("d.parquet", good.substr(0, good.size() / 2));
         }},
        {"json_of_one_object",
         3,
         {"d.json"},
         [](Scene& s) { return s.data("d.json", "{\"prompt\": 1}"); }},
    }),
    bad_input_name);

Args prompts(Scene& s, const std::string& lines, const Args& more = {}) {
  Args args = {"generate", "--model", tiny_model().string(), "--prompts",
               s.work.file("p.jsonl", lines)};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}
Args convert(Scene& s, const std::string& bytes) {
  return {"convert", s.work.file("m.gguf", bytes), s.path("converted")};
}

INSTANTIATE_TEST_SUITE_P(
    Prompts, BadData,
    testing::ValuesIn(std::vector<BadInput>{
        {"file_is_absent",
         3,
         {"absent.jsonl"},
         [](Scene& s) {
           return Args{"generate", "--model", tiny_model().string(), "--prompts",
                       s.path("absent.jsonl")};
         }},
        {"no_json", 3, {"p.jsonl:1"}, [](Scene& s) { return prompts(s, "hello"); }},
        {"no_prompt",
         3,
         {"p.jsonl:1", "prompt"},
         [](Scene& s) { return prompts(s, R"({"question": "a"})"); }},
        {"prompt_is_a_number",
         3,
         {"p.jsonl:1", "prompt"},
         [](Scene& s) { return prompts(s, R"({"prompt": 7})"); }},
        {"id_past_the_vocabulary",
         3,
         {"320"},
         [](Scene& s) { return prompts(s, R"({"input_ids": [5, 320]})"); }},
        {"id_past_32_bits",
         3,
         {"p.jsonl:1", "input_ids"},
         [](Scene& s) { return prompts(s, R"({"input_ids": [4294967301]})"); }},
        {"no_messages",
         3,
         {"p.jsonl:1", "messages"},
         [](Scene& s) { return prompts(s, R"({"messages": []})"); }},
        {"tokenize_file_is_absent",
         3,
         {"absent.jsonl"},
         [](Scene& s) {
           return Args{"tokenize", "--model", tiny_model().string(), "--file",
                       s.path("absent.jsonl")};
         }},
        {"gguf_is_absent",
         3,
         {"absent.gguf"},
         [](Scene& s) {
           return Args{"convert", s.path("absent.gguf"), s.path("out")};
         }},
        {"gguf_is_empty", 3, {"m.gguf"}, [](Scene& s) { return convert(s, ""); }},
        {"gguf_is_none", 3, {"m.gguf"}, [](Scene& s) { return convert(s, "GGML and more text"); }},
        {"gguf_is_cut",
         3,
         {"m.gguf"},
         [](Scene& s) { return convert(s, std::string("GGUF\3\0\0\0\1\0\0\0\0\0\0\0", 16)); }},
        {"gguf_claims_too_much",
         3,
         {"m.gguf"},
         [](Scene& s) {
           return convert(s, std::string("GGUF\3\0\0\0", 8) + std::string(16, '\x7f'));
         }},
    }),
    bad_input_name);

TEST(TokenizeErrors, AreLinesAmongTheOthers) {
  const Outcome outcome = run_ok({"tokenize", "--model", tiny_model().string()},
                                 "{\"text\": \"a\"}\nnonsense\n{\"ids\": [999]}\n{\"text\": 7}\n"
                                 "{\"messages\": 1}\n{\"text\": \"b\"}\n");
  const auto lines = parse_lines(outcome.out);
  ASSERT_EQ(lines.size(), 6u);
  for (size_t i = 0; i < 6; ++i)
    EXPECT_EQ(lines[i].get("error") != nullptr, i > 0 && i < 5) << lines[i].dump();
}

}  // namespace
}  // namespace ft
