// Byte-pair encoding of one word: its characters (or bytes) become symbols, and the neighbouring
// pair with the lowest merge rank is joined, leftmost first, until no pair has a merge. Gives the
// same ids as the `tokenizers` library's BPE model.
//
// Three things keep it fast. Short words are merged by scanning, long ones with a heap, so a run of
// a million equal characters costs n log n. Words met before come from a bounded cache. And where a
// text is not split into words at all (SentencePiece-like models), it is cut at "seams": between
// two characters that no merge product has side by side no merge can ever reach across, so the
// parts are independent.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

#include "data/vocab.h"

namespace ft {

/// A token of a word and how many of the word's bytes it stands for.
struct WordToken {
  int32_t id;
  uint32_t length;
};

/// `left` and `right` next to each other become `product`; a lower rank goes first.
struct Merge {
  int32_t left, right, product;
  uint32_t rank;
};

struct BpeOptions {
  bool byte_level = false;     ///< symbols are bytes, spelled in GPT-2's alphabet
  bool byte_fallback = false;  ///< a character without a token becomes its <0xXX> bytes
  bool fuse_unk = false;       ///< neighbouring unknown characters become one unk token
  bool ignore_merges = false;  ///< a word that is a token as a whole is that token
  int32_t unk = -1;            ///< -1: characters without a token vanish
};

class Bpe {
 public:
  Bpe(Vocab vocab, const std::vector<Merge>& merges, const BpeOptions& options);
  ~Bpe();

  const Vocab& vocab() const { return vocab_; }

  /// Encodes words with buffers and a cache of its own, borrowed from the model: make one for each
  /// text. Sessions of several threads do not disturb each other.
  class Session {
   public:
    explicit Session(const Bpe& bpe);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;
    /// Appends the tokens of `word`. Bytes that are not UTF-8 count as characters of their own.
    void encode(std::string_view word, std::vector<WordToken>& out);

   private:
    void encode_part(std::string_view part, std::vector<WordToken>& out);
    const Bpe& bpe_;
    std::unique_ptr<struct BpeScratch> scratch_;
  };

 private:
  struct PairSlot {
    uint64_t pair;
    uint32_t rank;
    int32_t product;
  };
  static constexpr uint64_t kFree = ~uint64_t{0};

  void index_merges(const std::vector<Merge>& merges);
  void index_symbols();
  void find_seams(const std::vector<Merge>& merges);
  bool may_join(uint32_t left, uint32_t right) const;
  const PairSlot* find_pair(int32_t left, int32_t right) const;

  void split_symbols(std::string_view word, std::vector<WordToken>& out) const;
  void merge(BpeScratch& scratch) const;
  void merge_short(BpeScratch& scratch) const;
  void merge_long(BpeScratch& scratch) const;
  int32_t whole_word(std::string_view word) const;

  Vocab vocab_;
  BpeOptions options_;
  std::vector<PairSlot> pairs_;        // open addressing; size is a power of two
  std::vector<int32_t> byte_symbols_;  // byte -> symbol; byte level: its letter, else its <0xXX>
  std::vector<int32_t> ascii_;         // not byte level: character below 0x80 -> symbol
  bool has_seams_ = false;
  std::vector<uint64_t> neighbours_;  // bit set of hashed character pairs inside merge products
  mutable std::mutex idle_mutex_;
  mutable std::vector<std::unique_ptr<BpeScratch>> idle_;
};

}  // namespace ft
