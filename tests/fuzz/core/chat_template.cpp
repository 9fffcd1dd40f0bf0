// A chat template: parse, render, and find what is trained. Time and output are bounded by the
// engine itself.
#include "data/chat_template.h"

#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  const auto chat = ft::ChatTemplate::parse(data, "chat.jinja");
  ft::ChatInput input;
  input.messages = ft::parse_json(
      R"([{"role": "system", "content": "Be kind."}, {"role": "user", "content": "a <s> b", "tool_calls": [{"name": "f", "arguments": {"x": 1}}]},
          {"role": "assistant", "content": "caf\u00e9"}, {"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}])",
      "messages");
  input.bos_token = "<s>";
  input.eos_token = "</s>";
  input.now = "2025-01-02T03:04:05";
  chat.render(input);
  const ft::RenderedChat rendered = chat.render_for_training(input, {"<s>", "</s>"});
  size_t at = 0;
  for (const ft::Span& span : rendered.trained) {
    if (span.begin < at || span.end < span.begin || span.end > rendered.text.size())
      ft::finding("a trained part that is not in the text");
    at = span.end;
  }
}
