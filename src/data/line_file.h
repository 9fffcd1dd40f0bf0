// A JSON Lines file that stays on the disk: where its rows begin is known, their text is read when
// it is asked for. Plain reads, not a mapping: the kernel maps the neighbours of every page that is
// touched, so a shuffled walk over a mapping would soon hold the whole file.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ft {

/// Reading is safe from several threads.
class LineFile {
 public:
  /// Reads the file once, for its line ends. Error (input) when it cannot be read or is UTF-16.
  explicit LineFile(const std::string& file);
  ~LineFile();
  LineFile(LineFile&& other) noexcept;
  LineFile& operator=(LineFile&&) = delete;

  /// Lines that are not blank.
  size_t size() const { return begins_.size() - 1; }
  /// The row without its line end. Error (input) when the file is not what it was.
  std::string text(size_t row) const;
  /// Bytes of the row, with its line end and blank lines behind it.
  size_t bytes(size_t row) const { return begins_[row + 1] - begins_[row]; }
  /// The number of the row's line, from 1.
  int64_t line(size_t row) const;

 private:
  void index();
  size_t read(uint64_t at, char* to, size_t size) const;

  std::string file_;
  int fd_ = -1;
  std::vector<uint64_t> begins_;  ///< of each row; the size of the file behind them
  std::vector<size_t> blanks_;    ///< for each blank line, the rows before it
};

}  // namespace ft
