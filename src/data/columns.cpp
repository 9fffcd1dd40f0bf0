// Keys of rows. Renaming is explicit (data.columns) and happens before anything looks at a row; a
// key that is null counts as absent, because tables cannot leave one out.
#include "data/columns.h"

#include <algorithm>

#include "base/error.h"
#include "base/names.h"

namespace ft {
namespace {

std::vector<std::string_view> keys_of(const Json& row) {
  std::vector<std::string_view> keys;
  for (const auto& member : row.object()) keys.push_back(member.first);
  return keys;
}

std::vector<std::string_view> our_keys() {
  std::vector<std::string_view> keys;
  for (const Format& format : formats()) {
    keys.insert(keys.end(), format.required.begin(), format.required.end());
    keys.insert(keys.end(), format.optional.begin(), format.optional.end());
  }
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

}  // namespace

std::string list_keys(const Json& row) {
  constexpr size_t kShown = 10;
  const auto keys = keys_of(row);
  std::string text;
  for (size_t i = 0; i < std::min(keys.size(), kShown); ++i)
    text += (i > 0 ? ", " : "") + printable(keys[i]);
  return keys.size() > kShown ? text + ", ..." : text;
}

Row rename_columns(const Row& row, const DataConfig& config) {
  if (config.columns.empty()) return row;
  Row renamed{Json(Json::Object{}), row.where};
  for (const auto& [key, value] : row.value.object()) {
    bool is_source = false;
    for (const auto& [ours, theirs] : config.columns) {
      if (theirs != key) continue;
      renamed.value.set(ours, value);
      is_source = true;
    }
    if (!is_source && !config.columns.contains(key)) renamed.value.set(key, value);
  }
  return renamed;
}

void check_columns(const Rows& rows, const DataConfig& config) {
  const auto known = our_keys();
  for (const auto& [ours, theirs] : config.columns) {
    if (std::find(known.begin(), known.end(), ours) == known.end())
      fail_usage("data.columns: no format has a key \"", printable(ours), "\"",
                 did_you_mean(ours, known), ", one of ", join(known), " is wanted");
    size_t first = 0;
    while (first < rows.size() && !rows[first].value.get(theirs)) ++first;
    if (first == rows.size())
      fail_usage(rows[0].where, ": data.columns: no column \"", printable(theirs), "\"",
                 did_you_mean(theirs, keys_of(rows[0].value)), "; there are ",
                 list_keys(rows[0].value));
  }
}

void check_keys(const Row& row, const Format& format, const DataConfig& config) {
  for (const std::string_view key : format.required) {
    if (row.value.get_set(key)) continue;
    const auto mapped = config.columns.find(std::string(key));
    const std::string_view wanted = mapped == config.columns.end() ? key : mapped->second;
    if (const Json* there = row.value.get(key); there && there->is_null())
      fail_input(row.where, ": ", printable(wanted), ": null, a value is wanted");
    fail_input(row.where, ": no \"", printable(wanted), "\", which the ", format.name,
               " format needs", did_you_mean(wanted, keys_of(row.value)), "; the row has ",
               list_keys(row.value), "; data.columns can rename");
  }
}

}  // namespace ft
