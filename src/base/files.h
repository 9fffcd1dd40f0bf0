// Files and folders: whole reads, durable writes, folders that appear complete or not at all.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace ft {

namespace fs = std::filesystem;

/// The whole file. Error (input) when it is missing or unreadable.
std::string read_file(const fs::path& file);

/// A byte-for-byte copy, flushed to disk; nothing of it passes through memory of ours.
void copy_bytes(const fs::path& from, const fs::path& to);

/// Writes and syncs. Error (output) names the path and the reason.
void write_file(const fs::path& file, std::string_view content);
/// The same for a file that is there already: a reader, or a run after a crash, finds the old
/// content or the new one.
void replace_file(const fs::path& file, std::string_view content);
void append_file(const fs::path& file, std::string_view content);
void sync_path(const fs::path& path);
void make_folders(const fs::path& folder);

/// A folder written under a temporary name beside `target`. commit() syncs every file and the
/// folder, renames it into place (replacing an older one) and syncs the parent. Not committed:
/// removed.
class StagedFolder {
 public:
  explicit StagedFolder(fs::path target);
  ~StagedFolder();
  StagedFolder(const StagedFolder&) = delete;
  StagedFolder& operator=(const StagedFolder&) = delete;
  const fs::path& path() const { return staging_; }
  void commit();

 private:
  fs::path target_, staging_;
  bool done_ = false;
};

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
