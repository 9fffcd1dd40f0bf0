// The one exception type a caller of the library may see.
#pragma once

#include <stdexcept>
#include <string>

namespace ft {

/// Exit status of the program and category of an Error.
enum class Code {
  kInternal = 1,  ///< a fault of the program itself
  kUsage = 2,     ///< wrong usage or configuration
  kInput = 3,     ///< unusable model, tokenizer, data, adapter or checkpoint
  kRun = 4,       ///< the run stopped: non-finite loss, out of memory
  kOutput = 5,    ///< output cannot be written: disk full, folder in use
};

/// The user or a file is wrong. what() is one line: where, what is wrong, what is wanted.
class Error : public std::runtime_error {
 public:
  Error(Code code, const std::string& message) : std::runtime_error(message), code_(code) {}
  Code code() const { return code_; }

 private:
  Code code_;
};

}  // namespace ft
