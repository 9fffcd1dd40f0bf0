// The pieces of a sentencepiece model as the parts of a tokenizer: which of them are special, and
// what a text between two special tokens becomes. A sentencepiece model is normaliser, splitter,
// model and decoder in one.
//
// Special tokens are cut out of the text before the library sees it, as transformers does, and only
// where they may be read; the library itself never makes one. A model that puts a space before a
// text does that after every special token (transformers' `legacy`, Meta's own dialogs) or, with
// "legacy": false, once.
#include <algorithm>

#include "base/error.h"
#include "data/pipeline_tokenizer.h"
#include "data/sentencepiece_model.h"

namespace ft {
namespace {

using Kind = SentencePieceModel::Kind;
using Place = SentencePieceModel::Place;

/// Whether a user-defined piece controls the model. The type cannot tell: Gemma has turn markers,
/// reserved tokens and HTML tags under the same one. These are the names that mark turns in the
/// families at hand; tokenizer_config.json may name more.
bool is_marker(std::string_view text) {
  constexpr std::string_view kNames[] = {"<start_of_turn>", "<end_of_turn>", "<mask>"};
  if (std::find(std::begin(kNames), std::end(kNames), text) != std::end(kNames)) return true;
  if (text.starts_with("<|") && text.ends_with("|>")) return true;
  if (!text.starts_with("<unused") || !text.ends_with('>')) return false;
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  return std::all_of(text.begin() + 7, text.end() - 1, is_digit);
}

}  // namespace

TokenizerParts parse_sentencepiece(std::string_view content, const std::string& where) {
  TokenizerParts parts;
  parts.sentencepiece = SentencePieceModel::parse(content, where);
  const Vocab& vocab = parts.sentencepiece->vocab();
  for (int32_t id = 0; id < vocab.size(); ++id) {
    const Kind kind = parts.sentencepiece->kind(id);
    AddedToken token;
    token.id = id;
    token.content = vocab.text(id);
    token.special = kind == Kind::kControl || kind == Kind::kUnknown ||
                    (kind == Kind::kUserDefined && is_marker(token.content));
    if (token.special) parts.added.push_back(std::move(token));
  }
  return parts;
}

void finish_sentencepiece(TokenizerParts& parts, const std::string& where) {
  SentencePieceModel& model = *parts.sentencepiece;
  const auto is_own = [&](const AddedToken& token) {
    return token.id < model.vocab().size() && !token.special &&
           model.kind(token.id) == Kind::kUserDefined;
  };
  // What a user may write, the library finds itself, with its own rules for the spaces around.
  std::erase_if(parts.added, is_own);
  for (AddedToken& token : parts.added) {
    token.normalized = false;  // the library's normalisation cannot be had apart
    const bool in_model = token.id < model.vocab().size();
    if (in_model && token.special && model.kind(token.id) == Kind::kUserDefined)
      model.make_control(token.id);
  }
  model.finish(!parts.prefix_after_special, where);
}

void PipelineTokenizer::encode_sentencepiece(Run& run, size_t begin, size_t end) const {
  const Place place =
      begin == 0 || parts_.prefix_after_special ? Place::kStart : Place::kContinuation;
  parts_.sentencepiece->encode(run.text.substr(begin, end - begin), place,
                               static_cast<uint32_t>(begin), run.tokens);
}

std::string PipelineTokenizer::decode_sentencepiece(std::span<const int32_t> ids,
                                                    bool skip_special) const {
  const SentencePieceModel& model = *parts_.sentencepiece;
  std::string out;
  std::vector<int32_t> pieces;
  bool is_first = true;
  const auto flush = [&] {
    if (pieces.empty()) return;
    out += model.decode(
        pieces, is_first || parts_.prefix_after_special ? Place::kStart : Place::kContinuation);
    pieces.clear();
  };
  for (const int32_t id : ids) {
    const bool in_model = model.vocab().has(id);
    const auto added = added_by_id_.find(id);
    if (in_model && (added == added_by_id_.end() || model.kind(id) == Kind::kUnknown)) {
      pieces.push_back(id);
    } else if (added != added_by_id_.end() && !(skip_special && is_special(id))) {
      flush();
      out += added_pieces_[added->second];
      is_first = false;
    }
  }
  flush();
  return out;
}

}  // namespace ft
