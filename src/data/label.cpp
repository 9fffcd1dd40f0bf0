// Loss masks. Labels stay aligned with the ids (see batch.cpp for the shift).
// String data follows TRL's SFT trainer: prompt and prompt + completion are tokenised separately
// and their common token prefix carries no loss; where a token joins the end of the prompt and the
// start of the completion, it counts as completion. BOS comes from the tokenizer for texts and from
// the template for conversations; a text with both is refused, because a doubled BOS goes unnoticed
// and costs quality.
#include "data/label.h"

#include <algorithm>

#include "base/error.h"

namespace ft {
namespace {

// Token offsets are 32 bits wide, and no sequence of tokens this long can be trained on.
constexpr size_t kMaxText = size_t{1} << 30;

std::vector<Token> encode(std::string_view text, const Tokenizer& tokenizer,
                          const EncodeOptions& options, std::string_view where) {
  if (text.size() > kMaxText)
    fail_input(where, ": a text of ", text.size(), " bytes, at most ", kMaxText, " are possible");
  std::vector<Token> tokens = tokenizer.encode(text, options);
  const auto bos = tokenizer.bos_id;
  if (bos && tokens.size() > 1 && tokens[0].id == *bos && tokens[1].id == *bos)
    fail_input(where, ": the text begins with two ", printable(tokenizer.bos_token),
               " tokens; take the one out of the data or of the chat template");
  return tokens;
}

void add_token(Document& out, int32_t id, Span span, bool is_trained) {
  out.example.labels.push_back(is_trained && !out.example.ids.empty() ? id : kIgnore);
  out.example.ids.push_back(id);
  out.offsets.push_back(span);
}

/// TRL's rule: EOS goes behind the text unless the text ends with it already.
void add_eos(Document& out, const Tokenizer& tokenizer, std::string_view where) {
  if (!tokenizer.eos_id)
    fail_input(where,
               ": the tokenizer names no EOS token, which marks the end of a document; set "
               "eos_token in tokenizer_config.json");
  if (!out.example.ids.empty() && out.example.ids.back() == *tokenizer.eos_id) return;
  const size_t begin = out.rendered.size();
  out.rendered += tokenizer.eos_token;
  add_token(out, *tokenizer.eos_id, {begin, out.rendered.size()}, true);
}

/// `spans` are sorted and apart.
bool starts_inside(const Token& token, const std::vector<Span>& spans) {
  const auto after = std::upper_bound(spans.begin(), spans.end(), token.begin,
                                      [](size_t at, const Span& s) { return at < s.begin; });
  return after != spans.begin() && token.begin < std::prev(after)->end;
}

}  // namespace

TrainOn train_on(const DataConfig& config) {
  if (config.train_on == "all") return TrainOn::kAll;
  if (config.train_on == "assistant") return TrainOn::kSome;
  fail_usage("data.train_on: unknown value \"", printable(config.train_on),
             "\", assistant or all is wanted");
}

Document label_chat(RenderedChat chat, const std::vector<Span>& silent, TrainOn on,
                    const Tokenizer& tokenizer, std::string_view where) {
  Document out;
  const EncodeOptions options{
      .add_special_tokens = false, .parse_special = true, .breaks = chat.breaks};
  for (const Token& t : encode(chat.text, tokenizer, options, where)) {
    // A token without bytes stands for nothing that an answer says.
    const bool is_trained = on == TrainOn::kAll ? !starts_inside(t, silent)
                                                : t.end > t.begin && starts_inside(t, chat.trained);
    add_token(out, t.id, {t.begin, t.end}, is_trained);
  }
  out.rendered = std::move(chat.text);
  return out;
}

Document label_completion(const std::string& prompt, const std::string& completion, TrainOn on,
                          const Tokenizer& tokenizer, std::string_view where) {
  const EncodeOptions options{.add_special_tokens = true, .parse_special = true, .breaks = {}};
  const std::vector<Token> head = encode(prompt, tokenizer, options, where);
  Document out;
  out.rendered = prompt + completion;
  const std::vector<Token> whole = encode(out.rendered, tokenizer, options, where);
  size_t common = 0;
  if (on == TrainOn::kSome)
    while (common < std::min(head.size(), whole.size()) && head[common].id == whole[common].id)
      ++common;
  for (size_t i = 0; i < whole.size(); ++i)
    add_token(out, whole[i].id, {whole[i].begin, whole[i].end}, i >= common);
  add_eos(out, tokenizer, where);
  out.prompt = prompt;
  out.reference = completion;
  return out;
}

Document label_text(const std::string& text, const Tokenizer& tokenizer, std::string_view where) {
  Document out;
  if (text.empty()) return out;
  out.rendered = text;
  const EncodeOptions options{.add_special_tokens = true, .parse_special = true, .breaks = {}};
  for (const Token& t : encode(text, tokenizer, options, where))
    add_token(out, t.id, {t.begin, t.end}, true);
  add_eos(out, tokenizer, where);
  return out;
}

}  // namespace ft
