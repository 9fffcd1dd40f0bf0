// Messages -> text through the model's Jinja chat template, and which characters of the text carry
// loss.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ft {

/// Bytes [begin, end) of a rendered text.
struct Span {
  size_t begin, end;
};

struct ChatInput {
  Json messages;  ///< array of {role, content, ...}
  Json tools;     ///< array or null
  bool add_generation_prompt = false;
  std::string bos_token, eos_token;
  std::optional<std::string> now;  ///< ISO time for strftime_now; the present when absent
  Json extra;                      ///< further template variables, an object or null
};

struct RenderedChat {
  std::string text;
  std::vector<Span>
      trained;  ///< generation blocks, or what each answer adds after its generation prompt
  std::vector<size_t>
      breaks;  ///< byte offsets inside user text where no special token may be recognised
};

class ChatTemplate {
 public:
  ChatTemplate();
  ~ChatTemplate();
  ChatTemplate(ChatTemplate&&) noexcept;
  ChatTemplate& operator=(ChatTemplate&&) noexcept;

  /// Error (input) with `name`:line on a syntax error or an unknown construct.
  static ChatTemplate parse(std::string_view source, std::string name);
  /// `choice` is auto (chat_template.jinja > chat_template.json > tokenizer_config.json of the
  /// model folder), the name of a built-in template, or a file. nullopt: auto, and the model has
  /// none.
  static std::optional<ChatTemplate> load(const std::string& choice,
                                          const std::filesystem::path& model_folder);

  /// The text alone. Error (input) carries the template's own message for raise_exception.
  std::string render(const ChatInput& input) const;

  /// Text, trained spans and breaks. Occurrences of `special_texts` inside strings of messages and
  /// tools get a break inside, so that what a user typed is never taken for a control token; pass
  /// none to parse them as HF does. Error (input) when the template has no generation blocks and
  /// rewrites earlier messages, so that the part of an answer cannot be told.
  RenderedChat render_for_training(const ChatInput& input,
                                   const std::vector<std::string>& special_texts) const;

  /// Text and breaks as above, without trained spans: one rendering, and no demands on the
  /// template. For prompts and for data.train_on: all.
  RenderedChat render_with_breaks(const ChatInput& input,
                                  const std::vector<std::string>& special_texts) const;

  bool has_generation_blocks() const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// What to name in an error about a model without a template: the built-in one of its family where
/// config.json tells that it has one, else all of them.
std::string fitting_templates(const std::filesystem::path& model_folder);

}  // namespace ft
