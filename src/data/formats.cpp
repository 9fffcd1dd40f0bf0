// The TABLE of dataset formats. To add one: a file under formats/, a line in formats.h, an entry
// here, a sample of five lines with its exact tokens and labels among the tests.
#include "data/formats.h"

#include <array>

#include "base/error.h"

namespace ft {
namespace {

const std::array<Format, 6> kFormats = {{
    {"messages", "conversations as {role, content} lists", {"messages"}, {"tools"}, make_messages},
    {"sharegpt",
     "conversations as {from, value} lists",
     {"conversations"},
     {"system", "tools"},
     make_sharegpt},
    {"prompt_completion",
     "a prompt and what follows it, texts or message lists",
     {"prompt", "completion"},
     {"tools"},
     make_prompt_completion},
    {"alpaca",
     "instruction, input and output",
     {"instruction", "output"},
     {"input", "system", "history"},
     make_alpaca},
    {"text", "documents, all tokens trained", {"text"}, {}, make_text},
    {"tokens", "token ids and labels", {"input_ids"}, {"labels", "attention_mask"}, make_tokens},
}};

}  // namespace

std::span<const Format> formats() {
  return kFormats;
}

DocumentMaker::DocumentMaker(const DataContext& data_context) : context(data_context) {
  if (context.tokenizer) special_texts = context.tokenizer->special_texts();
}

const Tokenizer& DocumentMaker::tokenizer() const {
  if (!context.tokenizer)
    fail_input(
        "data: the model folder has no tokenizer; without one only data in the tokens format "
        "(input_ids) can be used");
  return *context.tokenizer;
}

const std::string& text_member(const Row& row, std::string_view key) {
  const Json* member = row.value.get_set(key);
  if (!member || !member->is_string())
    fail_input(row.where, ": ", key, ": wrong type, a string is wanted");
  return member->string();
}

std::optional<Json> list_member(const Row& row, std::string_view key) {
  const Json* member = row.value.get_set(key);
  if (!member || (member->is_string() && member->string().empty())) return std::nullopt;
  Json list =
      member->is_string() ? parse_json(member->string(), str(row.where, ": ", key)) : *member;
  if (list.is_null()) return std::nullopt;
  if (!list.is_array()) fail_input(row.where, ": ", key, ": wrong type, a list is wanted");
  return list;
}

}  // namespace ft
