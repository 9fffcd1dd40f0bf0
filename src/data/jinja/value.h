// Values of the template language: Python's None, bool, int, float, str, list, tuple, dict, and the
// few objects a template can make. Values are immutable but for namespaces.
//
// Lists and dicts are shared and bounded in depth, so destroying one never recurses deeply. Objects
// (namespaces, macros, loops) may refer to each other in circles; they belong to the Runtime of one
// rendering and values only point at them.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "base/json.h"
#include "data/jinja/limits.h"

namespace ft::jinja {

class Runtime;
class Value;
struct Args;
struct Seq;
struct Dict;

/// Something with behaviour: what `namespace()`, `{% macro %}` or `loop` give.
class Object {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const = 0;
  /// nullopt: no such attribute.
  virtual std::optional<Value> attribute(Runtime& runtime, std::string_view name);
  virtual bool is_callable() const { return false; }
  virtual Value call(Runtime& runtime, const Args& args);
};

/// jinja2's Undefined: empty when printed or looped over, an error when used otherwise.
struct Undefined {
  std::shared_ptr<const std::string> message;
};

/// How a sequence shows itself; iterators (what select() gives) can be gone through once.
enum class Form : char { kList, kTuple, kRange, kIterator, kKeys, kValues, kItems };

class Value {
 public:
  Value() = default;  // None
  Value(bool v) : data_(v) {}
  Value(int64_t v) : data_(v) {}
  Value(double v) : data_(v) {}
  Value(std::string v) : data_(std::make_shared<const std::string>(std::move(v))) {}
  Value(const char*) = delete;
  Value(Undefined v) : data_(std::move(v)) {}
  Value(std::shared_ptr<const Seq> v) : data_(std::move(v)) {}
  Value(std::shared_ptr<const Dict> v) : data_(std::move(v)) {}
  Value(Object* v) : data_(v) {}

  static Value undefined(std::string message) {
    return Undefined{std::make_shared<const std::string>(std::move(message))};
  }
  static Value list(Budget& budget, std::vector<Value> items, Form form = Form::kList);
  static Value dict(Budget& budget, std::vector<std::pair<Value, Value>> items);

  bool is_none() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_undefined() const { return std::holds_alternative<Undefined>(data_); }
  bool is_bool() const { return std::holds_alternative<bool>(data_); }
  bool is_float() const { return std::holds_alternative<double>(data_); }
  bool is_string() const { return std::holds_alternative<Str>(data_); }
  bool is_seq() const { return std::holds_alternative<std::shared_ptr<const Seq>>(data_); }
  bool is_dict() const { return std::holds_alternative<std::shared_ptr<const Dict>>(data_); }
  bool is_object() const { return std::holds_alternative<Object*>(data_); }
  /// As in Python a bool is an int.
  bool is_int() const { return is_bool() || std::holds_alternative<int64_t>(data_); }
  bool is_number() const { return is_int() || is_float(); }

  // The caller has checked the kind.
  bool boolean() const { return std::get<bool>(data_); }
  int64_t integer() const { return is_bool() ? boolean() : std::get<int64_t>(data_); }
  double number() const {
    return is_float() ? std::get<double>(data_) : static_cast<double>(integer());
  }
  const std::string& string() const { return *std::get<Str>(data_); }
  const Seq& seq() const { return *std::get<std::shared_ptr<const Seq>>(data_); }
  const std::shared_ptr<const Seq>& shared_seq() const {
    return std::get<std::shared_ptr<const Seq>>(data_);
  }
  const Dict& dict() const { return *std::get<std::shared_ptr<const Dict>>(data_); }
  Object* object() const { return std::get<Object*>(data_); }
  const std::string& undefined_message() const { return *std::get<Undefined>(data_).message; }

  /// Python's name of the type: str, int, NoneType, ...
  std::string_view type_name() const;
  /// Levels of lists and dicts: 0 for everything else.
  int depth() const;

 private:
  using Str = std::shared_ptr<const std::string>;
  std::variant<std::monostate, bool, int64_t, double, Str, Undefined, std::shared_ptr<const Seq>,
               std::shared_ptr<const Dict>, Object*>
      data_;
};

struct Seq {
  std::vector<Value> items;
  Form form = Form::kList;
  int depth = 1;
  mutable size_t next = 0;  ///< iterators only: the first element not yet taken

  bool can_index() const { return form < Form::kIterator; }
};

struct Dict {
  std::vector<std::pair<Value, Value>> items;
  int depth = 1;

  /// The value of a key, or nullptr.
  const Value* find(const Value& key, Budget& budget) const;
  const Value* find(std::string_view key, Budget& budget) const;
};

/// Arguments of a call.
struct Args {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
};

/// Python's truth value.
bool truthy(const Value& value);
/// ==
bool equals(const Value& a, const Value& b, Budget& budget);
/// Below, at or above zero as a is to b. Failure unless both are numbers or both are strings.
int compare(const Value& a, const Value& b, Budget& budget);
/// The elements a loop sees: of lists, characters of strings, keys of dicts. Takes from iterators
/// what is left. Failure when the value cannot be looped over.
std::shared_ptr<const Seq> iterate(const Value& value, Budget& budget);
/// len(); Failure when it has none.
size_t length(const Value& value, Budget& budget);
/// `item in container`
bool contains(const Value& container, const Value& item, Budget& budget);

/// str(): what {{ value }} prints.
std::string to_text(const Value& value, Budget& budget);
std::string repr(const Value& value, Budget& budget);

struct JsonStyle {
  std::optional<std::string> indent;  ///< one level of it; absent: everything in one line
  std::string item_separator = ", ", key_separator = ": ";
  bool sort_keys = false;
};
/// json.dumps()
std::string to_json(const Value& value, const JsonStyle& style, Budget& budget);

/// Strings and keys pass through `edit` when there is one; what is not UTF-8 in them is replaced.
using EditText = std::string (*)(const void* context, std::string text);
Value from_json(const Json& json, Budget& budget, EditText edit = nullptr,
                const void* context = nullptr);

}  // namespace ft::jinja
