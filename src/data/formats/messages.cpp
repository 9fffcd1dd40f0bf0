// `messages`: {"messages": [{"role", "content", ...}], "tools": [...]}, as OpenAI's fine-tuning
// files and TRL have it. `loss` (ms-swift) or `weight` (OpenAI) leave single answers out. Tools and
// tool calls go to the template as they are.
#include "data/conversation.h"

namespace ft {

Document make_messages(const Row& row, const DocumentMaker& maker) {
  Conversation conversation;
  if (auto tools = list_member(row, "tools")) conversation.tools = std::move(*tools);
  const auto messages = list_member(row, "messages");
  add_messages(conversation, messages ? *messages : Json(Json::Array{}), row, "messages");
  return make_chat(std::move(conversation), row, maker);
}

}  // namespace ft
