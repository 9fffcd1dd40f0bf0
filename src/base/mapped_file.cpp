#include "base/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/error.h"

namespace ft {
namespace {

/// The mappings that are alive, for the signal's handler: it may take no lock.
struct Mapping {
  std::atomic<const std::byte*> begin{nullptr};
  std::atomic<size_t> size{0};
  std::atomic<const char*> path{nullptr};
};
std::array<Mapping, 1024> mappings;  // more shards than any model has; others stay unnamed

void enter(const std::byte* begin, size_t size, const char* path) {
  for (Mapping& m : mappings) {
    const std::byte* none = nullptr;
    if (!m.begin.compare_exchange_strong(none, begin)) continue;
    m.path = path;
    m.size = size;
    return;
  }
}

void leave(const std::byte* begin) {
  for (Mapping& m : mappings) {
    if (m.begin != begin) continue;
    m.size = 0;
    m.path = nullptr;
    m.begin = nullptr;
    return;
  }
}

void say(const char* text) {
  if (::write(STDERR_FILENO, text, std::strlen(text)) < 0) return;  // nothing else can be done
}

void handle_fault(int, siginfo_t* info, void*) {
  const char* path = "a mapped file";
  for (const Mapping& m : mappings) {
    const std::byte* begin = m.begin;
    const auto* at = static_cast<const std::byte*>(info->si_addr);
    const char* name = m.path;
    if (begin && name && at >= begin && at < begin + m.size) path = name;
  }
  say("error: ");
  say(path);
  say(": cannot be read any more: it was cut short while in use, or its disk fails\n");
  ::_exit(static_cast<int>(Code::kInput));
}

}  // namespace

void install_mapping_faults() {
  struct sigaction action {};
  action.sa_sigaction = handle_fault;
  action.sa_flags = SA_SIGINFO;
  ::sigaction(SIGBUS, &action, nullptr);
}

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& file) {
  const int fd = ::open(file.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) fail_input(file.string(), ": cannot be read: ", std::strerror(errno));
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    ::close(fd);
    fail_input(file.string(), ": not a regular file");
  }
  const auto size = static_cast<size_t>(info.st_size);
  void* data = size == 0 ? nullptr : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  ::close(fd);
  if (data == MAP_FAILED) fail_input(file.string(), ": cannot be mapped: ", std::strerror(errno));
  std::shared_ptr<const MappedFile> mapped(
      new MappedFile(static_cast<const std::byte*>(data), size, printable(file.string())));
  if (data) {
    enter(mapped->data_, size, mapped->path_.c_str());
    // What is not in the page cache yet gets there in huge pages where the file system has them,
    // which are read a tenth faster. Elsewhere this says nothing.
    ::madvise(data, size, MADV_HUGEPAGE);
  }
  return mapped;
}

void release_pages(const void* data, size_t size) {
  const size_t before =
      reinterpret_cast<uintptr_t>(data) % static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  auto* begin = static_cast<std::byte*>(const_cast<void*>(data)) - before;
  ::madvise(begin, before + size, MADV_DONTNEED);
}

MappedFile::~MappedFile() {
  if (!data_) return;
  leave(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

}  // namespace ft
