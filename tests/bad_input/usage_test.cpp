// Wrong command lines and configurations: status 2, before anything is read or written; outputs
// that cannot be written: status 5.
#include "bad_input/bad_input.h"

namespace ft {
namespace {

using Args = std::vector<std::string>;

class BadUsage : public testing::TestWithParam<BadInput> {};
TEST_P(BadUsage, IsRefused) {
  check_bad_input(GetParam());
}

Args on_tiny(const char* command, Args more) {
  Args args = {command, "--model", tiny_model().string()};
  args.insert(args.end(), more.begin(), more.end());
  return args;
}

INSTANTIATE_TEST_SUITE_P(
    CommandLine, BadUsage,
    testing::ValuesIn(std::vector<BadInput>{
        {"nothing", 2, {"no command"}, [](Scene&) { return Args{}; }},
        {"unknown_command", 2, {"trian", "train"}, [](Scene&) { return Args{"trian"}; }},
        {"unknown_option",
         2,
         {"--foo"},
         [](Scene&) {
           return Args{"train", "--foo"};
         }},
        {"config_without_value",
         2,
         {"--config"},
         [](Scene&) {
           return Args{"train", "--config"};
         }},
        {"train_without_anything",
         2,
         {"model", "output_dir", "data.train"},
         [](Scene&) { return Args{"train"}; },
         3},
        {"extra_argument",
         2,
         {"surplus"},
         [](Scene&) {
           return Args{"train", "surplus"};
         }},
        {"set_without_equals",
         2,
         {"--set", "train.epochs"},
         [](Scene&) {
           return Args{"train", "--set", "train.epochs"};
         }},
        {"set_unknown_key",
         2,
         {"train.lerning_rate", "learning_rate"},
         [](Scene& s) { return s.set("train.lerning_rate", "1"); }},
        {"set_unknown_section",
         2,
         {"trian.epochs"},
         [](Scene& s) { return s.set("trian.epochs", "1"); }},
        {"threads_zero",
         2,
         {"--threads"},
         [](Scene&) {
           return Args{"eval", "--threads", "0"};
         }},
        {"resume_and_overwrite",
         2,
         {"--resume", "--overwrite"},
         [](Scene& s) {
           return s.run.args({"--resume", "--overwrite"});
         }},
        {"eval_without_model", 2, {"--model"}, [](Scene&) { return Args{"eval"}; }},
        {"eval_without_data", 2, {"--data"}, [](Scene&) { return on_tiny("eval", {}); }},
        {"generate_without_model",
         2,
         {"--model"},
         [](Scene&) {
           return Args{"generate", "--prompt", "a"};
         }},
        {"generate_without_prompt",
         2,
         {"--prompt"},
         [](Scene&) { return on_tiny("generate", {}); }},
        {"negative_temperature",
         2,
         {"--temperature"},
         [](Scene&) {
           return on_tiny("generate", {"--prompt", "a", "--temperature", "-1"});
         }},
        {"top_p_above_one",
         2,
         {"--top-p"},
         [](Scene&) {
           return on_tiny("generate", {"--prompt", "a", "--top-p", "2"});
         }},
        {"no_samples",
         2,
         {"--n"},
         [](Scene&) {
           return on_tiny("generate", {"--prompt", "a", "--n", "0"});
         }},
        {"max_new_tokens_is_text",
         2,
         {"--max-new-tokens"},
         [](Scene&) {
           return on_tiny("generate", {"--prompt", "a", "--max-new-tokens", "abc"});
         }},
        {"prompt_is_not_utf8",
         2,
         {"--prompt", "UTF-8"},
         [](Scene&) {
           return on_tiny("generate", {"--prompt", "a\xff"});
         }},
        {"stop_is_empty",
         2,
         {"--stop"},
         [](Scene&) {
           return on_tiny("generate", {"--prompt", "a", "--stop", ""});
         }},
        {"raw_prompt_is_empty",
         2,
         {"prompt", "empty"},
         [](Scene&) {
           return on_tiny("generate", {"--prompt", "", "--raw"});
         }},
        {"merge_without_adapter",
         2,
         {"--adapter"},
         [](Scene& s) {
           return on_tiny("merge", {"--output", s.path("m")});
         }},
        {"merge_without_output",
         2,
         {"--output"},
         [](Scene& s) {
           return on_tiny("merge", {"--adapter", s.path("a")});
         }},
        {"merge_with_a_weight_that_is_no_number",
         2,
         {"--weights", "nan"},
         [](Scene& s) {
           return on_tiny("merge",
                          {"--adapter", s.path("a"), "--output", s.path("m"), "--weights", "nan"});
         }},
        {"plan_with_a_ceiling_that_is_no_number",
         2,
         {"--tflops", "above 0"},
         [](Scene&) {
           return on_tiny("plan", {"--ledger", "--tflops", "nan"});
         }},
        {"tokenize_without_model", 2, {"--model"}, [](Scene&) { return Args{"tokenize"}; }},
        {"tokenize_unknown_template",
         2,
         {"chatml2", "chatml"},
         [](Scene&) {
           return on_tiny("tokenize", {"--chat-template", "chatml2"});
         }},
        {"convert_with_one_path",
         2,
         {"convert"},
         [](Scene&) {
           return Args{"convert", "a"};
         }},
        {"help_of_nothing",
         2,
         {"topics"},
         [](Scene&) {
           return Args{"help", "topics"};
         }},
        {"inspect_without_data", 2, {"data.train"}, [](Scene&) { return on_tiny("inspect", {}); }},
    }),
    bad_input_name);

INSTANTIATE_TEST_SUITE_P(
    Configuration, BadUsage,
    testing::ValuesIn(std::vector<BadInput>{
        {"file_is_absent",
         2,
         {"absent.yaml"},
         [](Scene&) {
           return Args{"train", "--config", "absent.yaml"};
         }},
        {"file_is_a_folder",
         2,
         {"finetune-"},
         [](Scene& s) {
           return Args{"train", "--config", s.work.path().string()};
         }},
        {"syntax", 2, {"run.yaml:2"}, [](Scene& s) { return s.config("model: a\n  b: [\n"); }},
        {"duplicate_key",
         2,
         {"run.yaml:6: seed", "line 5"},
         [](Scene& s) { return s.config_with("seed: 1\nseed: 2"); }},
        {"not_a_mapping", 2, {"run.yaml:1"}, [](Scene& s) { return s.config("- a\n- b\n"); }},
        {"empty_file", 2, {"model"}, [](Scene& s) { return s.config(""); }, 3},
        {"binary_file",
         2,
         {"run.yaml"},
         [](Scene& s) { return s.config(std::string("\0\1\2\xff\xfe", 5)); }},
        {"unknown_key",
         2,
         {"run.yaml:6: lora.rnak", "lora.r"},
         [](Scene& s) { return s.config_with("lora:\n  rnak: 4"); }},
        {"text_for_a_number",
         2,
         {"train.epochs", "many"},
         [](Scene& s) { return s.set("train.epochs", "many"); }},
        {"fraction_for_a_count",
         2,
         {"train.epochs"},
         [](Scene& s) { return s.set("train.epochs", "1.5"); }},
        {"number_for_a_switch",
         2,
         {"data.packing"},
         [](Scene& s) { return s.set("data.packing", "2"); }},
        {"list_for_a_text", 2, {"method"}, [](Scene& s) { return s.set("method", "[lora]"); }},
        {"null_model", 2, {"model"}, [](Scene& s) { return s.set("model", "null"); }},
        {"rank_zero", 2, {"lora.r"}, [](Scene& s) { return s.set("lora.r", "0"); }},
        {"alpha_zero", 2, {"lora.alpha"}, [](Scene& s) { return s.set("lora.alpha", "0"); }},
        {"dropout_one", 2, {"lora.dropout"}, [](Scene& s) { return s.set("lora.dropout", "1"); }},
        {"negative_rate",
         2,
         {"train.learning_rate"},
         [](Scene& s) { return s.set("train.learning_rate", "-1"); }},
        {"rate_is_not_a_number",
         2,
         {"train.learning_rate"},
         [](Scene& s) { return s.set("train.learning_rate", ".nan"); }},
        {"rate_is_infinite",
         2,
         {"train.learning_rate"},
         [](Scene& s) { return s.set("train.learning_rate", "1e999"); }},
        {"one_beta", 2, {"train.betas"}, [](Scene& s) { return s.set("train.betas", "[0.9]"); }},
        {"beta_of_one",
         2,
         {"train.betas"},
         [](Scene& s) { return s.set("train.betas", "[0.9, 1]"); }},
        {"unknown_method",
         2,
         {"method", "lorra"},
         [](Scene& s) { return s.set("method", "lorra"); }},
        {"unknown_dtype", 2, {"dtype"}, [](Scene& s) { return s.set("dtype", "int8"); }},
        {"unknown_device", 2, {"device"}, [](Scene& s) { return s.set("device", "tpu"); }},
        {"unknown_scheduler",
         2,
         {"train.lr_scheduler", "cosine"},
         [](Scene& s) { return s.set("train.lr_scheduler", "cosin"); }},
        {"negative_seed", 2, {"seed"}, [](Scene& s) { return s.set("seed", "-1"); }},
        {"too_short_rows",
         2,
         {"data.max_length"},
         [](Scene& s) { return s.set("data.max_length", "1"); }},
        {"broken_warmup",
         2,
         {"train.warmup_steps"},
         [](Scene& s) { return s.set("train.warmup_steps", "1.5"); }},
        {"two_eval_sets",
         2,
         {"data.eval", "data.eval_split"},
         [](Scene& s) { return s.run.with_eval().set("data.eval_split", "0.1").args(); }},
        {"lora_key_in_full_run",
         2,
         {"lora.r", "full"},
         [](Scene& s) { return s.run.set("method", "full").set("lora.r", "4").args(); }},
        {"full_in_float16",
         2,
         {"dtype", "float16"},
         [](Scene& s) { return s.run.set("method", "full").set("dtype", "float16").args(); }},
        {"patience_without_eval",
         2,
         {"eval.early_stopping_patience"},
         [](Scene& s) { return s.set("eval.early_stopping_patience", "2"); }},
        {"unknown_chat_template",
         2,
         {"data.chat_template"},
         [](Scene& s) { return s.set("data.chat_template", "chatmll"); }},
        {"unknown_format",
         2,
         {"data.format"},
         [](Scene& s) { return s.set("data.format", "jsn"); }},
        {"target_is_no_layer",
         2,
         {"lora.target_modules", "q_porj", "q_proj"},
         [](Scene& s) { return s.set("lora.target_modules", "[q_porj]"); }},
        {"target_matches_nothing",
         2,
         {"lora.target_modules"},
         [](Scene& s) { return s.set("lora.target_modules", "'.*attn2.*'"); }},
        {"target_is_a_broken_expression",
         2,
         {"lora.target_modules"},
         [](Scene& s) { return s.set("lora.target_modules", "'(q_proj'"); }},
        {"saved_module_is_none",
         2,
         {"lora.modules_to_save", "score"},
         [](Scene& s) { return s.set("lora.modules_to_save", "[score]"); }},
        {"two_problems_at_once",
         2,
         {"run.yaml:5: seed", "run.yaml:7: train.epochs"},
         [](Scene& s) { return s.config_with("seed: x\ntrain:\n  epochs: 0"); },
         2},
        {"control_bytes_are_not_echoed",
         2,
         {"\\x1b"},
         [](Scene& s) { return s.set("method", "\"\\e[31mred\""); }},
        {"output_is_the_model",
         2,
         {"output_dir"},
         [](Scene& s) { return s.set("output_dir", tiny_model().string()); }},
        {"data_lies_in_the_output",
         2,
         {"data.train"},
         [](Scene& s) {
           return s.set("data.train", s.work.file("out/final/train.jsonl", conversations(4)));
         }},
    }),
    bad_input_name);

/// An adapter to merge or evaluate.
std::string any_adapter() {
  return (test_data() / "parity/D_training/llama_lora/adapter").string();
}

INSTANTIATE_TEST_SUITE_P(
    Output, BadUsage,
    testing::ValuesIn(std::vector<BadInput>{
        {"output_is_a_file",
         5,
         {"taken"},
         [](Scene& s) { return s.set("output_dir", s.work.file("taken", "")); }},
        {"parent_of_output_is_a_file",
         5,
         {"taken/out"},
         [](Scene& s) { return s.set("output_dir", s.work.file("taken", "") + "/out"); }},
        {"merge_into_a_full_folder",
         5,
         {"taken"},
         [](Scene& s) {
           s.work.file("taken/file", "");
           return on_tiny("merge", {"--adapter", any_adapter(), "--output", s.path("taken")});
         }},
        {"merge_below_a_file",
         5,
         {"taken"},
         [](Scene& s) {
           return on_tiny("merge", {"--adapter", any_adapter(), "--output",
                                    s.work.file("taken", "") + "/merged"});
         }},
        {"merge_onto_a_file",
         5,
         {"taken"},
         [](Scene& s) {
           return on_tiny("merge",
                          {"--adapter", any_adapter(), "--output", s.work.file("taken", "a")});
         }},
        {"losses_into_an_absent_folder",
         5,
         {"absent/losses.jsonl"},
         [](Scene& s) {
           return on_tiny("eval", {"--data", s.work.file("d.jsonl", conversations(2)),
                                   "--per-example", s.path("absent/losses.jsonl")});
         }},
        {"losses_onto_a_full_disk",
         5,
         {"/dev/full"},
         [](Scene& s) {
           return on_tiny("eval", {"--data", s.work.file("d.jsonl", conversations(2)),
                                   "--token-logprobs", "/dev/full"});
         }},
    }),
    bad_input_name);

TEST(FullDisk, StopsTheRunAndLeavesNothingThatLooksWhole) {
  Scene scene;
  scene.run.set("save.every_steps", "2").set("data.packing", "false");
  // Room for metrics, none for a checkpoint.
  const Outcome outcome = Program(scene.run.args(), "", 40000).wait();
  EXPECT_EQ(outcome.status, 5) << outcome.err;
  EXPECT_NE(outcome.err.find("error: "), std::string::npos) << outcome.err;
  EXPECT_NE(outcome.err.find(".safetensors"), std::string::npos) << outcome.err;
  EXPECT_FALSE(fs::exists(scene.run.out() / "final"));
  EXPECT_TRUE(all_files(scene.run.out() / "checkpoints").empty());
  // With room again it goes on and ends well.
  scene.run.train({"--resume"});
  EXPECT_TRUE(fs::exists(scene.run.out() / "final/adapter_model.safetensors"));
}

}  // namespace
}  // namespace ft
