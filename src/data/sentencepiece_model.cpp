// Wraps the sentencepiece library (github.com/google/sentencepiece, 0.2.3; Kudo and Richardson
// 2018). It checks most of a model itself; checked here are sizes with which a crafted file could
// make a short text grow without end, and what the rest of the program takes for granted.
// Trap: the library gives the last byte piece of a character the character's whole range and the
// others none; here each gets its byte.
#include "data/sentencepiece_model.h"

#include <sentencepiece_processor.h>

#include <cstring>

#include "base/error.h"
#include "data/utf8.h"
#include "sentencepiece.pb.h"
#include "sentencepiece_model.pb.h"

namespace ft {
namespace {

namespace spm = ::sentencepiece;
using Piece = spm::ModelProto::SentencePiece;

constexpr size_t kMaxFile = size_t{128} << 20;  // the largest known one has 5 MB
constexpr size_t kMaxReplacement = 256;         // the longest of NFKC has 33 bytes

/// The rewriting rules of a model: 4 bytes with the size of a table, the table, and what it points
/// into, texts that each end with a zero byte. A long one would multiply the text.
void check_rules(std::string_view rules, const std::string& where) {
  uint32_t table = 0;
  if (rules.size() <= sizeof table) return;  // the library refuses it
  std::memcpy(&table, rules.data(), sizeof table);
  rules.remove_prefix(sizeof table);
  if (table >= rules.size()) return;
  rules.remove_prefix(table);
  while (!rules.empty()) {
    const size_t length = std::min(rules.find('\0'), rules.size());
    if (length > kMaxReplacement)
      fail_input(where, ": normalizer: a character would become ", length, " bytes, at most ",
                 kMaxReplacement, " are taken");
    rules.remove_prefix(std::min(length + 1, rules.size()));
  }
}

Vocab read_pieces(const spm::ModelProto& model, const std::string& where) {
  Vocab vocab;
  if (model.pieces_size() == 0) fail_input(where, ": no pieces in it, not a sentencepiece model");
  vocab.reserve(static_cast<size_t>(model.pieces_size()));
  for (int id = 0; id < model.pieces_size(); ++id) {
    const std::string& text = model.pieces(id).piece();
    if (valid_utf8_prefix(text) != text.size())
      fail_input(where, ": piece ", id, " \"", printable(text), "\" is not UTF-8");
    if (!vocab.add(text, id))
      fail_input(where, ": piece ", id, " \"", printable(text), "\" is there twice");
  }
  return vocab;
}

}  // namespace

struct SentencePieceModel::Library {
  spm::ModelProto model;  ///< moved into `start` by finish()
  spm::SentencePieceProcessor start, continuation;
  bool has_continuation = false;

  const spm::SentencePieceProcessor& at(Place place) const {
    return place == Place::kContinuation && has_continuation ? continuation : start;
  }
  const spm::ModelProto& loaded() const { return start.model_proto(); }
};

SentencePieceModel::SentencePieceModel() : library_(std::make_unique<Library>()) {}
SentencePieceModel::~SentencePieceModel() = default;

std::unique_ptr<SentencePieceModel> SentencePieceModel::parse(std::string_view content,
                                                              const std::string& where) {
  if (content.size() > kMaxFile)
    fail_input(where, ": ", content.size(), " bytes, a tokenizer has at most ", kMaxFile);
  std::unique_ptr<SentencePieceModel> made(new SentencePieceModel);
  spm::ModelProto& model = made->library_->model;
  if (!model.ParseFromArray(content.data(), content.size()))
    fail_input(where, ": neither a sentencepiece model nor a tiktoken list, or cut short");
  check_rules(model.normalizer_spec().precompiled_charsmap(), where);
  check_rules(model.denormalizer_spec().precompiled_charsmap(), where);
  if (model.trainer_spec().unk_surface().size() > kMaxReplacement)
    fail_input(where, ": unk_surface has ", model.trainer_spec().unk_surface().size(),
               " bytes, at most ", kMaxReplacement, " are taken");
  made->vocab_ = read_pieces(model, where);
  return made;
}

SentencePieceModel::Kind SentencePieceModel::kind(int32_t id) const {
  const spm::ModelProto& model =
      library_->model.pieces_size() > 0 ? library_->model : library_->loaded();
  return static_cast<Kind>(model.pieces(id).type());
}

std::optional<int32_t> SentencePieceModel::control_piece(std::string_view text) const {
  const int32_t id = vocab_.find(text);
  return id >= 0 && kind(id) == Kind::kControl ? std::optional(id) : std::nullopt;
}

std::optional<int32_t> SentencePieceModel::bos() const {
  return control_piece(library_->model.trainer_spec().bos_piece());
}
std::optional<int32_t> SentencePieceModel::eos() const {
  return control_piece(library_->model.trainer_spec().eos_piece());
}
std::optional<int32_t> SentencePieceModel::pad() const {
  return control_piece(library_->model.trainer_spec().pad_piece());
}

void SentencePieceModel::make_control(int32_t id) {
  library_->model.mutable_pieces(id)->set_type(Piece::CONTROL);
}

void SentencePieceModel::finish(bool with_continuations, const std::string& where) {
  const auto load = [&](spm::SentencePieceProcessor& processor, spm::ModelProto model) {
    const auto status = processor.Load(std::make_unique<spm::ModelProto>(std::move(model)));
    // The message begins with the library's own file and line; what it checked stands in brackets.
    if (!status.ok()) {
      std::string_view what = status.message();
      what.remove_prefix(std::min(what.rfind('/') + 1, what.size()));
      fail_input(where, ": not a usable sentencepiece model: ", printable(what));
    }
  };
  Library& library = *library_;
  library.has_continuation =
      with_continuations && library.model.normalizer_spec().add_dummy_prefix();
  if (library.has_continuation) {
    spm::ModelProto model = library.model;
    model.mutable_normalizer_spec()->set_add_dummy_prefix(false);
    load(library.continuation, std::move(model));
  }
  load(library.start, std::move(library.model));
  library.model = {};
}

void SentencePieceModel::encode(std::string_view text, Place place, uint32_t offset,
                                std::vector<Token>& out) const {
  spm::SentencePieceText found;
  const auto status = library_->at(place).Encode(text, &found);
  if (!status.ok())
    fail_input("tokenizer: the text cannot be encoded: ", printable(status.message()));
  size_t bytes = 0;  // byte pieces of the character that is still open
  for (const auto& piece : found.pieces()) {
    const auto id = static_cast<int32_t>(piece.id());
    out.push_back({id, offset + piece.begin(), offset + piece.end()});
    bytes = kind(id) == Kind::kByte ? bytes + 1 : 0;
    if (bytes == 0 || piece.begin() == piece.end()) continue;
    if (bytes == piece.end() - piece.begin())  // not where normalisation changed the character
      for (size_t i = 0; i < bytes; ++i) {
        Token& token = out[out.size() - bytes + i];
        token.begin = offset + piece.begin() + static_cast<uint32_t>(i);
        token.end = token.begin + 1;
      }
    bytes = 0;
  }
}

std::string SentencePieceModel::decode(std::span<const int32_t> ids, Place place) const {
  std::string text;
  const auto status = library_->at(place).Decode(ids, &text);
  if (!status.ok())
    fail_input("tokenizer: the ids cannot be decoded: ", printable(status.message()));
  return lossy_utf8(text);
}

}  // namespace ft
