// Data, tokenizers, chat templates, prompts and GGUF files that cannot be used: status 3, file and
// line named.
#include "cli/bad_input.h"

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

Args with_tokenizer(Scene& s, const std::function<void(Json&)>& change) {
  return s.model([&](const fs::path& m) { edit_json(m / "tokenizer.json", change); });
}
Args with_tokenizer_text(Scene& s, const std::string& text) {
  return s.model([&](const fs::path& m) { write_file(m / "tokenizer.json", text); });
}
/// Changes the `model` part: vocabulary and merges.
Args with_vocabulary(Scene& s, const std::string& key, Json value) {
  return with_tokenizer(s, [&](Json& json) {
    Json model = *json.get("model");
    model.set(key, std::move(value));
    json.set("model", std::move(model));
  });
}

INSTANTIATE_TEST_SUITE_P(
    Tokenizer, BadData,
    testing::ValuesIn(std::vector<BadInput>{
        {"none_for_text",
         3,
         {"tokenizer", "tokens"},
         [](Scene& s) {
           return s.model([](const fs::path& m) { fs::remove(m / "tokenizer.json"); });
         }},
        {"empty", 3, {"tokenizer.json"}, [](Scene& s) { return with_tokenizer_text(s, ""); }},
        {"no_json", 3, {"tokenizer.json"}, [](Scene& s) { return with_tokenizer_text(s, "{]"); }},
        {"no_model",
         3,
         {"tokenizer.json", "model"},
         [](Scene& s) { return with_tokenizer_text(s, "{}"); }},
        {"unknown_model",
         3,
         {"tokenizer.json", "WordPiece"},
         [](Scene& s) { return with_vocabulary(s, "type", "WordPiece"); }},
        {"vocabulary_is_a_list",
         3,
         {"tokenizer.json", "vocab"},
         [](Scene& s) { return with_vocabulary(s, "vocab", Json::Array{1}); }},
        {"id_is_text",
         3,
         {"tokenizer.json"},
         [](Scene& s) {
           return with_vocabulary(s, "vocab", Json::Object{{"a", "0"}});
         }},
        {"id_is_negative",
         3,
         {"tokenizer.json"},
         [](Scene& s) {
           return with_vocabulary(s, "vocab", Json::Object{{"a", -3}});
         }},
        {"id_is_huge",
         3,
         {"tokenizer.json"},
         [](Scene& s) {
           return with_vocabulary(s, "vocab", Json::Object{{"a", int64_t{1} << 40}});
         }},
        {"id_given_twice",
         3,
         {"tokenizer.json"},
         [](Scene& s) {
           return with_vocabulary(s, "vocab", Json::Object{{"a", 0}, {"b", 0}});
         }},
        {"merge_of_unknown_tokens",
         3,
         {"tokenizer.json", "merges"},
         [](Scene& s) {
           return with_vocabulary(s, "merges", Json::Array{Json::Array{"zq", "qz"}});
         }},
        {"merge_of_three",
         3,
         {"tokenizer.json", "merges"},
         [](Scene& s) {
           return with_vocabulary(s, "merges", Json::Array{Json::Array{"a", "b", "c"}});
         }},
        {"unknown_pre_tokenizer",
         3,
         {"tokenizer.json", "Chop"},
         [](Scene& s) {
           return with_tokenizer(s, [](Json& json) {
             json.set("pre_tokenizer", Json::Object{{"type", "Chop"}});
           });
         }},
        {"broken_split_pattern",
         3,
         {"tokenizer.json"},
         [](Scene& s) {
           return with_tokenizer(s, [](Json& json) {
             json.set("pre_tokenizer",
                      Json::Object{{"type", "Split"},
                                   {"pattern", Json::Object{{"Regex", "(unclosed"}}},
                                   {"behavior", "Isolated"},
                                   {"invert", false}});
           });
         }},
        {"more_tokens_than_the_model",
         3,
         {"d.jsonl:1", "vocabulary"},
         [](Scene& s) {
           s.run.set("data.train", s.work.file("d.jsonl", R"({"text": "<|new|>"})"));
           Args args = with_tokenizer(s, [](Json& json) {
             Json::Array added = json.get("added_tokens")->array();
             added.push_back(Json::Object{{"id", 320},
                                          {"content", "<|new|>"},
                                          {"special", false},
                                          {"normalized", false},
                                          {"lstrip", false},
                                          {"rstrip", false},
                                          {"single_word", false}});
             json.set("added_tokens", std::move(added));
           });
           return args;
         }},
        {"tokenizer_model_of_garbage",
         3,
         {"tokenizer.model"},
         [](Scene& s) {
           return s.model([](const fs::path& m) {
             fs::remove(m / "tokenizer.json");
             write_file(m / "tokenizer.model", std::string("\x0a\xff\xff\xff\xff\x0f garbage", 15));
           });
         }},
        {"none_to_tokenize_with",
         3,
         {"tokenizer"},
         [](Scene& s) {
           return Args{"tokenize", "--model", s.work.path().string()};
         }},
    }),
    bad_input_name);

Args with_template(Scene& s, const std::string& text) {
  return s.set("data.chat_template", s.work.file("chat.jinja", text));
}

INSTANTIATE_TEST_SUITE_P(
    Template, BadData,
    testing::ValuesIn(std::vector<BadInput>{
        {"none",
         3,
         {"chat", "template"},
         [](Scene& s) {
           return s.model([](const fs::path& m) { fs::remove(m / "chat_template.jinja"); });
         }},
        {"syntax",
         3,
         {"chat.jinja:2"},
         [](Scene& s) { return with_template(s, "{{ messages }}\n{% for %}"); }},
        {"unclosed_block",
         3,
         {"chat.jinja"},
         [](Scene& s) { return with_template(s, "{% for m in messages %}{{ m }}"); }},
        {"unknown_filter",
         3,
         {"chat.jinja", "shout"},
         [](Scene& s) { return with_template(s, "{{ messages | shout }}"); }},
        {"unknown_function",
         3,
         {"chat.jinja", "open_file"},
         [](Scene& s) { return with_template(s, "{{ open_file('/etc/passwd') }}"); }},
        {"attribute_of_python",
         3,
         {"chat.jinja"},
         [](Scene& s) {
           return with_template(s, "{{ ''.__class__.__mro__[1].__subclasses__()[0] }}");
         }},
        {"refuses_the_conversation",
         3,
         {"train.jsonl:1", "no assistants please"},
         [](Scene& s) {
           return with_template(s, "{{ raise_exception('no assistants please') }}");
         }},
        {"endless_loop",
         3,
         {"chat.jinja"},
         [](Scene& s) {
           return with_template(s, "{% for i in range(1000000000) %}{% endfor %}{{ messages }}");
         }},
        {"endless_recursion",
         3,
         {"chat.jinja"},
         [](Scene& s) {
           return with_template(s, "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}");
         }},
        {"endless_text",
         3,
         {"chat.jinja"},
         [](Scene& s) { return with_template(s, "{{ 'a' * 10000000000 }}"); }},
        {"deep_expression",
         3,
         {"chat.jinja"},
         [](Scene& s) {
           return with_template(
               s, "{{ " + std::string(100000, '(') + "1" + std::string(100000, ')') + " }}");
         }},
        {"answers_cannot_be_told_apart",
         3,
         {"train.jsonl:1", "{% generation %}"},
         [](Scene& s) {
           return with_template(
               s, "{% for m in messages %}{{ loop.revindex }}{{ m.content }}{% endfor %}");
         }},
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
