#include "base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/error.h"

namespace ft {
namespace {

[[noreturn]] void output_failed(const fs::path& path, std::string_view what) {
  fail(Code::kOutput, path.string(), ": ", what, ": ", std::strerror(errno));
}

void write_all(const fs::path& file, std::string_view content, int flags) {
  const int fd = ::open(file.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644);
  if (fd < 0) output_failed(file, "cannot be opened for writing");
  while (!content.empty()) {
    const ssize_t n = ::write(fd, content.data(), content.size());
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int reason = errno;
      ::close(fd);
      errno = reason;
      output_failed(file, "cannot be written");
    }
    content.remove_prefix(static_cast<size_t>(n));
  }
  if (::close(fd) != 0) output_failed(file, "cannot be written");
}

}  // namespace

std::string read_file(const fs::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail_input(file.string(), ": cannot be read: ", std::strerror(errno));
  std::string content;
  std::error_code no_size;  // of a pipe; growing step by step would take up to three times the size
  if (const auto size = fs::file_size(file, no_size); !no_size) content.reserve(size);
  char buffer[1 << 16];
  for (;;) {
    const ssize_t n = ::read(fd, buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) {
      const int reason = errno;
      ::close(fd);
      fail_input(file.string(), ": cannot be read: ", std::strerror(reason));
    }
    if (n == 0) break;
    content.append(buffer, static_cast<size_t>(n));
  }
  ::close(fd);
  return content;
}

void copy_bytes(const fs::path& from, const fs::path& to) {
  std::error_code error;
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, error);
  if (error)
    fail(Code::kOutput, to.string(), ": cannot be copied from ", from.string(), ": ",
         error.message());
  sync_path(to);
}

void write_file(const fs::path& file, std::string_view content) {
  write_all(file, content, O_TRUNC);
  sync_path(file);
}

void replace_file(const fs::path& file, std::string_view content) {
  const fs::path fresh = file.parent_path() / ("." + file.filename().string() + ".new");
  write_file(fresh, content);
  std::error_code error;
  fs::rename(fresh, file, error);
  if (error) fail(Code::kOutput, file.string(), ": cannot be put into place: ", error.message());
  sync_path(file.parent_path().empty() ? fs::path(".") : file.parent_path());
}

void append_file(const fs::path& file, std::string_view content) {
  write_all(file, content, O_APPEND);
}

void sync_path(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) output_failed(path, "cannot be opened");
  const int result = ::fsync(fd);
  const int reason = errno;
  ::close(fd);
  errno = reason;
  // Some file systems have no fsync for folders (EINVAL); a failed one on a file means that its
  // data may be lost.
  if (result != 0 && reason != EINVAL) output_failed(path, "cannot be synced to disk");
}

void make_folders(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) fail(Code::kOutput, folder.string(), ": cannot be created: ", error.message());
}

StagedFolder::StagedFolder(fs::path target) : target_(std::move(target)) {
  if (target_.filename().empty()) target_ = target_.parent_path();
  staging_ = target_.parent_path() / ("." + target_.filename().string() + ".staging");
  fs::remove_all(staging_);
  make_folders(staging_);
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!done_) fs::remove_all(staging_, ignored);
}

void StagedFolder::commit() {
  for (const auto& entry : fs::recursive_directory_iterator(staging_)) sync_path(entry.path());
  sync_path(staging_);
  std::error_code error;
  // rename() cannot replace a folder that is not empty: the old one steps aside first and goes
  // last.
  const fs::path old = staging_.parent_path() / ("." + target_.filename().string() + ".old");
  fs::remove_all(old, error);
  const bool replaces = fs::exists(target_);
  if (replaces) fs::rename(target_, old, error);
  if (!error) fs::rename(staging_, target_, error);
  if (error) fail(Code::kOutput, target_.string(), ": cannot be put into place: ", error.message());
  done_ = true;
  sync_path(target_.parent_path().empty() ? fs::path(".") : target_.parent_path());
  if (replaces) fs::remove_all(old, error);
}

FolderLock::FolderLock(const fs::path& folder) {
  const fs::path file = folder / ".lock";
  fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd_ < 0) output_failed(file, "cannot be opened");
  if (::flock(fd_, LOCK_EX | LOCK_NB) != 0) {
    char holder[32] = {};
    const ssize_t n = ::pread(fd_, holder, sizeof holder - 1, 0);
    ::close(fd_);
    fail(Code::kOutput, folder.string(), ": in use by another finetune run (process ",
         n > 0 ? holder : "?", "); choose another output_dir or wait");
  }
  const std::string pid = std::to_string(::getpid());
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) < 0)
    output_failed(file, "cannot be written");
}

FolderLock::~FolderLock() {
  ::close(fd_);
}

}  // namespace ft
