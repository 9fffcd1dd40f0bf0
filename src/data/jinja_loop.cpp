// Attributes of `loop` and of macros.
#include "data/jinja_loop.h"

namespace ft::jinja {
namespace {

/// loop.cycle and loop.changed, which are functions.
class LoopMethod : public Object {
 public:
  LoopMethod(Loop* loop, bool is_cycle) : loop_(loop), is_cycle_(is_cycle) {}
  std::string_view type_name() const override { return "method"; }
  std::optional<Value> attribute(Runtime&, std::string_view) override { return std::nullopt; }
  bool is_callable() const override { return true; }
  Value call(Runtime& runtime, const Args& args) override {
    return is_cycle_ ? loop_->cycle(args) : loop_->changed(runtime, args);
  }

 private:
  Loop* loop_;
  bool is_cycle_;
};

}  // namespace

std::optional<Value> Loop::attribute(Runtime& runtime, std::string_view name) {
  const auto index = static_cast<int64_t>(at), count = static_cast<int64_t>(items.size());
  if (name == "index") return Value(index + 1);
  if (name == "index0") return Value(index);
  if (name == "revindex") return Value(count - index);
  if (name == "revindex0") return Value(count - index - 1);
  if (name == "first") return Value(index == 0);
  if (name == "last") return Value(index + 1 == count);
  if (name == "length") return Value(count);
  if (name == "depth") return Value(int64_t{depth_} + 1);
  if (name == "depth0") return Value(int64_t{depth_});
  if (name == "previtem")
    return at > 0 ? items[at - 1] : Value::undefined("there is no previous item");
  if (name == "nextitem")
    return at + 1 < items.size() ? items[at + 1] : Value::undefined("there is no next item");
  if (name == "cycle" || name == "changed")
    return Value(runtime.make<LoopMethod>(this, name == "cycle"));
  return std::nullopt;
}

Value Loop::call(Runtime&, const Args& args) {
  if (!stmt_.recursive)
    raise("The loop must have the 'recursive' marker to be called recursively.");
  if (args.positional.size() != 1 || !args.named.empty()) raise("loop() takes one argument");
  return interpreter_.call_loop(stmt_, scope_, args.positional[0], depth_ + 1);
}

Value Loop::cycle(const Args& args) const {
  if (args.positional.empty()) raise("no items for cycling given");
  return args.positional[at % args.positional.size()];
}

Value Loop::changed(Runtime& runtime, const Args& args) {
  Value given = Value::list(runtime.budget, args.positional, Form::kTuple);
  if (last_changed_ && equals(*last_changed_, given, runtime.budget)) return false;
  last_changed_ = std::move(given);
  return true;
}

std::optional<Value> Macro::attribute(Runtime& runtime, std::string_view name) {
  if (name == "name") return Value(shape_.name);
  if (name == "catch_kwargs") return Value(shape_.uses_kwargs);
  if (name == "catch_varargs") return Value(shape_.uses_varargs);
  if (name == "caller") return Value(shape_.uses_caller);
  if (name != "arguments") return std::nullopt;
  std::vector<Value> names;
  for (const std::string& parameter : shape_.parameter_names) names.emplace_back(parameter);
  return Value::list(runtime.budget, std::move(names), Form::kTuple);
}

}  // namespace ft::jinja
