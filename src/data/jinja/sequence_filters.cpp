// Filters on lists, dicts and everything a loop can go over.
#include <algorithm>

#include "data/jinja/builtins.h"

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
  explicit Getter(const Value* attribute) {
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
    for (const Value& part : parts_) item = get_item(runtime, item, part);
    return item;
  }

 private:
  std::vector<Value> parts_;
};

/// Strings compare without case unless asked otherwise.
Value sort_key(const Value& value, bool case_sensitive) {
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
  const Getter getter(bound[2]);
  Keyed keyed;
  for (Value& item : elements(runtime, input)) {
    Value key = sort_key(getter.get(runtime, item), case_sensitive);
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

Value join(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("join", args, {"d", "attribute"});
  std::vector<Value> items = elements(runtime, input);
  const Getter getter(bound[1]);
  for (Value& item : items) item = getter.get(runtime, std::move(item));
  const std::string separator = bound[0] ? to_text(*bound[0], runtime.budget) : std::string();
  return join_texts(runtime, separator, Value::list(runtime.budget, std::move(items)), true);
}

template <bool last>
Value end(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound(last ? "last" : "first", args, {});
  const auto seq = iterate(input, runtime.budget);
  if (seq->items.empty()) return Value::undefined("No such item, sequence was empty.");
  return last ? seq->items.back() : seq->items.front();
}

Value list(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("list", args, {});
  return Value::list(runtime.budget, elements(runtime, input));
}

Value items(Runtime& runtime, const Value& input, const Args& args) {
  const Bound bound("items", args, {});
  if (input.is_undefined()) return iterator(runtime, {});
  if (!input.is_dict()) raise("Can only get item pairs from a mapping.");
  return find_method(input, "items")->apply(runtime, input, {});
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
    const Bound bound("map", args, {"attribute"}, 1);
    const Getter getter(bound[0]);
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
    {"dictsort", dictsort},
    {"first", end<false>},
    {"items", items},
    {"join", join},
    {"last", end<true>},
    {"list", list},
    {"map", map},
    {"reject", select<false, false>},
    {"rejectattr", select<false, true>},
    {"reverse", reverse},
    {"select", select<true, false>},
    {"selectattr", select<true, true>},
    {"sort", sort},
};

}  // namespace

std::span<const Filter> sequence_filters() {
  return kFilters;
}

}  // namespace ft::jinja
