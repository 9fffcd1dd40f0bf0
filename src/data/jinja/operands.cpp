// Operands: literals, names, brackets, and what follows them: attributes, subscripts, calls,
// filters, tests.
#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/names.h"
#include "data/jinja/builtins.h"
#include "data/jinja/parser.h"

namespace ft::jinja {

ExprPtr Parser::primary() {
  const int line = now().line;
  switch (now().kind) {
    case TokenKind::kName:
      return word();
    case TokenKind::kString: {
      std::string text = take().text;
      while (now().kind == TokenKind::kString) text += take().text;  // "a" "b" is "ab"
      ExprPtr e = node(ExprKind::kConst, line);
      e->value = Value(std::move(text));
      return e;
    }
    case TokenKind::kInteger:
    case TokenKind::kFloat:
      return number();
    default:
      break;
  }
  if (is_op("[")) return list();
  if (is_op("{")) return dict();
  if (!skip_op("(")) unexpected("an expression");
  ExprPtr e = tuple(true, {}, true);
  expect_op(")");
  return e;
}

ExprPtr Parser::word() {
  const Token token = take();
  const std::string& t = token.text;
  const bool is_true = t == "true" || t == "True", is_false = t == "false" || t == "False";
  if (!is_true && !is_false && t != "none" && t != "None") return name_node(t, token.line);
  ExprPtr e = node(ExprKind::kConst, token.line);
  if (is_true || is_false) e->value = Value(is_true);
  return e;
}

ExprPtr Parser::number() {
  const Token token = take();
  const std::string& t = token.text;
  ExprPtr e = node(ExprKind::kConst, token.line);
  std::from_chars_result result;
  if (token.kind == TokenKind::kFloat) {
    double value = 0;
    result = std::from_chars(t.data(), t.data() + t.size(), value);
    e->value = value;
  } else {
    int64_t value = 0;
    result = std::from_chars(t.data(), t.data() + t.size(), value);
    e->value = value;
  }
  if (result.ec != std::errc() || result.ptr != t.data() + t.size())
    error(token.line, "the number " + printable(t) + " is out of range or malformed");
  return e;
}

ExprPtr Parser::list() {
  const int line = take().line;
  std::vector<ExprPtr> items;
  while (!is_op("]")) {
    if (!items.empty()) expect_op(",");
    if (is_op("]")) break;
    items.push_back(expression());
  }
  take();
  return node(ExprKind::kList, line, std::move(items));
}

ExprPtr Parser::dict() {
  const int line = take().line;
  std::vector<ExprPtr> items;
  while (!is_op("}")) {
    if (!items.empty()) expect_op(",");
    if (is_op("}")) break;
    items.push_back(expression());
    expect_op(":");
    items.push_back(expression());
  }
  take();
  return node(ExprKind::kDict, line, std::move(items));
}

ExprPtr Parser::postfix(ExprPtr left) {
  for (;;) {
    if (is_op("(")) {
      left = call(std::move(left));
    } else if (is_op(".") || is_op("[")) {
      left = subscript(std::move(left));
    } else {
      return left;
    }
  }
}

ExprPtr Parser::subscript(ExprPtr left) {
  const Token token = take();
  if (token.text == ".") {
    if (now().kind == TokenKind::kInteger)
      return node(ExprKind::kItem, token.line, pair_of(std::move(left), number()));
    ExprPtr e = node(ExprKind::kAttribute, token.line, one_of(std::move(left)));
    e->text = expect_name("a name or a number after '.'");
    return e;
  }
  std::vector<ExprPtr> items = one_of(std::move(left));
  bool is_slice = false;
  const auto part = [&]() -> ExprPtr { return is_op(":") || is_op("]") ? nullptr : expression(); };
  items.push_back(part());
  while (items.size() < 4 && skip_op(":")) {
    is_slice = true;
    items.push_back(part());
  }
  if (!is_slice && !items[1]) unexpected("an expression");
  expect_op("]");
  while (is_slice && items.size() < 4) items.push_back(nullptr);
  return node(is_slice ? ExprKind::kSlice : ExprKind::kItem, token.line, std::move(items));
}

ExprPtr Parser::filters_and_tests(ExprPtr left) {
  for (;;) {
    if (is_op("|")) {
      take();
      left = filter(std::move(left));
    } else if (is_word("is")) {
      left = test(std::move(left));
    } else if (is_op("(")) {
      left = call(std::move(left));
    } else {
      return left;
    }
  }
}

ExprPtr Parser::filter(ExprPtr left) {
  const int line = now().line;
  const std::string name = expect_name("the name of a filter");
  const Filter* found = find_filter(name);
  if (!found)
    error(line, str("No filter named '", printable(name), "'", did_you_mean(name, filter_names())));
  ExprPtr e = node(ExprKind::kFilter, line, one_of(std::move(left)));
  e->filter = found;
  if (is_op("(")) arguments(*e);
  return e;
}

ExprPtr Parser::test(ExprPtr left) {
  const int line = take().line;
  const bool negated = skip_word("not");
  const std::string name = expect_name("the name of a test");
  const Test* found = find_test(name);
  if (!found)
    error(line, str("No test named '", printable(name), "'", did_you_mean(name, test_names())));
  ExprPtr e = node(ExprKind::kTest, line, one_of(std::move(left)));
  e->test = found;
  const TokenKind kind = now().kind;
  const bool is_value = kind == TokenKind::kName || kind == TokenKind::kString ||
                        kind == TokenKind::kInteger || kind == TokenKind::kFloat || is_op("[") ||
                        is_op("{");
  if (is_op("(")) {
    arguments(*e);
  } else if (is_value && !is_word("else") && !is_word("or") && !is_word("and")) {
    if (is_word("is")) error(line, "You cannot chain multiple tests with is");
    ExprPtr argument = postfix(primary());
    e->height = std::max(e->height, argument->height + 1);
    e->items.push_back(std::move(argument));
  }
  return negated ? node(ExprKind::kNot, line, one_of(std::move(e))) : std::move(e);
}

ExprPtr Parser::call(ExprPtr callee) {
  ExprPtr e = node(ExprKind::kCall, now().line, one_of(std::move(callee)));
  arguments(*e);
  return e;
}

void Parser::arguments(Expr& into) {
  const int line = now().line;
  expect_op("(");
  const auto keep = [&](ExprPtr e) {
    into.height = std::max(into.height, e->height + 1);
    return e;
  };
  for (bool first = true; !is_op(")"); first = false) {
    if (!first) {
      expect_op(",");
      if (is_op(")")) break;
    }
    if (is_op("*") || is_op("**")) error(line, "*list and **dict arguments are not supported");
    if (now().kind == TokenKind::kName && ahead().is(TokenKind::kOperator, "=")) {
      std::string key = take().text;
      take();
      for (const auto& [other, value] : into.named)
        if (other == key) error(line, "keyword argument repeated: " + key);
      into.named.emplace_back(std::move(key), keep(expression()));
    } else {
      if (!into.named.empty()) error(line, "positional argument follows keyword argument");
      into.items.push_back(keep(expression()));
    }
  }
  take();
  if (into.height > kMaxHeight)
    error(line, str("an expression deeper than ", kMaxHeight, " levels"));
}

}  // namespace ft::jinja
