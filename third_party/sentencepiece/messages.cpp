// Reads the wire format of protocol buffers (protobuf.dev/programming-guides/encoding) for the
// messages of messages.h: a repeated field adds, another one counts the last time it comes, an
// unknown field or enum value is passed over. Every length is checked against what is left, and
// messages nest three deep at most, so no file can make this read wild, loop or recurse.
#include "messages.h"

#include <bit>
#include <cstring>
#include <string_view>

namespace sentencepiece {
namespace {

constexpr size_t kMaxPieces = size_t{1} << 22;  // the largest known vocabularies have 262,144

struct Field {
  uint32_t number = 0;
  enum Kind { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 } kind = kVarint;
  uint64_t value = 0;  ///< of a varint or fixed field
  std::string_view bytes;
};

/// The fields of one message.
class Fields {
 public:
  explicit Fields(std::string_view rest) : rest_(rest) {}

  /// False at the end, and on bytes that are no field: see failed().
  bool next(Field& field) {
    if (rest_.empty()) return false;
    uint64_t tag = 0;
    if (!varint(tag) || tag >> 3 == 0 || tag > UINT32_MAX) return fail();
    field.number = static_cast<uint32_t>(tag >> 3);
    field.kind = static_cast<Field::Kind>(tag & 7);
    switch (field.kind) {
      case Field::kVarint:
        return varint(field.value) || fail();
      case Field::kFixed64:
        return fixed(8, field.value) || fail();
      case Field::kFixed32:
        return fixed(4, field.value) || fail();
      case Field::kBytes: {
        uint64_t length = 0;
        if (!varint(length) || length > rest_.size()) return fail();
        field.bytes = rest_.substr(0, length);
        rest_.remove_prefix(length);
        return true;
      }
    }
    return fail();  // groups are not used in these messages
  }
  bool failed() const { return failed_; }

 private:
  std::string_view rest_;
  bool failed_ = false;

  bool fail() {
    failed_ = true;
    return false;
  }
  bool varint(uint64_t& value) {
    value = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
      if (rest_.empty()) return false;
      const auto byte = static_cast<uint8_t>(rest_[0]);
      rest_.remove_prefix(1);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return true;
    }
    return false;
  }
  bool fixed(size_t size, uint64_t& value) {
    if (rest_.size() < size) return false;
    value = 0;
    for (size_t i = 0; i < size; ++i)
      value |= static_cast<uint64_t>(static_cast<uint8_t>(rest_[i])) << 8 * i;
    rest_.remove_prefix(size);
    return true;
  }
};

void set(const Field& f, std::string& out) {
  if (f.kind == Field::kBytes) out = f.bytes;
}
void set(const Field& f, bool& out) {
  if (f.kind == Field::kVarint) out = f.value != 0;
}

}  // namespace

class ModelReader {
 public:
  static bool read(std::string_view bytes, ModelProto& model) {
    Fields fields(bytes);
    for (Field f; fields.next(f);) {
      if (f.kind != Field::kBytes) continue;
      bool good = true;
      if (f.number == 1) {
        good = model.pieces_.size() < kMaxPieces && read(f.bytes, *model.pieces_.Add());
      } else if (f.number == 2) {
        good = read(f.bytes, model.trainer_spec_);
      } else if (f.number == 3) {
        good = read(f.bytes, model.normalizer_spec_);
      } else if (f.number == 5) {
        model.has_denormalizer_spec_ = true;
        good = read(f.bytes, model.denormalizer_spec_);
      }
      if (!good) return false;
    }
    return !fields.failed();
  }

 private:
  static bool read(std::string_view bytes, ModelProto::SentencePiece& piece) {
    Fields fields(bytes);
    for (Field f; fields.next(f);) {
      if (f.number == 1) set(f, piece.piece_);
      if (f.number == 2 && f.kind == Field::kFixed32)
        piece.score_ = std::bit_cast<float>(static_cast<uint32_t>(f.value));
      if (f.number == 3 && f.kind == Field::kVarint && f.value >= 1 && f.value <= 6)
        piece.type_ = static_cast<ModelProto::SentencePiece::Type>(f.value);
    }
    return !fields.failed();
  }

  static bool read(std::string_view bytes, TrainerSpec& spec) {
    Fields fields(bytes);
    for (Field f; fields.next(f);) {
      switch (f.number) {
        case 3:
          if (f.kind == Field::kVarint && f.value >= 1 && f.value <= 4)
            spec.model_type_ = static_cast<TrainerSpec::ModelType>(f.value);
          break;
        case 20:
          if (f.kind == Field::kVarint)
            spec.max_sentencepiece_length_ = static_cast<int32_t>(f.value);
          break;
        case 24:
          set(f, spec.treat_whitespace_as_suffix_);
          break;
        case 35:
          set(f, spec.byte_fallback_);
          break;
        case 44:
          spec.has_unk_surface_ = true;
          set(f, spec.unk_surface_);
          break;
        case 45:
          set(f, spec.unk_piece_);
          break;
        case 46:
          set(f, spec.bos_piece_);
          break;
        case 47:
          set(f, spec.eos_piece_);
          break;
        case 48:
          set(f, spec.pad_piece_);
          break;
        default:
          break;
      }
    }
    return !fields.failed();
  }

  static bool read(std::string_view bytes, NormalizerSpec& spec) {
    Fields fields(bytes);
    for (Field f; fields.next(f);) {
      switch (f.number) {
        case 2:
          set(f, spec.precompiled_charsmap_);
          break;
        case 3:
          set(f, spec.add_dummy_prefix_);
          break;
        case 4:
          set(f, spec.remove_extra_whitespaces_);
          break;
        case 5:
          set(f, spec.escape_whitespaces_);
          break;
        default:
          break;
      }
    }
    return !fields.failed();
  }
};

bool ModelProto::ParseFromArray(const void* data, size_t size) {
  *this = {};
  return ModelReader::read({static_cast<const char*>(data), size}, *this);
}

}  // namespace sentencepiece
