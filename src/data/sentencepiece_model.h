// A tokenizer.model of the sentencepiece library (Llama 2, Mistral up to v0.3, Gemma): its pieces,
// text to pieces and back, as the library does it. Only sentencepiece_model.cpp sees the library.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/tokenizer.h"
#include "data/vocab.h"

namespace ft {

class SentencePieceModel {
 public:
  enum class Kind { kNormal = 1, kUnknown, kControl, kUserDefined, kUnused, kByte };

  /// Reads and checks the pieces; finish() makes it ready. Error (input) that begins with `where`
  /// on anything that is no such model, or one made to take memory or time without end.
  static std::unique_ptr<SentencePieceModel> parse(std::string_view content,
                                                   const std::string& where);
  ~SentencePieceModel();

  const Vocab& vocab() const { return vocab_; }
  Kind kind(int32_t id) const;
  /// Named by the model itself; nullopt when it has none of that name.
  std::optional<int32_t> bos() const, eos() const, pad() const;

  /// From now on the piece is a control piece: no text becomes it. Before finish().
  void make_control(int32_t id);
  /// Builds the library's tables. `with_continuations`: texts that go on are encoded too.
  void finish(bool with_continuations, const std::string& where);

  /// Where a text stands: an ordinary one gets the space that the model puts before a text, if it
  /// is of that kind; one that goes on (after a special token) does not.
  enum class Place { kStart, kContinuation };

  /// Appends the tokens of `text`, their ranges moved by `offset`. Control pieces are never among
  /// them, whatever the text spells. Broken UTF-8 counts as U+FFFD.
  void encode(std::string_view text, Place place, uint32_t offset, std::vector<Token>& out) const;
  /// 0 <= id < vocab().size(). Control pieces vanish, unknown ones show as the model says (U+2047
  /// between spaces); broken UTF-8 gives a U+FFFD for each byte.
  std::string decode(std::span<const int32_t> ids, Place place) const;

 private:
  struct Library;
  std::unique_ptr<Library> library_;
  Vocab vocab_;

  SentencePieceModel();
  std::optional<int32_t> control_piece(std::string_view text) const;
};

}  // namespace ft
