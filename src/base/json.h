// JSON values: parsed strictly (depth limit, no duplicate keys, UTF-8 checked) and written as
// Python's json does. Objects keep the order of their keys: chat templates print them.
// nlohmann/json stays inside json.cpp.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace ft {

class Json {
 public:
  using Array = std::vector<Json>;
  using Object = std::vector<std::pair<std::string, Json>>;

  Json() = default;
  Json(std::nullptr_t) {}
  Json(bool v) : value_(v) {}
  Json(int v) : value_(static_cast<int64_t>(v)) {}
  Json(int64_t v) : value_(v) {}
  Json(size_t v) : value_(static_cast<int64_t>(v)) {}
  Json(double v) : value_(v) {}
  Json(const char* v) : value_(std::string(v)) {}
  Json(std::string v) : value_(std::move(v)) {}
  Json(std::string_view v) : value_(std::string(v)) {}
  Json(Array v) : value_(std::move(v)) {}
  Json(Object v) : value_(std::move(v)) {}

  bool is_null() const { return std::holds_alternative<std::nullptr_t>(value_); }
  bool is_bool() const { return std::holds_alternative<bool>(value_); }
  bool is_int() const { return std::holds_alternative<int64_t>(value_); }
  bool is_number() const { return is_int() || std::holds_alternative<double>(value_); }
  bool is_string() const { return std::holds_alternative<std::string>(value_); }
  bool is_array() const { return std::holds_alternative<Array>(value_); }
  bool is_object() const { return std::holds_alternative<Object>(value_); }

  // The caller has checked the kind; a wrong one is our own fault (std::bad_variant_access).
  bool boolean() const { return std::get<bool>(value_); }
  int64_t integer() const { return std::get<int64_t>(value_); }
  double number() const {
    return is_int() ? static_cast<double>(integer()) : std::get<double>(value_);
  }
  const std::string& string() const { return std::get<std::string>(value_); }
  const Array& array() const { return std::get<Array>(value_); }
  Array& array() { return std::get<Array>(value_); }
  const Object& object() const { return std::get<Object>(value_); }
  Object& object() { return std::get<Object>(value_); }

  /// The member, or nullptr when this is no object or has no such key.
  const Json* get(std::string_view key) const;
  /// As get(), but a member that is null counts as absent.
  const Json* get_set(std::string_view key) const;
  /// Replaces or appends a member; a null value becomes an object.
  void set(std::string_view key, Json value);
  void erase(std::string_view key);

  /// One line. `ascii` escapes everything above 0x7f; separators are those of Python's json.dumps.
  std::string dump(bool ascii = false) const;
  /// Several lines, `indent` spaces a level, as json.dumps(indent=indent) lays them out.
  std::string dump_indented(int indent = 2, bool ascii = false) const;

  bool operator==(const Json& other) const { return value_ == other.value_; }

 private:
  std::variant<std::nullptr_t, bool, int64_t, double, std::string, Array, Object> value_ = nullptr;
};

/// The value with NaN and infinities, which JSON lacks, as null. dump() alone writes them as
/// Python does, for templates.
Json with_finite_numbers(Json value);

/// Parses one document. `where` (a file, or file:line) begins the message of the Error (input)
/// thrown.
Json parse_json(std::string_view text, std::string_view where);
Json read_json(const std::filesystem::path& file);

/// A container so large that its elements are handed over as they are read instead of being kept;
/// in the result it is empty. Keys that come twice are the taker's to find.
struct JsonTake {
  std::string path;  ///< keys from the root, joined with dots
  bool is_object;    ///< else an array; the other kind is kept as usual
  std::function<void(std::string_view key, const Json& value)> take;  ///< key: of an object
};
Json read_json(const std::filesystem::path& file, std::span<const JsonTake> takes);

/// Typed members. Absent and null give nullopt; another type is an Error (input) naming `where` and
/// the key.
std::optional<int64_t> get_int(const Json& object, std::string_view key, std::string_view where);
std::optional<double> get_double(const Json& object, std::string_view key, std::string_view where);
std::optional<bool> get_bool(const Json& object, std::string_view key, std::string_view where);
std::optional<std::string> get_string(const Json& object, std::string_view key,
                                      std::string_view where);

/// A float as Python's repr() writes it: shortest digits that read back the same.
std::string float_text(double value);
/// A JSON string literal with its quotes.
std::string json_quote(std::string_view text, bool ascii = false);

}  // namespace ft
