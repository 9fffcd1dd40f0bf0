// Where the reference data is. Small cases travel in tests/data/parity; the full set is named by
// FINETUNE_PARITY or lies in ../shared/parity. Tests that need what is absent skip with a message.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <string>

namespace ft {

inline std::filesystem::path test_data() {
  return std::filesystem::path(FT_SOURCE_DIR) / "tests" / "data";
}

/// The full reference set, or the few cases of it that are in the repository.
inline std::filesystem::path parity_folder() {
  if (const char* set = std::getenv("FINETUNE_PARITY")) return set;
  const auto beside = std::filesystem::path(FT_SOURCE_DIR) / ".." / "shared" / "parity";
  return std::filesystem::exists(beside) ? beside : test_data() / "parity";
}

/// A real model by its short name (smollm2, gemma3-270m): FINETUNE_ASSETS/NAME, or where
/// scripts/fetch_models.sh puts it.
inline std::filesystem::path real_model(const std::string& name) {
  const char* set = std::getenv("FINETUNE_ASSETS");
  const auto asset = std::filesystem::path(set ? set : "") / name;
  if (set && std::filesystem::exists(asset)) return asset;
  return std::filesystem::path(FT_SOURCE_DIR) / "models" /
         (name == "smollm2" ? "smollm2-135m-instruct" : name);
}

/// A random llama with two layers, 320 tokens, a byte-level tokenizer and a ChatML template.
inline std::filesystem::path tiny_model() {
  return test_data() / "parity" / "D_training" / "llama_lora" / "model";
}

}  // namespace ft

/// Skips the running test, saying which file is absent.
#define FT_NEEDS(needed)                \
  if (!std::filesystem::exists(needed)) \
  GTEST_SKIP() << "not there: " << std::filesystem::path(needed).string()
