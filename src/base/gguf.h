// The GGUF container: metadata (key -> typed value) and tensors (name -> type, shape, bytes).
// Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little
// endian. The file is not trusted: every count and length is held against the bytes that are
// left before anything is allocated, tensors must be aligned, inside the file and apart from each
// other. Values stay in the mapping until somebody asks for them.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/gguf_dequant.h"
#include "base/mapped_file.h"

namespace ft {

struct GgufTensor {
  std::string name;
  GgmlType type;
  std::vector<int64_t> shape;        ///< outermost first, as in PyTorch (the file has the reverse)
  std::span<const std::byte> bytes;  ///< inside the mapping; whole rows of whole blocks
};

class GgufFile {
 public:
  /// Reads and checks everything but the tensors' contents. Error (input) naming the file and the
  /// key or tensor.
  explicit GgufFile(const std::filesystem::path& file);

  /// The file's name, the beginning of a message.
  const std::string& where() const { return where_; }
  const std::vector<GgufTensor>& tensors() const { return tensors_; }
  const GgufTensor* find(std::string_view name) const;
  bool has(std::string_view key) const { return values_.contains(key); }

  // Values. Absent is nullopt; another type, or text that is no UTF-8, is an Error (input) naming
  // the key. Integers may have any width, floats too.
  std::optional<int64_t> get_int(std::string_view key) const;
  std::optional<double> get_float(std::string_view key) const;
  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::string_view> get_string(std::string_view key) const;
  std::optional<std::vector<std::string_view>> get_strings(std::string_view key) const;
  std::optional<std::vector<int64_t>> get_ints(std::string_view key) const;  ///< bools are 0 and 1
  std::optional<std::vector<float>> get_floats(std::string_view key) const;
  bool is_array(std::string_view key) const;

 private:
  struct Value {
    uint32_t type;  ///< of the value, of the elements in an array
    bool is_array;
    uint64_t count;                    ///< 1 when no array
    std::span<const std::byte> bytes;  ///< of the value or of all elements
  };
  struct Entry {
    GgufTensor tensor;
    uint64_t offset, size;  ///< in bytes, into the data part
  };
  class Reader;

  const Value* value(std::string_view key) const;
  const Value* value(std::string_view key, bool array, bool good_type(uint32_t),
                     std::string_view wanted) const;
  void read_values(Reader& in, uint64_t count);
  uint64_t alignment() const;
  Entry read_entry(Reader& in, uint64_t number) const;
  void read_tensors(Reader& in, uint64_t count);
  void check_overlap() const;

  std::string where_;
  std::shared_ptr<const MappedFile> file_;
  std::map<std::string, Value, std::less<>> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
};

/// True for well-formed UTF-8 (no surrogates, nothing overlong).
bool is_utf8(std::string_view text);

}  // namespace ft
