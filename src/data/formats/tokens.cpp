// `tokens`: {"input_ids", "labels", "attention_mask"}: ids as another program made them. Labels
// line up with the ids. Two mistakes train without an error elsewhere and are refused here: labels
// that were shifted already, and padding, which an attention mask gives away.
#include <algorithm>

#include "base/error.h"
#include "data/formats.h"

namespace ft {
namespace {

/// A list of integers in [low, high); Error (input) names the first that is not.
std::vector<int32_t> integers(const Row& row, std::string_view key, int64_t low, int64_t high) {
  const auto list = list_member(row, key);
  std::vector<int32_t> values;
  if (!list) return values;
  values.reserve(list->array().size());
  for (const Json& item : list->array()) {
    if (!item.is_int())
      fail_input(row.where, ": ", key, "[", values.size(), "]: wrong type, an integer is wanted");
    const int64_t v = item.integer();
    if ((v < low || v >= high) && !(key == "labels" && v == kIgnore))
      fail_input(row.where, ": ", key, "[", values.size(), "]: ", v, " is not from ", low, " to ",
                 high - 1, key == "labels" ? " and not -100" : "");
    values.push_back(static_cast<int32_t>(v));
  }
  return values;
}

void check_length(const Row& row, std::string_view key, size_t length, size_t wanted) {
  if (length != wanted)
    fail_input(row.where, ": ", key, ": ", length, " values for ", wanted, " input_ids");
}

/// At least three targets, each the id that comes next, and not each its own id.
bool looks_shifted(const Example& e) {
  int64_t targets = 0;
  bool differs = false;
  for (size_t i = 0; i < e.ids.size(); ++i) {
    if (e.labels[i] == kIgnore) continue;
    if (i + 1 == e.ids.size() || e.labels[i] != e.ids[i + 1]) return false;
    differs |= e.labels[i] != e.ids[i];
    ++targets;
  }
  return differs && targets >= 3;
}

}  // namespace

Document make_tokens(const Row& row, const DocumentMaker& maker) {
  // Without a model at hand every 32-bit id is possible.
  const int64_t vocab = maker.context.vocab_size > 0 ? maker.context.vocab_size : INT32_MAX;
  Document out;
  Example& e = out.example;
  e.ids = integers(row, "input_ids", 0, vocab);
  if (row.value.get_set("labels")) {
    e.labels = integers(row, "labels", 0, vocab);
    check_length(row, "labels", e.labels.size(), e.ids.size());
    if (looks_shifted(e))
      fail_input(row.where,
                 ": labels: each is the id of the next place; labels line up with input_ids, the "
                 "shift by one is done here");
  } else {
    e.labels = e.ids;
  }
  if (row.value.get_set("attention_mask")) {
    const auto mask = integers(row, "attention_mask", 0, 2);
    check_length(row, "attention_mask", mask.size(), e.ids.size());
    if (std::find(mask.begin(), mask.end(), 0) != mask.end())
      fail_input(row.where, ": attention_mask: holds 0; give input_ids without padding");
  }
  if (!e.labels.empty()) e.labels[0] = kIgnore;
  return out;
}

}  // namespace ft
