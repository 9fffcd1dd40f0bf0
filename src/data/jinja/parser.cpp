// Expressions. Precedence and oddities are jinja2's: unary minus binds tighter than **, ** groups
// to the left, ~ binds tighter than + and looser than *, filters apply to the signed number.
#include "data/jinja/parser.h"

#include <algorithm>

#include "base/error.h"

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
  static constexpr std::string_view kTags[] = {"text", "'{{'", "'}}'", "'{%'", "'%}'"};
  if (token.kind <= TokenKind::kBlockEnd)
    return std::string(kTags[static_cast<size_t>(token.kind)]);
  return "'" + printable(token.text) + "'";
}

void Parser::unexpected(std::string_view wanted) const {
  error(now().line, str("unexpected ", describe(now()), ", ", wanted, " is wanted"));
}

int Parser::name_id(const std::string& name) {
  const auto [it, is_new] = name_ids_.try_emplace(name, static_cast<int>(ast_.names.size()));
  if (is_new) ast_.names.push_back(name);
  return it->second;
}

std::vector<ExprPtr> Parser::pair_of(ExprPtr a, ExprPtr b) {
  std::vector<ExprPtr> items = one_of(std::move(a));
  items.push_back(std::move(b));
  return items;
}

std::vector<ExprPtr> Parser::one_of(ExprPtr a) {
  std::vector<ExprPtr> items;
  items.push_back(std::move(a));
  return items;
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
  ExprPtr e = node(ExprKind::kName, line);
  e->name = name_id(name);
  return e;
}

ExprPtr Parser::expression(bool with_condition) {
  const Level level(*this);
  return with_condition ? condition() : operation(0);
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
  ExprPtr left = operation(0);
  while (is_word("if")) {
    const Level level(*this);
    const int line = take().line;
    std::vector<ExprPtr> items = pair_of(operation(0), std::move(left));
    items.push_back(skip_word("else") ? condition() : nullptr);
    left = node(ExprKind::kCondition, line, std::move(items));
  }
  return left;
}

namespace {

struct BinaryOp {
  std::string_view text;
  size_t level;
  ExprKind kind;
  Op op = Op::kAdd;
};
// The levels from the loosest to the tightest; kComparisons stands for all comparisons and `not`.
constexpr size_t kComparisons = 2, kTightest = 6;
constexpr BinaryOp kBinary[] = {
    {"or", 0, ExprKind::kOr},
    {"and", 1, ExprKind::kAnd},
    {"+", 3, ExprKind::kBinary, Op::kAdd},
    {"-", 3, ExprKind::kBinary, Op::kSub},
    {"~", 4, ExprKind::kConcat},
    {"*", 5, ExprKind::kBinary, Op::kMul},
    {"/", 5, ExprKind::kBinary, Op::kDiv},
    {"//", 5, ExprKind::kBinary, Op::kFloorDiv},
    {"%", 5, ExprKind::kBinary, Op::kMod},
    {"**", 6, ExprKind::kBinary, Op::kPow},
};

}  // namespace

/// Operators of this level and tighter ones; all group to the left.
ExprPtr Parser::operation(size_t level) {
  if (level == kComparisons) return not_();
  if (level > kTightest) return unary(true);
  ExprPtr left = operation(level + 1);
  for (;;) {
    const auto* op = std::find_if(std::begin(kBinary), std::end(kBinary), [&](const BinaryOp& o) {
      return o.level == level && (is_op(o.text) || is_word(o.text));
    });
    if (op == std::end(kBinary)) return left;
    const int line = take().line;
    ExprPtr right = operation(level + 1);
    if (op->kind == ExprKind::kConcat && left->kind == ExprKind::kConcat) {
      // One node however long the chain is.
      left->height = std::max(left->height, right->height + 1);
      left->items.push_back(std::move(right));
      continue;
    }
    left = node(op->kind, line, pair_of(std::move(left), std::move(right)));
    left->op = op->op;
  }
}

ExprPtr Parser::not_() {
  if (!is_word("not")) return comparison(kComparisons + 1);
  const Level level(*this);
  const int line = take().line;
  return node(ExprKind::kNot, line, one_of(not_()));
}

ExprPtr Parser::comparison(size_t level) {
  static constexpr std::pair<std::string_view, Relation> kOps[] = {
      {"==", Relation::kEq}, {"!=", Relation::kNe}, {"<", Relation::kLt}, {"<=", Relation::kLe},
      {">", Relation::kGt},  {">=", Relation::kGe}, {"in", Relation::kIn}};
  const int line = now().line;
  std::vector<ExprPtr> items = one_of(operation(level));
  std::vector<Relation> relations;
  for (;;) {
    const auto* op = std::find_if(std::begin(kOps), std::end(kOps), [&](const auto& entry) {
      return is_op(entry.first) || is_word(entry.first);
    });
    if (op != std::end(kOps)) {
      take();
      relations.push_back(op->second);
    } else if (is_word("not") && ahead().is(TokenKind::kName, "in")) {
      take();
      take();
      relations.push_back(Relation::kNotIn);
    } else {
      break;
    }
    items.push_back(operation(level));
  }
  if (relations.empty()) return std::move(items[0]);
  ExprPtr e = node(ExprKind::kCompare, line, std::move(items));
  e->relations = std::move(relations);
  return e;
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

}  // namespace ft::jinja
