// A tokenizer whose ids can be read in a test: one token a byte (16 + byte), " d" as one token,
// four special tokens.
#pragma once

#include <algorithm>
#include <array>
#include <string>

#include "data/chat_template.h"
#include "data/tokenizer.h"

namespace ft {

class FakeTokenizer : public Tokenizer {
 public:
  static constexpr int32_t kBos = 1, kEos = 2, kStart = 3, kEnd = 4, kFirstByte = 16, kJoined = 300;

  FakeTokenizer() {
    bos_token = "<bos>";
    eos_token = "<eos>";
    bos_id = kBos;
    eos_id = kEos;
  }

  std::vector<Token> encode(std::string_view text, const EncodeOptions& options) const override {
    std::vector<Token> out;
    if (options.add_special_tokens) out.push_back({kBos, 0, 0});
    for (size_t i = 0; i < text.size();) {
      const size_t begin = i;
      int32_t id = kFirstByte + static_cast<unsigned char>(text[i++]);
      if (text.substr(begin).starts_with(" d")) {
        id = kJoined;
        i = begin + 2;
      }
      for (size_t s = 0; options.parse_special && s < kSpecials.size(); ++s) {
        const size_t end = begin + kSpecials[s].size();
        const bool broken = std::any_of(options.breaks.begin(), options.breaks.end(),
                                        [&](size_t at) { return at > begin && at < end; });
        if (!text.substr(begin).starts_with(kSpecials[s]) || broken) continue;
        id = static_cast<int32_t>(s) + kBos;
        i = end;
      }
      out.push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(i)});
    }
    return out;
  }

  std::string decode(std::span<const int32_t> ids, bool skip_special = false) const override {
    std::string text;
    for (const int32_t id : ids)
      if (!skip_special || !is_special(id)) text += piece(id);
    return text;
  }
  std::string piece(int32_t id) const override {
    if (is_special(id)) return std::string(kSpecials[static_cast<size_t>(id - kBos)]);
    return id == kJoined ? " d" : std::string(1, static_cast<char>(id - kFirstByte));
  }
  std::optional<int32_t> id_of(std::string_view) const override { return std::nullopt; }
  bool is_special(int32_t id) const override { return id >= kBos && id <= kEnd; }
  int64_t size() const override { return kJoined + 1; }
  std::vector<std::string> special_texts() const override {
    return {kSpecials.begin(), kSpecials.end()};
  }

 private:
  static constexpr std::array<std::string_view, 4> kSpecials = {"<bos>", "<eos>", "<|im_start|>",
                                                                "<|im_end|>"};
};

/// ChatML with tools in front and tool calls as JSON.
inline ChatTemplate test_template() {
  return ChatTemplate::parse(
      "{% if tools %}{{ tools | tojson }}{% endif %}"
      "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content }}"
      "{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}{{ '<|im_end|>\\n' }}{% endfor %}"
      "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}",
      "test.jinja");
}

}  // namespace ft
