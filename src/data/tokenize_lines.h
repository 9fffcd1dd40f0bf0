// `finetune tokenize`: one JSON line in, one JSON value out.
#pragma once

#include <string>
#include <string_view>

#include "base/json.h"
#include "data/chat_template.h"
#include "data/tokenizer.h"

namespace ft {

struct TokenizeOptions {
  bool add_special_tokens = false;  ///< to texts, what the tokenizer adds by itself
  bool parse_special = false;       ///< read special-token text of texts and of message contents
  std::string fitting_templates = "NAME";  ///< for the error where there is none
};

/// The answer to one line as interface.md section 1 has it: for {"text"}, {"messages"} or {"ids"};
/// {"error"} for a line that fails. `chat_template` may be null: lines with messages then fail.
Json tokenize_line(std::string_view line, const Tokenizer& tokenizer,
                   const ChatTemplate* chat_template, const TokenizeOptions& options);

}  // namespace ft
