// Expressions.
#include <algorithm>

#include "data/jinja/interpreter.h"

namespace ft::jinja {

Value Interpreter::eval(const Expr& e) {
  const Level level(*this);
  switch (e.kind) {
    case ExprKind::kConst:
      return e.value;
    case ExprKind::kName:
      return eval_name(e);
    case ExprKind::kList:
      return Value::list(runtime_.budget, eval_all(e.items));
    case ExprKind::kTuple:
      return Value::list(runtime_.budget, eval_all(e.items), Form::kTuple);
    case ExprKind::kDict:
      return eval_dict(e);
    case ExprKind::kUnary:
      return negate(e.op == Op::kSub ? eval(*e.items[0]) : negate(eval(*e.items[0])));
    case ExprKind::kNot:
      return !truthy(eval(*e.items[0]));
    case ExprKind::kAnd: {
      Value left = eval(*e.items[0]);
      return truthy(left) ? eval(*e.items[1]) : left;
    }
    case ExprKind::kOr: {
      Value left = eval(*e.items[0]);
      return truthy(left) ? left : eval(*e.items[1]);
    }
    case ExprKind::kBinary:
      return eval_binary(e);
    case ExprKind::kConcat:
      return eval_concat(e);
    case ExprKind::kCompare:
      return eval_compare(e);
    case ExprKind::kCondition:
      if (truthy(eval(*e.items[0]))) return eval(*e.items[1]);
      return e.items[2] ? eval(*e.items[2]) : Value::undefined("the `if` without else is false");
    case ExprKind::kAttribute: {
      const Value object = eval(*e.items[0]);
      line_ = e.line;
      return get_attribute(runtime_, object, e.text);
    }
    case ExprKind::kItem: {
      const Value object = eval(*e.items[0]), key = eval(*e.items[1]);
      line_ = e.line;
      return get_item(runtime_, object, key);
    }
    case ExprKind::kSlice:
      return eval_slice(e);
    case ExprKind::kCall:
      return eval_call(e);
    case ExprKind::kFilter:
    case ExprKind::kTest: {
      const Value input = eval(*e.items[0]);
      const Args args = eval_args(e);
      line_ = e.line;
      if (e.filter) return e.filter->apply(runtime_, input, args);
      return e.test->apply(runtime_, input, args);
    }
  }
  FT_INVARIANT(false);
  return {};
}

Value Interpreter::eval_name(const Expr& e) {
  for (const Scope* s = scope_.get(); s; s = s->parent.get())
    for (const auto& [id, value] : s->variables)
      if (id == e.name) return value;
  line_ = e.line;
  return Value::undefined("'" + ast_.names[static_cast<size_t>(e.name)] + "' is undefined");
}

Value Interpreter::eval_dict(const Expr& e) {
  std::vector<std::pair<Value, Value>> items;
  for (size_t i = 0; i < e.items.size(); i += 2) {
    Value key = eval(*e.items[i]), value = eval(*e.items[i + 1]);
    line_ = e.line;
    if (key.is_dict() || (key.is_seq() && key.seq().form == Form::kList))
      raise("unhashable type: '", key.type_name(), "'");
    const auto same = std::find_if(items.begin(), items.end(), [&](const auto& member) {
      return equals(member.first, key, runtime_.budget);
    });
    if (same != items.end()) {
      same->second = std::move(value);
    } else {
      items.emplace_back(std::move(key), std::move(value));
    }
  }
  return Value::dict(runtime_.budget, std::move(items));
}

Value Interpreter::eval_binary(const Expr& e) {
  const Value a = eval(*e.items[0]), b = eval(*e.items[1]);
  line_ = e.line;
  switch (e.op) {
    case Op::kAdd:
      return add(runtime_, a, b);
    case Op::kSub:
      return subtract(a, b);
    case Op::kMul:
      return multiply(runtime_, a, b);
    case Op::kDiv:
      return divide(a, b);
    case Op::kFloorDiv:
      return floor_divide(a, b);
    case Op::kMod:
      return modulo(a, b);
    case Op::kPow:
      return power(a, b);
  }
  FT_INVARIANT(false);
  return {};
}

Value Interpreter::eval_concat(const Expr& e) {
  const std::vector<Value> parts = eval_all(e.items);
  line_ = e.line;
  Builder out(runtime_.budget);
  for (const Value& part : parts) out.append(to_text(part, runtime_.budget));
  return out.take();
}

bool Interpreter::related(Relation relation, const Value& a, const Value& b) {
  Budget& budget = runtime_.budget;
  switch (relation) {
    case Relation::kEq:
      return equals(a, b, budget);
    case Relation::kNe:
      return !equals(a, b, budget);
    case Relation::kIn:
      return contains(b, a, budget);
    case Relation::kNotIn:
      return !contains(b, a, budget);
    default:
      break;
  }
  const int order = compare(a, b, budget);
  return relation == Relation::kLt   ? order < 0
         : relation == Relation::kLe ? order <= 0
         : relation == Relation::kGt ? order > 0
                                     : order >= 0;
}

Value Interpreter::eval_compare(const Expr& e) {
  Value left = eval(*e.items[0]);
  for (size_t i = 0; i < e.relations.size(); ++i) {
    Value right = eval(*e.items[i + 1]);
    line_ = e.line;
    if (!related(e.relations[i], left, right)) return false;
    left = std::move(right);
  }
  return true;
}

Value Interpreter::eval_slice(const Expr& e) {
  const Value object = eval(*e.items[0]);
  Value parts[3];
  const Value* given[3] = {};
  for (size_t i = 0; i < 3; ++i) {
    if (!e.items[i + 1]) continue;
    parts[i] = eval(*e.items[i + 1]);
    given[i] = parts[i].is_none() ? nullptr : &parts[i];
  }
  line_ = e.line;
  return get_slice(runtime_, object, given[0], given[1], given[2]);
}

Value Interpreter::eval_call(const Expr& e) {
  const Expr& callee = *e.items[0];
  if (callee.kind == ExprKind::kAttribute) {
    const Value self = eval(*callee.items[0]);
    line_ = e.line;
    // A method needs no object of its own when it is called at once.
    const Method* method = find_method(self, callee.text);
    const Value function = method ? Value() : get_attribute(runtime_, self, callee.text);
    const Args args = eval_args(e);
    line_ = e.line;
    return method ? method->apply(runtime_, self, args) : runtime_.call(function, args);
  }
  const Value function = eval(callee);
  const Args args = eval_args(e);
  line_ = e.line;
  return runtime_.call(function, args);
}

std::vector<Value> Interpreter::eval_all(const std::vector<ExprPtr>& items, size_t from) {
  std::vector<Value> values;
  values.reserve(items.size() - from);
  for (size_t i = from; i < items.size(); ++i) values.push_back(eval(*items[i]));
  return values;
}

/// items[0] is the callee or the filtered value.
Args Interpreter::eval_args(const Expr& e) {
  Args args;
  args.positional = eval_all(e.items, 1);
  for (const auto& [name, value] : e.named) args.named.emplace_back(name, eval(*value));
  return args;
}

}  // namespace ft::jinja
