#include "base/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/error.h"
#include "base/seed.h"

namespace ft {
namespace {

[[noreturn]] void output_failed(const fs::path& path, std::string_view what) {
  fail(Code::kOutput, path.string(), ": ", what, ": ", std::strerror(errno));
}

/// Repeats a system call that a signal cut short.
template <typename Call>
auto whole_call(Call&& call) {
  for (;;) {
    const auto result = call();
    if (result >= 0 || errno != EINTR) return result;
  }
}

fs::path parent_of(const fs::path& path) {
  return path.parent_path().empty() ? fs::path(".") : path.parent_path();
}

constexpr size_t kBuffered = size_t{1} << 20, kAlignment = 4096;

constexpr uint64_t kMostRead = uint64_t{4} << 30;

constexpr std::string_view kStaging = ".staging", kOld = ".old", kNew = ".new";

fs::path hidden_beside(const fs::path& target, std::string_view suffix) {
  return target.parent_path() / ("." + target.filename().string() + std::string(suffix));
}

void rename_to(const fs::path& from, const fs::path& to) {
  if (whole_call([&] { return ::rename(from.c_str(), to.c_str()); }) != 0)
    output_failed(to, "cannot be put into place");
}

/// Two folders change names in one step; false where the file system does not know how.
bool exchange(const fs::path& a, const fs::path& b) {
  const int result = whole_call(
      [&] { return ::renameat2(AT_FDCWD, a.c_str(), AT_FDCWD, b.c_str(), RENAME_EXCHANGE); });
  if (result != 0 && errno != EINVAL && errno != ENOSYS)
    output_failed(b, "cannot be put into place");
  return result == 0;
}

/// Locks an open file or folder; false when another one has it. What fails otherwise closes it.
bool try_lock(int fd, const fs::path& path) {
  if (whole_call([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) == 0) return true;
  const int reason = errno;
  if (reason == EWOULDBLOCK) return false;
  ::close(fd);
  errno = reason;
  output_failed(path, "cannot be locked");
}

/// Reads it piece by piece: a mapping of the file would count as memory of the run.
template <typename Take>
void read_pieces(const fs::path& file, std::string& buffer, Take&& take) {
  // A pipe that nobody writes to is empty; opening it otherwise would wait for a writer.
  const int fd =
      whole_call([&] { return ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK); });
  if (fd < 0) fail_input(file.string(), ": cannot be read: ", std::strerror(errno));
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) & ~O_NONBLOCK);
  struct stat info {};
  if (::fstat(fd, &info) == 0 && (S_ISCHR(info.st_mode) || S_ISBLK(info.st_mode))) {
    ::close(fd);  // /dev/zero has no end
    fail_input(file.string(), ": is a device, a file is wanted");
  }
  for (;;) {
    size_t filled = 0;
    ssize_t n = 1;
    while (filled < buffer.size() && n > 0) {
      n = whole_call([&] { return ::read(fd, buffer.data() + filled, buffer.size() - filled); });
      if (n > 0) filled += static_cast<size_t>(n);
    }
    const int reason = errno;
    if (n <= 0) ::close(fd);
    if (n < 0) fail_input(file.string(), ": cannot be read: ", std::strerror(reason));
    take(filled);
    if (n == 0) return;
  }
}

}  // namespace

OutputFile::OutputFile(fs::path file, int flags) : path_(std::move(file)) {
  fd_ = whole_call(
      [&] { return ::open(path_.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC | flags, 0644); });
  if (fd_ < 0) output_failed(path_, "cannot be opened for writing");
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

void OutputFile::Free::operator()(char* p) const {
  std::free(p);
}

void OutputFile::write_past_cache(bool on) {
  const int flags = ::fcntl(fd_, F_GETFL);
  is_past_cache_ =
      flags >= 0 && ::fcntl(fd_, F_SETFL, on ? flags | O_DIRECT : flags & ~O_DIRECT) == 0 && on;
}

void OutputFile::put(const char* data, size_t size) {
  while (size > 0) {
    const ssize_t n = whole_call([&] { return ::write(fd_, data, size); });
    if (n < 0 && errno == EINVAL && is_past_cache_) {
      write_past_cache(false);  // the rest after a short write, or a rule of its own
      continue;
    }
    if (n < 0) output_failed(path_, "cannot be written");
    data += n;
    size -= static_cast<size_t>(n);
  }
}

void OutputFile::flush() {
  if (filled_ == kBuffered) {
    if (bytes_ == static_cast<int64_t>(kBuffered)) write_past_cache(true);
  } else if (is_past_cache_) {
    write_past_cache(false);  // the end of the file is no whole block
  }
  put(buffer_.get(), filled_);
  // The disk begins now: dirty pages of a whole checkpoint would hold up every writer of the
  // machine, and the sync. A hint; sync() tells what goes wrong.
  if (filled_ == kBuffered && !is_past_cache_) ::sync_file_range(fd_, 0, 0, SYNC_FILE_RANGE_WRITE);
  filled_ = 0;
}

void OutputFile::write(const void* data, size_t size) {
  if (!buffer_) buffer_.reset(static_cast<char*>(std::aligned_alloc(kAlignment, kBuffered)));
  if (!buffer_) throw std::bad_alloc();
  for (const char *from = static_cast<const char*>(data), *end = from + size; from != end;) {
    const size_t n = std::min(static_cast<size_t>(end - from), kBuffered - filled_);
    sum_.add(from, n);  // piece by piece: the copy finds it in the processor's cache
    std::memcpy(buffer_.get() + filled_, from, n);
    bytes_ += static_cast<int64_t>(n);
    filled_ += n;
    from += n;
    if (filled_ == kBuffered) flush();
  }
}

void OutputFile::sync() {
  flush();
  if (whole_call([&] { return ::fsync(fd_); }) != 0)
    output_failed(path_, "cannot be synced to disk");
}

Written OutputFile::close() {
  flush();
  const int fd = fd_;
  fd_ = -1;
  // Linux has closed it also when a signal came.
  if (::close(fd) != 0 && errno != EINTR) output_failed(path_, "cannot be written");
  return {bytes_, sum_.text()};
}

std::string read_file(const fs::path& file) {
  std::string content, buffer(1 << 16, '\0');
  std::error_code no_size;  // of a pipe; growing step by step would take up to three times the size
  const auto check = [&](uint64_t size) {
    if (size > kMostRead)
      fail_input(file.string(), ": larger than ", kMostRead >> 30,
                 " GiB, the most that is read at once");
  };
  if (const auto size = fs::file_size(file, no_size); !no_size) {
    check(size);
    content.reserve(size);
  }
  read_pieces(file, buffer, [&](size_t size) {
    check(content.size() + size);
    content.append(buffer, 0, size);
  });
  return content;
}

namespace {

/// One to one in both: no change of a single word goes unseen. One multiplication, and its upper
/// bits brought down, so that a bit changed here is more than one in the next round: a checkpoint's
/// gigabytes pass here.
uint64_t add_word(uint64_t sum, uint64_t word) {
  const uint64_t x = (sum ^ word) * 0x9e3779b97f4a7c15ULL;
  return x ^ (x >> 32);
}

}  // namespace

void Checksum::add(const char* data, size_t size) {
  while (size > 0) {
    const size_t at = bytes_ % 8, n = std::min(size, 8 - at);
    if (at == 0 && n == 8) {
      const size_t whole = size / 8 * 8;
      uint64_t sum = sum_, word = 0;  // in registers
      for (const char* end = data + whole; data != end; data += 8) {
        std::memcpy(&word, data, 8);
        sum = add_word(sum, word);
      }
      sum_ = sum;
      bytes_ += whole;
      size -= whole;
      continue;
    }
    std::memcpy(reinterpret_cast<char*>(&word_) + at, data, n);
    bytes_ += n;
    data += n;
    size -= n;
    if (bytes_ % 8 != 0) return;
    sum_ = add_word(sum_, word_);
    word_ = 0;
  }
}

std::string Checksum::text() const {
  char text[17];
  const uint64_t all = bytes_ % 8 == 0 ? sum_ : add_word(sum_, word_);
  std::snprintf(text, sizeof text, "%016lx", mix64(all ^ bytes_));
  return text;
}

std::string checksum(const fs::path& file) {
  std::string buffer(1 << 19, '\0');
  Checksum sum;
  read_pieces(file, buffer, [&](size_t size) { sum.add(buffer.data(), size); });
  return sum.text();
}

void copy_bytes(const fs::path& from, const fs::path& to) {
  std::string buffer(1 << 20, '\0');
  OutputFile out(to, O_TRUNC);
  read_pieces(from, buffer, [&](size_t size) { out.write(buffer.data(), size); });
  out.sync();
  out.close();
}

Written write_file(const fs::path& file, std::string_view content) {
  OutputFile out(file, O_TRUNC);
  out.write(content.data(), content.size());
  out.sync();
  return out.close();
}

void replace_file(const fs::path& file, std::string_view content) {
  const fs::path fresh = hidden_beside(file, kNew);
  try {
    write_file(fresh, content);
    rename_to(fresh, file);
  } catch (const Error&) {
    ::unlink(fresh.c_str());
    throw;
  }
  sync_path(parent_of(file));
}

void append_file(const fs::path& file, std::string_view content) {
  OutputFile out(file, O_APPEND);
  out.write(content.data(), content.size());
  out.close();
}

void sync_path(const fs::path& path) {
  const int fd = whole_call([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (fd < 0) output_failed(path, "cannot be opened");
  const int result = whole_call([&] { return ::fsync(fd); });
  const int reason = errno;
  ::close(fd);
  errno = reason;
  // Some file systems have no fsync for folders (EINVAL).
  if (result != 0 && reason != EINVAL) output_failed(path, "cannot be synced to disk");
}

bool is_there(const fs::path& path) {
  std::error_code error;
  fs::file_status found;
  do found = fs::status(path, error);
  while (error == std::errc::interrupted);
  if (found.type() == fs::file_type::none)
    fail(Code::kOutput, path.string(), ": cannot be looked at: ", error.message());
  return fs::exists(found);
}

fs::path behind_links(fs::path path) {
  std::error_code error;
  constexpr int kMost = 40;  // as the kernel
  for (int i = 0; i < kMost && fs::is_symlink(path, error); ++i)
    path = path.parent_path() / fs::read_symlink(path, error);
  return path;
}

void make_folders(const fs::path& folder) {
  std::error_code ignored;
  if (fs::is_directory(folder, ignored)) return;
  const fs::path path = folder.filename().empty() ? folder.parent_path() : folder;
  const fs::path parent = path.parent_path();
  if (!parent.empty() && !fs::exists(parent, ignored)) make_folders(parent);
  if (whole_call([&] { return ::mkdir(path.c_str(), 0755); }) != 0) {
    const int reason = errno;
    if (reason == EEXIST && fs::is_directory(path, ignored)) return;
    errno = reason;
    output_failed(path, "cannot be created");
  }
  sync_path(parent_of(path));
}

void remove_tree(const fs::path& path) {
  std::error_code error;
  do fs::remove_all(path, error);
  while (error == std::errc::interrupted);
  if (error) fail(Code::kOutput, path.string(), ": cannot be removed: ", error.message());
}

std::vector<fs::path> list_folder(const fs::path& folder, Code code) {
  std::error_code error;
  for (;;) {
    std::vector<fs::path> found;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
      found.push_back(at->path());
    std::sort(found.begin(), found.end());
    if (!error || error == std::errc::no_such_file_or_directory) return found;
    if (error != std::errc::interrupted)
      fail(code, folder.string(), ": cannot be listed: ", error.message());
  }
}

namespace {

void sync_folders(const fs::path& folder) {
  for (const fs::path& path : list_folder(folder))
    if (is_there(path) && fs::is_directory(path)) sync_folders(path);
  sync_path(folder);
}

}  // namespace

StagedFolder::StagedFolder(fs::path target) : target_(std::move(target)) {
  if (target_.filename().empty()) target_ = target_.parent_path();
  target_ = behind_links(target_);
  if (target_.filename() == "." || target_.filename() == "..")
    fail(Code::kOutput, target_.string(), ": a folder with a name of its own is wanted");
  staging_ = hidden_beside(target_, kStaging);
  occupy();
  for (const fs::path& path : list_folder(staging_)) remove_tree(path);
}

/// Two programs that write the same folder must not share the staging.
void StagedFolder::occupy() {
  for (;;) {
    make_folders(staging_);
    fd_ = whole_call([&] { return ::open(staging_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); });
    if (fd_ < 0 && errno == ENOENT) continue;
    if (fd_ < 0) output_failed(staging_, "cannot be opened");
    if (!try_lock(fd_, staging_)) {
      ::close(fd_);
      fail(Code::kOutput, target_.string(), ": is being written by another finetune process");
    }
    struct stat held {
    }, there{};
    if (::fstat(fd_, &held) == 0 && ::stat(staging_.c_str(), &there) == 0 &&
        held.st_ino == there.st_ino && held.st_dev == there.st_dev)
      return;
    ::close(fd_);  // the other one was done with it between these calls
  }
}

StagedFolder::~StagedFolder() {
  std::error_code ignored;
  if (!done_) fs::remove_all(staging_, ignored);
  ::close(fd_);
}

void StagedFolder::commit() {
  sync_folders(staging_);
  const fs::path old = hidden_beside(target_, kOld);
  remove_tree(old);
  if (!is_there(target_)) {
    rename_to(staging_, target_);
  } else if (!exchange(staging_, target_)) {  // killed in between: remove_staging puts it back
    rename_to(target_, old);
    rename_to(staging_, target_);
  }
  done_ = true;
  sync_path(parent_of(target_));
  remove_tree(staging_);  // what an exchange left there
  remove_tree(old);
}

namespace {

/// Whether another process, or this one by another descriptor, holds a lock on it.
bool is_locked(const fs::path& path) {
  const int fd = whole_call([&] { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); });
  if (fd < 0) return false;
  const bool is_held =
      whole_call([&] { return ::flock(fd, LOCK_EX | LOCK_NB); }) != 0 && errno == EWOULDBLOCK;
  ::close(fd);
  return is_held;
}

}  // namespace

void remove_staging(const fs::path& folder) {
  for (const fs::path& path : list_folder(folder)) {
    const std::string name = path.filename().string();
    if (!name.starts_with('.')) continue;
    if (name.ends_with(kOld)) {
      const fs::path target = folder / name.substr(1, name.size() - 1 - kOld.size());
      if (!is_there(target)) rename_to(path, target);
    }
    if (name.ends_with(kStaging) && is_locked(path)) continue;
    if (name.ends_with(kStaging) || name.ends_with(kNew) || name.ends_with(kOld)) remove_tree(path);
  }
}

FolderLock::FolderLock(const fs::path& folder) {
  const fs::path file = folder / ".lock";
  fd_ = whole_call(
      [&] { return ::open(file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644); });
  if (fd_ < 0) output_failed(file, "cannot be opened");
  if (!try_lock(fd_, file)) {
    char holder[32] = {};
    const ssize_t n = ::pread(fd_, holder, sizeof holder - 1, 0);
    ::close(fd_);
    fail(Code::kOutput, folder.string(), ": in use by another finetune run (process ",
         n > 0 ? holder : "?", "); choose another output_dir or wait");
  }
  const std::string pid = std::to_string(::getpid());
  if (whole_call([&] { return ::ftruncate(fd_, 0); }) != 0 ||
      whole_call([&] { return ::pwrite(fd_, pid.data(), pid.size(), 0); }) < 0) {
    const int reason = errno;
    ::close(fd_);
    errno = reason;
    output_failed(file, "cannot be written");
  }
}

FolderLock::~FolderLock() {
  ::close(fd_);
}

}  // namespace ft
