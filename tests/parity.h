// Where the reference data is. Small cases travel in tests/data; the full set lies in parity/
// beside shared notes and is named by FINETUNE_PARITY (default ../shared/parity). Tests that need
// it skip with a message when it is absent.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace ft {

inline std::filesystem::path parity_folder() {
  const char* set = std::getenv("FINETUNE_PARITY");
  return set ? std::filesystem::path(set)
             : std::filesystem::path(FT_SOURCE_DIR) / ".." / "shared" / "parity";
}

/// A folder with the real models (smollm2, gemma3-270m), FINETUNE_ASSETS, default build/assets.
inline std::filesystem::path assets_folder() {
  const char* set = std::getenv("FINETUNE_ASSETS");
  return set ? std::filesystem::path(set) : std::filesystem::path(FT_SOURCE_DIR) / "models";
}

inline std::filesystem::path test_data() {
  return std::filesystem::path(FT_SOURCE_DIR) / "tests" / "data";
}

}  // namespace ft

/// Skips the running test, saying which file is absent.
#define FT_NEEDS(needed)              \
  if (!std::filesystem::exists(needed)) \
  GTEST_SKIP() << "not there: " << std::filesystem::path(needed).string()
