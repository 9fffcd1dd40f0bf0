// Tokenizer files and chat templates that cannot be used: status 3, file and line named.
#include "bad_input/bad_input.h"

namespace ft {
namespace {

using Args = std::vector<std::string>;

class BadText : public testing::TestWithParam<BadInput> {};
TEST_P(BadText, IsRefused) {
  check_bad_input(GetParam());
}

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
    Tokenizer, BadText,
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
    Template, BadText,
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

}  // namespace
}  // namespace ft
