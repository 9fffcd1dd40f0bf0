// Token texts and their ids, both ways. All texts lie in one string, and the hash table holds ids
// only: a vocabulary of 262,144 tokens loads in a few milliseconds and needs no allocation per
// token.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace ft {

class Vocab {
 public:
  /// Ids at or above this are refused: the tables below are as long as the highest id, and a
  /// crafted file must not make them huge. The largest known vocabularies have about 262,000
  /// entries.
  static constexpr int64_t kMaxId = 1 << 22;

  void reserve(size_t tokens);
  /// False, and nothing added, when the text or the id is there already. 0 <= id < kMaxId.
  bool add(std::string_view text, int32_t id);

  /// The id of a token, -1 when there is none.
  int32_t find(std::string_view text) const;
  bool has(int64_t id) const;
  /// The token; empty for an id without one.
  std::string_view text(int64_t id) const;
  /// One more than the highest id.
  int64_t size() const { return static_cast<int64_t>(entries_.size()); }

 private:
  struct Entry {
    uint64_t begin = 0;
    uint32_t length = 0;
    bool used = false;
  };
  std::string texts_;
  std::vector<Entry> entries_;
  std::vector<int32_t> slots_;  // open addressing, -1 = free; size is a power of two
  size_t count_ = 0;

  size_t slot_of(std::string_view text) const;
  void rehash(size_t slots);
};

}  // namespace ft
