// Where the reference data is. Small cases travel in tests/data/parity; the full set is named by
// FINETUNE_PARITY or lies in ../shared/parity. Tests that need what is absent skip with a message.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <set>
#include <string>
#include <vector>

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

/// A case by section and name: from the full set, or else one that is in the repository.
inline std::filesystem::path parity_case(const std::string& section, const std::string& name) {
  const auto in_full_set = parity_folder() / section / name;
  return std::filesystem::exists(in_full_set) ? in_full_set
                                              : test_data() / "parity" / section / name;
}

/// The names of a section's cases: `known` ones of the full set, whose tests skip where it is not,
/// and every case folder that is there. Tests are listed when they are built, perhaps without it.
inline std::vector<std::string> parity_cases(const std::string& section,
                                             std::set<std::string> known) {
  for (const auto& root : {parity_folder(), test_data() / "parity"}) {
    std::error_code absent;
    for (const auto& entry : std::filesystem::directory_iterator(root / section, absent))
      if (std::filesystem::exists(entry.path() / "case.json"))
        known.insert(entry.path().filename().string());
  }
  return {known.begin(), known.end()};
}

/// A parameter that is the name of a case names its test.
inline std::string case_name(const testing::TestParamInfo<std::string>& info) {
  return info.param;
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
