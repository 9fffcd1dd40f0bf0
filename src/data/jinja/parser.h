// Template text -> tokens (lexer.cpp, with jinja2's whitespace rules: trim_blocks, lstrip_blocks,
// the signs - and + beside tags) -> Ast: a recursive descent parser with jinja2's grammar
// (parser.cpp and operands.cpp: expressions, statements.cpp: tags).
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "data/jinja/ast.h"

namespace ft::jinja {

enum class TokenKind : char {
  kData,
  kOutputBegin,
  kOutputEnd,
  kBlockBegin,
  kBlockEnd,
  kName,
  kString,
  kInteger,
  kFloat,
  kOperator,
  kEnd,
};

struct Token {
  TokenKind kind;
  int line;
  std::string text;  ///< of a string: its value

  bool is(TokenKind k, std::string_view t) const { return kind == k && text == t; }
};

/// Error (input) beginning `name:line: `. The last token is kEnd.
std::vector<Token> tokenize(std::string_view source, const std::string& name);

class Parser {
 public:
  Parser(std::vector<Token> tokens, std::string name);
  /// Error (input) beginning `name:line: `.
  Ast parse();

 private:
  std::vector<Token> tokens_;
  size_t at_ = 0;
  Ast ast_;
  std::unordered_map<std::string, int> name_ids_;
  std::vector<std::string> open_tags_;  // for messages
  int nesting_ = 0, loops_ = 0;

  /// Counts a level of recursion while it lives.
  class Level {
   public:
    explicit Level(Parser& parser);
    ~Level() { --parser_.nesting_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Parser& parser_;
  };

  const Token& now() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[at_ + 1 < tokens_.size() ? at_ + 1 : at_]; }
  Token take();
  bool is_op(std::string_view op) const { return now().is(TokenKind::kOperator, op); }
  bool is_word(std::string_view word) const { return now().is(TokenKind::kName, word); }
  bool skip_op(std::string_view op);
  bool skip_word(std::string_view word);
  void expect_op(std::string_view op);
  void expect_word(std::string_view word);
  std::string expect_name(std::string_view what);
  void expect_block_end();
  [[noreturn]] void error(int line, const std::string& message) const;
  [[noreturn]] void unexpected(std::string_view wanted) const;
  static std::string describe(const Token& token);
  int name_id(const std::string& name);
  // Vectors of nodes: initializer lists cannot move.
  static std::vector<ExprPtr> one_of(ExprPtr a);
  static std::vector<ExprPtr> pair_of(ExprPtr a, ExprPtr b);
  ExprPtr node(ExprKind kind, int line, std::vector<ExprPtr> items = {}) const;
  ExprPtr name_node(const std::string& name, int line);

  // Expressions, loosest binding first.
  ExprPtr expression(bool with_condition = true);
  ExprPtr tuple(bool with_condition = true, std::string_view end_word = {},
                bool in_brackets = false);
  bool at_tuple_end(std::string_view end_word) const;
  ExprPtr condition();
  ExprPtr operation(size_t level);
  ExprPtr not_();
  ExprPtr comparison(size_t level);
  ExprPtr unary(bool with_filters);
  ExprPtr primary();
  ExprPtr word();
  ExprPtr number();
  ExprPtr list();
  ExprPtr dict();
  ExprPtr postfix(ExprPtr left);
  ExprPtr subscript(ExprPtr left);
  ExprPtr filters_and_tests(ExprPtr left);
  ExprPtr filter(ExprPtr left);
  ExprPtr test(ExprPtr left);
  ExprPtr call(ExprPtr callee);
  void arguments(Expr& into);

  // Statements.
  Body body(std::initializer_list<std::string_view> ends);
  std::unique_ptr<Stmt> statement();
  std::unique_ptr<Stmt> if_();
  std::unique_ptr<Stmt> for_();
  std::unique_ptr<Stmt> set();
  std::unique_ptr<Stmt> macro();
  std::unique_ptr<Stmt> generation();
  std::unique_ptr<Stmt> jump();
  Body body_until(std::string_view end);
  void signature(MacroShape& shape);
  ExprPtr target(std::string_view end_word);
  ExprPtr simple_target();
};

}  // namespace ft::jinja
