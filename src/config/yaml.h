// YAML text -> nodes that remember their line. Stricter than YAML where YAML is ambiguous or a cut
// file could pass: see yaml.cpp. Scalars stay text; src/config/values.h gives them a type.
// yaml-cpp stays inside yaml.cpp.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace ft {

struct YamlNode {
  enum class Kind { kNull, kPlain, kQuoted, kList, kMap };
  Kind kind = Kind::kNull;
  int line = 0;                 ///< 1-based; of the key, for a member of a map
  std::string key;              ///< of a member of a map
  std::string text;             ///< of a scalar
  std::vector<YamlNode> items;  ///< elements of a list, members of a map in their order

  bool is_null() const { return kind == Kind::kNull; }
  bool is_plain() const { return kind == Kind::kPlain; }
  bool is_scalar() const { return kind == Kind::kPlain || kind == Kind::kQuoted; }
  bool is_list() const { return kind == Kind::kList; }
  bool is_map() const { return kind == Kind::kMap; }
};

/// Something wrong at a line, about a dotted key where one is known.
struct YamlProblem {
  int line = 0;
  std::string key;
  std::string what;
};

/// The one document of `text`; an empty one is null. What is wrong is appended to `problems`: after
/// a syntax error the node is null, after a repeated key all of its members are in the node.
YamlNode parse_yaml(std::string_view text, std::vector<YamlProblem>& problems);

}  // namespace ft
