// `prompt_completion`: {"prompt", "completion"}, as TRL has it. Two texts are trained as they
// stand, without a template. When either side is a list of messages, the row is a conversation and
// the answers of the completion are trained, those of the prompt are not; a text on the other side
// is then a single user or assistant message.
#include "base/error.h"
#include "data/conversation.h"
#include "data/label.h"

namespace ft {
namespace {

void add_side(Conversation& conversation, const Row& row, std::string_view key,
              std::string_view role) {
  const Json& side = *row.value.get_set(key);
  if (side.is_string()) return conversation.add(role, side.string());
  if (!side.is_array())
    fail_input(row.where, ": ", key, ": wrong type, a string or a list of messages is wanted");
  add_messages(conversation, side, row, key);
}

}  // namespace

Document make_prompt_completion(const Row& row, const DocumentMaker& maker) {
  const bool is_chat =
      row.value.get_set("prompt")->is_array() || row.value.get_set("completion")->is_array();
  if (!is_chat && maker.context.config.system_prompt)
    fail_usage(row.where,
               ": data.system_prompt: prompt and completion are texts, there is no conversation to "
               "put it into");
  if (!is_chat)
    return label_completion(text_member(row, "prompt"), text_member(row, "completion"),
                            train_on(maker.context.config), maker.tokenizer(), row.where);
  Conversation conversation;
  if (auto tools = list_member(row, "tools")) conversation.tools = std::move(*tools);
  add_side(conversation, row, "prompt", "user");
  if (maker.context.config.train_on == "assistant")
    conversation.answered.assign(conversation.answered.size(), false);
  add_side(conversation, row, "completion", "assistant");
  return make_chat(std::move(conversation), row, maker);
}

}  // namespace ft
