// Files and folders: whole reads, durable writes, folders that appear complete or not at all.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "finetune/error.h"

namespace ft {

namespace fs = std::filesystem;

/// The whole file. Error (input) when it is missing, unreadable or larger than 4 GiB.
std::string read_file(const fs::path& file);

/// A byte-for-byte copy, flushed to disk; nothing of it passes through memory of ours.
void copy_bytes(const fs::path& from, const fs::path& to);

/// A 64-bit checksum against damage, not against malice, at the speed of memory.
class Checksum {
 public:
  void add(const char* data, size_t size);
  std::string text() const;

 private:
  uint64_t sum_ = 0, bytes_ = 0, word_ = 0;
};

/// Error (input) when the file cannot be read.
std::string checksum(const fs::path& file);

/// What a file must hold, from what was written, not from what can be read back.
struct Written {
  int64_t bytes = 0;
  std::string checksum;
};

/// A file that is being written. A call that a signal cuts short goes on; any other failure is an
/// Error (output) with the path and the reason. What close() has not seen may be lost. A large file
/// goes past the page cache: filling gigabytes of pages that nobody reads costs far more than
/// writing them, and takes the pages of others.
class OutputFile {
 public:
  /// `flags` are open()'s: O_TRUNC or O_APPEND.
  OutputFile(fs::path file, int flags);
  ~OutputFile();
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  void write(const void* data, size_t size);
  /// After a failed fsync a second one may succeed although data are gone (Rebello et al., "Can
  /// applications recover from fsync failures?", 2020): the file is given up, never tried again.
  void sync();
  Written close();

 private:
  struct Free {
    void operator()(char* p) const;
  };
  void flush();
  void put(const char* data, size_t size);
  /// Where the file system knows how; it may still refuse a write (EINVAL).
  void write_past_cache(bool on);
  fs::path path_;
  std::unique_ptr<char, Free> buffer_;  ///< aligned as such writes want it
  size_t filled_ = 0;
  Checksum sum_;
  int64_t bytes_ = 0;
  int fd_ = -1;
  bool is_past_cache_ = false;
};

/// Writes and syncs. Error (output) names the path and the reason.
Written write_file(const fs::path& file, std::string_view content);
/// The same for a file that is there already: a reader, or a run after a crash, finds the old
/// content or the new one.
void replace_file(const fs::path& file, std::string_view content);
void append_file(const fs::path& file, std::string_view content);
void sync_path(const fs::path& path);
/// Whether there is something where output goes; Error (output) when that cannot be told.
bool is_there(const fs::path& path);
/// What a path stands for after all links, the last of which may lead to nothing yet.
fs::path behind_links(fs::path path);
/// Missing ones of the path, each durable in its parent.
void make_folders(const fs::path& folder);
/// The file or the folder with all that is in it; nothing when it is not there.
void remove_tree(const fs::path& path);
/// What a folder holds, sorted; nothing when it is not there. `code` of the Error when it cannot be
/// listed.
std::vector<fs::path> list_folder(const fs::path& folder, Code code = Code::kOutput);

/// A folder written under a temporary name beside `target`, with files that are synced as they are
/// written. commit() syncs the folders, puts the whole into place in one step (exchanging it with
/// an older one, which goes) and syncs the parent. Not committed: removed. Error (output) while
/// another process writes the same target.
class StagedFolder {
 public:
  explicit StagedFolder(fs::path target);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  const fs::path& path() const { return staging_; }
  void commit();

 private:
  void occupy();
  fs::path target_, staging_;
  int fd_ = -1;  ///< of the staging, locked
  bool done_ = false;
};

/// Removes what a process that was killed left of its staging in `folder`, and puts an older folder
/// back that was to be replaced. What a living process writes there stays.
void remove_staging(const fs::path& folder);

/// Holds `folder`/.lock while it lives; Error (output) when another process has it.
class FolderLock {
 public:
  explicit FolderLock(const fs::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int fd_ = -1;
};

}  // namespace ft
