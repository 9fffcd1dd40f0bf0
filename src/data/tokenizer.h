// Text <-> token ids from the model's own tokenizer files.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

/// A token and the bytes [begin, end) of the encoded text that it stands for. Tokens added around
/// the text (BOS) have begin == end.
struct Token {
  int32_t id;
  uint32_t begin, end;
};

struct EncodeOptions {
  bool add_special_tokens = false;  ///< what the tokenizer adds by itself: BOS and the like
  bool parse_special = true;        ///< special-token text becomes special tokens
  /// Byte offsets that no special token may span or touch the inside of: text around them stays
  /// text. Sorted.
  std::span<const size_t> breaks = {};
};

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;

  /// Reads the tokenizer of a model folder. Error (input) when there is none or it is of an unknown
  /// kind.
  static std::unique_ptr<Tokenizer> load(const std::filesystem::path& folder);

  virtual std::vector<Token> encode(std::string_view text, const EncodeOptions& options) const = 0;
  std::vector<int32_t> encode_ids(std::string_view text, const EncodeOptions& options) const;

  /// Bytes of the text; invalid UTF-8 comes back as U+FFFD the way the family's own decoder does
  /// it.
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special = false) const = 0;

  /// The token as its vocabulary spells it, for display.
  virtual std::string piece(int32_t id) const = 0;
  virtual std::optional<int32_t> id_of(std::string_view piece) const = 0;
  virtual bool is_special(int32_t id) const = 0;
  /// One more than the highest id.
  virtual int64_t size() const = 0;
  /// Texts of the special tokens, which control a model. Added words are not among them: Gemma's
  /// runs of newlines and HTML tags belong into what a user writes.
  virtual std::vector<std::string> special_texts() const = 0;

  // From tokenizer_config.json (or the tokenizer model): empty when there is none.
  std::string bos_token, eos_token, pad_token;
  std::optional<int32_t> bos_id, eos_id, pad_id;
};

}  // namespace ft
