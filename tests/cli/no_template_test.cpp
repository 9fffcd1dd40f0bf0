// A model without a chat template, given conversations: one line that says what to set, and what to
// set helps.
#include "cli/edit_model.h"

namespace ft {
namespace {

constexpr const char* kChats =
    "{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}, "
    "{\"role\": \"assistant\", \"content\": \"Yes.\"}]}\n";

fs::path model_without_template(const TestFolder& work) {
  const fs::path model = copy_model(work);
  fs::remove(model / "chat_template.jinja");
  return model;
}

TEST(NoChatTemplate, EveryCommandSaysWhatToSet) {
  const TestFolder work;
  const std::string model = model_without_template(work).string();
  const std::string data = work.file("chats.jsonl", kChats);
  const std::string names =
      "NAME, which is one of gemma, llama2, llama3, chatml, mistral or a file";
  const std::vector<std::vector<std::string>> commands = {
      {"train", "--set", "model=" + model, "--set", "output_dir=" + (work / "run").string(),
       "--set", "data.train=" + data},
      {"eval", "--model", model, "--data", data},
      {"inspect", "--model", model, "--set", "data.train=" + data},
      {"generate", "--model", model, "--prompt", "Hi", "--max-new-tokens", "2"},
  };
  for (std::vector<std::string> command : commands) {
    SCOPED_TRACE(command[0]);
    const Outcome bare = run_finetune(command);
    EXPECT_EQ(bare.status, command[0] == "generate" ? 2 : 3) << bare.err;
    EXPECT_NE(bare.err.find("set data.chat_template: " + names), std::string::npos) << bare.err;
    EXPECT_EQ(bare.out, "");
    command.insert(command.end(), {"--set", "data.chat_template=chatml"});
    if (command[0] == "train") command.insert(command.end(), {"--set", "train.max_steps=1"});
    run_ok(command);
  }
  const std::string line = run_ok({"tokenize", "--model", model}, kChats).out;
  EXPECT_NE(line.find("set --chat-template " + names), std::string::npos) << line;
  run_ok({"tokenize", "--model", model, "--chat-template", "chatml"}, kChats);
}

TEST(NoChatTemplate, GemmaIsToldOfItsOwn) {
  const TestFolder work;
  const fs::path model = model_without_template(work);
  edit_json(model / "config.json", [](Json& c) { c.set("model_type", "gemma3_text"); });
  const std::string line = run_ok({"tokenize", "--model", model.string()}, kChats).out;
  EXPECT_NE(line.find("set --chat-template gemma\""), std::string::npos) << line;
}

}  // namespace
}  // namespace ft
