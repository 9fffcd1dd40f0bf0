// Figures of tests, for scripts/reliability/rows_of_tests.py: how near to its limit a comparison
// came.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <map>
#include <string>

namespace ft {

/// Gives `value` back; the largest one of the running test stands under `name` in the file that
/// --gtest_output writes.
inline double figure(const std::string& name, double value) {
  static std::map<std::pair<const testing::TestInfo*, std::string>, double> largest;
  double& most =
      largest.try_emplace({testing::UnitTest::GetInstance()->current_test_info(), name}, value)
          .first->second;
  most = std::max(most, value);
  testing::Test::RecordProperty(name, [&] {
    char text[32];
    std::snprintf(text, sizeof text, "%.3g", most);
    return std::string(text);
  }());
  return value;
}

}  // namespace ft
