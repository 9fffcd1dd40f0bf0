// The Tokenizer built from parts, as in the `tokenizers` library: added tokens -> normaliser ->
// pre-tokeniser -> BPE -> tokens around the text, and a decoder for the way back. tokenizer.json
// and tiktoken files both end up as such a list of parts. A sentencepiece model takes the place of
// all but the first and the last.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/added_tokens.h"
#include "data/bpe.h"
#include "data/normalizer.h"
#include "data/pre_tokenizer.h"
#include "data/sentencepiece_model.h"
#include "data/token_decoder.h"
#include "data/tokenizer.h"

namespace ft {

struct TokenizerParts {
  std::unique_ptr<Bpe> bpe;
  std::vector<AddedToken> added;
  Normalizer normalizer;
  PreTokenizer pre_tokenizer;
  TokenDecoder decoder;
  std::vector<int32_t> prefix, suffix;                ///< put around the text by add_special_tokens
  std::unique_ptr<SentencePieceModel> sentencepiece;  ///< set: bpe and what stands below it is not
  bool prefix_after_special = true;  ///< sentencepiece: a space at the start of each part, not once

  const Vocab& vocab() const { return sentencepiece ? sentencepiece->vocab() : bpe->vocab(); }
  const AddedToken* find_added(std::string_view content) const;
  /// Added tokens first, then the vocabulary; -1 when neither has it.
  int32_t id_of(std::string_view text) const;
};

class PipelineTokenizer : public Tokenizer {
 public:
  explicit PipelineTokenizer(TokenizerParts parts);

  std::vector<Token> encode(std::string_view text, const EncodeOptions& options) const override;
  std::string decode(std::span<const int32_t> ids, bool skip_special) const override;
  std::string piece(int32_t id) const override;
  std::optional<int32_t> id_of(std::string_view piece) const override;
  bool is_special(int32_t id) const override;
  int64_t size() const override;
  std::vector<std::string> special_texts() const override;

 private:
  struct Run {  // one call of encode
    std::string_view text;
    const EncodeOptions& options;
    std::optional<Bpe::Session> session;
    std::vector<Token> tokens;
    std::vector<WordToken> word;

    void add(int32_t id, size_t begin, size_t end) {
      tokens.push_back({id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
    }
    /// Whether a break lies inside of these bytes.
    bool is_cut(size_t begin, size_t end) const;
  };

  TokenizerParts parts_;
  std::vector<std::string> added_pieces_;  // as they are looked for: content or its normalised form
  std::unordered_map<int32_t, size_t> added_by_id_;
  std::unordered_map<std::string, int32_t> added_ids_;
  AddedTokenMatcher raw_, normalized_;

  void encode_plain(Run& run, size_t begin, size_t end) const;
  void encode_valid(Run& run, size_t begin, size_t end) const;
  void encode_normalized(Run& run, AlignedText text) const;
  void encode_sentencepiece(Run& run, size_t begin, size_t end) const;
  std::string decode_sentencepiece(std::span<const int32_t> ids, bool skip_special) const;
};

/// <folder>/tokenizer.json. Error (input) on anything that is missing, wrong or not supported.
TokenizerParts load_tokenizer_json(const std::filesystem::path& file);

/// Whether the content of a tokenizer.model is a tiktoken list (base64 and rank on each line) and
/// not a sentencepiece model.
bool is_tiktoken(std::string_view content);
/// Llama 3's tiktoken file with Meta's split pattern and special tokens.
TokenizerParts parse_tiktoken(std::string_view content, const std::string& where);

/// A sentencepiece model; its control pieces and turn markers are special. finish_sentencepiece()
/// takes over what the files beside it said about added tokens.
TokenizerParts parse_sentencepiece(std::string_view content, const std::string& where);
void finish_sentencepiece(TokenizerParts& parts, const std::string& where);

}  // namespace ft
