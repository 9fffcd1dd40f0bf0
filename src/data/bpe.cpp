// The merge loop of BPE (Sennrich et al. 2016) with the order of `tokenizers`: lowest rank, then
// leftmost. Trap: the rank decides, not the length, and a pair made by a merge competes with all
// older pairs.
#include "data/bpe.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "data/utf8.h"

namespace ft {
namespace {

constexpr uint32_t kNoRank = UINT32_MAX;
constexpr size_t kShortWord = 32;      // symbols; from here on the heap is faster than scanning
constexpr size_t kNeighbourBits = 22;  // 512 KiB: a false hit only costs a cut, never a wrong id
constexpr size_t kCachedWord = 24, kCachedTokens = 6;
constexpr size_t kCacheSlots = 1 << 14;
constexpr uint32_t kNone = UINT32_MAX;

uint64_t mix(uint64_t x) {
  x ^= x >> 32;
  x *= 0x9e3779b97f4a7c15u;
  return x ^ x >> 29;
}

uint64_t pair_key(int32_t left, int32_t right) {
  return static_cast<uint64_t>(static_cast<uint32_t>(left)) << 32 | static_cast<uint32_t>(right);
}

size_t neighbour_bit(uint32_t left, uint32_t right) {
  return mix(static_cast<uint64_t>(left) << 32 | right) >> (64 - kNeighbourBits);
}

struct CachedWord {
  uint8_t word_length = 0, num_tokens = 0;
  std::array<char, kCachedWord> word;
  std::array<uint8_t, kCachedTokens> lengths;
  std::array<int32_t, kCachedTokens> ids;
};

}  // namespace

/// What one encoding thread needs; kept between texts so that the cache stays warm.
struct BpeScratch {
  std::vector<WordToken> symbols;
  std::vector<uint32_t> ranks, next, previous;
  std::vector<int32_t> products;
  std::vector<uint64_t> heap;  // rank << 32 | position: the smallest is the next merge
  std::vector<CachedWord> cache = std::vector<CachedWord>(kCacheSlots);
};

Bpe::Bpe(Vocab vocab, const std::vector<Merge>& merges, const BpeOptions& options)
    : vocab_(std::move(vocab)), options_(options) {
  index_merges(merges);
  index_symbols();
  if (!options_.byte_level) find_seams(merges);
}

Bpe::~Bpe() = default;

void Bpe::index_merges(const std::vector<Merge>& merges) {
  size_t slots = 16;
  while (slots < merges.size() * 2) slots *= 2;
  pairs_.assign(slots, {kFree, kNoRank, -1});
  for (const Merge& m : merges) {
    const uint64_t key = pair_key(m.left, m.right);
    size_t at = mix(key) & (slots - 1);
    while (pairs_[at].pair != kFree && pairs_[at].pair != key) at = (at + 1) & (slots - 1);
    pairs_[at] = {key, m.rank, m.product};  // a repeated pair: the last one counts
  }
}

void Bpe::index_symbols() {
  byte_symbols_.assign(256, -1);
  for (int b = 0; b < 256; ++b) {
    const auto byte = static_cast<uint8_t>(b);
    std::string text;
    if (options_.byte_level) {
      append_point(text, byte_to_char(byte));
    } else {
      constexpr char kHex[] = "0123456789ABCDEF";
      text = {'<', '0', 'x', kHex[b >> 4], kHex[b & 15], '>'};
    }
    byte_symbols_[byte] = vocab_.find(text);
  }
  for (int c = 0; c < 0x80; ++c)
    ascii_.push_back(vocab_.find(std::string(1, static_cast<char>(c))));
}

void Bpe::find_seams(const std::vector<Merge>& merges) {
  // Every character must become a symbol of its own, or unknown ones tie what stands beside them
  // together; and whole words may be tokens without a merge.
  const bool all_bytes = std::count(byte_symbols_.begin(), byte_symbols_.end(), -1) == 0;
  const bool is_total =
      options_.byte_fallback ? all_bytes : options_.unk >= 0 && !options_.fuse_unk;
  if (options_.ignore_merges || !is_total) return;
  neighbours_.assign((size_t{1} << kNeighbourBits) / 64, 0);
  std::vector<bool> stands_for_others(static_cast<size_t>(vocab_.size()) + 1);
  for (const int32_t id : byte_symbols_)
    if (id >= 0) stands_for_others[static_cast<size_t>(id)] = true;
  if (options_.unk >= 0) stands_for_others[static_cast<size_t>(options_.unk)] = true;
  for (const Merge& m : merges) {
    // Byte and unk symbols stand for other characters than those they are spelled with.
    if (stands_for_others[static_cast<size_t>(m.left)] ||
        stands_for_others[static_cast<size_t>(m.right)])
      return;
    const std::string_view product = vocab_.text(m.product);
    uint32_t before = 0;
    for (size_t at = 0; at < product.size();) {
      const CodePoint point = decode_point(product, at);
      if (at > 0) {
        const size_t bit = neighbour_bit(before, point.value);
        neighbours_[bit / 64] |= uint64_t{1} << bit % 64;
      }
      before = point.value;
      at += point.length;
    }
  }
  has_seams_ = true;
}

bool Bpe::may_join(uint32_t left, uint32_t right) const {
  const size_t bit = neighbour_bit(left, right);
  return neighbours_[bit / 64] >> bit % 64 & 1;
}

const Bpe::PairSlot* Bpe::find_pair(int32_t left, int32_t right) const {
  const uint64_t key = pair_key(left, right);
  const size_t mask = pairs_.size() - 1;
  for (size_t at = mix(key) & mask;; at = (at + 1) & mask) {
    if (pairs_[at].pair == key) return &pairs_[at];
    if (pairs_[at].pair == kFree) return nullptr;
  }
}

int32_t Bpe::whole_word(std::string_view word) const {
  return vocab_.find(options_.byte_level ? std::string_view(spell_bytes(word)) : word);
}

void Bpe::split_symbols(std::string_view word, std::vector<WordToken>& out) const {
  out.clear();
  uint32_t unknown = 0;   // bytes of the unk token still open
  uint32_t vanished = 0;  // bytes at the start that no token stands for
  const auto flush = [&] {
    if (unknown > 0) out.push_back({options_.unk, unknown});
    unknown = 0;
  };
  for (size_t at = 0; at < word.size();) {
    const auto lead = static_cast<uint8_t>(word[at]);
    CodePoint point{lead, 1, true};
    if (!options_.byte_level && lead >= 0x80) {
      point = decode_point(word, at);
      if (!point.valid) point.length = 1;
    }
    const int32_t id = options_.byte_level ? byte_symbols_[lead]
                       : lead < 0x80       ? ascii_[lead]
                       : point.valid       ? vocab_.find(word.substr(at, point.length))
                                           : -1;
    const std::string_view bytes = word.substr(at, point.length);
    const auto symbol = [&](char b) { return byte_symbols_[static_cast<uint8_t>(b)]; };
    if (id >= 0) {
      flush();
      out.push_back({id, point.length});
    } else if (options_.byte_fallback && !options_.byte_level &&
               std::all_of(bytes.begin(), bytes.end(), [&](char b) { return symbol(b) >= 0; })) {
      // As in the reference, an unk token still open comes after these.
      for (const char b : bytes) out.push_back({symbol(b), 1});
    } else if (options_.unk >= 0) {
      if (!options_.fuse_unk) flush();
      unknown += point.length;
    } else {
      // Counted to a neighbour, so that the ranges of the other tokens stay right.
      (out.empty() ? vanished : out.back().length) += point.length;
    }
    at += point.length;
  }
  flush();
  if (!out.empty()) out.front().length += vanished;
}

void Bpe::merge(BpeScratch& scratch) const {
  const size_t n = scratch.symbols.size();
  if (n < 2) return;
  scratch.ranks.assign(n, kNoRank);
  scratch.products.assign(n, -1);
  for (size_t i = 0; i + 1 < n; ++i) {
    const PairSlot* pair = find_pair(scratch.symbols[i].id, scratch.symbols[i + 1].id);
    if (!pair) continue;
    scratch.ranks[i] = pair->rank;
    scratch.products[i] = pair->product;
  }
  n <= kShortWord ? merge_short(scratch) : merge_long(scratch);
}

void Bpe::merge_short(BpeScratch& s) const {
  size_t n = s.symbols.size();
  const auto score = [&](size_t i) {
    const PairSlot* pair = i + 1 < n ? find_pair(s.symbols[i].id, s.symbols[i + 1].id) : nullptr;
    s.ranks[i] = pair ? pair->rank : kNoRank;
    s.products[i] = pair ? pair->product : -1;
  };
  while (n > 1) {
    const size_t i = static_cast<size_t>(
        std::min_element(s.ranks.begin(), s.ranks.begin() + static_cast<long>(n)) -
        s.ranks.begin());
    if (s.ranks[i] == kNoRank) break;
    s.symbols[i] = {s.products[i], s.symbols[i].length + s.symbols[i + 1].length};
    const size_t tail = n - i - 2;
    std::memmove(&s.symbols[i + 1], s.symbols.data() + i + 2, tail * sizeof(WordToken));
    std::memmove(&s.ranks[i + 1], s.ranks.data() + i + 2, tail * sizeof(uint32_t));
    std::memmove(&s.products[i + 1], s.products.data() + i + 2, tail * sizeof(int32_t));
    --n;
    score(i);
    if (i > 0) score(i - 1);
  }
  s.symbols.resize(n);
}

void Bpe::merge_long(BpeScratch& s) const {
  const auto n = static_cast<uint32_t>(s.symbols.size());
  s.next.resize(n);
  s.previous.resize(n);
  s.heap.clear();
  const auto entry = [&](uint32_t i) { return static_cast<uint64_t>(s.ranks[i]) << 32 | i; };
  for (uint32_t i = 0; i < n; ++i) {
    s.next[i] = i + 1 < n ? i + 1 : kNone;
    s.previous[i] = i > 0 ? i - 1 : kNone;
    if (s.ranks[i] != kNoRank) s.heap.push_back(entry(i));
  }
  const auto later = std::greater<>();
  std::make_heap(s.heap.begin(), s.heap.end(), later);
  const auto score = [&](uint32_t i) {
    const PairSlot* pair =
        s.next[i] == kNone ? nullptr : find_pair(s.symbols[i].id, s.symbols[s.next[i]].id);
    s.ranks[i] = pair ? pair->rank : kNoRank;
    s.products[i] = pair ? pair->product : -1;
    if (!pair) return;
    s.heap.push_back(entry(i));
    std::push_heap(s.heap.begin(), s.heap.end(), later);
  };
  while (!s.heap.empty()) {
    std::pop_heap(s.heap.begin(), s.heap.end(), later);
    const auto i = static_cast<uint32_t>(s.heap.back());
    const auto rank = static_cast<uint32_t>(s.heap.back() >> 32);
    s.heap.pop_back();
    if (s.ranks[i] != rank) continue;  // the pair it was pushed for is gone
    const uint32_t gone = s.next[i];
    s.symbols[i] = {s.products[i], s.symbols[i].length + s.symbols[gone].length};
    s.symbols[gone].length = 0;
    s.ranks[gone] = kNoRank;
    s.next[i] = s.next[gone];
    if (s.next[i] != kNone) s.previous[s.next[i]] = i;
    score(i);
    if (s.previous[i] != kNone) score(s.previous[i]);
  }
  std::erase_if(s.symbols, [](const WordToken& t) { return t.length == 0; });
}

Bpe::Session::Session(const Bpe& bpe) : bpe_(bpe) {
  const std::lock_guard lock(bpe_.idle_mutex_);
  if (!bpe_.idle_.empty()) {
    scratch_ = std::move(bpe_.idle_.back());
    bpe_.idle_.pop_back();
  } else {
    scratch_ = std::make_unique<BpeScratch>();
  }
}

Bpe::Session::~Session() {
  const std::lock_guard lock(bpe_.idle_mutex_);
  bpe_.idle_.push_back(std::move(scratch_));
}

void Bpe::Session::encode(std::string_view word, std::vector<WordToken>& out) {
  if (!bpe_.has_seams_) return encode_part(word, out);
  size_t begin = 0;
  CodePoint before{};
  for (size_t at = 0; at < word.size();) {
    const CodePoint point = decode_point(word, at);
    if (at > 0 && (!before.valid || !point.valid || !bpe_.may_join(before.value, point.value))) {
      encode_part(word.substr(begin, at - begin), out);
      begin = at;
    }
    before = point;
    at += point.length;
  }
  if (begin < word.size()) encode_part(word.substr(begin), out);
}

void Bpe::Session::encode_part(std::string_view part, std::vector<WordToken>& out) {
  CachedWord* slot = nullptr;
  if (part.size() <= kCachedWord) {
    slot = &scratch_->cache[std::hash<std::string_view>{}(part) & (kCacheSlots - 1)];
    if (slot->word_length == part.size() && slot->num_tokens > 0 &&
        std::memcmp(slot->word.data(), part.data(), part.size()) == 0) {
      for (size_t i = 0; i < slot->num_tokens; ++i) out.push_back({slot->ids[i], slot->lengths[i]});
      return;
    }
  }
  const int32_t whole = bpe_.options_.ignore_merges ? bpe_.whole_word(part) : -1;
  std::vector<WordToken>& tokens = scratch_->symbols;
  if (whole >= 0) {
    tokens.assign(1, {whole, static_cast<uint32_t>(part.size())});
  } else {
    bpe_.split_symbols(part, tokens);
    bpe_.merge(*scratch_);
  }
  out.insert(out.end(), tokens.begin(), tokens.end());
  if (!slot || tokens.empty() || tokens.size() > kCachedTokens) return;
  slot->word_length = static_cast<uint8_t>(part.size());
  slot->num_tokens = static_cast<uint8_t>(tokens.size());
  std::memcpy(slot->word.data(), part.data(), part.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    slot->ids[i] = tokens[i].id;
    slot->lengths[i] = static_cast<uint8_t>(tokens[i].length);
  }
}

}  // namespace ft
