// Walks the Ast. Scopes are lexical, as in jinja2: a loop, a macro, a block has its own, `if` has
// not.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/jinja/ast.h"
#include "data/jinja/builtins.h"

namespace ft::jinja {

struct Scope {
  explicit Scope(std::shared_ptr<Scope> up) : parent(std::move(up)) {}
  std::vector<std::pair<int, Value>> variables;
  std::shared_ptr<Scope> parent;

  void set(int name, Value value);
};

class Interpreter {
 public:
  /// `mark`: enclose generation blocks in marks.
  Interpreter(const Ast& ast, Runtime& runtime, bool mark);

  void set_global(std::string_view name, Value value);
  /// The output, with marks. Error (input) beginning `name:line: `.
  std::string render();

  // For macros.
  Value call_macro(const MacroShape& shape, const Body& body, const std::shared_ptr<Scope>& scope,
                   const Args& args);

 private:
  enum class Flow { kNext, kBreak, kContinue };

  const Ast& ast_;
  Runtime& runtime_;
  const bool mark_;
  std::shared_ptr<Scope> scope_;
  std::string out_;
  int line_ = 1, depth_ = 0;

  /// Counts nested evaluations while it lives.
  class Level {
   public:
    explicit Level(Interpreter& in) : in_(in) {
      if (++in_.depth_ > kMaxRuntimeDepth) raise("macros, loops or expressions nested too deeply");
      in_.runtime_.budget.work();
    }
    ~Level() { --in_.depth_; }
    Level(const Level&) = delete;
    Level& operator=(const Level&) = delete;

   private:
    Interpreter& in_;
  };
  /// A new scope inside `parent` while it lives.
  class NewScope {
   public:
    NewScope(Interpreter& in, std::shared_ptr<Scope> parent) : in_(in), saved_(in.scope_) {
      in_.scope_ = std::make_shared<Scope>(std::move(parent));
    }
    ~NewScope() { in_.scope_ = std::move(saved_); }
    NewScope(const NewScope&) = delete;
    NewScope& operator=(const NewScope&) = delete;

   private:
    Interpreter& in_;
    std::shared_ptr<Scope> saved_;
  };

  // interpreter.cpp
  void write(std::string_view text);
  Flow run(const Body& body);
  Flow run(const Stmt& stmt);
  Flow run_if(const Stmt& stmt);
  Flow run_for(const Stmt& stmt);
  Flow run_generation(const Stmt& stmt);
  std::vector<Value> selected(const Stmt& stmt, const Value& items);
  /// Runs the body with its output caught; `flow` gets how it ended.
  std::string capture(const Body& body, Flow& flow);
  void bind_macro(const MacroShape& shape, const Args& args);
  void assign(const Expr& target, Value value);

  // evaluate.cpp
  Value eval(const Expr& e);
  Value eval_name(const Expr& e);
  Value eval_dict(const Expr& e);
  Value eval_binary(const Expr& e);
  Value eval_concat(const Expr& e);
  Value eval_compare(const Expr& e);
  bool related(Relation relation, const Value& a, const Value& b);
  Value eval_slice(const Expr& e);
  Value eval_call(const Expr& e);
  std::vector<Value> eval_all(const std::vector<ExprPtr>& items, size_t from = 0);
  Args eval_args(const Expr& e);
};

}  // namespace ft::jinja
