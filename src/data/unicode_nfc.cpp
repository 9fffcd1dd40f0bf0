// Works stretch by stretch: from a character that can never combine with what stands before it to
// the next such character. Almost every stretch is one character that stays as it is.
#include "data/unicode_nfc.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "data/utf8.h"

namespace ft {
namespace {

// Hangul syllables are composed by arithmetic (Unicode, section 3.12).
constexpr uint32_t kSyllable = 0xac00, kLead = 0x1100, kVowel = 0x1161, kTrail = 0x11a7;
constexpr uint32_t kLeads = 19, kVowels = 21, kTrails = 28;
constexpr uint32_t kSyllables = kLeads * kVowels * kTrails;

struct Decomposition {
  uint32_t first = 0, second = 0;  // second 0: a single character
};

class Tables {
 public:
  Tables() {
    for_each_entry(kCombiningClasses, [this](const uint32_t* v, bool) {
      for (uint32_t c = v[0]; c <= v[1]; ++c) classes_[c] = static_cast<uint8_t>(v[2]);
    });
    for_each_entry(kCanonicalDecompositions, [this](const uint32_t* v, bool recombines) {
      decompositions_[v[0]] = {v[1], v[2]};
      if (!recombines) return;
      compositions_[static_cast<uint64_t>(v[1]) << 32 | v[2]] = v[0];
      seconds_.insert(v[2]);
    });
  }

  uint8_t combining_class(uint32_t c) const {
    const auto found = c < 0x300 ? classes_.end() : classes_.find(c);
    return found == classes_.end() ? 0 : found->second;
  }
  const Decomposition* decomposition(uint32_t c) const {
    const auto found = c < 0xc0 ? decompositions_.end() : decompositions_.find(c);
    return found == decompositions_.end() ? nullptr : &found->second;
  }
  /// 0 when the two do not compose.
  uint32_t composition(uint32_t a, uint32_t b) const {
    if (a - kLead < kLeads && b - kVowel < kVowels)
      return kSyllable + ((a - kLead) * kVowels + b - kVowel) * kTrails;
    if (a - kSyllable < kSyllables && (a - kSyllable) % kTrails == 0 && b > kTrail &&
        b < kTrail + kTrails)
      return a + b - kTrail;
    const auto found = compositions_.find(static_cast<uint64_t>(a) << 32 | b);
    return found == compositions_.end() ? 0 : found->second;
  }
  /// Whether what stands before `c` cannot change because of it.
  bool is_boundary(uint32_t c) const {
    if (c < 0x300) return true;
    if (combining_class(c) != 0 || seconds_.count(c)) return false;
    if (c - kVowel < kVowels || (c > kTrail && c < kTrail + kTrails)) return false;
    const Decomposition* d = decomposition(c);
    return !d || is_boundary(d->first);
  }

 private:
  std::unordered_map<uint32_t, uint8_t> classes_;
  std::unordered_map<uint32_t, Decomposition> decompositions_;
  std::unordered_map<uint64_t, uint32_t> compositions_;
  std::unordered_set<uint32_t> seconds_;

  /// Calls use(three numbers, no exclamation mark) for every entry "a b c;" of a table.
  template <typename Use>
  static void for_each_entry(const char* at, Use use) {
    const char* const end = at + std::strlen(at);
    while (at < end) {
      uint32_t values[3] = {0, 0, 0};
      for (size_t n = 0; n < 3 && *at != ';' && *at != '!'; ++n) {
        if (*at == ' ') ++at;
        at = std::from_chars(at, end, values[n], 16).ptr;
      }
      const bool excluded = *at == '!';
      at += excluded ? 2 : 1;
      use(values, !excluded);
    }
  }
};

const Tables& tables() {
  static const Tables built;
  return built;
}

void decompose(uint32_t c, std::vector<uint32_t>& out) {
  if (c - kSyllable < kSyllables) {
    const uint32_t index = c - kSyllable;
    out.push_back(kLead + index / (kVowels * kTrails));
    out.push_back(kVowel + index / kTrails % kVowels);
    if (index % kTrails != 0) out.push_back(kTrail + index % kTrails);
    return;
  }
  const Decomposition* d = tables().decomposition(c);
  if (!d) {
    out.push_back(c);
    return;
  }
  decompose(d->first, out);
  if (d->second) decompose(d->second, out);
}

void order_marks(std::vector<uint32_t>& points) {
  const auto class_of = [](uint32_t c) { return tables().combining_class(c); };
  for (auto at = points.begin(); at != points.end();) {
    if (class_of(*at) == 0) {
      ++at;
      continue;
    }
    const auto end = std::find_if(at, points.end(), [&](uint32_t c) { return class_of(c) == 0; });
    std::stable_sort(at, end, [&](uint32_t a, uint32_t b) { return class_of(a) < class_of(b); });
    at = end;
  }
}

void compose_points(std::vector<uint32_t>& points) {
  std::vector<uint32_t> out;
  size_t starter = SIZE_MAX;  // index in `out` of the last character that others combine with
  uint8_t last_class = 0;
  for (const uint32_t c : points) {
    const uint8_t cc = tables().combining_class(c);
    if (starter != SIZE_MAX) {
      // Blocked when a mark of the same or a higher class stands between.
      const bool adjacent = out.size() == starter + 1;
      const bool blocked = !adjacent && (last_class == 0 || last_class >= cc);
      const uint32_t joined = blocked ? 0 : tables().composition(out[starter], c);
      if (joined) {
        out[starter] = joined;
        continue;
      }
    }
    if (cc == 0) starter = out.size();
    last_class = cc;
    out.push_back(c);
  }
  points = std::move(out);
}

}  // namespace

AlignedText normalize_canonical(const AlignedText& text, bool compose) {
  const std::string_view view = text.view();
  const auto is_plain = [](char c) { return static_cast<uint8_t>(c) < 0x80; };
  if (std::all_of(view.begin(), view.end(), is_plain)) return text;
  AlignedText out;
  std::vector<uint32_t> points;
  std::string spelled;
  for (size_t begin = 0; begin < view.size();) {
    points.clear();
    size_t end = begin;
    while (end < view.size()) {
      const CodePoint point = decode_point(view, end);
      if (end > begin && tables().is_boundary(point.value)) break;
      decompose(point.value, points);
      end += point.length;
    }
    order_marks(points);
    if (compose) compose_points(points);
    spelled.clear();
    for (const uint32_t c : points) append_point(spelled, c);
    if (spelled == view.substr(begin, end - begin)) {
      out.append(text, begin, end);
    } else {
      out.append(spelled, text.origin_begin(begin), text.origin_end(end - 1));
    }
    begin = end;
  }
  return out;
}

}  // namespace ft
