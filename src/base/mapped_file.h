// A read-only mapping of a whole file.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <span>
#include <string>

namespace ft {

class MappedFile {
 public:
  /// Error (input) when the file cannot be opened or mapped.
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& file);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }

 private:
  MappedFile(const std::byte* data, size_t size, std::string path)
      : data_(data), size_(size), path_(std::move(path)) {}
  const std::byte* data_;
  size_t size_;
  std::string path_;
};

/// Reading a mapped file that has become shorter, or whose disk fails, is the signal SIGBUS. From
/// here on it ends the program with status 3 and a line that names the file.
void install_mapping_faults();

/// Drops the pages of a file mapping that nobody has written to, or of a shared one, from this
/// process's memory: they come back from the file when they are touched.
void release_pages(const void* data, size_t size);

}  // namespace ft
