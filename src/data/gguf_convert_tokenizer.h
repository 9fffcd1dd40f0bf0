// The tokenizer of a GGUF file as Hugging Face tokenizer files.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/gguf.h"
#include "base/json.h"

namespace ft {

/// tokenizer.ggml.token_type, the numbers of SentencePiece.
enum class PieceType : uint8_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6,
};

struct GgufVocabulary {
  bool is_spm;  ///< tokenizer.ggml.model = llama; else gpt2, byte-level BPE
  bool is_gemma;
  std::vector<std::string_view> tokens;  ///< by id; distinct, none empty, in the mapping
  std::vector<PieceType> types;
  std::optional<int64_t> bos, eos, unk, pad, eot, eom;
  bool add_bos, add_eos, add_space_prefix;

  /// Cut out of the text before anything else and hidden from decoded text.
  bool is_special(size_t id) const;
};

/// Error (input): another kind of tokenizer, more tokens than embedding rows, repeated tokens...
GgufVocabulary read_vocabulary(const GgufFile& file, std::string_view architecture,
                               int64_t embedding_rows);

/// End tokens for generation: eos, and the turn ends that the file names or that have a well-known
/// spelling. Sorted.
std::vector<int64_t> stop_ids(const GgufVocabulary& vocabulary);

using TextFiles = std::map<std::string, std::string>;

/// tokenizer.json, tokenizer_config.json, special_tokens_map.json; for SentencePiece vocabularies
/// also tokenizer.model. `context` becomes model_max_length.
TextFiles tokenizer_files(const GgufFile& file, const GgufVocabulary& vocabulary, int64_t context);

/// The parts of tokenizer.json in which kinds of tokenizers differ.
struct GgufTokenizer {
  Json normalizer, pre_tokenizer, decoder, unk_token;
  bool fuse_unk = false, byte_fallback = false, ignore_merges = false;
  std::vector<std::string> spelling;  ///< vocabulary by id; empty: the id has no token
  std::vector<std::pair<std::string_view, std::string_view>>
      merges;  ///< into `spelling` or the mapping
};

/// Whether this way of splitting (tokenizer.ggml.pre) goes with a BOS unless the file says
/// otherwise.
bool bpe_adds_bos(const GgufFile& file);
GgufTokenizer bpe_parts(const GgufFile& file, const GgufVocabulary& vocabulary);
GgufTokenizer spm_parts(const GgufFile& file, const GgufVocabulary& vocabulary);
/// tokenizer.merges of the file as pairs; each half and each result is a token.
std::vector<std::pair<std::string_view, std::string_view>> read_merges(
    const GgufFile& file, const std::vector<std::string>& spelling);
/// tokenizer.ggml.scores, finite, one per token.
std::vector<float> read_scores(const GgufFile& file, size_t num_tokens);
/// A SentencePiece ModelProto with these pieces.
std::string sentencepiece_model(const GgufFile& file, const GgufVocabulary& vocabulary);

}  // namespace ft
