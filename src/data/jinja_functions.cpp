// Functions a template finds by name: range, dict, namespace, cycler, joiner of jinja2;
// raise_exception and strftime_now of transformers. And the matching of arguments to parameters.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "data/jinja_builtins.h"

namespace ft::jinja {
namespace {

class Function : public Object {
 public:
  explicit Function(Value (*function)(Runtime&, const Args&)) : function_(function) {}
  std::string_view type_name() const override { return "function"; }
  std::optional<Value> attribute(Runtime&, std::string_view) override { return std::nullopt; }
  bool is_callable() const override { return true; }
  Value call(Runtime& runtime, const Args& args) override { return function_(runtime, args); }

 private:
  Value (*function_)(Runtime&, const Args&);
};

/// The one thing a template can change: {% set ns.count = ns.count + 1 %}.
class Namespace : public Object {
 public:
  std::vector<std::pair<std::string, Value>> members;

  std::string_view type_name() const override { return "Namespace"; }
  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    for (const auto& [key, value] : members)
      if (key == name) return value;
    return std::nullopt;
  }
  void set(std::string_view name, Value value) {
    if (name.starts_with("_"))
      raise("Chat templates cannot store underscore-prefixed attributes on a namespace, but got '",
            name, "'. Please rename the attribute.");
    for (auto& [key, old] : members) {
      if (key != name) continue;
      old = std::move(value);
      return;
    }
    members.emplace_back(name, std::move(value));
  }
};

/// Keys and values that dict() and namespace() are given.
std::vector<std::pair<Value, Value>> pairs(Runtime& runtime, std::string_view function,
                                           const Args& args) {
  std::vector<std::pair<Value, Value>> out;
  const auto put = [&](const Value& key, const Value& value) {
    runtime.budget.work(out.size() + 1);
    const auto same = std::find_if(out.begin(), out.end(), [&](const auto& member) {
      return equals(member.first, key, runtime.budget);
    });
    if (same == out.end()) {
      out.emplace_back(key, value);
    } else {
      same->second = value;
    }
  };
  if (args.positional.size() > 1) raise(function, " expected at most 1 argument");
  for (const Value& given : args.positional) {
    if (given.is_dict()) {
      out = given.dict().items;
      continue;
    }
    const auto elements = iterate(given, runtime.budget);
    for (const Value& item : elements->items) {
      const auto pair = iterate(item, runtime.budget);
      if (pair->items.size() != 2) raise(function, " wants pairs of key and value");
      if (pair->items[0].is_dict() || pair->items[0].is_seq()) raise("unhashable key");
      put(pair->items[0], pair->items[1]);
    }
  }
  for (const auto& [name, value] : args.named) put(Value(name), value);
  return out;
}

Value make_dict(Runtime& runtime, const Args& args) {
  return Value::dict(runtime.budget, pairs(runtime, "dict", args));
}

Value make_namespace(Runtime& runtime, const Args& args) {
  auto* made = runtime.make<Namespace>();
  for (auto& [key, value] : pairs(runtime, "namespace", args)) {
    if (!key.is_string()) raise("the names of a namespace must be strings");
    made->set(without_marks(key.string()), std::move(value));
  }
  return made;
}

Value range(Runtime& runtime, const Args& args) {
  const size_t given = args.positional.size();
  const Bound bound("range", args, {"start", "stop", "step"}, 1);
  int64_t start = given > 1 ? bound.integer(0, 0) : 0;
  const int64_t stop = given > 1 ? bound.integer(1, 0) : bound.integer(0, 0);
  const int64_t step = bound.integer(2, 1);
  if (step == 0) raise("range() arg 3 must not be zero");
  std::vector<Value> items;
  while (step > 0 ? start < stop : start > stop) {
    if (items.size() == kMaxRange)
      raise("Range too big. The sandbox blocks ranges larger than ", kMaxRange, ".");
    items.emplace_back(start);
    if (__builtin_add_overflow(start, step, &start)) break;
  }
  return Value::list(runtime.budget, std::move(items), Form::kRange);
}

Value raise_exception(Runtime& runtime, const Args& args) {
  const Bound bound("raise_exception", args, {"message"}, 1);
  raise(to_text(*bound[0], runtime.budget));
}

/// "2024-07-26T12:00:00" with parts left out from the right.
std::tm read_time(const std::string& text) {
  std::tm tm = {};
  tm.tm_mday = 1;
  char separator = 'T';
  const int parts = std::sscanf(text.c_str(), "%4d-%2d-%2d%c%2d:%2d:%2d", &tm.tm_year, &tm.tm_mon,
                                &tm.tm_mday, &separator, &tm.tm_hour, &tm.tm_min, &tm.tm_sec);
  const bool valid = parts >= 3 && (separator == 'T' || separator == ' ') && tm.tm_mon >= 1 &&
                     tm.tm_mon <= 12 && tm.tm_mday >= 1 && tm.tm_mday <= 31 && tm.tm_hour >= 0 &&
                     tm.tm_hour <= 23 && tm.tm_min >= 0 && tm.tm_min <= 59 && tm.tm_sec >= 0 &&
                     tm.tm_sec <= 59;
  if (!valid) raise("now: \"", printable(text), "\" is no ISO time (2024-07-26T12:00:00)");
  tm.tm_year -= 1900;
  tm.tm_mon -= 1;
  timegm(&tm);  // the day of the week and of the year
  return tm;
}

Value strftime_now(Runtime& runtime, const Args& args) {
  const Bound bound("strftime_now", args, {"format"}, 1);
  const std::string format = bound.text(0, "");
  std::tm tm = {};
  if (runtime.now) {
    tm = read_time(*runtime.now);
  } else {
    const std::time_t present = std::time(nullptr);
    localtime_r(&present, &tm);
  }
  Builder out(runtime.budget);
  for (size_t i = 0; i < format.size(); ++i) {
    if (format[i] != '%' || i + 1 == format.size()) {
      out.append(1, format[i]);
      continue;
    }
    std::string directive = {'%', format[++i]};
    if (directive[1] == '-' && i + 1 < format.size()) directive += format[++i];
    // Of a time without zone Python makes nothing for these, and microseconds are ours to choose.
    if (directive == "%z" || directive == "%Z") continue;
    if (directive == "%f") directive = "000000";
    char buffer[128];
    out.append(
        std::string_view(buffer, std::strftime(buffer, sizeof buffer, directive.c_str(), &tm)));
  }
  return out.take();
}

class Cycler : public Object {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {}
  std::string_view type_name() const override { return "Cycler"; }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
  Value next() {
    const Value value = items_[at_];
    at_ = (at_ + 1) % items_.size();
    return value;
  }
  void reset() { at_ = 0; }

 private:
  std::vector<Value> items_;
  size_t at_ = 0;
};

class CyclerMethod : public Object {
 public:
  CyclerMethod(Cycler* cycler, bool is_next) : cycler_(cycler), is_next_(is_next) {}
  std::string_view type_name() const override { return "method"; }
  std::optional<Value> attribute(Runtime&, std::string_view) override { return std::nullopt; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, const Args&) override {
    if (is_next_) return cycler_->next();
    cycler_->reset();
    return {};
  }

 private:
  Cycler* cycler_;
  bool is_next_;
};

std::optional<Value> Cycler::attribute(Runtime& runtime, std::string_view name) {
  if (name == "current") return items_[at_];
  if (name == "next" || name == "reset")
    return Value(runtime.make<CyclerMethod>(this, name == "next"));
  return std::nullopt;
}

Value make_cycler(Runtime& runtime, const Args& args) {
  if (args.positional.empty()) raise("at least one item has to be provided");
  runtime.budget.allocate(args.positional.size() * sizeof(Value));
  return runtime.make<Cycler>(args.positional);
}

/// Nothing at the first call, the separator afterwards.
class Joiner : public Object {
 public:
  explicit Joiner(std::string separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const override { return "Joiner"; }
  std::optional<Value> attribute(Runtime&, std::string_view) override { return std::nullopt; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, const Args&) override {
    return std::exchange(used_, true) ? Value(separator_) : Value(std::string());
  }

 private:
  std::string separator_;
  bool used_ = false;
};

Value make_joiner(Runtime& runtime, const Args& args) {
  const Bound bound("joiner", args, {"sep"});
  return runtime.make<Joiner>(bound.text(0, ", "));
}

}  // namespace

std::vector<std::pair<std::string_view, Value>> global_functions(Runtime& runtime) {
  static constexpr std::pair<std::string_view, Value (*)(Runtime&, const Args&)> kFunctions[] = {
      {"range", range},
      {"dict", make_dict},
      {"namespace", make_namespace},
      {"cycler", make_cycler},
      {"joiner", make_joiner},
      {"raise_exception", raise_exception},
      {"strftime_now", strftime_now}};
  std::vector<std::pair<std::string_view, Value>> out;
  for (const auto& [name, function] : kFunctions)
    out.emplace_back(name, Value(runtime.make<Function>(function)));
  return out;
}

void set_attribute(const Value& object, std::string_view name, Value value) {
  auto* target = object.is_object() ? dynamic_cast<Namespace*>(object.object()) : nullptr;
  if (!target) raise("cannot assign attribute on non-namespace object");
  target->set(name, std::move(value));
}

Bound::Bound(std::string_view function, const Args& args,
             std::initializer_list<std::string_view> names, size_t required)
    : function_(function), values_(names.size(), nullptr) {
  if (args.positional.size() > names.size())
    raise(function, "() takes at most ", names.size(), " argument(s), ", args.positional.size(),
          " given");
  for (size_t i = 0; i < args.positional.size(); ++i) values_[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto at = std::find(names.begin(), names.end(), name);
    if (at == names.end())
      raise(function, "() got an unexpected keyword argument '", printable(name), "'");
    auto& slot = values_[static_cast<size_t>(at - names.begin())];
    if (slot) raise(function, "() got multiple values for argument '", name, "'");
    slot = &value;
  }
  for (size_t i = 0; i < required; ++i)
    if (!values_[i]) raise(function, "() missing required argument: '", names.begin()[i], "'");
}

int64_t Bound::integer(size_t i, int64_t otherwise) const {
  if (!values_[i] || values_[i]->is_none()) return otherwise;
  const Value& v = *values_[i];
  if (v.is_undefined()) raise(v.undefined_message());
  if (!v.is_int()) raise(function_, "(): '", v.type_name(), "' object is no integer");
  return v.integer();
}

std::string Bound::text(size_t i, std::string_view otherwise) const {
  if (!values_[i] || values_[i]->is_none()) return std::string(otherwise);
  const Value& v = *values_[i];
  if (v.is_undefined()) raise(v.undefined_message());
  if (!v.is_string()) raise(function_, "(): '", v.type_name(), "' object is no string");
  return without_marks(v.string());
}

}  // namespace ft::jinja
