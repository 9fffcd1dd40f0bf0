// What the formats with conversations share: checked messages, and their way to a Document.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/formats.h"

namespace ft {

struct Conversation {
  Json messages{Json::Array{}};
  Json tools;                  ///< array or null
  std::vector<bool> answered;  ///< for each assistant message, whether it is trained

  void add(std::string_view role, std::string_view content);
  /// Appends a message whose role the chat templates know.
  void add(Json message, bool is_trained = true);
};

/// A message of the `messages` format, checked and normalised: developer becomes system, text parts
/// become one string, a missing content "" (next to tool_calls); `loss` and `weight` go into
/// `answered`. `at` names the message in errors, for example "messages[2]".
void add_message(Conversation& conversation, const Json& message, const Row& row,
                 std::string_view at);
void add_messages(Conversation& conversation, const Json& list, const Row& row,
                  std::string_view key);

/// `loss` (a boolean) and `weight` (0 or 1) of a message; true when neither is there.
bool loss_flag(const Json& message, const Row& row, std::string_view at);

/// Renders with the chat template (Error (input) when the model has none), tokenises and labels.
Document make_chat(Conversation conversation, const Row& row, const DocumentMaker& maker);

}  // namespace ft
