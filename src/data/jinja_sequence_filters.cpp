// Filters on lists, dicts and everything a loop can go over.
#include <algorithm>

#include "data/jinja_builtins.h"

namespace ft::jinja {
namespace {

std::vector<Value> elements(Runtime& runtime, const Value& input) {
  const auto seq = iterate(input, runtime.budget);
  runtime.budget.allocate(seq->items.size() * sizeof(Value));
  runtime.budget.work(seq->items.size());
  return seq->items;
}

Value iterator(Runtime& runtime, std::vector<Value> items) {
  return Value::list(runtime.budget, std::move(items), Form::kIterator);
}

/// The way to a part of an element: "a.b.0", a number, or nothing (the element itself).
class Getter {
 public:
  explicit Getter(const Value* attribute, const Value* otherwise = nullptr) : default_(otherwise) {
    if (!attribute || attribute->is_none()) return;
    if (!attribute->is_string()) {
      parts_.push_back(*attribute);
      return;
    }
    const std::string path = without_marks(attribute->string());
    for (size_t begin = 0; begin <= path.size();) {
      const size_t end = std::min(path.find('.', begin), path.size());
      const std::string part = path.substr(begin, end - begin);
      const bool is_index = !part.empty() && part.size() < 10 &&
                            part.find_first_not_of("0123456789") == std::string::npos;
      parts_.push_back(is_index ? Value(int64_t{std::stoll(part)}) : Value(part));
      begin = end + 1;
    }
  }

  Value get(Runtime& runtime, Value item) const {
    for (const Value& part : parts_) {
      item = get_item(runtime, item, part);
      if (item.is_undefined() && default_ && !default_->is_none()) return *default_;
    }
    return item;
  }

 private:
  std::vector<Value> parts_;
  const Value* default_;
};

/// Strings compare without case unless asked otherwise.
Value sort_key(Value value, bool case_sensitive) {
  return value.is_string() && !case_sensitive ? Value(to_case(value.string(), Case::kLower))
                                              : value;
}

/// Elements with their keys, stably in the order of the keys.
using Keyed = std::vector<std::pair<Value, Value>>;
void sort_keyed(Runtime& runtime, Keyed& keyed, bool descending) {
  std::stable_sort(keyed.begin(), keyed.end(), [&](const auto& a, const auto& b) {
    const int order = compare(a.first, b.first, runtime.budget);
    return descending ? order > 0 : order < 0;
  });
}

Value sort(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("sort", args, {"reverse", "case_sensitive", "attribute"});
  const bool case_sensitive = bound.truth(1, false);
  // "a,b" sorts by a, then by b.
  std::vector<Getter> getters;
  if (bound[2] && bound[2]->is_string()) {
    const std::string paths = bound[2]->string();
    for (size_t begin = 0; begin <= paths.size();) {
      const size_t end = std::min(paths.find(',', begin), paths.size());
      const Value path(paths.substr(begin, end - begin));
      getters.emplace_back(&path);
      begin = end + 1;
    }
  } else {
    getters.emplace_back(bound[2]);
  }
  Keyed keyed;
  for (Value& item : elements(runtime, input)) {
    std::vector<Value> keys;
    for (const Getter& getter : getters)
      keys.push_back(sort_key(getter.get(runtime, item), case_sensitive));
    // A list even of one: lists may hold equal keys that have no order (undefined ones).
    Value key = Value::list(runtime.budget, std::move(keys));
    keyed.emplace_back(std::move(key), std::move(item));
  }
  sort_keyed(runtime, keyed, bound.truth(0, false));
  std::vector<Value> items;
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return Value::list(runtime.budget, std::move(items));
}

Value dictsort(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("dictsort", args, {"case_sensitive", "by", "reverse"});
  const std::string by = bound.text(1, "key");
  if (by != "key" && by != "value") raise("You can only sort by either \"key\" or \"value\"");
  if (!input.is_dict()) raise("'", input.type_name(), "' object has no attribute 'items'");
  Keyed keyed;
  for (const auto& [key, value] : input.dict().items)
    keyed.emplace_back(sort_key(by == "key" ? key : value, bound.truth(0, false)),
                       Value::list(runtime.budget, {key, value}, Form::kTuple));
  sort_keyed(runtime, keyed, bound.truth(2, false));
  std::vector<Value> items;
  for (auto& [key, item] : keyed) items.push_back(std::move(item));
  return Value::list(runtime.budget, std::move(items));
}

Value groupby(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("groupby", args, {"attribute", "default", "case_sensitive"}, 1);
  const Getter getter(bound[0], bound[1]);
  const bool case_sensitive = bound.truth(2, false);
  Keyed keyed;
  for (Value& item : elements(runtime, input)) {
    Value key = sort_key(getter.get(runtime, item), case_sensitive);
    keyed.emplace_back(std::move(key), std::move(item));
  }
  sort_keyed(runtime, keyed, false);
  std::vector<Value> groups;
  for (size_t begin = 0, end; begin < keyed.size(); begin = end) {
    std::vector<Value> members;
    for (end = begin;
         end < keyed.size() && equals(keyed[end].first, keyed[begin].first, runtime.budget); ++end)
      members.push_back(keyed[end].second);
    Value name = getter.get(runtime, members[0]);  // in the case it is written in
    groups.push_back(Value::list(runtime.budget,
                                 {std::move(name), Value::list(runtime.budget, std::move(members))},
                                 Form::kGroup));
  }
  return Value::list(runtime.budget, std::move(groups));
}

Value unique(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("unique", args, {"case_sensitive", "attribute"});
  const Getter getter(bound[1]);
  std::vector<Value> seen, items;
  for (Value& item : elements(runtime, input)) {
    Value key = sort_key(getter.get(runtime, item), bound.truth(0, false));
    const bool is_new = std::none_of(seen.begin(), seen.end(), [&](const Value& other) {
      return equals(other, key, runtime.budget);
    });
    if (!is_new) continue;
    seen.push_back(std::move(key));
    items.push_back(std::move(item));
  }
  return iterator(runtime, std::move(items));
}

template <int sign>
Value extreme(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("min/max", args, {"case_sensitive", "attribute"});
  const Getter getter(bound[1]);
  Value best = Value::undefined("No aggregated item, sequence was empty."), best_key;
  bool first = true;
  for (const Value& item : elements(runtime, input)) {
    Value key = sort_key(getter.get(runtime, item), bound.truth(0, false));
    if (first || compare(key, best_key, runtime.budget) * sign > 0) {
      best = item;
      best_key = std::move(key);
    }
    first = false;
  }
  return best;
}

Value sum(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("sum", args, {"attribute", "start"});
  const Getter getter(bound[0]);
  Value total = bound[1] ? *bound[1] : Value(int64_t{0});
  if (total.is_string()) raise("sum() can't sum strings");
  for (const Value& item : elements(runtime, input))
    total = add(runtime, total, getter.get(runtime, item));
  return total;
}

Value join(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("join", args, {"d", "attribute"});
  std::vector<Value> items = elements(runtime, input);
  const Getter getter(bound[1]);
  for (Value& item : items) item = getter.get(runtime, std::move(item));
  const std::string separator = bound[0] ? to_text(*bound[0], runtime.budget) : std::string();
  return join_texts(runtime, separator, Value::list(runtime.budget, std::move(items)), true);
}

Value first(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("first", args, {});
  if (input.is_seq() && input.seq().form == Form::kIterator) {
    const Seq& seq = input.seq();
    if (seq.next < seq.items.size()) return seq.items[seq.next++];
  } else if (const auto seq = iterate(input, runtime.budget); !seq->items.empty()) {
    return seq->items.front();
  }
  return Value::undefined("No first item, sequence was empty.");
}

Value last(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("last", args, {});
  if (input.is_seq() && input.seq().form == Form::kIterator)
    raise("'generator' object is not reversible");
  const auto seq = iterate(input, runtime.budget);
  return seq->items.empty() ? Value::undefined("No last item, sequence was empty.")
                            : seq->items.back();
}

Value list(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("list", args, {});
  return Value::list(runtime.budget, elements(runtime, input));
}

Value items(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("items", args, {});
  std::vector<Value> out;
  if (!input.is_undefined()) {
    if (!input.is_dict()) raise("Can only get item pairs from a mapping.");
    for (const auto& [key, value] : input.dict().items)
      out.push_back(Value::list(runtime.budget, {key, value}, Form::kTuple));
  }
  return iterator(runtime, std::move(out));
}

Value reverse(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("reverse", args, {});
  if (input.is_string()) {
    const Value back(int64_t{-1});
    return get_slice(runtime, input, nullptr, nullptr, &back);
  }
  std::vector<Value> out = elements(runtime, input);
  std::reverse(out.begin(), out.end());
  return iterator(runtime, std::move(out));
}

/// Rows of so many elements, the last one filled up when there is something to fill with.
Value batch(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("batch", args, {"linecount", "fill_with"}, 1);
  const int64_t size = bound.integer(0, 0);
  if (size < 1 || size > static_cast<int64_t>(kMaxItems)) raise("batch: linecount is out of range");
  std::vector<Value> rows, row;
  const auto flush = [&] { rows.push_back(Value::list(runtime.budget, std::exchange(row, {}))); };
  for (Value& item : elements(runtime, input)) {
    if (static_cast<int64_t>(row.size()) == size) flush();
    row.push_back(std::move(item));
  }
  if (!row.empty()) {
    if (bound[1] && !bound[1]->is_none()) row.resize(static_cast<size_t>(size), *bound[1]);
    flush();
  }
  return iterator(runtime, std::move(rows));
}

Args rest_of(const Args& args, size_t taken) {
  Args rest;
  rest.named = args.named;
  rest.positional.assign(args.positional.begin() + static_cast<std::ptrdiff_t>(taken),
                         args.positional.end());
  return rest;
}

std::string name_argument(const Value& v, std::string_view what) {
  if (!v.is_string()) raise("the name of a ", what, " must be a string, not ", v.type_name());
  return without_marks(v.string());
}

Value map(Runtime& runtime, const Value& input, const Args& args) {
  std::vector<Value> out = elements(runtime, input);
  if (args.positional.empty()) {
    const Bound bound("map", args, {"attribute", "default"}, 1);
    const Getter getter(bound[0], bound[1]);
    for (Value& item : out) item = getter.get(runtime, std::move(item));
    return iterator(runtime, std::move(out));
  }
  const std::string name = name_argument(args.positional[0], "filter");
  const Filter* filter = find_filter(name);
  if (!filter) raise("No filter named '", printable(name), "'.");
  const Args rest = rest_of(args, 1);
  for (Value& item : out) item = filter->apply(runtime, item, rest);
  return iterator(runtime, std::move(out));
}

/// select, reject, selectattr, rejectattr: keeps what a test (default: truth) says `keep` of.
template <bool keep, bool by_attribute>
Value select(Runtime& runtime, const Value& input, const Args& args) {
  if (by_attribute && args.positional.empty()) raise("Missing parameter for attribute name");
  const Getter getter(by_attribute ? &args.positional[0] : nullptr);
  const size_t taken = by_attribute;
  const Test* test = nullptr;
  Args rest;
  if (args.positional.size() > taken) {
    const std::string name = name_argument(args.positional[taken], "test");
    test = find_test(name);
    if (!test) raise("No test named '", printable(name), "'.");
    rest = rest_of(args, taken + 1);
  }
  std::vector<Value> out;
  for (Value& item : elements(runtime, input)) {
    const Value part = getter.get(runtime, item);
    if ((test ? test->apply(runtime, part, rest) : truthy(part)) == keep)
      out.push_back(std::move(item));
  }
  return iterator(runtime, std::move(out));
}

constexpr Filter kFilters[] = {
    {"batch", batch},
    {"dictsort", dictsort},
    {"first", first},
    {"groupby", groupby},
    {"items", items},
    {"join", join},
    {"last", last},
    {"list", list},
    {"map", map},
    {"max", extreme<1>},
    {"min", extreme<-1>},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"reverse", reverse},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

std::span<const Filter> sequence_filters() {
  return kFilters;
}

}  // namespace ft::jinja
