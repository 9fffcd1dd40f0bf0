// SentencePiece vocabularies (tokenizer.ggml.model = llama): Llama 2, Gemma.
// SentencePiece joins, again and again, the neighbours whose joint piece scores best.
// tokenizer.json says the same as a list of merges: every way to cut a piece into two pieces, best
// piece first (transformers' generate_merges; equal ids). Gemma's scores do not follow its
// training, the order of its pieces does. tokenizer.model is the same vocabulary as a protocol
// buffer (sentencepiece_model.proto), for readers that want the original kind of file.
#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "base/error.h"
#include "data/gguf_convert_tokenizer.h"

namespace ft {
namespace {

constexpr std::string_view kSpace = "\xe2\x96\x81";  // U+2581, how pieces spell a space

std::string with_marks(std::string_view text) {
  std::string out;
  for (const char c : text)
    if (c == ' ')
      out += kSpace;
    else
      out += c;
  return out;
}

bool starts_character(char c) {
  return (static_cast<unsigned char>(c) & 0xc0) != 0x80;
}

/// Pieces that text can be merged into; the others only stand for themselves.
bool can_merge(PieceType t) {
  return t == PieceType::kNormal || t == PieceType::kUserDefined || t == PieceType::kUnused;
}

/// Runs of spaces are stored as spaces, but the merges see text whose spaces are U+2581.
std::vector<std::string> spell(const GgufVocabulary& v) {
  const std::unordered_set<std::string_view> taken(v.tokens.begin(), v.tokens.end());
  std::vector<std::string> spelling;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    std::string text(v.tokens[i]);
    if (can_merge(v.types[i]) && text.find_first_not_of(' ') == std::string::npos) {
      std::string marked = with_marks(text);
      if (!taken.contains(marked)) text = std::move(marked);
    }
    spelling.push_back(std::move(text));
  }
  return spelling;
}

using Merges = std::vector<std::pair<std::string_view, std::string_view>>;

/// All cuts of all pieces. Pieces in the given order (best first); for one piece the cut with
/// the longest left half first, as the reference has it.
Merges derive_merges(const std::vector<std::string>& spelling, const std::vector<PieceType>& types,
                     const std::vector<size_t>& order) {
  std::unordered_set<std::string_view> known;
  for (size_t i = 0; i < spelling.size(); ++i)
    if (can_merge(types[i])) known.insert(spelling[i]);
  Merges merges;
  for (const size_t i : order) {
    const std::string_view piece = spelling[i];
    if (!can_merge(types[i])) continue;
    for (size_t cut = piece.size() - 1; cut > 0; --cut)
      if (starts_character(piece[cut]) && known.contains(piece.substr(0, cut)) &&
          known.contains(piece.substr(cut)))
        merges.emplace_back(piece.substr(0, cut), piece.substr(cut));
  }
  return merges;
}

Json replace(std::string_view from, std::string_view to) {
  return Json::Object{
      {"type", "Replace"}, {"pattern", Json::Object{{"String", from}}}, {"content", to}};
}

/// Protocol buffer fields: varint, 32 bits, bytes.
class ProtoWriter {
 public:
  void number(uint32_t field, int64_t value) {
    varint(field << 3);
    varint(static_cast<uint64_t>(value));
  }
  void real(uint32_t field, float value) {
    varint(field << 3 | 5);
    const auto bits = std::bit_cast<uint32_t>(value);
    for (int shift = 0; shift < 32; shift += 8) out_ += static_cast<char>(bits >> shift & 255);
  }
  void bytes(uint32_t field, std::string_view value) {
    varint(field << 3 | 2);
    varint(value.size());
    out_ += value;
  }
  const std::string& text() const { return out_; }

 private:
  void varint(uint64_t v) {
    for (; v > 127; v >>= 7) out_ += static_cast<char>((v & 127) | 128);
    out_ += static_cast<char>(v);
  }
  std::string out_;
};

}  // namespace

std::vector<float> read_scores(const GgufFile& file, size_t num_tokens) {
  constexpr const char* kKey = "tokenizer.ggml.scores";
  const auto scores = file.get_floats(kKey);
  if (!scores) fail_input(file.where(), ": ", kKey, ": the key is missing");
  if (scores->size() != num_tokens)
    fail_input(file.where(), ": ", kKey, ": ", scores->size(), " entries for ", num_tokens,
               " tokens");
  for (const float s : *scores)
    if (!std::isfinite(s)) fail_input(file.where(), ": ", kKey, ": a score is no finite number");
  return *scores;
}

GgufTokenizer spm_parts(const GgufFile& file, const GgufVocabulary& v) {
  GgufTokenizer parts;
  parts.spelling = spell(v);
  if (file.has("tokenizer.ggml.merges")) {
    parts.merges = read_merges(file, parts.spelling);
  } else {
    const std::vector<float> scores = read_scores(file, v.tokens.size());
    std::vector<size_t> order(v.tokens.size());
    std::iota(order.begin(), order.end(), size_t{0});
    if (!v.is_gemma)
      std::stable_sort(order.begin(), order.end(),
                       [&](size_t a, size_t b) { return scores[a] > scores[b]; });
    parts.merges = derive_merges(parts.spelling, v.types, order);
  }
  parts.fuse_unk = true;
  parts.byte_fallback =
      std::find(v.types.begin(), v.types.end(), PieceType::kByte) != v.types.end();
  if (v.unk) parts.unk_token = v.tokens[static_cast<size_t>(*v.unk)];

  Json::Array decoders{replace(kSpace, " "), Json::Object{{"type", "ByteFallback"}},
                       Json::Object{{"type", "Fuse"}}};
  parts.normalizer = replace(" ", kSpace);
  if (v.add_space_prefix) {
    Json prepend = Json::Object{{"type", "Prepend"}, {"prepend", kSpace}};
    parts.normalizer =
        Json::Object{{"type", "Sequence"},
                     {"normalizers", Json::Array{std::move(prepend), std::move(parts.normalizer)}}};
    decoders.push_back(
        Json::Object{{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  }
  parts.decoder = Json::Object{{"type", "Sequence"}, {"decoders", std::move(decoders)}};
  // Gemma's own file has this step, although no space is left for it to see.
  if (v.is_gemma)
    parts.pre_tokenizer = Json::Object{{"type", "Split"},
                                       {"pattern", Json::Object{{"String", " "}}},
                                       {"behavior", "MergedWithPrevious"},
                                       {"invert", false}};
  return parts;
}

std::string sentencepiece_model(const GgufFile& file, const GgufVocabulary& v) {
  // Numbers: fields of ModelProto and of its TrainerSpec and NormalizerSpec.
  const std::vector<float> scores = read_scores(file, v.tokens.size());
  ProtoWriter model;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const bool user = v.types[i] == PieceType::kUserDefined;
    // The reader insists on a piece of type unknown; files of Gemma call it control.
    const bool unknown = v.unk == static_cast<int64_t>(i);
    ProtoWriter piece;
    piece.bytes(1, user ? with_marks(v.tokens[i]) : std::string(v.tokens[i]));
    piece.real(2, scores[i]);
    piece.number(3, static_cast<int64_t>(unknown ? PieceType::kUnknown : v.types[i]));
    model.bytes(1, piece.text());
  }
  const bool bytes = std::find(v.types.begin(), v.types.end(), PieceType::kByte) != v.types.end();
  ProtoWriter trainer;
  trainer.number(3, 2);  // model_type: BPE
  trainer.number(4, static_cast<int64_t>(v.tokens.size()));
  trainer.number(24, 0);  // treat_whitespace_as_suffix
  trainer.number(35, bytes ? 1 : 0);
  const std::optional<int64_t> ids[] = {v.unk, v.bos, v.eos, v.pad};
  for (uint32_t k = 0; k < 4; ++k) trainer.number(40 + k, ids[k].value_or(-1));
  for (uint32_t k = 0; k < 4; ++k)
    if (ids[k]) trainer.bytes(45 + k, v.tokens[static_cast<size_t>(*ids[k])]);
  ProtoWriter normalizer;
  normalizer.bytes(1, "identity");
  normalizer.number(3, v.add_space_prefix ? 1 : 0);  // add_dummy_prefix
  normalizer.number(4, 0);                           // remove_extra_whitespaces
  normalizer.number(5, 1);                           // escape_whitespaces
  model.bytes(2, trainer.text());
  model.bytes(3, normalizer.text());
  return model.text();
}

}  // namespace ft
