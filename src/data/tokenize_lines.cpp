// `finetune tokenize`: what the tokenizer and the chat template make of a line, for comparison with
// other programs. Unlike for training, nothing about the messages is normalised: the template gets
// them as they are. Special tokens of the layout are always read, those that a text or a message
// spells only on request.
#include "data/tokenize_lines.h"

#include <algorithm>

#include "base/error.h"

namespace ft {
namespace {

Json text_answer(const std::string& text, const Tokenizer& tokenizer,
                 const TokenizeOptions& options) {
  const EncodeOptions encode{.add_special_tokens = options.add_special_tokens,
                             .parse_special = options.parse_special,
                             .breaks = {}};
  std::vector<int32_t> ids;
  Json::Array id_list, pieces;
  for (const Token& token : tokenizer.encode(text, encode)) {
    ids.push_back(token.id);
    id_list.emplace_back(static_cast<int64_t>(token.id));
    pieces.emplace_back(tokenizer.piece(token.id));
  }
  return Json::Object{{"ids", std::move(id_list)},
                      {"tokens", std::move(pieces)},
                      {"decoded", tokenizer.decode(ids)}};
}

/// Which tokens start inside trained spans.
Json trained_marks(const std::vector<Token>& tokens, const std::vector<Span>& spans) {
  Json::Array marks;
  for (const Token& token : tokens)
    marks.emplace_back(
        std::any_of(spans.begin(), spans.end(),
                    [&](const Span& s) { return s.begin <= token.begin && token.begin < s.end; })
            ? 1
            : 0);
  return marks;
}

Json chat_answer(const Json& line, const Tokenizer& tokenizer, const ChatTemplate* chat_template,
                 const TokenizeOptions& options) {
  const std::string where = "line";
  if (!chat_template)
    fail_input("messages: the model has no chat template; set --chat-template ",
               options.fitting_templates);
  ChatInput input;
  input.messages = *line.get("messages");
  if (!input.messages.is_array()) fail_input("messages: wrong type, a list is wanted");
  if (const Json* tools = line.get_set("tools")) input.tools = *tools;
  input.add_generation_prompt = get_bool(line, "add_generation_prompt", where).value_or(false);
  input.bos_token = get_string(line, "bos_token", where).value_or(tokenizer.bos_token);
  input.eos_token = get_string(line, "eos_token", where).value_or(tokenizer.eos_token);
  input.now = get_string(line, "now", where);
  const auto specials =
      options.parse_special ? std::vector<std::string>{} : tokenizer.special_texts();
  RenderedChat chat = chat_template->render_with_breaks(input, specials);
  // A template that rewrites earlier messages renders, but its answers cannot be told apart.
  bool can_be_marked = true;
  try {
    chat = chat_template->render_for_training(input, specials);
  } catch (const Error&) {
    can_be_marked = false;
  }
  const std::vector<Token> tokens = tokenizer.encode(
      chat.text, {.add_special_tokens = false, .parse_special = true, .breaks = chat.breaks});
  Json::Array ids;
  for (const Token& token : tokens) ids.emplace_back(static_cast<int64_t>(token.id));
  return Json::Object{{"rendered", chat.text},
                      {"ids", std::move(ids)},
                      {"trained", can_be_marked ? trained_marks(tokens, chat.trained) : Json()}};
}

Json ids_answer(const Json& list, const Tokenizer& tokenizer) {
  if (!list.is_array()) fail_input("ids: wrong type, a list is wanted");
  std::vector<int32_t> ids;
  for (const Json& id : list.array()) {
    if (!id.is_int() || id.integer() < 0 || id.integer() >= tokenizer.size())
      fail_input("ids[", ids.size(), "]: an id from 0 to ", tokenizer.size() - 1, " is wanted");
    ids.push_back(static_cast<int32_t>(id.integer()));
  }
  return Json::Object{{"decoded", tokenizer.decode(ids)}};
}

}  // namespace

Json tokenize_line(std::string_view line, const Tokenizer& tokenizer,
                   const ChatTemplate* chat_template, const TokenizeOptions& options) {
  try {
    const Json parsed = parse_json(line, "line");
    if (const Json* text = parsed.get("text")) {
      if (!text->is_string()) fail_input("text: wrong type, a string is wanted");
      return text_answer(text->string(), tokenizer, options);
    }
    if (parsed.get("messages")) return chat_answer(parsed, tokenizer, chat_template, options);
    if (const Json* ids = parsed.get("ids")) return ids_answer(*ids, tokenizer);
    fail_input("an object with \"text\", \"messages\" or \"ids\" is wanted");
  } catch (const Error& e) {
    return Json::Object{{"error", e.what()}};
  }
}

}  // namespace ft
