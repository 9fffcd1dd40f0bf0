// Statements. Output goes to one growing string; blocks that need their text (set, macro, filter)
// set it aside while they run.
#include "data/jinja/interpreter.h"

#include <algorithm>

namespace ft::jinja {
namespace {

/// The variable `loop`.
class Loop : public Object {
 public:
  explicit Loop(std::vector<Value> elements) : items(std::move(elements)) {}

  std::vector<Value> items;
  size_t at = 0;

  std::string_view type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(Runtime&, std::string_view name) override {
    const auto index = static_cast<int64_t>(at), count = static_cast<int64_t>(items.size());
    if (name == "index") return Value(index + 1);
    if (name == "index0") return Value(index);
    if (name == "revindex") return Value(count - index);
    if (name == "revindex0") return Value(count - index - 1);
    if (name == "first") return Value(index == 0);
    if (name == "last") return Value(index + 1 == count);
    if (name == "length") return Value(count);
    if (name == "previtem")
      return at > 0 ? items[at - 1] : Value::undefined("there is no previous item");
    if (name == "nextitem")
      return at + 1 < items.size() ? items[at + 1] : Value::undefined("there is no next item");
    return std::nullopt;
  }
};

/// A macro with the scope it was defined in.
class Macro : public Object {
 public:
  Macro(Interpreter& interpreter, const MacroShape& shape, const Body& body,
        std::shared_ptr<Scope> around)
      : interpreter_(interpreter), shape_(shape), body_(body), scope_(std::move(around)) {}

  std::string_view type_name() const override { return "Macro"; }
  bool is_callable() const override { return true; }
  Value call(Runtime&, const Args& args) override {
    return interpreter_.call_macro(shape_, body_, scope_, args);
  }

 private:
  Interpreter& interpreter_;
  const MacroShape& shape_;
  const Body& body_;
  std::shared_ptr<Scope> scope_;  // where it was defined
};

}  // namespace

void Scope::set(int name, Value value) {
  for (auto& [id, old] : variables) {
    if (id == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

Interpreter::Interpreter(const Ast& ast, Runtime& runtime, bool mark)
    : ast_(ast), runtime_(runtime), mark_(mark), scope_(std::make_shared<Scope>(nullptr)) {
  for (auto& [name, value] : global_functions(runtime)) set_global(name, std::move(value));
}

void Interpreter::set_global(std::string_view name, Value value) {
  // A name that the template does not use has no number.
  const auto found = std::find(ast_.names.begin(), ast_.names.end(), name);
  if (found != ast_.names.end())
    scope_->set(static_cast<int>(found - ast_.names.begin()), std::move(value));
}

std::string Interpreter::render() {
  try {
    // What the template sets at its top level hides globals, it does not replace them.
    const NewScope scope(*this, scope_);
    run(ast_.body);
  } catch (const Failure& failure) {
    // One line, whatever a raise_exception() says.
    std::string text;
    for (const char c : failure.message.substr(0, 1000))
      if (!is_mark(c)) text += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    fail_input(ast_.name, ":", line_, ": ", text);
  }
  return std::move(out_);
}

void Interpreter::write(std::string_view text) {
  if (out_.size() + text.size() > kMaxText)
    raise("the output grows beyond ", kMaxText >> 20, " MiB");
  runtime_.budget.scan(text.size());
  out_ += text;
}

Interpreter::Flow Interpreter::run(const Body& body) {
  for (const auto& stmt : body) {
    const Flow flow = run(*stmt);
    if (flow != Flow::kNext) return flow;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run(const Stmt& s) {
  const Level level(*this);
  line_ = s.line;
  Flow flow = Flow::kNext;
  switch (s.kind) {
    case StmtKind::kText:
      write(s.text);
      break;
    case StmtKind::kOutput:
      write(to_text(eval(*s.expr), runtime_.budget));
      break;
    case StmtKind::kIf:
      return run_if(s);
    case StmtKind::kFor:
      return run_for(s);
    case StmtKind::kSet:
      assign(*s.target, eval(*s.expr));
      break;
    case StmtKind::kSetBlock:
      assign(*s.target, capture(s.body, flow));
      break;
    case StmtKind::kMacro:
      scope_->set(s.target->name, runtime_.make<Macro>(*this, s.macro, s.body, scope_));
      break;
    case StmtKind::kGeneration:
      return run_generation(s);
    case StmtKind::kBreak:
      return Flow::kBreak;
    case StmtKind::kContinue:
      return Flow::kContinue;
  }
  return flow;
}

Interpreter::Flow Interpreter::run_if(const Stmt& s) {
  for (const auto& [condition, body] : s.branches)
    if (truthy(eval(*condition))) return run(body);
  return run(s.otherwise);
}

/// What the loop goes over: the elements that pass its `if`.
std::vector<Value> Interpreter::selected(const Stmt& s, const Value& items) {
  const auto all = iterate(items, runtime_.budget);
  if (!s.condition) return all->items;
  std::vector<Value> passed;
  for (const Value& item : all->items) {
    runtime_.budget.step();
    const NewScope scope(*this, scope_);
    assign(*s.target, item);
    if (truthy(eval(*s.condition))) passed.push_back(item);
  }
  return passed;
}

Interpreter::Flow Interpreter::run_for(const Stmt& s) {
  std::vector<Value> elements = selected(s, eval(*s.expr));
  runtime_.budget.allocate(elements.size() * sizeof(Value));
  if (elements.empty()) {
    const NewScope scope(*this, scope_);
    return run(s.otherwise);
  }
  Loop* loop = runtime_.make<Loop>(std::move(elements));
  for (; loop->at < loop->items.size(); ++loop->at) {
    runtime_.budget.step();
    const NewScope scope(*this, scope_);
    if (ast_.loop >= 0) scope_->set(ast_.loop, Value(loop));
    assign(*s.target, loop->items[loop->at]);
    if (run(s.body) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_generation(const Stmt& s) {
  const NewScope scope(*this, scope_);
  if (mark_) write(std::string_view(&kBeginMark, 1));
  const Flow flow = run(s.body);
  if (mark_) write(std::string_view(&kEndMark, 1));
  return flow;
}

std::string Interpreter::capture(const Body& body, Flow& flow) {
  // On a Failure the whole rendering ends: out_ need not be put back.
  std::string outer = std::exchange(out_, {});
  {
    const NewScope scope(*this, scope_);
    flow = run(body);
  }
  std::string text = std::exchange(out_, std::move(outer));
  runtime_.budget.allocate(text.size());
  return text;
}

void Interpreter::assign(const Expr& target, Value value) {
  if (target.kind == ExprKind::kName) {
    scope_->set(target.name, std::move(value));
  } else if (target.kind == ExprKind::kAttribute) {
    set_attribute(eval(*target.items[0]), target.text, std::move(value));
  } else {
    const auto parts = iterate(value, runtime_.budget);
    if (parts->items.size() < target.items.size())
      raise("not enough values to unpack (expected ", target.items.size(), ", got ",
            parts->items.size(), ")");
    if (parts->items.size() > target.items.size())
      raise("too many values to unpack (expected ", target.items.size(), ")");
    for (size_t i = 0; i < target.items.size(); ++i) assign(*target.items[i], parts->items[i]);
  }
}

/// Puts the arguments into the current scope.
void Interpreter::bind_macro(const MacroShape& shape, const Args& args) {
  const size_t count = shape.parameters.size();
  std::vector<const Value*> given(count, nullptr);
  for (size_t i = 0; i < std::min(count, args.positional.size()); ++i)
    given[i] = &args.positional[i];
  for (const auto& [name, value] : args.named) {
    const auto at = std::find(shape.parameter_names.begin(), shape.parameter_names.end(), name);
    const auto i = static_cast<size_t>(at - shape.parameter_names.begin());
    if (i < count && !given[i]) {
      given[i] = &value;
    } else {
      raise("macro '", shape.name, "' takes no keyword argument '", name, "'");
    }
  }
  if (args.positional.size() > count)
    raise("macro '", shape.name, "' takes not more than ", count, " argument(s)");
  const size_t first_default = count - shape.defaults.size();
  for (size_t i = 0; i < count; ++i) {
    const std::string& name = shape.parameter_names[i];
    scope_->set(shape.parameters[i], given[i]             ? *given[i]
                                     : i >= first_default ? eval(*shape.defaults[i - first_default])
                                                          : Value::undefined("parameter '" + name +
                                                                             "' was not provided"));
  }
}

Value Interpreter::call_macro(const MacroShape& shape, const Body& body,
                              const std::shared_ptr<Scope>& outer, const Args& args) {
  const Level level(*this);
  runtime_.budget.step();
  const int line = line_;
  const NewScope scope(*this, outer);
  bind_macro(shape, args);
  Flow flow = Flow::kNext;
  std::string text = capture(body, flow);
  line_ = line;
  return text;
}

}  // namespace ft::jinja
