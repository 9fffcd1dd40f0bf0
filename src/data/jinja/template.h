// A Jinja engine for chat templates: what transformers' environment offers (trim_blocks,
// lstrip_blocks, loop controls, the generation tag, tojson, raise_exception, strftime_now), nothing
// that reaches outside the given data. Reference: jinja2 3.1 with ImmutableSandboxedEnvironment.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"

namespace ft::jinja {

struct Ast;
class Runtime;
class Value;

class Template {
 public:
  /// `name` begins every message. Error (input) `name:line: ...` on a syntax error.
  Template(std::string_view source, std::string name);
  ~Template();
  Template(Template&&) noexcept;
  Template& operator=(Template&&) noexcept;

  /// Renders with the variables that `fill` gives. `mark`: generation blocks are enclosed in marks
  /// (data/jinja/text.h). Error (input) `name:line: ...` when rendering fails or exceeds a limit.
  using Variables = std::vector<std::pair<std::string, Value>>;
  std::string render(Runtime& runtime, const Variables& variables, bool mark) const;
  /// For tests: variables from a JSON object.
  std::string render(const Json& variables) const;

  bool has_generation_blocks() const;
  const std::string& name() const;

 private:
  std::unique_ptr<Ast> ast_;
};

}  // namespace ft::jinja
