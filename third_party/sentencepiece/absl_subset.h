// What the sentencepiece library uses of Abseil, over the standard library. Its sources come
// without Abseil and want a release newer than the distributions have; fetching and building that
// would take longer than everything else here, for a few string functions. Names and meaning are
// Abseil's (abseil.io/docs/cpp); nothing more is here than the sources of the pinned version need.
// Deviation: log lines go nowhere, because the program reports an error as one line of its own.
// The inline namespace keeps these symbols apart from a real Abseil in the same process.
#pragma once

#include <algorithm>
#include <bit>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <random>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

namespace absl {
inline namespace finetune_subset {

using std::endian;
using std::string_view;

template <class T>
using Span = std::span<T>;
template <class K, class V>
using flat_hash_map = std::unordered_map<K, V>;
template <class F>
using AnyInvocable = std::function<F>;
template <class F>
using FunctionRef = std::function<F>;

template <class T, size_t>
class FixedArray : public std::vector<T> {
 public:
  using std::vector<T>::vector;
};

/// A static object that is never destroyed.
template <class T>
class NoDestructor {
 public:
  explicit NoDestructor(T value) : value_(new T(std::move(value))) {}
  const T& operator*() const { return *value_; }
  const T* operator->() const { return value_; }

 private:
  const T* value_;
};

inline uint32_t gbswap_32(uint32_t x) {
  return __builtin_bswap32(x);
}

// Strings.

inline void append_text(std::string& out, string_view text) {
  out += text;
}
template <class N>
requires std::is_arithmetic_v<N>
void append_text(std::string& out, N number) {
  out += std::to_string(number);
}
template <class... Args>
void StrAppend(std::string* out, const Args&... args) {
  (append_text(*out, args), ...);
}
template <class... Args>
std::string StrCat(const Args&... args) {
  std::string out;
  StrAppend(&out, args...);
  return out;
}

inline bool StartsWith(string_view text, string_view prefix) {
  return text.starts_with(prefix);
}
inline bool EndsWith(string_view text, string_view suffix) {
  return text.ends_with(suffix);
}
inline bool StrContains(string_view text, string_view part) {
  return text.find(part) != text.npos;
}
inline bool ConsumePrefix(string_view* text, string_view prefix) {
  if (!text->starts_with(prefix)) return false;
  text->remove_prefix(prefix.size());
  return true;
}
inline string_view ClippedSubstr(string_view text, size_t at, size_t length = string_view::npos) {
  return text.substr(std::min(at, text.size()), length);
}

/// Leftmost match first; of several at one place the first of the list, which is enough for the
/// lists of one that are used.
inline std::string StrReplaceAll(string_view text,
                                 std::initializer_list<std::pair<string_view, string_view>> rules) {
  std::string out;
  while (!text.empty()) {
    size_t taken = 0;
    for (const auto& [from, to] : rules) {
      if (!text.starts_with(from)) continue;
      out += to;
      taken = from.size();
      break;
    }
    if (taken == 0) out += text[taken++];
    text.remove_prefix(taken);
  }
  return out;
}

inline std::vector<string_view> StrSplit(string_view text, char separator) {
  std::vector<string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == text.npos) return parts;
    text.remove_prefix(end + 1);
  }
}

template <class Range>
std::string StrJoin(const Range& parts, string_view separator) {
  std::string out;
  for (const auto& part : parts) {
    if (&part != &*std::begin(parts)) out += separator;
    append_text(out, part);
  }
  return out;
}

template <class... Args>
std::string StrFormat(const char* format, Args... args) {
  char out[256];
  std::snprintf(out, sizeof out, format, args...);
  return out;
}

// Status.

enum class StatusCode {
  kOk = 0,
  kInvalidArgument = 3,
  kNotFound = 5,
  kOutOfRange = 11,
  kInternal = 13,
  kUnknown = 2
};

class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(StatusCode code, string_view message) : code_(code), message_(message) {}
  bool ok() const { return code_ == StatusCode::kOk; }
  StatusCode code() const { return code_; }
  string_view message() const { return message_; }
  std::string ToString() const { return ok() ? "OK" : message_; }
  void IgnoreError() const {}

 private:
  StatusCode code_ = StatusCode::kOk;
  std::string message_;
};

inline Status OkStatus() {
  return {};
}
inline Status InternalError(string_view message) {
  return {StatusCode::kInternal, message};
}
inline Status InvalidArgumentError(string_view message) {
  return {StatusCode::kInvalidArgument, message};
}
inline Status NotFoundError(string_view message) {
  return {StatusCode::kNotFound, message};
}
inline Status ErrnoToStatus(int number, string_view message) {
  return {StatusCode::kUnknown, StrCat(message, ": ", std::strerror(number))};
}

/// A Status whose message is still being written.
class StatusBuilder {
 public:
  explicit StatusBuilder(StatusCode code) : code_(code) {}
  explicit StatusBuilder(const Status& status) : code_(status.code()) {
    message_ << status.message();
  }
  template <class T>
  StatusBuilder&& operator<<(const T& value) && {
    message_ << value;
    return std::move(*this);
  }
  operator Status() const { return Status(code_, message_.str()); }

 private:
  StatusCode code_;
  std::ostringstream message_;
};

#define ABSL_RETURN_IF_ERROR(...)                                           \
  if (const ::absl::Status status_here = (__VA_ARGS__); status_here.ok()) { \
  } else /* a message may follow */                                         \
    return ::absl::StatusBuilder(status_here)

// Log and checks.

enum class LogSeverityAtLeast : int {};
inline void SetMinLogLevel(LogSeverityAtLeast) {}

struct NoLog {
  template <class T>
  const NoLog& operator<<(const T&) const {
    return *this;
  }
};
struct AbortLog : NoLog {
  [[noreturn]] ~AbortLog() { std::abort(); }
};

#define LOG(severity) ::absl::NoLog()
#define CHECK(condition) \
  if (condition) {       \
  } else /* NOLINT */    \
    ::absl::AbortLog()
#define CHECK_OK(status) CHECK((status).ok())
#define CHECK_EQ(a, b) CHECK((a) == (b))
#define CHECK_GE(a, b) CHECK((a) >= (b))
#define DCHECK_GE(a, b) CHECK(true || (a) >= (b))
#define DCHECK_LT(a, b) CHECK(true || (a) < (b))

#define ABSL_ATTRIBUTE_ALWAYS_INLINE __attribute__((always_inline))
#define ABSL_ATTRIBUTE_COLD __attribute__((cold))
#define ABSL_EXCLUSIVE_LOCKS_REQUIRED(...)
#define ABSL_GUARDED_BY(...)

// Threads.

class Condition {
 public:
  template <class T>
  Condition(const T* object, bool (T::*method)() const)
      : holds_([=] { return (object->*method)(); }) {}
  bool holds() const { return holds_(); }

 private:
  std::function<bool()> holds_;
};

class Mutex {
 public:
  void Lock() { mutex_.lock(); }
  void Unlock() {
    mutex_.unlock();
    changed_.notify_all();
  }
  /// Called with the lock held.
  void Await(const Condition& condition) {
    std::unique_lock held(mutex_, std::adopt_lock);
    changed_.wait(held, [&] { return condition.holds(); });
    held.release();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
};

class MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) : mutex_(mutex) { mutex_.Lock(); }
  explicit MutexLock(Mutex* mutex) : MutexLock(*mutex) {}
  MutexLock(const MutexLock&) = delete;
  ~MutexLock() { mutex_.Unlock(); }

 private:
  Mutex& mutex_;
};

class BlockingCounter {
 public:
  explicit BlockingCounter(size_t count) : count_(count) {}
  void DecrementCount() {
    const std::lock_guard held(mutex_);
    if (--count_ == 0) done_.notify_all();
  }
  void Wait() {
    std::unique_lock held(mutex_);
    done_.wait(held, [&] { return count_ == 0; });
  }

 private:
  std::mutex mutex_;
  std::condition_variable done_;
  size_t count_;
};

// Time and chance.

using Time = std::chrono::steady_clock::time_point;
inline Time Now() {
  return std::chrono::steady_clock::now();
}
inline int64_t ToInt64Milliseconds(std::chrono::steady_clock::duration d) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(d).count();
}

class BitGen : public std::mt19937_64 {
 public:
  BitGen() : std::mt19937_64(std::random_device{}()) {}
  explicit BitGen(std::seed_seq&& seed) : std::mt19937_64(seed) {}
};

template <class T>
T Uniform(BitGen& gen, T low, T high) {
  if constexpr (std::is_integral_v<T>)
    return std::uniform_int_distribution<T>(low, high - 1)(gen);
  else
    return std::uniform_real_distribution<T>(low, high)(gen);
}
inline bool Bernoulli(BitGen& gen, double p) {
  return std::bernoulli_distribution(p)(gen);
}

}  // namespace finetune_subset
}  // namespace absl
