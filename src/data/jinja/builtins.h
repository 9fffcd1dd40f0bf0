// What the interpreter and the built-in filters, tests, methods and functions share: the Runtime of
// one rendering, arguments by name, and the tables.
#pragma once

#include <initializer_list>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "data/jinja/text.h"
#include "data/jinja/value.h"

namespace ft::jinja {

/// State of one rendering. Owns the objects that values point at.
class Runtime {
 public:
  Budget budget;
  std::optional<std::string> now;  ///< ISO time of strftime_now; the present when absent

  template <typename T, typename... Parts>
  T* make(Parts&&... parts) {
    budget.allocate(sizeof(T));
    auto object = std::make_unique<T>(std::forward<Parts>(parts)...);
    T* raw = object.get();
    objects_.push_back(std::move(object));
    return raw;
  }
  Value call(const Value& callee, const Args& args);

 private:
  std::vector<std::unique_ptr<Object>> objects_;
};

using FilterFunction = Value (*)(Runtime&, const Value& input, const Args& args);
using TestFunction = bool (*)(Runtime&, const Value& input, const Args& args);
struct Filter {
  std::string_view name;
  FilterFunction apply;
};
struct Test {
  std::string_view name;
  TestFunction function;
  bool takes_other = false;  ///< `is eq 2`; the others take nothing

  bool apply(Runtime& runtime, const Value& input, const Args& args) const;
};
/// A method of str, list, tuple or dict.
struct Method {
  std::string_view name;
  FilterFunction apply;
};

const Filter* find_filter(std::string_view name);
const Test* find_test(std::string_view name);
std::vector<std::string_view> filter_names();
std::vector<std::string_view> test_names();
/// Those on lists and dicts.
std::span<const Filter> sequence_filters();
std::span<const Method> string_methods();

/// Arguments matched to parameter names, as Python matches them.
class Bound {
 public:
  /// Failure for surplus, unknown, doubled and (of the first `required`) missing ones.
  Bound(std::string_view function, const Args& args, std::initializer_list<std::string_view> names,
        size_t required = 0);
  /// nullptr when it was not given.
  const Value* operator[](size_t i) const { return values_[i]; }
  int64_t integer(size_t i, int64_t otherwise) const;
  bool truth(size_t i, bool otherwise) const {
    return values_[i] ? truthy(*values_[i]) : otherwise;
  }
  /// Without marks.
  std::string text(size_t i, std::string_view otherwise) const;

 private:
  std::string function_;
  std::vector<const Value*> values_;
};

/// `value.name` and `value[key]`, in the sandbox: undefined when there is no such thing or when a
/// template may not have it.
Value get_attribute(Runtime& runtime, const Value& value, std::string_view name);
Value get_item(Runtime& runtime, const Value& value, const Value& key);
/// `value[start:stop:step]`; a null part is not given.
Value get_slice(Runtime& runtime, const Value& value, const Value* start, const Value* stop,
                const Value* step);
/// The method behind `value.name(...)`, or nullptr: then it is an ordinary attribute.
const Method* find_method(const Value& value, std::string_view name);

/// The operators on numbers, strings and lists.
Value add(Runtime& runtime, const Value& a, const Value& b);
Value subtract(const Value& a, const Value& b);
Value multiply(Runtime& runtime, const Value& a, const Value& b);
Value divide(const Value& a, const Value& b);
Value floor_divide(const Value& a, const Value& b);
Value modulo(const Value& a, const Value& b);
Value power(const Value& a, const Value& b);
Value negate(const Value& a);

/// `text.format(...)`: the fields {}, {0} and {name}.
Value format_braces(Runtime& runtime, const std::string& text, const Args& args);

/// str.strip(), which = 'l' or 'r' for one side; `chars` absent: white space. Marks are kept.
std::string strip(std::string_view raw, const std::optional<std::string>& chars, char which);
/// str.replace(); count < 0: all.
std::string replace(Runtime& runtime, const std::string& raw, const std::string& old,
                    const std::string& with, int64_t count);
/// Failure when there are more parts of a text than a list may have.
void check_parts(size_t count);
/// str.splitlines()
std::vector<std::string> split_lines(const std::string& raw);
/// sep.join(items); Failure when an item is no string, unless `any` (then it is printed).
std::string join_texts(Runtime& runtime, const std::string& separator, const Value& items,
                       bool any);

/// range, dict, namespace, ... by name.
std::vector<std::pair<std::string_view, Value>> global_functions(Runtime& runtime);
/// For {% set ns.name = value %}. Failure when `value` is no namespace.
void set_attribute(const Value& object, std::string_view name, Value value);

}  // namespace ft::jinja
