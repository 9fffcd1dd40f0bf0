// Values as text: Python's str() and repr(), json.dumps(), and the way in from JSON.
#include <algorithm>
#include <cmath>

#include "data/jinja/text.h"
#include "data/jinja/value.h"
#include "data/utf8.h"

namespace ft::jinja {
namespace {

void append_repr(Builder& out, std::string_view text) {
  const bool has_single = text.find('\'') != std::string_view::npos;
  const char quote = has_single && text.find('"') == std::string_view::npos ? '"' : '\'';
  out.append(1, quote);
  for (size_t at = 0; at < text.size();) {
    if (is_mark(text[at])) {
      out.append(1, text[at++]);
      continue;
    }
    const size_t begin = at;
    const char32_t p = next_point(text, at);
    char escaped[12] = {};
    const auto number = static_cast<unsigned>(p);
    if (p == '\n' || p == '\r' || p == '\t') {
      std::snprintf(escaped, sizeof escaped, "\\%c", p == '\n' ? 'n' : p == '\r' ? 'r' : 't');
    } else if (p == '\\' || p == static_cast<unsigned char>(quote)) {
      std::snprintf(escaped, sizeof escaped, "\\%c", static_cast<char>(p));
    } else if (!is_printable(p)) {
      const char* form = p < 0x100 ? "\\x%02x" : p < 0x10000 ? "\\u%04x" : "\\U%08x";
      std::snprintf(escaped, sizeof escaped, form, number);
    }
    out.append(escaped[0] ? std::string_view(escaped) : text.substr(begin, at - begin));
  }
  out.append(1, quote);
}

class Printer {
 public:
  Printer(Builder& out, Budget& budget) : out_(out), budget_(budget) {}

  void repr(const Value& v) {
    budget_.work();
    if (v.is_string()) {
      append_repr(out_, v.string());
    } else if (v.is_seq()) {
      sequence(v);
    } else if (v.is_dict()) {
      out_.append("{");
      for (size_t i = 0; i < v.dict().items.size(); ++i) {
        if (i > 0) out_.append(", ");
        repr(v.dict().items[i].first);
        out_.append(": ");
        repr(v.dict().items[i].second);
      }
      out_.append("}");
    } else {
      out_.append(plain(v));
    }
  }

  static std::string plain(const Value& v) {
    if (v.is_none()) return "None";
    if (v.is_undefined()) return "Undefined";
    if (v.is_bool()) return v.boolean() ? "True" : "False";
    if (v.is_int()) return std::to_string(v.integer());
    if (v.is_float()) return std::isnan(v.number()) ? "nan" : float_text(v.number());
    return str("<", v.type_name(), " object>");
  }

 private:
  Builder& out_;
  Budget& budget_;

  void sequence(const Value& v) {
    const Seq& seq = v.seq();
    // What Python prints of the others (a generator, dict_keys) is for debugging only.
    if (seq.form > Form::kTuple) raise("a ", v.type_name(), " has no text, use |list");
    const bool tuple = seq.form == Form::kTuple;
    out_.append(tuple ? "(" : "[");
    for (size_t i = 0; i < seq.items.size(); ++i) {
      if (i > 0) out_.append(", ");
      repr(seq.items[i]);
    }
    if (tuple && seq.items.size() == 1) out_.append(",");
    out_.append(tuple ? ")" : "]");
  }
};

class JsonWriter {
 public:
  JsonWriter(Builder& out, const JsonStyle& style, Budget& budget)
      : out_(out), style_(style), budget_(budget) {}

  void write(const Value& v, int level) {
    budget_.work();
    if (v.is_none()) {
      out_.append("null");
    } else if (v.is_bool()) {
      out_.append(v.boolean() ? "true" : "false");
    } else if (v.is_number()) {
      out_.append(number(v));
    } else if (v.is_string()) {
      quote(v.string());
    } else if (v.is_seq() && v.seq().form <= Form::kTuple) {
      const auto& items = v.seq().items;
      block('[', ']', items.size(), level, [&](size_t i) { write(items[i], level + 1); });
    } else if (v.is_dict()) {
      members(v.dict(), level);
    } else {
      raise("Object of type ", v.type_name(), " is not JSON serializable");
    }
  }

 private:
  Builder& out_;
  const JsonStyle& style_;
  Budget& budget_;

  static std::string number(const Value& v) {
    if (v.is_float() && std::isnan(v.number())) return "NaN";
    if (v.is_float() && std::isinf(v.number())) return v.number() > 0 ? "Infinity" : "-Infinity";
    return Printer::plain(v);
  }

  void quote(const std::string& text) {
    budget_.scan(text.size());
    out_.append(json_quote(text));
  }

  template <typename Item>
  void block(char open, char close, size_t count, int level, Item item) {
    const auto newline = [&](int depth) {
      if (!style_.indent) return;
      out_.append("\n");
      for (int i = 0; i < depth; ++i) out_.append(*style_.indent);
    };
    out_.append(1, open);
    for (size_t i = 0; i < count; ++i) {
      if (i > 0) out_.append(style_.item_separator);
      newline(level + 1);
      item(i);
    }
    if (count > 0) newline(level);
    out_.append(1, close);
  }

  void members(const Dict& dict, int level) {
    std::vector<const std::pair<Value, Value>*> order;
    for (const auto& member : dict.items) order.push_back(&member);
    if (style_.sort_keys)
      std::stable_sort(order.begin(), order.end(), [&](const auto* a, const auto* b) {
        return compare(a->first, b->first, budget_) < 0;
      });
    block('{', '}', order.size(), level, [&](size_t i) {
      const Value& key = order[i]->first;
      if (!key.is_string()) raise("keys of JSON must be str, not ", key.type_name());
      quote(key.string());
      out_.append(style_.key_separator);
      write(order[i]->second, level + 1);
    });
  }
};

}  // namespace

std::string to_text(const Value& v, Budget& budget) {
  if (v.is_string()) return v.string();
  if (v.is_undefined()) return "";
  return repr(v, budget);
}

std::string repr(const Value& v, Budget& budget) {
  Builder out(budget);
  Printer(out, budget).repr(v);
  return out.take();
}

std::string to_json(const Value& value, const JsonStyle& style, Budget& budget) {
  Builder out(budget);
  JsonWriter(out, style, budget).write(value, 0);
  return out.take();
}

Value from_json(const Json& json, Budget& budget, EditText edit, const void* context) {
  const auto text = [&](const std::string& s) -> Value {
    if (s.size() > kMaxText) raise("a string of more than ", kMaxText >> 20, " MiB");
    std::string valid = lossy_utf8(s);
    return edit ? edit(context, std::move(valid)) : std::move(valid);
  };
  if (json.is_null()) return {};
  if (json.is_bool()) return json.boolean();
  if (json.is_int()) return json.integer();
  if (json.is_number()) return json.number();
  if (json.is_string()) return text(json.string());
  if (json.is_array()) {
    std::vector<Value> items;
    items.reserve(json.array().size());
    for (const Json& item : json.array()) items.push_back(from_json(item, budget, edit, context));
    return Value::list(budget, std::move(items));
  }
  std::vector<std::pair<Value, Value>> items;
  items.reserve(json.object().size());
  for (const auto& [key, value] : json.object())
    items.emplace_back(text(key), from_json(value, budget, edit, context));
  return Value::dict(budget, std::move(items));
}

}  // namespace ft::jinja
