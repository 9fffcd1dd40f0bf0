// What a chat template may use up. A template is untrusted code: it comes with a model or a data
// set. Everything that grows (text, lists, loops, recursion) is charged here before it is built, so
// that no template can hang the program or exhaust its memory. All numbers stand in this file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/error.h"

namespace ft::jinja {

inline constexpr size_t kMaxSource = size_t{4} << 20;  ///< bytes of template text
inline constexpr size_t kMaxText = size_t{16} << 20;   ///< bytes of the output and of any string
inline constexpr size_t kMaxItems = 1'000'000;         ///< elements of one list
inline constexpr int64_t kMaxRange = 100'000;  ///< elements of range(), as in jinja2's sandbox
inline constexpr int64_t kMaxLoopSteps = 1'000'000;  ///< loop passes and macro calls together
inline constexpr int64_t kMaxWork = 50'000'000;  ///< nodes evaluated, elements touched, bytes/16
inline constexpr int64_t kMaxAllocated = int64_t{512} << 20;  ///< bytes of all values ever made
inline constexpr int kMaxNesting = 100;  ///< statements, brackets and operators in the source
inline constexpr int kMaxHeight = 200;   ///< of one expression tree: a.b.c.d..., a + b + c ...
inline constexpr int kMaxRuntimeDepth =
    1000;                                   ///< evaluations inside each other, through macros too
inline constexpr int kMaxValueDepth = 100;  ///< lists and dicts inside each other
inline constexpr int64_t kMaxFieldWidth = 10'000;  ///< blanks of one level of indent

/// What went wrong while rendering; the interpreter adds name and line.
struct Failure {
  std::string message;
};

template <typename... Parts>
[[noreturn]] void raise(const Parts&... parts) {
  throw Failure{str(parts...)};
}

/// Counts what one rendering has used.
class Budget {
 public:
  void step() {
    if (++steps_ > kMaxLoopSteps) raise("more than ", kMaxLoopSteps, " loop steps");
  }
  void work(size_t units = 1) {
    work_ += static_cast<int64_t>(units);
    if (work_ > kMaxWork) raise("the template does more work than a chat template may");
  }
  /// Bytes looked through.
  void scan(size_t bytes) { work(1 + bytes / 16); }
  void allocate(size_t bytes) {
    allocated_ += static_cast<int64_t>(bytes);
    if (allocated_ > kMaxAllocated) raise("the template uses more memory than a chat template may");
  }

 private:
  int64_t steps_ = 0, work_ = 0, allocated_ = 0;
};

}  // namespace ft::jinja
