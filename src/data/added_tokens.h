// Tokens that are cut out of the text before the model sees it: special ones and those a user
// added. Rules of `tokenizers`: leftmost match first, the longest at that place; lstrip and rstrip
// take the spaces beside it along; single_word wants no word character beside it; `normalized`
// tokens are looked for in the normalised text, the others before that.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

struct AddedToken {
  int32_t id = 0;
  std::string content;
  bool single_word = false, lstrip = false, rstrip = false;
  bool normalized = false, special = false;
};

/// Plain text (id -1) or an added token, as bytes [begin, end) of a text.
struct TextPiece {
  int32_t id;
  size_t begin, end;
};

/// A set of texts to look for.
class AddedTokenMatcher {
 public:
  /// `key` is what is looked for: the content, or its normalised form.
  void add(std::string key, const AddedToken& token);
  /// Call once, after the last add().
  void build();
  bool empty() const { return entries_.empty(); }

  struct Filter {
    bool parse_special = true;  ///< false: special tokens stay text
    /// Whether a match of these bytes is forbidden; empty: none is.
    std::function<bool(size_t begin, size_t end)> forbidden;
  };
  /// Appends the pieces of `text` in order. They cover it, except that rstrip may make a token
  /// overlap the next one, as in the reference.
  void split(std::string_view text, const Filter& filter, std::vector<TextPiece>& out) const;

 private:
  struct Entry {
    std::string key;
    AddedToken token;
  };
  struct Candidates {
    uint32_t begin = 0, end = 0;
  };
  std::vector<Entry> entries_;             // sorted by key
  std::array<Candidates, 256> by_byte_{};  // entries that begin with this byte

  const Entry* longest_match(std::string_view text, size_t at, const Filter& filter) const;
};

}  // namespace ft
