// The edges of the formats: what only looks right, what is hostile, and, as controls, what only
// looks wrong.
#include "bad_input/bad_input.h"

namespace ft {
namespace {

using Args = std::vector<std::string>;

class BadEdges : public testing::TestWithParam<BadInput> {};
TEST_P(BadEdges, IsRefused) {
  check_bad_input(GetParam());
}

INSTANTIATE_TEST_SUITE_P(
    Yaml, BadEdges,
    testing::ValuesIn(std::vector<BadInput>{
        {"octal", 2, {"run.yaml:5: seed"}, [](Scene& s) { return s.config_with("seed: 010"); }},
        {"underscores",
         2,
         {"run.yaml:5: seed"},
         [](Scene& s) { return s.config_with("seed: 1_000"); }},
        {"cut_in_a_quoted_text",
         2,
         {"run.yaml:5"},
         [](Scene& s) { return s.config_with("method: \"lora"); }},
        {"two_documents",
         2,
         {"run.yaml:5"},
         [](Scene& s) { return s.config_with("---\nseed: 1"); }},
        {"merge_key",
         2,
         {"run.yaml:6"},
         [](Scene& s) { return s.config_with("train:\n  <<: {epochs: 2}"); }},
        {"nested_deeply",
         2,
         {"run.yaml"},
         [](Scene& s) { return s.config_with("seed: " + std::string(100000, '[')); }},
        {"aliases_of_aliases",
         2,
         {"run.yaml:1", "anchors"},
         [](Scene& s) {
           std::string text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
           for (int i = 1; i < 10; ++i) {
             text += str("a", i, ": &a", i, " [");
             for (int k = 0; k < 10; ++k) text += str("*a", i - 1, ", ");
             text += "x]\n";
           }
           return s.config(text);
         }},
        {"tabs_for_indentation",
         2,
         {"run.yaml:6"},
         [](Scene& s) { return s.config_with("train:\n\tepochs: 2"); }},
        {"not_utf8", 2, {"run.yaml"}, [](Scene& s) { return s.config_with("seed: 1 # caf\xe9"); }},
        {"nul_byte",
         2,
         {"run.yaml"},
         [](Scene& s) { return s.config_with(std::string("seed: 1\0", 8)); }},
        {"larger_than_a_configuration",
         2,
         {"run.yaml", "1 MiB"},
         [](Scene& s) { return s.config(std::string(2 << 20, '#')); }},
        {"count_past_64_bits",
         2,
         {"train.epochs"},
         [](Scene& s) { return s.set("train.epochs", "99999999999999999999"); }},
    }),
    bad_input_name);

Args weights(Scene& s, const std::string& header, const std::string& data) {
  return s.model([&](const fs::path& m) {
    std::string bytes(8, '\0');
    const uint64_t size = header.size();
    std::memcpy(bytes.data(), &size, 8);
    write_file(m / "model.safetensors", bytes + header + data);
  });
}
Args index_with(Scene& s, const std::string& shard) {
  return s.model([&](const fs::path& m) {
    fs::rename(m / "model.safetensors", m / "a.safetensors");
    write_file(
        m / "model.safetensors.index.json",
        Json(Json::Object{{"weight_map", Json::Object{{"model.norm.weight", shard}}}}).dump());
  });
}

INSTANTIATE_TEST_SUITE_P(
    Weights, BadEdges,
    testing::ValuesIn(std::vector<BadInput>{
        {"hole",
         3,
         {"model.safetensors", "b"},
         [](Scene& s) {
           return weights(
               s,
               R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"b":{"dtype":"U8","shape":[1],"data_offsets":[2,3]}})",
               "xyz");
         }},
        {"name_given_twice",
         3,
         {"model.safetensors", "a"},
         [](Scene& s) {
           return weights(
               s,
               R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
               "x");
         }},
        {"size_wraps_around",
         3,
         {"model.safetensors", "a", "too large"},
         [](Scene& s) {
           return weights(
               s,
               R"({"a":{"dtype":"F32","shape":[4194305,4194305,211106198978564],"data_offsets":[0,16]}})",
               std::string(16, 'x'));
         }},
        {"offset_past_64_bits",
         3,
         {"model.safetensors", "a"},
         [](Scene& s) {
           return weights(
               s, R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,18446744073709551617]}})",
               "x");
         }},
        {"fraction_for_an_offset",
         3,
         {"model.safetensors", "a"},
         [](Scene& s) {
           return weights(s, R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1.0]}})", "x");
         }},
        {"header_is_deep",
         3,
         {"model.safetensors"},
         [](Scene& s) { return weights(s, "{\"a\":" + std::string(100000, '['), ""); }},
        {"no_offsets",
         3,
         {"model.safetensors", "a"},
         [](Scene& s) { return weights(s, R"({"a":{"dtype":"U8","shape":[1]}})", "x"); }},
        {"git_lfs_pointer",
         3,
         {"model.safetensors"},
         [](Scene& s) {
           return s.model([](const fs::path& m) {
             write_file(m / "model.safetensors",
                        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n");
           });
         }},
        {"control_bytes_in_a_name",
         3,
         {"model.safetensors", "\\x1b"},
         [](Scene& s) {
           return weights(s, R"({"\u001b[31m":{"dtype":"X","shape":[1],"data_offsets":[0,1]}})",
                          "x");
         }},
        {"shard_is_the_parent",
         3,
         {"index.json", "model.norm.weight"},
         [](Scene& s) { return index_with(s, ".."); }},
        {"shard_is_nothing",
         3,
         {"index.json", "model.norm.weight"},
         [](Scene& s) { return index_with(s, ""); }},
        {"shard_with_a_backslash",
         3,
         {"index.json", "model.norm.weight"},
         [](Scene& s) { return index_with(s, "..\\a.safetensors"); }},
        {"shard_with_a_nul",
         3,
         {"index.json", "model.norm.weight"},
         [](Scene& s) { return index_with(s, std::string("a.safetensors\0x", 15)); }},
        {"shard_in_a_folder_below",
         3,
         {"index.json", "model.norm.weight"},
         [](Scene& s) { return index_with(s, "x/a.safetensors"); }},
        {"shard_is_a_folder",
         3,
         {"model/dir"},
         [](Scene& s) {
           const Args args = index_with(s, "dir");
           fs::create_directories(s.work / "model/dir");
           return args;
         }},
    }),
    bad_input_name);

/// One column of a file with many types.
Args parquet_column(Scene& s, const std::string& ours, const std::string& theirs) {
  s.run.set("data.columns", str("{", ours, ": ", theirs, "}"));
  return s.set("data.train", (test_data() / "samples/types.parquet").string());
}

INSTANTIATE_TEST_SUITE_P(
    Rows, BadEdges,
    testing::ValuesIn(std::vector<BadInput>{
        {"lone_surrogate",
         3,
         {"d.jsonl:1"},
         [](Scene& s) {
           return s.data("d.jsonl", R"({"text": "\ud800"})"
                                    "\n");
         }},
        {"control_byte_in_a_text",
         3,
         {"d.jsonl:2"},
         [](Scene& s) { return s.data("d.jsonl", "{\"text\": \"a\"}\n{\"text\": \"a\x01\"}\n"); }},
        {"utf16",
         3,
         {"d.jsonl", "UTF-16"},
         [](Scene& s) { return s.data("d.jsonl", std::string("\xff\xfe{\0}\0\n\0", 8)); }},
        {"nan_for_a_number",
         3,
         {"d.jsonl:1"},
         [](Scene& s) { return s.data("d.jsonl", "{\"input_ids\": [5, NaN]}\n"); }},
        {"two_values_in_a_line",
         3,
         {"d.jsonl:1"},
         [](Scene& s) { return s.data("d.jsonl", "{\"text\": \"a\"} {\"text\": \"b\"}\n"); }},
        {"pretty_printed_json",
         3,
         {"d.jsonl:1"},
         [](Scene& s) { return s.data("d.jsonl", "{\n  \"text\": \"a\"\n}\n"); }},
        {"gzip",
         3,
         {"d.jsonl:1"},
         [](Scene& s) { return s.data("d.jsonl", "\x1f\x8b\x08 not text"); }},
        {"csv_with_one_name_twice",
         3,
         {"d.csv", "prompt"},
         [](Scene& s) { return s.data("d.csv", "prompt,prompt\na,b\n"); }},
        {"csv_without_rows",
         3,
         {"d.csv"},
         [](Scene& s) { return s.data("d.csv", "prompt,completion\n"); }},
        {"csv_that_is_not_utf8",
         3,
         {"d.csv"},
         [](Scene& s) { return s.data("d.csv", "prompt,completion\ncaf\xe9,b\n"); }},
        {"tsv_with_commas",
         3,
         {"d.tsv"},
         [](Scene& s) { return s.data("d.tsv", "prompt,completion\na,b\n"); }},
        {"parquet_is_empty", 3, {"d.parquet"}, [](Scene& s) { return s.data("d.parquet", ""); }},
        {"parquet_with_a_flipped_byte",
         3,
         {"d.parquet"},
         [](Scene& s) {
           std::string bytes = read_file(test_data() / "samples/rows.parquet");
           bytes[bytes.size() - 200] ^= 0x55;
           return s.data("d.parquet", bytes);
         }},
        {"parquet_with_numbers_for_text",
         3,
         {"types.parquet: row 1", "text"},
         [](Scene& s) { return parquet_column(s, "text", "number_kind"); }},
        {"parquet_with_nulls_for_text",
         2,
         {"data.columns", "nothing"},
         [](Scene& s) { return parquet_column(s, "text", "nothing"); }},
        {"parquet_with_bytes_for_text",
         3,
         {"types.parquet: row 1", "text"},
         [](Scene& s) { return parquet_column(s, "text", "picture"); }},
        {"parquet_with_decimals_for_ids",
         3,
         {"types.parquet: row 1", "input_ids"},
         [](Scene& s) { return parquet_column(s, "input_ids", "decimal"); }},
        {"parquet_with_nested_numbers_for_ids",
         3,
         {"types.parquet: row 1", "input_ids[0]"},
         [](Scene& s) { return parquet_column(s, "input_ids", "nested"); }},
        {"parquet_with_lists_of_numbers_for_messages",
         3,
         {"types.parquet: row 1", "messages[0]"},
         [](Scene& s) { return parquet_column(s, "messages", "nested"); }},
        {"parquet_with_times_for_messages",
         3,
         {"types.parquet: row 1", "messages"},
         [](Scene& s) { return parquet_column(s, "messages", "when_ms"); }},
        {"data_is_a_device",
         3,
         {"d.jsonl", "device"},
         [](Scene& s) {
           fs::create_symlink("/dev/zero", s.work / "d.jsonl");
           return s.set("data.train", s.path("d.jsonl"));
         }},
    }),
    bad_input_name);

INSTANTIATE_TEST_SUITE_P(Paths, BadEdges,
                         testing::ValuesIn(std::vector<BadInput>{
                             {"model_lies_in_the_output",
                              2,
                              {"model", "output_dir"},
                              [](Scene& s) {
                                s.set("model", copy_model(s.work, "out/model").string());
                                return s.run.args({"--overwrite"});
                              }},
                             {"data_lies_in_the_output_behind_a_link",
                              2,
                              {"data.train", "output_dir"},
                              [](Scene& s) {
                                s.work.file("out/best/train.jsonl", conversations(4));
                                fs::create_symlink(s.work / "out/best/train.jsonl",
                                                   s.work / "link.jsonl");
                                s.set("data.train", s.path("link.jsonl"));
                                return s.run.args({"--overwrite"});
                              }},
                             {"output_is_a_link_to_the_model",
                              2,
                              {"model", "output_dir"},
                              [](Scene& s) {
                                const fs::path model = copy_model(s.work);
                                fs::create_directory_symlink(model, s.work / "link");
                                s.set("model", model.string());
                                return s.set("output_dir", s.path("link"));
                              }},
                             {"output_where_no_folder_can_be",
                              5,
                              {"/proc/finetune"},
                              [](Scene& s) { return s.set("output_dir", "/proc/finetune/out"); }},
                             {"merge_into_its_own_base",
                              5,
                              {"model"},
                              [](Scene& s) {
                                const fs::path model = copy_model(s.work);
                                return Args{"merge",
                                            "--model",
                                            model.string(),
                                            "--adapter",
                                            (tiny_model().parent_path() / "adapter").string(),
                                            "--output",
                                            model.string()};
                              }},
                         }),
                         bad_input_name);

/// Inputs that look odd and are right: each must train.
struct GoodInput {
  const char* name;
  std::function<Args(Scene&)> make;
};
void PrintTo(const GoodInput& good, std::ostream* out) {
  *out << good.name;
}
class OddInput : public testing::TestWithParam<GoodInput> {};
TEST_P(OddInput, IsTaken) {
  Scene scene;
  scene.run.set("train.max_steps", "1").set("eval.evaluations", "0");
  const Outcome outcome = run_finetune(GetParam().make(scene));
  EXPECT_EQ(outcome.status, 0) << outcome.err;
}

std::string with_ends(const std::string& end) {
  std::string text;
  for (const char c : conversations(3)) text += c == '\n' ? end : std::string(1, c);
  return text;
}

INSTANTIATE_TEST_SUITE_P(
    Controls, OddInput,
    testing::ValuesIn(std::vector<GoodInput>{
        {"carriage_returns", [](Scene& s) { return s.data("d.jsonl", with_ends("\r\n")); }},
        {"empty_lines", [](Scene& s) { return s.data("d.jsonl", with_ends("\n\n \n")); }},
        {"byte_order_mark",
         [](Scene& s) { return s.data("d.jsonl", "\xef\xbb\xbf" + conversations(2)); }},
        {"no_newline_at_the_end",
         [](Scene& s) {
           std::string text = conversations(2);
           text.pop_back();
           return s.data("d.jsonl", text);
         }},
        {"nul_in_a_text",
         [](Scene& s) {
           return s.data("d.jsonl", R"({"text": "a\u0000b and more"})"
                                    "\n");
         }},
        {"a_line_of_a_megabyte",
         [](Scene& s) {
           return s.data("d.jsonl", "{\"text\": \"" + std::string(1 << 20, 'a') + "\"}\n");
         }},
        {"csv_with_quotes_and_line_breaks",
         [](Scene& s) {
           return s.data("d.csv", "prompt,completion\r\n\"a \"\"b\"\", c\",\"d\r\ne\"\r\n");
         }},
        {"csv_with_a_byte_order_mark",
         [](Scene& s) { return s.data("d.csv", "\xef\xbb\xbfprompt,completion\na,b\n"); }},
        {"parquet_with_a_dictionary", [](Scene& s) { return parquet_column(s, "text", "kind"); }},
        {"surplus_keys",
         [](Scene& s) {
           return s.data("d.jsonl", R"({"text": "a b", "id": 7, "x": [1]})"
                                    "\n");
         }},
        {"configuration_with_carriage_returns",
         [](Scene& s) { return s.config_with("train:\r\n  max_steps: 1\r\ndtype: float32\r"); }},
        {"configuration_with_quotes",
         [](Scene& s) {
           return s.config_with("method: 'lora'\ndtype: \"float32\"\ntrain: {max_steps: 1}");
         }},
        {"weights_with_blanks_in_the_header",
         [](Scene& s) {
           return s.model([](const fs::path& m) {
             std::string bytes = read_file(m / "model.safetensors");
             uint64_t size = 0;
             std::memcpy(&size, bytes.data(), 8);
             bytes.insert(8 + size, 64, ' ');
             size += 64;
             std::memcpy(bytes.data(), &size, 8);
             write_file(m / "model.safetensors", bytes);
           });
         }},
        {"model_behind_links",
         [](Scene& s) {
           return s.model([&](const fs::path& m) {
             fs::rename(m / "model.safetensors", s.work / "blob");
             fs::create_symlink(s.work / "blob", m / "model.safetensors");
           });
         }},
        {"output_with_blanks_and_quotes",
         [](Scene& s) { return s.set("output_dir", s.path("my 'best' run \xc3\xa9")); }},
    }),
    [](const testing::TestParamInfo<GoodInput>& good) { return std::string(good.param.name); });

}  // namespace
}  // namespace ft
