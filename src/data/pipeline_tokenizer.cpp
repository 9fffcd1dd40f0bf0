// The way of a text to ids. Ranges are kept in bytes of the text that was given, through every
// rewriting. Broken UTF-8, which the reference can never see, is cut out and encoded as the bytes
// it is: byte-level vocabularies and those with byte fallback have a token for each, others give
// unk.
#include "data/pipeline_tokenizer.h"

#include <algorithm>

#include "base/error.h"
#include "data/utf8.h"

namespace ft {

const AddedToken* TokenizerParts::find_added(std::string_view content) const {
  for (const AddedToken& token : added)
    if (token.content == content) return &token;
  return nullptr;
}

int32_t TokenizerParts::id_of(std::string_view text) const {
  const AddedToken* token = find_added(text);
  return token ? token->id : vocab().find(text);
}

bool PipelineTokenizer::Run::is_cut(size_t begin, size_t end) const {
  const auto first = std::upper_bound(options.breaks.begin(), options.breaks.end(), begin);
  return first != options.breaks.end() && *first < end;
}

PipelineTokenizer::PipelineTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  for (size_t i = 0; i < parts_.added.size(); ++i) {
    const AddedToken& token = parts_.added[i];
    added_by_id_.emplace(token.id, i);
    added_ids_.emplace(token.content, token.id);
    // The reference shows and decodes a normalised token in its normalised form, too.
    const AlignedText whole(token.content, 0, token.content.size());
    added_pieces_.push_back(token.normalized ? std::string(parts_.normalizer.apply(whole).view())
                                             : token.content);
    (token.normalized ? normalized_ : raw_).add(added_pieces_.back(), token);
  }
  raw_.build();
  normalized_.build();
}

std::vector<Token> PipelineTokenizer::encode(std::string_view text,
                                             const EncodeOptions& options) const {
  if (text.size() >= UINT32_MAX)
    fail_input("tokenizer: a text of ", text.size(), " bytes is too long");
  Run run{text, options, {}, {}, {}};
  if (parts_.bpe) run.session.emplace(*parts_.bpe);
  run.tokens.reserve(text.size() / 3 + 4);
  if (options.add_special_tokens)
    for (const int32_t id : parts_.prefix) run.add(id, 0, 0);
  AddedTokenMatcher::Filter filter{options.parse_special, {}};
  if (!options.breaks.empty())
    filter.forbidden = [&](size_t begin, size_t end) { return run.is_cut(begin, end); };
  std::vector<TextPiece> pieces;
  raw_.split(text, filter, pieces);
  for (const TextPiece& piece : pieces) {
    if (piece.id >= 0) {
      run.add(piece.id, piece.begin, piece.end);
    } else {
      encode_plain(run, piece.begin, piece.end);
    }
  }
  if (options.add_special_tokens)
    for (const int32_t id : parts_.suffix) run.add(id, text.size(), text.size());
  return std::move(run.tokens);
}

void PipelineTokenizer::encode_plain(Run& run, size_t begin, size_t end) const {
  if (parts_.sentencepiece) return encode_sentencepiece(run, begin, end);
  while (begin < end) {
    const std::string_view rest = run.text.substr(begin, end - begin);
    const size_t good = valid_utf8_prefix(rest);
    if (good > 0) encode_valid(run, begin, begin + good);
    size_t bad = good;
    while (bad < rest.size()) {
      const CodePoint point = decode_point(rest, bad);
      if (point.valid) break;
      bad += point.length;
    }
    run.word.clear();
    run.session->encode(rest.substr(good, bad - good), run.word);
    size_t at = begin + good;
    for (const WordToken& token : run.word) {
      run.add(token.id, at, at + token.length);
      at += token.length;
    }
    begin += bad;
  }
}

void PipelineTokenizer::encode_valid(Run& run, size_t begin, size_t end) const {
  AlignedText text = parts_.normalizer.apply(AlignedText(run.text, begin, end));
  if (text.size() == 0) return;
  if (normalized_.empty()) return encode_normalized(run, std::move(text));
  AddedTokenMatcher::Filter filter{run.options.parse_special, {}};
  if (!run.options.breaks.empty())
    filter.forbidden = [&](size_t b, size_t e) {
      return run.is_cut(text.origin_begin(b), text.origin_end(e - 1));
    };
  std::vector<TextPiece> pieces;
  normalized_.split(text.view(), filter, pieces);
  for (const TextPiece& piece : pieces) {
    if (piece.id >= 0) {
      run.add(piece.id, text.origin_begin(piece.begin), text.origin_end(piece.end - 1));
    } else {
      encode_normalized(run, pieces.size() == 1 ? text : text.slice(piece.begin, piece.end));
    }
  }
}

void PipelineTokenizer::encode_normalized(Run& run, AlignedText text) const {
  const WordList list = parts_.pre_tokenizer.apply(std::move(text));
  const std::string_view view = list.text.view();
  for (const ByteRange& word : list.words) {
    run.word.clear();
    run.session->encode(view.substr(word.begin, word.end - word.begin), run.word);
    size_t at = word.begin;
    for (const WordToken& token : run.word) {
      const size_t last = at + token.length - 1;
      run.add(token.id, list.text.origin_begin(at), list.text.origin_end(last));
      at += token.length;
    }
  }
}

std::string PipelineTokenizer::decode(std::span<const int32_t> ids, bool skip_special) const {
  if (parts_.sentencepiece) return decode_sentencepiece(ids, skip_special);
  std::vector<std::string> tokens;
  tokens.reserve(ids.size());
  for (const int32_t id : ids) {
    if (skip_special && is_special(id)) continue;
    if (added_by_id_.count(id) || parts_.vocab().has(id)) tokens.push_back(piece(id));
  }
  return parts_.decoder.decode(std::move(tokens));
}

std::string PipelineTokenizer::piece(int32_t id) const {
  const auto added = added_by_id_.find(id);
  if (added != added_by_id_.end()) return added_pieces_[added->second];
  return std::string(parts_.vocab().text(id));
}

std::optional<int32_t> PipelineTokenizer::id_of(std::string_view piece) const {
  const auto added = added_ids_.find(std::string(piece));
  const int32_t id = added != added_ids_.end() ? added->second : parts_.vocab().find(piece);
  return id >= 0 ? std::optional(id) : std::nullopt;
}

bool PipelineTokenizer::is_special(int32_t id) const {
  const auto added = added_by_id_.find(id);
  return added != added_by_id_.end() && parts_.added[added->second].special;
}

int64_t PipelineTokenizer::size() const {
  int64_t size = parts_.vocab().size();
  for (const AddedToken& token : parts_.added) size = std::max<int64_t>(size, token.id + 1);
  return size;
}

std::vector<std::string> PipelineTokenizer::special_texts() const {
  std::vector<std::string> texts;
  for (const AddedToken& token : parts_.added)
    if (token.special) texts.push_back(token.content);
  return texts;
}

}  // namespace ft
