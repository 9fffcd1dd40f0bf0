// The messages of sentencepiece_model.proto and sentencepiece.proto, as far as the library reads
// them. Takes the place of the code that protoc would generate: no protobuf in the program beside
// those inside LibTorch and Arrow, and a reader with limits of its own for files from anywhere.
// Fields, numbers and defaults are those of the .proto files in the library's sources; accessors
// are named as generated ones. Writing is not needed: the program copies a tokenizer.model as it
// is.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace google::protobuf {

/// Owns objects until it goes.
class Arena {
 public:
  template <class T>
  static T* Create(Arena* arena) {
    auto object = std::make_shared<T>();
    arena->objects_.push_back(object);
    return object.get();
  }

 private:
  std::vector<std::shared_ptr<void>> objects_;
};

}  // namespace google::protobuf

namespace sentencepiece {

template <class T>
class Repeated : public std::vector<T> {
 public:
  T* Add() { return &this->emplace_back(); }
  T* Mutable(int i) { return &(*this)[static_cast<size_t>(i)]; }
  void Reserve(size_t count) { this->reserve(count); }
  void SwapElements(int a, int b) { std::swap(*Mutable(a), *Mutable(b)); }
};

class TrainerSpec {
 public:
  enum ModelType { UNIGRAM = 1, BPE = 2, WORD = 3, CHAR = 4 };

  ModelType model_type() const { return model_type_; }
  bool treat_whitespace_as_suffix() const { return treat_whitespace_as_suffix_; }
  bool byte_fallback() const { return byte_fallback_; }
  int32_t max_sentencepiece_length() const { return max_sentencepiece_length_; }
  bool has_unk_surface() const { return has_unk_surface_; }
  const std::string& unk_surface() const { return unk_surface_; }
  const std::string& unk_piece() const { return unk_piece_; }
  const std::string& bos_piece() const { return bos_piece_; }
  const std::string& eos_piece() const { return eos_piece_; }
  const std::string& pad_piece() const { return pad_piece_; }

 private:
  friend class ModelReader;
  ModelType model_type_ = UNIGRAM;
  bool treat_whitespace_as_suffix_ = false, byte_fallback_ = false, has_unk_surface_ = false;
  int32_t max_sentencepiece_length_ = 16;
  std::string unk_surface_ = " \xe2\x81\x87 ";
  std::string unk_piece_ = "<unk>", bos_piece_ = "<s>", eos_piece_ = "</s>", pad_piece_ = "<pad>";
};

class NormalizerSpec {
 public:
  const std::string& precompiled_charsmap() const { return precompiled_charsmap_; }
  bool add_dummy_prefix() const { return add_dummy_prefix_; }
  bool remove_extra_whitespaces() const { return remove_extra_whitespaces_; }
  bool escape_whitespaces() const { return escape_whitespaces_; }
  void set_add_dummy_prefix(bool value) { add_dummy_prefix_ = value; }

 private:
  friend class ModelReader;
  std::string precompiled_charsmap_;
  bool add_dummy_prefix_ = true, remove_extra_whitespaces_ = true, escape_whitespaces_ = true;
};

class ModelProto {
 public:
  class SentencePiece {
   public:
    enum Type { NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER_DEFINED = 4, UNUSED = 5, BYTE = 6 };

    const std::string& piece() const { return piece_; }
    float score() const { return score_; }
    Type type() const { return type_; }
    void set_type(Type type) { type_ = type; }

   private:
    friend class ModelReader;
    std::string piece_;
    float score_ = 0;
    Type type_ = NORMAL;
  };

  const Repeated<SentencePiece>& pieces() const { return pieces_; }
  const SentencePiece& pieces(int i) const { return pieces_[static_cast<size_t>(i)]; }
  SentencePiece* mutable_pieces(int i) { return pieces_.Mutable(i); }
  int pieces_size() const { return static_cast<int>(pieces_.size()); }
  const TrainerSpec& trainer_spec() const { return trainer_spec_; }
  const NormalizerSpec& normalizer_spec() const { return normalizer_spec_; }
  NormalizerSpec* mutable_normalizer_spec() { return &normalizer_spec_; }
  bool has_denormalizer_spec() const { return has_denormalizer_spec_; }
  const NormalizerSpec& denormalizer_spec() const { return denormalizer_spec_; }

  /// False when the bytes are no such message, or hold more pieces than any tokenizer has.
  bool ParseFromArray(const void* data, size_t size);
  /// Empty: see the top.
  std::string SerializeAsString() const { return {}; }

 private:
  friend class ModelReader;
  Repeated<SentencePiece> pieces_;
  TrainerSpec trainer_spec_;
  NormalizerSpec normalizer_spec_, denormalizer_spec_;
  bool has_denormalizer_spec_ = false;
};

class SentencePieceText {
 public:
  class SentencePiece {
   public:
    const std::string& piece() const { return piece_; }
    std::string* mutable_piece() { return &piece_; }
    void set_piece(std::string piece) { piece_ = std::move(piece); }
    void set_piece(const char* data, size_t size) { piece_.assign(data, size); }
    uint32_t id() const { return id_; }
    void set_id(uint32_t id) { id_ = id; }
    const std::string& surface() const { return surface_; }
    std::string* mutable_surface() { return &surface_; }
    void set_surface(const char* data, size_t size) { surface_.assign(data, size); }
    uint32_t begin() const { return begin_; }
    uint32_t end() const { return end_; }
    void set_begin(size_t begin) { begin_ = static_cast<uint32_t>(begin); }
    void set_end(size_t end) { end_ = static_cast<uint32_t>(end); }

   private:
    std::string piece_, surface_;
    uint32_t id_ = 0, begin_ = 0, end_ = 0;
  };

  const std::string& text() const { return text_; }
  std::string* mutable_text() { return &text_; }
  void set_text(std::string text) { text_ = std::move(text); }
  void set_text(const char* data, size_t size) { text_.assign(data, size); }
  const Repeated<SentencePiece>& pieces() const { return pieces_; }
  Repeated<SentencePiece>* mutable_pieces() { return &pieces_; }
  const SentencePiece& pieces(int i) const { return pieces_[static_cast<size_t>(i)]; }
  SentencePiece* mutable_pieces(int i) { return pieces_.Mutable(i); }
  SentencePiece* add_pieces() { return pieces_.Add(); }
  int pieces_size() const { return static_cast<int>(pieces_.size()); }
  void clear_pieces() { pieces_.clear(); }
  float score() const { return score_; }
  void set_score(float score) { score_ = score; }
  void Clear() { *this = {}; }

 private:
  std::string text_;
  Repeated<SentencePiece> pieces_;
  float score_ = 0;
};

using SentencePieceText_SentencePiece = SentencePieceText::SentencePiece;

class NBestSentencePieceText {
 public:
  const Repeated<SentencePieceText>& nbests() const { return nbests_; }
  SentencePieceText* add_nbests() { return nbests_.Add(); }
  void Clear() { nbests_.clear(); }

 private:
  Repeated<SentencePieceText> nbests_;
};

}  // namespace sentencepiece
