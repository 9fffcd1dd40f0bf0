// Expressions. Precedence and oddities are jinja2's: unary minus binds tighter than **, ** groups
// to the left, ~ binds tighter than + and looser than *, filters apply to the signed number.
#include "data/jinja_parser.h"

#include <algorithm>
#include <charconv>

#include "base/error.h"
#include "base/names.h"
#include "data/jinja_builtins.h"

namespace ft::jinja {

Parser::Parser(std::vector<Token> tokens, std::string name) : tokens_(std::move(tokens)) {
  ast_.name = std::move(name);
}

Parser::Level::Level(Parser& parser) : parser_(parser) {
  if (++parser_.nesting_ > kMaxNesting)
    parser_.error(parser_.now().line, str("nested deeper than ", kMaxNesting, " levels"));
}

Token Parser::take() {
  Token token = now();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}
bool Parser::skip_op(std::string_view op) {
  return is_op(op) && (take(), true);
}
bool Parser::skip_word(std::string_view word) {
  return is_word(word) && (take(), true);
}
void Parser::expect_op(std::string_view op) {
  if (!skip_op(op)) unexpected(str("'", op, "'"));
}
void Parser::expect_word(std::string_view wanted) {
  if (!skip_word(wanted)) unexpected(str("'", wanted, "'"));
}
std::string Parser::expect_name(std::string_view what) {
  if (now().kind != TokenKind::kName) unexpected(what);
  return take().text;
}
void Parser::expect_block_end() {
  if (now().kind != TokenKind::kBlockEnd) unexpected("'%}'");
  take();
}

void Parser::error(int line, const std::string& message) const {
  fail_input(ast_.name, ":", line, ": ", message);
}

std::string Parser::describe(const Token& token) {
  switch (token.kind) {
    case TokenKind::kData:
      return "text";
    case TokenKind::kOutputBegin:
      return "'{{'";
    case TokenKind::kOutputEnd:
      return "'}}'";
    case TokenKind::kBlockBegin:
      return "'{%'";
    case TokenKind::kBlockEnd:
      return "'%}'";
    case TokenKind::kEnd:
      return "the end of the template";
    default:
      return "'" + printable(token.text) + "'";
  }
}

void Parser::unexpected(std::string_view wanted) const {
  error(now().line, str("unexpected ", describe(now()), ", ", wanted, " is wanted"));
}

int Parser::name_id(const std::string& name) {
  const auto [it, is_new] = name_ids_.try_emplace(name, static_cast<int>(ast_.names.size()));
  if (is_new) ast_.names.push_back(name);
  return it->second;
}

ExprPtr Parser::node(ExprKind kind, int line, std::vector<ExprPtr> items) const {
  auto e = std::make_unique<Expr>();
  e->kind = kind;
  e->line = line;
  e->items = std::move(items);
  for (const ExprPtr& item : e->items)
    if (item) e->height = std::max(e->height, item->height + 1);
  if (e->height > kMaxHeight) error(line, str("an expression deeper than ", kMaxHeight, " levels"));
  return e;
}

ExprPtr Parser::name_node(const std::string& name, int line) {
  for (MacroShape* shape : macros_) {
    shape->uses_caller |= name == "caller";
    shape->uses_varargs |= name == "varargs";
    shape->uses_kwargs |= name == "kwargs";
  }
  ExprPtr e = node(ExprKind::kName, line);
  e->name = name_id(name);
  return e;
}

namespace {

/// A two-element vector of nodes: initializer lists cannot move.
std::vector<ExprPtr> pair_of(ExprPtr a, ExprPtr b) {
  std::vector<ExprPtr> items;
  items.push_back(std::move(a));
  items.push_back(std::move(b));
  return items;
}
std::vector<ExprPtr> one_of(ExprPtr a) {
  std::vector<ExprPtr> items;
  items.push_back(std::move(a));
  return items;
}

}  // namespace

ExprPtr Parser::expression(bool with_condition) {
  const Level level(*this);
  return with_condition ? condition() : or_();
}

bool Parser::at_tuple_end(std::string_view end_word) const {
  return now().kind == TokenKind::kOutputEnd || now().kind == TokenKind::kBlockEnd || is_op(")") ||
         (!end_word.empty() && is_word(end_word));
}

ExprPtr Parser::tuple(bool with_condition, std::string_view end_word, bool in_brackets) {
  const int line = now().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (!at_tuple_end(end_word)) {
    items.push_back(expression(with_condition));
    if (!is_op(",")) break;
    take();
    is_tuple = true;
  }
  if (!is_tuple && !items.empty()) return std::move(items[0]);
  if (!is_tuple && !in_brackets) unexpected("an expression");
  return node(ExprKind::kTuple, line, std::move(items));
}

ExprPtr Parser::condition() {
  ExprPtr left = or_();
  while (is_word("if")) {
    const Level level(*this);
    const int line = take().line;
    std::vector<ExprPtr> items = pair_of(or_(), std::move(left));
    items.push_back(skip_word("else") ? condition() : nullptr);
    left = node(ExprKind::kCondition, line, std::move(items));
  }
  return left;
}

ExprPtr Parser::or_() {
  ExprPtr left = and_();
  while (is_word("or")) {
    const int line = take().line;
    left = node(ExprKind::kOr, line, pair_of(std::move(left), and_()));
  }
  return left;
}

ExprPtr Parser::and_() {
  ExprPtr left = not_();
  while (is_word("and")) {
    const int line = take().line;
    left = node(ExprKind::kAnd, line, pair_of(std::move(left), not_()));
  }
  return left;
}

ExprPtr Parser::not_() {
  if (!is_word("not")) return comparison();
  const Level level(*this);
  const int line = take().line;
  return node(ExprKind::kNot, line, one_of(not_()));
}

ExprPtr Parser::comparison() {
  static constexpr std::pair<std::string_view, Relation> kOps[] = {
      {"==", Relation::kEq}, {"!=", Relation::kNe}, {"<", Relation::kLt},
      {"<=", Relation::kLe}, {">", Relation::kGt},  {">=", Relation::kGe}};
  const int line = now().line;
  std::vector<ExprPtr> items = one_of(sum());
  std::vector<Relation> relations;
  for (;;) {
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps),
                                  [&](const auto& entry) { return is_op(entry.first); });
    if (op != std::end(kOps)) {
      take();
      relations.push_back(op->second);
    } else if (skip_word("in")) {
      relations.push_back(Relation::kIn);
    } else if (is_word("not") && ahead().is(TokenKind::kName, "in")) {
      take();
      take();
      relations.push_back(Relation::kNotIn);
    } else {
      break;
    }
    items.push_back(sum());
  }
  if (relations.empty()) return std::move(items[0]);
  ExprPtr e = node(ExprKind::kCompare, line, std::move(items));
  e->relations = std::move(relations);
  return e;
}

ExprPtr Parser::binary(Op op, ExprPtr left, ExprPtr right, int line) const {
  ExprPtr e = node(ExprKind::kBinary, line, pair_of(std::move(left), std::move(right)));
  e->op = op;
  return e;
}

ExprPtr Parser::sum() {
  ExprPtr left = concatenation();
  while (is_op("+") || is_op("-")) {
    const Token token = take();
    left = binary(token.text == "+" ? Op::kAdd : Op::kSub, std::move(left), concatenation(),
                  token.line);
  }
  return left;
}

ExprPtr Parser::concatenation() {
  const int line = now().line;
  std::vector<ExprPtr> items = one_of(product());
  while (skip_op("~")) items.push_back(product());
  if (items.size() == 1) return std::move(items[0]);
  return node(ExprKind::kConcat, line, std::move(items));
}

ExprPtr Parser::product() {
  static constexpr std::pair<std::string_view, Op> kOps[] = {
      {"*", Op::kMul}, {"/", Op::kDiv}, {"//", Op::kFloorDiv}, {"%", Op::kMod}};
  ExprPtr left = power();
  for (;;) {
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps),
                                  [&](const auto& entry) { return is_op(entry.first); });
    if (op == std::end(kOps)) return left;
    const int line = take().line;
    left = binary(op->second, std::move(left), power(), line);
  }
}

ExprPtr Parser::power() {
  ExprPtr left = unary(true);
  while (is_op("**")) {
    const int line = take().line;
    left = binary(Op::kPow, std::move(left), unary(true), line);
  }
  return left;
}

ExprPtr Parser::unary(bool with_filters) {
  ExprPtr e;
  if (is_op("-") || is_op("+")) {
    const Level level(*this);
    const Token token = take();
    e = node(ExprKind::kUnary, token.line, one_of(unary(false)));
    e->op = token.text == "-" ? Op::kSub : Op::kAdd;
  } else {
    e = postfix(primary());
  }
  return with_filters ? filters_and_tests(std::move(e)) : std::move(e);
}

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
    const char prefix = t.size() > 2 ? static_cast<char>(t[1] | 32) : '0';
    const int base = prefix == 'x' ? 16 : prefix == 'o' ? 8 : prefix == 'b' ? 2 : 10;
    int64_t value = 0;
    result = std::from_chars(t.data() + (base == 10 ? 0 : 2), t.data() + t.size(), value, base);
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
  bool is_slice = false, is_tuple = false;
  const auto part = [&]() -> ExprPtr { return is_op(":") || is_op("]") ? nullptr : expression(); };
  items.push_back(part());
  while (items.size() < 4 && skip_op(":")) {
    is_slice = true;
    items.push_back(part());
  }
  if (!is_slice && !items[1]) unexpected("an expression");
  while (!is_slice && skip_op(",")) {  // x[1, 2] asks for the key (1, 2)
    is_tuple = true;
    if (!is_op("]")) items.push_back(expression());
  }
  expect_op("]");
  if (is_tuple) {
    left = std::move(items[0]);
    items.erase(items.begin());
    items = pair_of(std::move(left), node(ExprKind::kTuple, token.line, std::move(items)));
  }
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

std::string Parser::dotted_name(std::string_view what) {
  std::string name = expect_name(what);
  while (skip_op(".")) name += "." + expect_name(what);
  return name;
}

ExprPtr Parser::filter(ExprPtr left) {
  const int line = now().line;
  const std::string name = dotted_name("the name of a filter");
  const Filter* found = find_filter(name);
  if (!found)
    error(line, str("No filter named '", printable(name), "'", did_you_mean(name, filter_names())));
  ExprPtr e = node(ExprKind::kFilter, line, one_of(std::move(left)));
  e->text = name;
  e->filter = found;
  if (is_op("(")) arguments(*e);
  return e;
}

ExprPtr Parser::test(ExprPtr left) {
  const int line = take().line;
  const bool negated = skip_word("not");
  const std::string name = dotted_name("the name of a test");
  const Test* found = find_test(name);
  if (!found)
    error(line, str("No test named '", printable(name), "'", did_you_mean(name, test_names())));
  ExprPtr e = node(ExprKind::kTest, line, one_of(std::move(left)));
  e->text = name;
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
  const auto check = [&](bool ok) {
    if (!ok) error(line, "invalid syntax for function call expression");
  };
  const auto keep = [&](ExprPtr e) {
    into.height = std::max(into.height, e->height + 1);
    return e;
  };
  for (bool first = true; !is_op(")"); first = false) {
    if (!first) {
      expect_op(",");
      if (is_op(")")) break;
    }
    if (skip_op("*")) {
      check(!into.star && !into.star_star);
      into.star = keep(expression());
    } else if (skip_op("**")) {
      check(!into.star_star);
      into.star_star = keep(expression());
    } else if (now().kind == TokenKind::kName && ahead().is(TokenKind::kOperator, "=")) {
      check(!into.star_star);
      std::string key = take().text;
      take();
      for (const auto& [other, value] : into.named)
        if (other == key) error(line, "keyword argument repeated: " + key);
      into.named.emplace_back(std::move(key), keep(expression()));
    } else {
      check(!into.star && !into.star_star && into.named.empty());
      into.items.push_back(keep(expression()));
    }
  }
  take();
  if (into.height > kMaxHeight)
    error(line, str("an expression deeper than ", kMaxHeight, " levels"));
}

}  // namespace ft::jinja
