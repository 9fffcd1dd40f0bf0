// The engine from outside: source -> tokens -> Ast, kept; one Interpreter for each rendering.
#include "data/jinja/template.h"

#include "data/jinja/interpreter.h"
#include "data/jinja/parser.h"

namespace ft::jinja {

Template::Template(std::string_view source, std::string name) {
  std::vector<Token> tokens = tokenize(source, name);
  ast_ = std::make_unique<Ast>(Parser(std::move(tokens), std::move(name)).parse());
}
Template::~Template() = default;
Template::Template(Template&&) noexcept = default;
Template& Template::operator=(Template&&) noexcept = default;

std::string Template::render(Runtime& runtime, const Variables& variables, bool mark) const {
  Interpreter interpreter(*ast_, runtime, mark);
  for (const auto& [name, value] : variables) interpreter.set_global(name, value);
  return interpreter.render();
}

std::string Template::render(const Json& variables) const {
  Runtime runtime;
  Variables values;
  for (const auto& [name, value] : variables.object())
    values.emplace_back(name, from_json(value, runtime.budget));
  return render(runtime, values, false);
}

bool Template::has_generation_blocks() const {
  return ast_->has_generation;
}
const std::string& Template::name() const {
  return ast_->name;
}

}  // namespace ft::jinja
