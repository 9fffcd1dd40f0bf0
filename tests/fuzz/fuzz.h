// What the fuzz targets share. A target is LLVMFuzzerTestOneInput: libFuzzer calls it in the fuzz
// preset, replay.cpp elsewhere. A reader may refuse an input (Error of input or usage) and nothing
// else: other exceptions, wrong memory accesses, hangs and huge allocations are findings.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"

namespace ft {

/// A folder of this process in memory, where there is such a file system.
inline const fs::path& fuzz_folder() {
  static const fs::path folder = [] {
    set_quiet(true);
    const fs::path memory = "/dev/shm";
    const fs::path made = (fs::is_directory(memory) ? memory : fs::temp_directory_path()) /
                          ("finetune-fuzz-" + std::to_string(::getpid()));
    fs::create_directories(made);
    std::atexit([] {
      std::error_code ignored;
      fs::remove_all(fuzz_folder(), ignored);
    });
    return made;
  }();
  return folder;
}

/// Writes without syncing.
inline fs::path fuzz_file(const std::string& name, std::string_view content) {
  const fs::path file = fuzz_folder() / name;
  fs::create_directories(file.parent_path());
  FILE* out = std::fopen(file.c_str(), "wb");
  if (!out || std::fwrite(content.data(), 1, content.size(), out) != content.size()) std::abort();
  std::fclose(out);
  return file;
}

/// A file of the repository.
inline fs::path source_file(const std::string& name) {
  return fs::path(FT_SOURCE_DIR) / name;
}

[[noreturn]] inline void finding(std::string_view what) {
  std::fprintf(stderr, "finding: %.*s\n", static_cast<int>(what.size()), what.data());
  std::abort();
}

/// Runs a reader; what it may say is an Error about its input, with a text that is safe to print.
template <typename Read>
void expect_refusal_or_success(Read&& read) {
  try {
    read();
  } catch (const Error& e) {
    if (e.code() != Code::kInput && e.code() != Code::kUsage) finding(e.what());
    for (const char c : std::string_view(e.what()))
      if (static_cast<unsigned char>(c) < 0x20 && c != '\n') finding("a control byte in an error");
  } catch (const std::exception& e) {
    finding(e.what());
  }
}

}  // namespace ft

#define FT_FUZZ(data)                                                        \
  static void fuzz_one(std::string_view data);                               \
  extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) { \
    ft::expect_refusal_or_success([&] {                                      \
      fuzz_one({reinterpret_cast<const char*>(bytes), size});                \
    });                                                                      \
    return 0;                                                                \
  }                                                                          \
  static void fuzz_one(std::string_view data)
