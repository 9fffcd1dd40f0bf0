// Statements. Output goes to one growing string; blocks that need their text (set, macro, filter)
// set it aside while they run.
#include "data/jinja_interpreter.h"

#include <algorithm>

#include "data/jinja_loop.h"

namespace ft::jinja {

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
    case StmtKind::kOutput: {
      const Value value = eval(*s.expr);
      if (value.is_string()) {
        write(value.string());
      } else {
        write(to_text(value, runtime_.budget));
      }
      break;
    }
    case StmtKind::kIf:
      return run_if(s);
    case StmtKind::kFor:
      return run_for(s, eval(*s.expr), 0);
    case StmtKind::kSet:
      assign(*s.target, eval(*s.expr));
      break;
    case StmtKind::kSetBlock: {
      Value text = capture(s.body, flow);
      assign(*s.target, s.expr ? apply_filters(*s.expr, std::move(text)) : std::move(text));
      break;
    }
    case StmtKind::kMacro:
      scope_->set(s.target->name, runtime_.make<Macro>(*this, s.macro, s.body, scope_));
      break;
    case StmtKind::kCallBlock:
      run_call_block(s);
      break;
    case StmtKind::kFilterBlock: {
      Value text = capture(s.body, flow);
      write(to_text(apply_filters(*s.expr, std::move(text)), runtime_.budget));
      break;
    }
    case StmtKind::kWith:
      return run_with(s);
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

Interpreter::Flow Interpreter::run_for(const Stmt& s, const Value& items, int depth) {
  std::vector<Value> elements = selected(s, items);
  runtime_.budget.allocate(elements.size() * sizeof(Value));
  if (elements.empty()) {
    const NewScope scope(*this, scope_);
    return run(s.otherwise);
  }
  Loop* loop = runtime_.make<Loop>(*this, s, scope_, std::move(elements), depth);
  for (; loop->at < loop->items.size(); ++loop->at) {
    runtime_.budget.step();
    const NewScope scope(*this, scope_);
    if (ast_.loop >= 0) scope_->set(ast_.loop, Value(loop));
    assign(*s.target, loop->items[loop->at]);
    if (run(s.body) == Flow::kBreak) break;
  }
  return Flow::kNext;
}

Interpreter::Flow Interpreter::run_with(const Stmt& s) {
  // All values are those of the scope outside.
  std::vector<Value> values;
  for (const auto& [name, value] : s.bindings) values.push_back(eval(*value));
  const NewScope scope(*this, scope_);
  for (size_t i = 0; i < values.size(); ++i) assign(*s.bindings[i].first, std::move(values[i]));
  return run(s.body);
}

Interpreter::Flow Interpreter::run_generation(const Stmt& s) {
  const NewScope scope(*this, scope_);
  if (mark_) write(std::string_view(&kBeginMark, 1));
  const Flow flow = run(s.body);
  if (mark_) write(std::string_view(&kEndMark, 1));
  return flow;
}

void Interpreter::run_call_block(const Stmt& s) {
  Args args = eval_args(*s.expr);
  const Value callee = eval(*s.expr->items[0]);
  args.named.emplace_back("caller", runtime_.make<Macro>(*this, s.macro, s.body, scope_));
  write(to_text(runtime_.call(callee, args), runtime_.budget));
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

Value Interpreter::apply_filters(const Expr& filter, Value input) {
  if (filter.items[0]) input = apply_filters(*filter.items[0], std::move(input));
  return eval_filter(filter, input);
}

/// Puts the arguments into the current scope.
void Interpreter::bind_macro(const MacroShape& shape, const Args& args) {
  const size_t count = shape.parameters.size();
  std::vector<const Value*> given(count, nullptr);
  std::vector<std::pair<Value, Value>> others;
  for (size_t i = 0; i < std::min(count, args.positional.size()); ++i)
    given[i] = &args.positional[i];
  const Value* caller = nullptr;
  for (const auto& [name, value] : args.named) {
    const auto at = std::find(shape.parameter_names.begin(), shape.parameter_names.end(), name);
    const auto i = static_cast<size_t>(at - shape.parameter_names.begin());
    if (i < count && !given[i]) {
      given[i] = &value;
    } else if (name == "caller" && shape.uses_caller) {
      caller = &value;
    } else if (shape.uses_kwargs) {
      others.emplace_back(Value(name), value);
    } else {
      raise("macro '", shape.name, "' takes no keyword argument '", name, "'");
    }
  }
  if (args.positional.size() > count && !shape.uses_varargs)
    raise("macro '", shape.name, "' takes not more than ", count, " argument(s)");
  const size_t first_default = count - shape.defaults.size();
  for (size_t i = 0; i < count; ++i) {
    const std::string& name = shape.parameter_names[i];
    scope_->set(shape.parameters[i], given[i]             ? *given[i]
                                     : i >= first_default ? eval(*shape.defaults[i - first_default])
                                                          : Value::undefined("parameter '" + name +
                                                                             "' was not provided"));
  }
  if (shape.uses_caller && ast_.caller >= 0)
    scope_->set(ast_.caller, caller ? *caller : Value::undefined("No caller defined"));
  if (shape.uses_kwargs && ast_.kwargs >= 0)
    scope_->set(ast_.kwargs, Value::dict(runtime_.budget, std::move(others)));
  if (shape.uses_varargs && ast_.varargs >= 0) {
    std::vector<Value> rest;
    for (size_t i = count; i < args.positional.size(); ++i) rest.push_back(args.positional[i]);
    scope_->set(ast_.varargs, Value::list(runtime_.budget, std::move(rest), Form::kTuple));
  }
}

Value Interpreter::call_macro(const MacroShape& shape, const Body& body,
                              const std::shared_ptr<Scope>& outer, const Args& args) {
  const Level level(*this);
  runtime_.budget.step();
  const int line = line_;
  const NewScope scope(*this, outer);
  bind_macro(shape, args);
  std::string saved = std::exchange(out_, {});
  run(body);
  std::string text = std::exchange(out_, std::move(saved));
  runtime_.budget.allocate(text.size());
  line_ = line;
  return text;
}

Value Interpreter::call_loop(const Stmt& stmt, const std::shared_ptr<Scope>& outer,
                             const Value& items, int depth) {
  const Level level(*this);
  const NewScope scope(*this, outer);
  std::string saved = std::exchange(out_, {});
  run_for(stmt, items, depth);
  std::string text = std::exchange(out_, std::move(saved));
  runtime_.budget.allocate(text.size());
  return text;
}

}  // namespace ft::jinja
