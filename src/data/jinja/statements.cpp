// Tags: if, for, set, macro, generation, break, continue. Tags that reach outside the template
// (include, import, extends) do not exist here, nor those no chat template uses (call, filter).
#include <algorithm>

#include "base/error.h"
#include "base/names.h"
#include "data/jinja/parser.h"

namespace ft::jinja {
namespace {

std::unique_ptr<Stmt> make(StmtKind kind, int line) {
  auto s = std::make_unique<Stmt>();
  s->kind = kind;
  s->line = line;
  return s;
}

constexpr std::string_view kTags[] = {"if",         "for",   "set",      "macro",
                                      "generation", "break", "continue", "raw"};
constexpr std::string_view kForbidden[] = {"include", "import",     "from",  "extends",
                                           "block",   "do",         "call",  "filter",
                                           "with",    "autoescape", "trans", "debug"};

}  // namespace

Ast Parser::parse() {
  ast_.body = body({});
  if (const auto found = name_ids_.find("loop"); found != name_ids_.end())
    ast_.loop = found->second;
  return std::move(ast_);
}

/// Statements up to a tag whose name is in `ends`; that name is the current token then.
Body Parser::body(std::initializer_list<std::string_view> ends) {
  const Level level(*this);
  Body out;
  for (;;) {
    const int line = now().line;
    if (now().kind == TokenKind::kEnd) {
      if (open_tags_.empty()) return out;
      error(line, str("the template ends inside {% ", open_tags_.back(), " %}, {% ", *ends.begin(),
                      " %} is missing"));
    }
    if (now().kind == TokenKind::kData) {
      out.push_back(make(StmtKind::kText, line));
      out.back()->text = take().text;
    } else if (now().kind == TokenKind::kOutputBegin) {
      take();
      out.push_back(make(StmtKind::kOutput, line));
      out.back()->expr = tuple();
      if (now().kind != TokenKind::kOutputEnd) unexpected("'}}'");
      take();
    } else {
      take();  // {%
      if (std::any_of(ends.begin(), ends.end(), [&](auto end) { return is_word(end); })) return out;
      out.push_back(statement());
      expect_block_end();
    }
  }
}

Body Parser::body_until(std::string_view end) {
  Body out = body({end});
  take();
  return out;
}

std::unique_ptr<Stmt> Parser::statement() {
  if (now().kind != TokenKind::kName) unexpected("the name of a tag");
  static constexpr std::pair<std::string_view, std::unique_ptr<Stmt> (Parser::*)()> kParsers[] = {
      {"if", &Parser::if_},
      {"for", &Parser::for_},
      {"set", &Parser::set},
      {"macro", &Parser::macro},
      {"generation", &Parser::generation},
      {"break", &Parser::jump},
      {"continue", &Parser::jump},
  };
  const Token tag = now();
  for (const auto& [name, parse_tag] : kParsers) {
    if (tag.text != name) continue;
    open_tags_.push_back(tag.text);
    auto s = (this->*parse_tag)();
    open_tags_.pop_back();
    s->line = tag.line;
    return s;
  }
  if (std::find(std::begin(kForbidden), std::end(kForbidden), tag.text) != std::end(kForbidden))
    error(tag.line, "the tag '" + tag.text + "' is not supported in a chat template");
  error(tag.line, str("Encountered unknown tag '", printable(tag.text), "'",
                      did_you_mean(tag.text, {std::begin(kTags), std::end(kTags)}),
                      open_tags_.empty() ? "" : ", inside {% " + open_tags_.back() + " %}"));
}

std::unique_ptr<Stmt> Parser::if_() {
  auto s = make(StmtKind::kIf, now().line);
  do {
    take();  // if, elif
    ExprPtr condition_expr = tuple(false);
    expect_block_end();
    s->branches.emplace_back(std::move(condition_expr), body({"elif", "else", "endif"}));
  } while (is_word("elif"));
  if (skip_word("else")) {
    expect_block_end();
    s->otherwise = body({"endif"});
  }
  take();
  return s;
}

std::unique_ptr<Stmt> Parser::for_() {
  auto s = make(StmtKind::kFor, take().line);
  s->target = target("in");
  if (s->target->kind == ExprKind::kName && s->target->name == name_id("loop"))
    error(s->line, "Can't assign to special loop variable in for-loop target");
  expect_word("in");
  s->expr = tuple(false, "recursive");
  if (skip_word("if")) s->condition = expression();
  if (is_word("recursive")) error(s->line, "recursive loops are not supported, use a macro");
  expect_block_end();
  ++loops_;
  s->body = body({"endfor", "else"});
  --loops_;
  if (skip_word("else")) {
    expect_block_end();
    s->otherwise = body({"endfor"});
  }
  take();
  return s;
}

/// A name, or namespace.attribute.
ExprPtr Parser::simple_target() {
  const Token token = now();
  static constexpr std::string_view kConstants[] = {"true",  "True", "false",
                                                    "False", "none", "None"};
  if (token.kind != TokenKind::kName) unexpected("a name to assign to");
  take();
  if (std::find(std::begin(kConstants), std::end(kConstants), token.text) != std::end(kConstants))
    error(token.line, "can't assign to '" + token.text + "'");
  ExprPtr e = name_node(token.text, token.line);
  if (!skip_op(".")) return e;
  ExprPtr attribute = node(ExprKind::kAttribute, token.line);
  attribute->text = expect_name("the name of an attribute");
  attribute->items.push_back(std::move(e));
  return attribute;
}

ExprPtr Parser::target(std::string_view end_word) {
  const Level level(*this);
  const int line = now().line;
  std::vector<ExprPtr> items;
  bool is_tuple = false;
  while (!is_op("=") && !(at_tuple_end(end_word) && !items.empty())) {
    if (skip_op("(")) {
      items.push_back(target({}));
      expect_op(")");
    } else {
      items.push_back(simple_target());
    }
    if (!skip_op(",")) break;
    is_tuple = true;
  }
  if (items.empty()) unexpected("a name to assign to");
  return is_tuple ? node(ExprKind::kTuple, line, std::move(items)) : std::move(items[0]);
}

std::unique_ptr<Stmt> Parser::set() {
  auto s = make(StmtKind::kSet, take().line);
  s->target = target({});
  if (skip_op("=")) {
    s->expr = tuple();
    return s;
  }
  s->kind = StmtKind::kSetBlock;
  expect_block_end();
  s->body = body_until("endset");
  return s;
}

void Parser::signature(MacroShape& shape) {
  expect_op("(");
  while (!is_op(")")) {
    if (!shape.parameters.empty()) expect_op(",");
    if (is_op(")")) break;
    const int line = now().line;
    const std::string name = expect_name("the name of a parameter");
    if (std::find(shape.parameter_names.begin(), shape.parameter_names.end(), name) !=
        shape.parameter_names.end())
      error(line, "two parameters are named '" + name + "'");
    shape.parameter_names.push_back(name);
    shape.parameters.push_back(name_id(name));
    if (skip_op("=")) {
      shape.defaults.push_back(expression());
    } else if (!shape.defaults.empty()) {
      error(line, "non-default argument follows default argument");
    }
  }
  take();
}

std::unique_ptr<Stmt> Parser::macro() {
  auto s = make(StmtKind::kMacro, take().line);
  s->macro.name = expect_name("the name of the macro");
  s->target = node(ExprKind::kName, s->line);
  s->target->name = name_id(s->macro.name);
  signature(s->macro);
  expect_block_end();
  const int outer_loops = std::exchange(loops_, 0);  // break does not leave the loops around it
  s->body = body_until("endmacro");
  loops_ = outer_loops;
  return s;
}

std::unique_ptr<Stmt> Parser::generation() {
  auto s = make(StmtKind::kGeneration, take().line);
  ast_.has_generation = true;
  expect_block_end();
  s->body = body_until("endgeneration");
  return s;
}

std::unique_ptr<Stmt> Parser::jump() {
  const Token token = take();
  if (loops_ == 0) error(token.line, "'" + token.text + "' outside loop");
  return make(token.text == "break" ? StmtKind::kBreak : StmtKind::kContinue, token.line);
}

}  // namespace ft::jinja
