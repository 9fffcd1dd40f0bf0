// Functions a template finds by name: range and namespace of jinja2;
// raise_exception and strftime_now of transformers. And the matching of arguments to parameters.
#include <algorithm>
#include <cstdio>
#include <ctime>

#include "data/jinja/builtins.h"

namespace ft::jinja {
namespace {

class Function : public Object {
 public:
  explicit Function(Value (*function)(Runtime&, const Args&)) : function_(function) {}
  std::string_view type_name() const override { return "function"; }
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

Value make_namespace(Runtime& runtime, const Args& args) {
  if (!args.positional.empty()) raise("namespace() takes name=value only");
  auto* made = runtime.make<Namespace>();
  for (const auto& [name, value] : args.named) made->set(name, value);
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

}  // namespace

std::vector<std::pair<std::string_view, Value>> global_functions(Runtime& runtime) {
  static constexpr std::pair<std::string_view, Value (*)(Runtime&, const Args&)> kFunctions[] = {
      {"range", range},
      {"namespace", make_namespace},
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
