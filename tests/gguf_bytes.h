// Makes GGUF files for tests, good ones and bad ones: everything is appended as it is told.
#pragma once

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace ft {

/// Little-endian values one after another.
class Bytes {
 public:
  template <typename T>
  Bytes& put(T value) {
    text_.append(reinterpret_cast<const char*>(&value), sizeof value);
    return *this;
  }
  Bytes& u32(uint32_t v) { return put(v); }
  Bytes& u64(uint64_t v) { return put(v); }
  Bytes& raw(const std::string& v) {
    text_ += v;
    return *this;
  }
  Bytes& text(const std::string& v) { return u64(v.size()).raw(v); }
  Bytes& pad(size_t alignment) {
    while (text_.size() % alignment != 0) text_ += '\0';
    return *this;
  }
  size_t size() const { return text_.size(); }
  const std::string& str() const { return text_; }

 private:
  std::string text_;
};

/// A whole file from its parts.
class GgufBytes {
 public:
  GgufBytes& value(const std::string& key, uint32_t type, const Bytes& payload) {
    values_.text(key).u32(type).raw(payload.str());
    ++num_values_;
    return *this;
  }
  GgufBytes& integer(const std::string& key, uint32_t v) { return value(key, 4, Bytes().u32(v)); }
  GgufBytes& real(const std::string& key, float v) { return value(key, 6, Bytes().put(v)); }
  GgufBytes& boolean(const std::string& key, bool v) {
    return value(key, 7, Bytes().put(static_cast<uint8_t>(v)));
  }
  GgufBytes& string(const std::string& key, const std::string& v) {
    return value(key, 8, Bytes().text(v));
  }
  GgufBytes& strings(const std::string& key, const std::vector<std::string>& list) {
    Bytes b;
    b.u32(8).u64(list.size());
    for (const auto& s : list) b.text(s);
    return value(key, 9, b);
  }
  template <typename T>
  GgufBytes& numbers(const std::string& key, uint32_t type, const std::vector<T>& list) {
    Bytes b;
    b.u32(type).u64(list.size());
    for (const T v : list) b.put(v);
    return value(key, 9, b);
  }
  /// `dims` in the order of the file: the row length first.
  GgufBytes& tensor(const std::string& name, const std::vector<uint64_t>& dims, uint32_t type,
                    const std::string& data) {
    info_.text(name).u32(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) info_.u64(d);
    info_.u32(type).u64(data_.size());
    data_.raw(data).pad(32);
    ++num_tensors_;
    return *this;
  }
  GgufBytes& floats(const std::string& name, const std::vector<uint64_t>& dims,
                    const std::vector<float>& v) {
    return tensor(name, dims, 0,
                  std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof(float)));
  }
  std::string build() const {
    Bytes b;
    b.raw("GGUF").u32(3).u64(num_tensors_).u64(num_values_);
    b.raw(values_.str()).raw(info_.str()).pad(32).raw(data_.str());
    return b.str();
  }

 private:
  Bytes values_, info_, data_;
  uint64_t num_values_ = 0, num_tensors_ = 0;
};

/// A folder that goes away with the test.
class ScratchFolder {
 public:
  ScratchFolder() {
    std::string name = (std::filesystem::temp_directory_path() / "ft_gguf_XXXXXX").string();
    if (mkdtemp(name.data())) path_ = name;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  std::filesystem::path operator/(const std::string& name) const { return path_ / name; }
  std::filesystem::path write(const std::string& name, const std::string& content) const {
    std::ofstream(path_ / name, std::ios::binary) << content;
    return path_ / name;
  }

 private:
  std::filesystem::path path_;
};

}  // namespace ft
