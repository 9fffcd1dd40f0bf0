// `alpaca`: {"instruction", "input", "output", "system", "history"}. The user message is the
// instruction and the input with a newline between them (LLaMA-Factory's reading; Stanford's fixed
// English frame is not added). With a chat template the row is a conversation. Without one it is
// text: system, earlier turns and user message, each followed by a newline, then the output.
#include "base/error.h"
#include "data/conversation.h"
#include "data/label.h"

namespace ft {
namespace {

/// Pairs of [user, assistant] texts.
void add_history(Conversation& conversation, const Json& history, const Row& row) {
  for (size_t i = 0; i < history.array().size(); ++i) {
    const Json& pair = history.array()[i];
    if (!pair.is_array() || pair.array().size() != 2 || !pair.array()[0].is_string() ||
        !pair.array()[1].is_string())
      fail_input(row.where, ": history[", i,
                 "]: a list of two strings is wanted, user and assistant");
    conversation.add("user", pair.array()[0].string());
    conversation.add("assistant", pair.array()[1].string());
  }
}

}  // namespace

Document make_alpaca(const Row& row, const DocumentMaker& maker) {
  std::string user = text_member(row, "instruction");
  const auto input = get_string(row.value, "input", row.where);
  if (input && !input->empty()) user += (user.empty() ? "" : "\n") + *input;

  Conversation conversation;
  auto system = get_string(row.value, "system", row.where);
  if (!system || system->empty()) system = maker.context.config.system_prompt;
  if (system) conversation.add("system", *system);
  if (const auto history = list_member(row, "history")) add_history(conversation, *history, row);
  conversation.add("user", user);
  if (maker.context.chat_template) {
    conversation.add("assistant", text_member(row, "output"));
    return make_chat(std::move(conversation), row, maker);
  }
  std::string prompt;
  for (const Json& message : conversation.messages.array())
    prompt += message.get("content")->string() + "\n";
  return label_completion(prompt, text_member(row, "output"), train_on(maker.context.config),
                          maker.tokenizer(), row.where);
}

}  // namespace ft
