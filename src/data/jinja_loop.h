// The objects that the interpreter makes: `loop`, and macros (also the `caller` of a call block).
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "data/jinja_interpreter.h"

namespace ft::jinja {

class Loop : public Object {
 public:
  Loop(Interpreter& interpreter, const Stmt& statement, std::shared_ptr<Scope> around,
       std::vector<Value> elements, int level)
      : items(std::move(elements)),
        interpreter_(interpreter),
        stmt_(statement),
        scope_(std::move(around)),
        depth_(level) {}

  std::vector<Value> items;
  size_t at = 0;

  std::string_view type_name() const override { return "LoopContext"; }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
  bool is_callable() const override { return true; }
  /// {{ loop(items) }} in a recursive loop.
  Value call(Runtime& runtime, const Args& args) override;
  Value cycle(const Args& args) const;
  Value changed(Runtime& runtime, const Args& args);

 private:
  Interpreter& interpreter_;
  const Stmt& stmt_;
  std::shared_ptr<Scope> scope_;  // around the loop
  int depth_;
  std::optional<Value> last_changed_;
};

class Macro : public Object {
 public:
  Macro(Interpreter& interpreter, const MacroShape& shape, const Body& body,
        std::shared_ptr<Scope> around)
      : interpreter_(interpreter), shape_(shape), body_(body), scope_(std::move(around)) {}

  std::string_view type_name() const override { return "Macro"; }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
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

}  // namespace ft::jinja
