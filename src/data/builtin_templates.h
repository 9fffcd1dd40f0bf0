// Chat templates that come with the program, for models that have none: `data.chat_template: NAME`.
#pragma once

#include <span>
#include <string_view>

namespace ft {

struct BuiltinTemplate {
  std::string_view name;
  std::string_view help;
  std::string_view source;
};

std::span<const BuiltinTemplate> builtin_templates();

}  // namespace ft
