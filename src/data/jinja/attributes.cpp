// value.name, value[key], value[a:b:c] and calls, under the rules of jinja2's ImmutableSandbox:
// only data can be reached. Python's own attributes of a value come before the keys of a dict when
// written with a dot (`schema.items` is the method) and after them in brackets, as in jinja2.
#include <algorithm>

#include "data/jinja/builtins.h"

namespace ft::jinja {
namespace {

// Methods that exist in Python and change the value, or lead out of the sandbox.
constexpr std::string_view kUnsafe[] = {"append", "clear",   "extend",     "insert",
                                        "pop",    "popitem", "remove",     "reverse",
                                        "sort",   "update",  "setdefault", "format_map"};

Value dict_get(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("get", args, {"key", "default"}, 1);
  const Value* found = self.dict().find(*bound[0], runtime.budget);
  return found ? *found : bound[1] ? *bound[1] : Value();
}

template <Form form>
Value dict_view(Runtime& runtime, const Value& self, const Args& args) {
  const Bound bound("dict view", args, {});
  std::vector<Value> items;
  for (const auto& [key, value] : self.dict().items)
    items.push_back(form == Form::kKeys ? key
                    : form == Form::kValues
                        ? value
                        : Value::list(runtime.budget, {key, value}, Form::kTuple));
  return Value::list(runtime.budget, std::move(items), form);
}

constexpr Method kDictMethods[] = {{"get", dict_get},
                                   {"items", dict_view<Form::kItems>},
                                   {"keys", dict_view<Form::kKeys>},
                                   {"values", dict_view<Form::kValues>}};

/// `value.method` without a call.
class BoundMethod : public Object {
 public:
  BoundMethod(Value self, const Method* method) : self_(std::move(self)), method_(method) {}
  std::string_view type_name() const override { return "method"; }
  bool is_callable() const override { return true; }
  Value call(Runtime& runtime, const Args& args) override {
    return method_->apply(runtime, self_, args);
  }

 private:
  Value self_;
  const Method* method_;
};

std::string type_text(const Value& v) {
  return v.is_none() ? "'None'" : str("'", v.type_name(), " object'");
}

Value missing(Runtime& runtime, const Value& value, const Value& key) {
  if (key.is_string())
    return Value::undefined(type_text(value) + " has no attribute " +
                            repr(Value(std::string(key.string().substr(0, 100))), runtime.budget));
  return Value::undefined(type_text(value) + " has no element " + to_text(key, runtime.budget));
}

/// What a Python attribute gives; nullopt when there is none of that name.
std::optional<Value> own_attribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (value.is_object()) {
    if (auto found = value.object()->attribute(runtime, name)) return found;
  } else if (const Method* method = find_method(value, name)) {
    return Value(runtime.make<BoundMethod>(value, method));
  }
  const bool has_methods = value.is_string() || value.is_seq() || value.is_dict();
  const bool unsafe =
      name.starts_with("__") ||
      (has_methods && std::find(std::begin(kUnsafe), std::end(kUnsafe), name) != std::end(kUnsafe));
  if (!unsafe) return std::nullopt;
  return Value::undefined(
      str("access to attribute '", name, "' of '", value.type_name(), "' object is unsafe."));
}

/// Python's rules for a slice of `count` elements.
struct Slice {
  int64_t start, stop, step;

  Slice(int64_t count, const Value* from, const Value* to, const Value* by) {
    for (const Value* part : {from, to, by})
      if (part && !part->is_int())
        raise("slice indices must be integers or None or have an __index__ method");
    step = by ? by->integer() : 1;
    if (step == 0) raise("slice step cannot be zero");
    const int64_t lowest = step > 0 ? 0 : -1, highest = step > 0 ? count : count - 1;
    const auto place = [&](const Value* part, int64_t otherwise) {
      if (!part) return otherwise;
      const int64_t i = part->integer();
      return i < 0 ? std::max(i + count, lowest) : std::min(i, highest);
    };
    start = place(from, step > 0 ? lowest : highest);
    stop = place(to, step > 0 ? highest : lowest);
  }

  template <typename Take>
  void each(Take take) const {
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
      take(static_cast<size_t>(i));
      if (__builtin_add_overflow(i, step, &i)) break;
    }
  }
};

Value slice_text(Runtime& runtime, const std::string& raw, const Value* from, const Value* to,
                 const Value* by) {
  runtime.budget.scan(raw.size());
  const Text text(raw);
  const std::string_view plain = text.plain();
  const size_t count = num_points(plain);
  const Slice slice(static_cast<int64_t>(count), from, to, by);
  const bool ascii = count == plain.size();
  const auto byte = [&](int64_t i) {
    return ascii ? static_cast<size_t>(i) : offset_of(plain, static_cast<size_t>(i));
  };
  if (slice.step == 1) {
    const size_t begin = byte(slice.start), end = byte(std::max(slice.start, slice.stop));
    return text.cut(begin, end);
  }
  const auto all = iterate(raw, runtime.budget);
  Builder out(runtime.budget);
  slice.each([&](size_t i) { out.append(all->items[i].string()); });
  return out.take();
}

/// value[i]; nullopt when out of range.
std::optional<Value> indexed(Runtime& runtime, const Value& value, int64_t i) {
  const auto count = static_cast<int64_t>(length(value, runtime.budget));
  if (i < 0) i += count;
  if (i < 0 || i >= count) return std::nullopt;
  if (value.is_seq()) return value.seq().items[static_cast<size_t>(i)];
  const Value begin(i), end(i + 1);
  return slice_text(runtime, value.string(), &begin, &end, nullptr);
}

}  // namespace

Value Runtime::call(const Value& callee, const Args& args) {
  if (callee.is_undefined()) raise(callee.undefined_message());
  if (!callee.is_object()) raise("'", callee.type_name(), "' object is not callable");
  return callee.object()->call(*this, args);
}

const Method* find_method(const Value& value, std::string_view name) {
  std::span<const Method> methods;
  if (value.is_string()) methods = string_methods();
  if (value.is_dict()) methods = kDictMethods;
  const auto found =
      std::find_if(methods.begin(), methods.end(), [&](const Method& m) { return m.name == name; });
  return found == methods.end() ? nullptr : &*found;
}

Value get_attribute(Runtime& runtime, const Value& value, std::string_view name) {
  if (value.is_undefined()) raise(value.undefined_message());
  if (auto found = own_attribute(runtime, value, name)) return *found;
  if (value.is_dict())
    if (const Value* found = value.dict().find(name, runtime.budget)) return *found;
  return missing(runtime, value, std::string(name));
}

Value get_item(Runtime& runtime, const Value& value, const Value& key) {
  if (value.is_undefined()) raise(value.undefined_message());
  if (value.is_dict()) {
    if (const Value* found = value.dict().find(key, runtime.budget)) return *found;
  } else if (key.is_int() && (value.is_string() || (value.is_seq() && value.seq().can_index()))) {
    if (auto found = indexed(runtime, value, key.integer())) return *found;
  }
  if (key.is_string())
    if (auto found = own_attribute(runtime, value, without_marks(key.string()))) return *found;
  return missing(runtime, value, key);
}

Value get_slice(Runtime& runtime, const Value& value, const Value* start, const Value* stop,
                const Value* step) {
  if (value.is_undefined()) raise(value.undefined_message());
  if (value.is_string()) return slice_text(runtime, value.string(), start, stop, step);
  if (!value.is_seq() || !value.seq().can_index())
    raise("'", value.type_name(), "' object is not subscriptable");
  const Seq& seq = value.seq();
  std::vector<Value> items;
  const Slice slice(static_cast<int64_t>(seq.items.size()), start, stop, step);
  slice.each([&](size_t i) { items.push_back(seq.items[i]); });
  return Value::list(runtime.budget, std::move(items), seq.form);
}

}  // namespace ft::jinja
