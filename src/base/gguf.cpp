#include "base/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/error.h"

namespace ft {
namespace {

constexpr uint64_t kMaxKey = 65535;  // the format's own limit
constexpr uint64_t kMaxName = 64;    // ggml's GGML_MAX_NAME
constexpr uint32_t kMaxDims = 4;     // GGML_MAX_DIMS

enum ValueType : uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64,
  kNumTypes
};
/// Bytes of one value; for a string the least it can take (its length).
constexpr size_t kSizes[kNumTypes] = {1, 1, 2, 2, 4, 4, 4, 1, 8, 0, 8, 8, 8};

static_assert(std::endian::native == std::endian::little, "values are copied as they lie");

template <typename T>
T load(const std::byte* p) {
  T v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

std::string_view text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

bool is_integer(uint32_t t) {
  return t <= kInt32 || t == kUint64 || t == kInt64;
}
bool is_integer_or_bool(uint32_t t) {
  return is_integer(t) || t == kBool;
}
bool is_float(uint32_t t) {
  return t == kFloat32 || t == kFloat64;
}
bool is_bool(uint32_t t) {
  return t == kBool;
}
bool is_string(uint32_t t) {
  return t == kString;
}

/// nullopt when an unsigned value has no place in int64.
std::optional<int64_t> integer_at(uint32_t type, const std::byte* p) {
  switch (type) {
    case kUint8:
    case kBool:
      return load<uint8_t>(p);
    case kInt8:
      return load<int8_t>(p);
    case kUint16:
      return load<uint16_t>(p);
    case kInt16:
      return load<int16_t>(p);
    case kUint32:
      return load<uint32_t>(p);
    case kInt32:
      return load<int32_t>(p);
    default: {
      const auto v = load<int64_t>(p);
      if (type == kUint64 && v < 0) return std::nullopt;
      return v;
    }
  }
}

}  // namespace

/// A position in the file that never leaves it.
class GgufFile::Reader {
 public:
  Reader(const std::string& where, std::span<const std::byte> bytes)
      : where_(where), bytes_(bytes) {}

  uint64_t position() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  std::span<const std::byte> take(uint64_t size, std::string_view what) {
    if (size > left())
      fail_input(where_, ": ", what, " at byte ", at_, " needs ", size, " bytes, ", left(),
                 " are left (cut short, or damaged?)");
    const auto part = bytes_.subspan(at_, size);
    at_ += size;
    return part;
  }
  template <typename T>
  T number(std::string_view what) {
    return load<T>(take(sizeof(T), what).data());
  }
  std::string_view text(uint64_t max, std::string_view what) {
    const auto size = number<uint64_t>(what);
    if (size > max)
      fail_input(where_, ": ", what, " at byte ", at_ - 8, " is ", size, " bytes long, at most ",
                 max, " are allowed");
    return text_of(take(size, what));
  }
  /// A count of items that take at least `least` bytes each.
  uint64_t count(uint64_t n, uint64_t least, std::string_view what) const {
    if (n > left() / least)
      fail_input(where_, ": ", n, " ", what, " cannot fit into the ", left(),
                 " bytes that are left (cut short, or damaged?)");
    return n;
  }

 private:
  const std::string& where_;
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
};

GgufFile::GgufFile(const std::filesystem::path& file)
    : where_(file.string()), file_(MappedFile::open(file)) {
  Reader in(where_, file_->bytes());
  if (in.left() < 8 || text_of(in.take(4, "magic")) != "GGUF")
    fail_input(where_, ": not a GGUF file (it does not begin with GGUF)");
  const auto version = in.number<uint32_t>("version");
  if (version != 0 && (version & 0xffff) == 0)
    fail_input(where_, ": a big-endian GGUF file; little endian is wanted");
  if (version != 2 && version != 3)
    fail_input(where_, ": GGUF version ", version, " is not supported, 2 or 3 is wanted");
  const auto num_tensors = in.number<uint64_t>("tensor count");
  const auto num_values = in.number<uint64_t>("metadata count");
  read_values(in, num_values);
  read_tensors(in, num_tensors);
}

void GgufFile::read_values(Reader& in, uint64_t count) {
  in.count(count, 8 + 1 + 4 + 1, "metadata entries");
  for (uint64_t i = 0; i < count; ++i) {
    const std::string key(in.text(kMaxKey, "metadata key"));
    if (key.empty()) fail_input(where_, ": metadata entry ", i, " has an empty key");
    const auto bad = [&](const auto&... what) {
      fail_input(where_, ": ", printable(key), ": ", what...);
    };
    Value v{in.number<uint32_t>("value type"), false, 1, {}};
    if (v.type == kArray) {
      v.is_array = true;
      v.type = in.number<uint32_t>("element type");
      v.count = in.number<uint64_t>("array length");
      if (v.type == kArray) bad("an array of arrays; only flat arrays are read");
    }
    if (v.type >= kNumTypes) bad("value type ", v.type, " is unknown");
    in.count(v.count, kSizes[v.type], str("elements of ", printable(key)));
    const uint64_t begin = in.position();
    if (v.type == kString)
      for (uint64_t k = 0; k < v.count; ++k) in.text(UINT64_MAX, "string");
    else
      in.take(v.count * kSizes[v.type], "value");
    v.bytes = file_->bytes().subspan(begin, in.position() - begin);
    if (v.type == kBool)
      for (const std::byte b : v.bytes)
        if (b > std::byte{1}) bad("a boolean that is neither 0 nor 1");
    if (!values_.emplace(key, v).second) bad("the key appears twice");
  }
}

/// general.alignment, a power of two.
uint64_t GgufFile::alignment() const {
  const Value* v = value("general.alignment");
  if (v && (v->is_array || v->type != kUint32))
    fail_input(where_, ": general.alignment: an unsigned 32-bit integer is wanted");
  const uint64_t alignment = v ? load<uint32_t>(v->bytes.data()) : 32;
  if (!std::has_single_bit(alignment))
    fail_input(where_, ": general.alignment: ", alignment, " is no power of two");
  return alignment;
}

/// One entry of the tensor list; its bytes are not known before the list ends.
GgufFile::Entry GgufFile::read_entry(Reader& in, uint64_t number) const {
  Entry e{{std::string(in.text(kMaxName, "tensor name")), {}, {}, {}}, 0, 0};
  GgufTensor& t = e.tensor;
  if (t.name.empty()) fail_input(where_, ": tensor ", number, " has an empty name");
  const auto bad = [&](const auto&... what) {
    fail_input(where_, ": ", printable(t.name), ": ", what...);
  };
  const auto dims = in.number<uint32_t>("number of dimensions");
  if (dims == 0 || dims > kMaxDims) bad(dims, " dimensions; 1 to ", kMaxDims, " are wanted");
  uint64_t rows = 1;
  for (uint32_t d = 0; d < dims; ++d) {
    const auto size = in.number<int64_t>("dimension");
    if (size <= 0) bad("dimension ", d, " is ", size);
    if (d > 0 && __builtin_mul_overflow(rows, static_cast<uint64_t>(size), &rows))
      bad("the shape is too large");
    t.shape.insert(t.shape.begin(), size);
  }
  const auto type = in.number<uint32_t>("tensor type");
  const GgmlFormat* format = find_ggml_format(type);
  if (!format)
    fail_input(where_, ": ", printable(t.name), ": weights of type ", ggml_type_name(type),
               " are not read; supported are ", ggml_type_names());
  t.type = format->type;
  const auto row = static_cast<uint64_t>(t.shape.back());
  if (row % format->block_values != 0)
    bad("rows of ", row, " values are no whole blocks of ", format->name, " (",
        format->block_values, " values)");
  // Overflow anywhere means more bytes than any file has.
  uint64_t row_bytes = 0;
  if (__builtin_mul_overflow(row / format->block_values, format->block_bytes, &row_bytes) ||
      __builtin_mul_overflow(row_bytes, rows, &e.size) || e.size > in.left())
    bad("the shape needs more bytes than the file has (cut short, or damaged?)");
  e.offset = in.number<uint64_t>("tensor offset");
  return e;
}

void GgufFile::read_tensors(Reader& in, uint64_t count) {
  in.count(count, 8 + 1 + 4 + 8 + 4 + 8, "tensors");
  const uint64_t align = alignment();
  std::vector<Entry> entries;
  for (uint64_t i = 0; i < count; ++i) {
    entries.push_back(read_entry(in, i));
    const Entry& e = entries.back();
    if (!index_.emplace(e.tensor.name, i).second)
      fail_input(where_, ": ", printable(e.tensor.name), ": two tensors have this name");
    if (e.offset % align != 0)
      fail_input(where_, ": ", printable(e.tensor.name), ": offset ", e.offset,
                 " is no multiple of the alignment ", align);
  }
  if (count > 0) in.take((align - in.position() % align) % align, "padding");
  const auto data = file_->bytes().subspan(in.position());
  for (Entry& e : entries) {
    if (e.offset > data.size() || e.size > data.size() - e.offset)
      fail_input(where_, ": ", printable(e.tensor.name), ": its data (offset ", e.offset, ", ",
                 e.size, " bytes) lies beyond the end of the file (cut short?)");
    e.tensor.bytes = data.subspan(e.offset, e.size);
    tensors_.push_back(std::move(e.tensor));
  }
  check_overlap();
}

/// Without this a small file could claim any number of tensors over the same bytes.
void GgufFile::check_overlap() const {
  std::vector<const GgufTensor*> order;
  for (const GgufTensor& t : tensors_) order.push_back(&t);
  std::sort(order.begin(), order.end(),
            [](const auto* a, const auto* b) { return a->bytes.data() < b->bytes.data(); });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i - 1]->bytes.data() + order[i - 1]->bytes.size() > order[i]->bytes.data())
      fail_input(where_, ": ", printable(order[i]->name), ": its data overlaps that of ",
                 printable(order[i - 1]->name));
}

const GgufTensor* GgufFile::find(std::string_view name) const {
  const auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second];
}

const GgufFile::Value* GgufFile::value(std::string_view key) const {
  const auto it = values_.find(key);
  return it == values_.end() ? nullptr : &it->second;
}

const GgufFile::Value* GgufFile::value(std::string_view key, bool array, bool good_type(uint32_t),
                                       std::string_view wanted) const {
  const Value* v = value(key);
  if (v && (v->is_array != array || !good_type(v->type)))
    fail_input(where_, ": ", key, ": ", array ? "a list of " : "one ", wanted, " is wanted");
  return v;
}

bool GgufFile::is_array(std::string_view key) const {
  const Value* v = value(key);
  return v && v->is_array;
}

std::optional<int64_t> GgufFile::get_int(std::string_view key) const {
  const Value* v = value(key, false, is_integer, "integer");
  if (!v) return std::nullopt;
  const auto number = integer_at(v->type, v->bytes.data());
  if (!number) fail_input(where_, ": ", key, ": the number is too large");
  return number;
}

std::optional<double> GgufFile::get_float(std::string_view key) const {
  const Value* v = value(key, false, is_float, "floating-point number");
  if (!v) return std::nullopt;
  if (v->type == kFloat64) return load<double>(v->bytes.data());
  return load<float>(v->bytes.data());
}

std::optional<bool> GgufFile::get_bool(std::string_view key) const {
  const Value* v = value(key, false, is_bool, "boolean");
  if (!v) return std::nullopt;
  return v->bytes[0] != std::byte{0};
}

std::optional<std::string_view> GgufFile::get_string(std::string_view key) const {
  const Value* v = value(key, false, is_string, "string");
  if (!v) return std::nullopt;
  const std::string_view text = text_of(v->bytes.subspan(8));
  if (!is_utf8(text)) fail_input(where_, ": ", key, ": not valid UTF-8");
  return text;
}

std::optional<std::vector<std::string_view>> GgufFile::get_strings(std::string_view key) const {
  const Value* v = value(key, true, is_string, "strings");
  if (!v) return std::nullopt;
  std::vector<std::string_view> texts;
  texts.reserve(v->count);
  Reader in(where_, v->bytes);
  for (uint64_t i = 0; i < v->count; ++i) {
    texts.push_back(in.text(UINT64_MAX, "string"));
    if (!is_utf8(texts.back())) fail_input(where_, ": ", key, ": entry ", i, " is not valid UTF-8");
  }
  return texts;
}

std::optional<std::vector<int64_t>> GgufFile::get_ints(std::string_view key) const {
  const Value* v = value(key, true, is_integer_or_bool, "integers");
  if (!v) return std::nullopt;
  std::vector<int64_t> numbers;
  numbers.reserve(v->count);
  for (uint64_t i = 0; i < v->count; ++i) {
    const auto number = integer_at(v->type, v->bytes.data() + i * kSizes[v->type]);
    if (!number) fail_input(where_, ": ", key, ": entry ", i, " is too large");
    numbers.push_back(*number);
  }
  return numbers;
}

std::optional<std::vector<float>> GgufFile::get_floats(std::string_view key) const {
  const Value* v = value(key, true, is_float, "floating-point numbers");
  if (!v) return std::nullopt;
  std::vector<float> numbers;
  numbers.reserve(v->count);
  for (uint64_t i = 0; i < v->count; ++i) {
    const std::byte* p = v->bytes.data() + i * kSizes[v->type];
    numbers.push_back(v->type == kFloat32 ? load<float>(p) : static_cast<float>(load<double>(p)));
  }
  return numbers;
}

bool is_utf8(std::string_view text) {
  for (size_t i = 0; i < text.size();) {
    const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[i + k]); };
    const unsigned char lead = byte(0);
    const size_t size = lead < 0x80   ? 1
                        : lead < 0xc2 ? 0
                        : lead < 0xe0 ? 2
                        : lead < 0xf0 ? 3
                        : lead < 0xf5 ? 4
                                      : 0;
    if (size == 0 || size > text.size() - i) return false;
    for (size_t k = 1; k < size; ++k)
      if (byte(k) >> 6 != 2) return false;
    // The second byte decides what is overlong, a surrogate or above U+10FFFF.
    if (size > 2) {
      const unsigned char second = byte(1);
      if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
          (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
        return false;
    }
    i += size;
  }
  return true;
}

}  // namespace ft
