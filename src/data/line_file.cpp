#include "data/line_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace ft {
namespace {

bool is_blank(std::string_view text) {
  return text.find_first_not_of(" \t\r\n") == std::string_view::npos;
}

}  // namespace

LineFile::LineFile(const std::string& file)
    : file_(file), fd_(::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)) {
  if (fd_ < 0) fail_input(file_, ": cannot be read: ", std::strerror(errno));
  try {
    index();
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

LineFile::~LineFile() {
  if (fd_ >= 0) ::close(fd_);
}

LineFile::LineFile(LineFile&& other) noexcept
    : file_(std::move(other.file_)),
      fd_(std::exchange(other.fd_, -1)),
      begins_(std::move(other.begins_)),
      blanks_(std::move(other.blanks_)) {}

size_t LineFile::read(uint64_t at, char* to, size_t size) const {
  size_t done = 0;
  while (done < size) {
    const ssize_t n = ::pread(fd_, to + done, size - done, static_cast<off_t>(at + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail_input(file_, ": cannot be read: ", std::strerror(errno));
    if (n == 0) break;
    done += static_cast<size_t>(n);
  }
  return done;
}

void LineFile::index() {
  struct stat info {};
  if (::fstat(fd_, &info) != 0 || !S_ISREG(info.st_mode)) fail_input(file_, ": not a regular file");
  std::string block(size_t{1} << 20, '\0');
  bool line_is_blank = true;
  uint64_t line_begin = 0, at = 0;
  const auto end_line = [&](uint64_t end) {
    if (line_is_blank)
      blanks_.push_back(begins_.size());
    else
      begins_.push_back(line_begin);
    line_begin = end + 1;
    line_is_blank = true;
  };
  for (;;) {
    const size_t got = read(at, block.data(), block.size());
    std::string_view rest(block.data(), got);
    if (at == 0) {
      if (rest.starts_with("\xff\xfe") || rest.starts_with("\xfe\xff"))
        fail_input(file_, ": UTF-16 text; save the file as UTF-8");
      if (rest.starts_with("\xef\xbb\xbf")) {
        rest.remove_prefix(3);
        line_begin = 3;
      }
    }
    for (;;) {
      const size_t end = rest.find('\n');
      line_is_blank = line_is_blank && is_blank(rest.substr(0, end));
      if (end == std::string_view::npos) break;
      end_line(at + static_cast<uint64_t>(rest.data() - block.data()) + end);
      rest.remove_prefix(end + 1);
    }
    // What the first block holds tells about how many rows there will be: growing step by step
    // would take up to three times the memory.
    if (at == 0 && got == block.size())
      begins_.reserve((begins_.size() + 1) * (static_cast<size_t>(info.st_size) / got + 2));
    at += got;
    if (got < block.size()) break;
  }
  if (!line_is_blank) end_line(at);
  begins_.push_back(at);
}

std::string LineFile::text(size_t row) const {
  std::string text(bytes(row), '\0');
  const size_t got = read(begins_[row], text.data(), text.size());
  const size_t end = text.find('\n');
  // A row ends where it did when the index was made.
  const bool is_last = row + 1 == size();
  if (got != text.size() || (end == std::string::npos && !is_last))
    fail_input(file_, ":", line(row), ": the file was changed while it was in use");
  text.resize(std::min(end, text.size()));
  return text;
}

int64_t LineFile::line(size_t row) const {
  const auto blanks = std::upper_bound(blanks_.begin(), blanks_.end(), row) - blanks_.begin();
  return static_cast<int64_t>(row) + blanks + 1;
}

}  // namespace ft
