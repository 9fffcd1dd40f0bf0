#include "base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/files.h"

namespace ft {
namespace {

constexpr size_t kMaxDepth = 64;  // deeper documents are refused: our own writer and copies recurse

/// The keys of an object that is being read, to find one that comes twice. Holds places in the
/// object, not texts: a vocabulary has hundreds of thousands of keys.
class KeySet {
 public:
  /// False when the object has the key already, which is not added.
  bool add(const Json::Object& object, std::string_view key) {
    constexpr size_t kFew = 8;  // compared one by one
    if (object.size() < kFew)
      return std::none_of(object.begin(), object.end(),
                          [&](const auto& m) { return m.first == key; });
    if ((object.size() + 1) * 2 > slots_.size()) grow(object);
    const size_t slot = find(object, key);
    if (slots_[slot] != kFree) return false;
    slots_[slot] = static_cast<uint32_t>(object.size());
    return true;
  }

 private:
  static constexpr uint32_t kFree = UINT32_MAX;
  std::vector<uint32_t> slots_;  // open addressing, at most half full; size is a power of two

  size_t find(const Json::Object& object, std::string_view key) const {
    size_t at = std::hash<std::string_view>{}(key) & (slots_.size() - 1);
    while (slots_[at] != kFree && object[slots_[at]].first != key)
      at = (at + 1) & (slots_.size() - 1);
    return at;
  }
  void grow(const Json::Object& object) {
    slots_.assign(std::max<size_t>(64, slots_.size() * 4), kFree);
    for (size_t i = 0; i < object.size(); ++i)
      slots_[find(object, object[i].first)] = static_cast<uint32_t>(i);
  }
};

/// Builds a Json from nlohmann's event stream; the DOM of that library is never made.
class Builder : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit Builder(std::span<const JsonTake> takes) : takes_(takes) {}

  Json root;
  std::string error;

  bool null() override { return add(Json()); }
  bool boolean(bool v) override { return add(Json(v)); }
  bool number_integer(number_integer_t v) override { return add(Json(static_cast<int64_t>(v))); }
  bool number_unsigned(number_unsigned_t v) override {
    if (v > static_cast<number_unsigned_t>(INT64_MAX)) return add(Json(static_cast<double>(v)));
    return add(Json(static_cast<int64_t>(v)));
  }
  bool number_float(number_float_t v, const string_t&) override { return add(Json(v)); }
  bool string(string_t& v) override { return add(std::move(v)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return open(Json(Json::Object{})); }
  bool start_array(std::size_t) override { return open(Json(Json::Array{})); }
  bool end_object() override { return close(); }
  bool end_array() override { return close(); }
  bool key(string_t& v) override {
    if (!levels_.back().take && !levels_.back().keys.add(levels_.back().value.object(), v)) {
      error = str("duplicate key \"", printable(v), "\"");
      return false;
    }
    levels_.back().key = std::move(v);
    return true;
  }
  bool parse_error(std::size_t position, const std::string&,
                   const nlohmann::detail::exception& e) override {
    std::string text = e.what();
    const auto syntax = text.find("; ");
    error = str("not valid JSON at byte ", position,
                syntax == std::string::npos ? "" : ": " + text.substr(syntax + 2));
    return false;
  }

 private:
  struct Level {
    Json value;
    std::string key;
    KeySet keys;
    const JsonTake* take = nullptr;
  };
  std::vector<Level> levels_;
  std::span<const JsonTake> takes_;

  template <typename T>
  bool add(T&& value) {
    if (levels_.empty()) {
      root = Json(std::forward<T>(value));
    } else if (levels_.back().take) {
      levels_.back().take->take(levels_.back().key, Json(std::forward<T>(value)));
    } else if (levels_.back().value.is_array()) {
      Json::Array& array = levels_.back().value.array();
      if (array.empty()) array.reserve(2);  // most short ones are pairs
      array.emplace_back(std::forward<T>(value));
    } else {
      levels_.back().value.object().emplace_back(std::move(levels_.back().key),
                                                 std::forward<T>(value));
    }
    return true;
  }
  bool open(Json value) {
    if (levels_.size() >= kMaxDepth) {
      error = str("nested deeper than ", kMaxDepth, " levels");
      return false;
    }
    const JsonTake* take = find_take(value.is_object());
    levels_.push_back({std::move(value), {}, {}, take});
    return true;
  }
  /// The one that wants what begins here.
  const JsonTake* find_take(bool is_object) const {
    constexpr size_t kDeepest = 4;
    if (takes_.empty() || levels_.empty() || levels_.size() > kDeepest) return nullptr;
    std::string path;
    for (const Level& level : levels_) {
      if (!level.value.is_object() || level.take) return nullptr;
      path += (path.empty() ? "" : ".") + level.key;
    }
    for (const JsonTake& take : takes_)
      if (take.path == path && take.is_object == is_object) return &take;
    return nullptr;
  }
  bool close() {
    Json done = std::move(levels_.back().value);
    levels_.pop_back();
    return add(std::move(done));
  }
};

void append(std::string& out, const Json& v, int indent, int level, bool ascii) {
  const auto newline = [&](int at) {
    if (indent > 0)
      out.append("\n").append(static_cast<size_t>(indent) * static_cast<size_t>(at), ' ');
  };
  const char* comma = indent > 0 ? "," : ", ";
  if (v.is_null()) {
    out += "null";
  } else if (v.is_bool()) {
    out += v.boolean() ? "true" : "false";
  } else if (v.is_int()) {
    out += std::to_string(v.integer());
  } else if (v.is_number()) {
    const double d = v.number();
    out += std::isnan(d)   ? "NaN"
           : std::isinf(d) ? (d > 0 ? "Infinity" : "-Infinity")
                           : float_text(d);
  } else if (v.is_string()) {
    out += json_quote(v.string(), ascii);
  } else if (v.is_array()) {
    out += '[';
    for (size_t i = 0; i < v.array().size(); ++i) {
      if (i > 0) out += comma;
      newline(level + 1);
      append(out, v.array()[i], indent, level + 1, ascii);
    }
    if (!v.array().empty()) newline(level);
    out += ']';
  } else {
    out += '{';
    bool first = true;
    for (const auto& [key, member] : v.object()) {
      if (!first) out += comma;
      first = false;
      newline(level + 1);
      out += json_quote(key, ascii) + ": ";
      append(out, member, indent, level + 1, ascii);
    }
    if (!v.object().empty()) newline(level);
    out += '}';
  }
}

[[noreturn]] void wrong_type(std::string_view where, std::string_view key,
                             std::string_view wanted) {
  fail_input(where, ": ", key, ": wrong type, ", wanted, " is wanted");
}

}  // namespace

const Json* Json::get(std::string_view key) const {
  if (!is_object()) return nullptr;
  for (const auto& [name, value] : object())
    if (name == key) return &value;
  return nullptr;
}

const Json* Json::get_set(std::string_view key) const {
  const Json* found = get(key);
  return found && !found->is_null() ? found : nullptr;
}

void Json::set(std::string_view key, Json value) {
  if (is_null()) value_ = Object{};
  for (auto& [name, old] : object()) {
    if (name == key) {
      old = std::move(value);
      return;
    }
  }
  object().emplace_back(std::string(key), std::move(value));
}

void Json::erase(std::string_view key) {
  if (is_object()) std::erase_if(object(), [&](const auto& member) { return member.first == key; });
}

std::string Json::dump(bool ascii) const {
  std::string out;
  append(out, *this, 0, 0, ascii);
  return out;
}

std::string Json::dump_indented(int indent, bool ascii) const {
  std::string out;
  append(out, *this, indent, 0, ascii);
  return out;
}

namespace {

Json parse(std::string_view text, std::string_view where, std::span<const JsonTake> takes) {
  Builder builder(takes);
  // The library takes a NUL for the end and would not see what follows.
  if (const size_t nul = text.find('\0'); nul != std::string_view::npos)
    fail_input(where, ": not valid JSON at byte ", nul + 1, ": a NUL byte");
  try {
    if (nlohmann::json::sax_parse(text.begin(), text.end(), &builder))
      return std::move(builder.root);
  } catch (const nlohmann::detail::exception& e) {
    builder.error = "not valid JSON: a number is out of range";
  }
  fail_input(where, ": ", printable(builder.error));
}

}  // namespace

Json parse_json(std::string_view text, std::string_view where) {
  return parse(text, where, {});
}

Json read_json(const std::filesystem::path& file) {
  return parse(read_file(file), file.string(), {});
}

Json read_json(const std::filesystem::path& file, std::span<const JsonTake> takes) {
  return parse(read_file(file), file.string(), takes);
}

std::optional<int64_t> get_int(const Json& object, std::string_view key, std::string_view where) {
  const Json* v = object.get_set(key);
  if (!v) return std::nullopt;
  if (v->is_int()) return v->integer();
  // Some writers put whole numbers as 8.0.
  if (v->is_number() && v->number() == std::floor(v->number()) && std::abs(v->number()) < 1e15)
    return static_cast<int64_t>(v->number());
  wrong_type(where, key, "an integer");
}

std::optional<double> get_double(const Json& object, std::string_view key, std::string_view where) {
  const Json* v = object.get_set(key);
  if (!v) return std::nullopt;
  if (!v->is_number()) wrong_type(where, key, "a number");
  return v->number();
}

std::optional<bool> get_bool(const Json& object, std::string_view key, std::string_view where) {
  const Json* v = object.get_set(key);
  if (!v) return std::nullopt;
  if (!v->is_bool()) wrong_type(where, key, "true or false");
  return v->boolean();
}

std::optional<std::string> get_string(const Json& object, std::string_view key,
                                      std::string_view where) {
  const Json* v = object.get_set(key);
  if (!v) return std::nullopt;
  if (!v->is_string()) wrong_type(where, key, "a string");
  return v->string();
}

std::string float_text(double value) {
  // Python switches to exponent form below 1e-4 and from 1e16 on; to_chars gives the shortest
  // digits of either form.
  const double magnitude = std::abs(value);
  const bool plain = magnitude == 0 || (magnitude >= 1e-4 && magnitude < 1e16);
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 plain ? std::chars_format::fixed : std::chars_format::scientific);
  std::string text(buffer, end.ptr);
  if (plain && text.find('.') == std::string::npos) text += ".0";
  return text;
}

std::string json_quote(std::string_view text, bool ascii) {
  std::string out = "\"";
  const auto unit = [&](uint32_t u) {
    char escaped[8];
    std::snprintf(escaped, sizeof escaped, "\\u%04x", u);
    out += escaped;
  };
  for (size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\b':
        out += "\\b";
        break;
      case '\f':
        out += "\\f";
        break;
      default:
        if (c < 0x20) {
          unit(c);
        } else if (c < 0x80 || !ascii) {
          out += static_cast<char>(c);
        } else {
          const int extra = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
          uint32_t point = c & (0x3fu >> extra);
          for (int k = 0; k < extra && i + 1 < text.size(); ++k)
            point = point << 6 | (static_cast<unsigned char>(text[++i]) & 0x3f);
          if (point >= 0x10000) {
            unit(0xd800 + ((point - 0x10000) >> 10));
            unit(0xdc00 + ((point - 0x10000) & 0x3ff));
          } else {
            unit(point);
          }
        }
    }
  }
  return out + '"';
}

Json with_finite_numbers(Json value) {
  if (value.is_number() && !value.is_int() && !std::isfinite(value.number())) return {};
  if (value.is_array())
    for (Json& item : value.array()) item = with_finite_numbers(std::move(item));
  if (value.is_object())
    for (auto& [key, item] : value.object()) item = with_finite_numbers(std::move(item));
  return value;
}

}  // namespace ft
