// What can stand after `is`.
#include <algorithm>

#include "data/jinja/builtins.h"

namespace ft::jinja {
namespace {

const Value& other(const Args& args) {
  const Bound bound("test", args, {"other"}, 1);
  return *bound[0];
}

int order(Runtime& runtime, const Value& a, const Args& args) {
  return compare(a, other(args), runtime.budget);
}

/// v % 2 == wanted; 3.0 is odd, 3.5 neither.
bool has_remainder(const Value& v, double wanted) {
  return modulo(v, Value(int64_t{2})).number() == wanted;
}

bool is_iterable(const Value& v) {
  return v.is_string() || v.is_seq() || v.is_dict() || v.is_undefined();
}

using R = Runtime;
using V = Value;
using A = Args;
// Captureless lambdas: each is one line and has no other name than the test's.
constexpr Test kTests[] = {
    {"boolean", [](R&, const V& v, const A&) { return v.is_bool(); }},
    {"defined", [](R&, const V& v, const A&) { return !v.is_undefined(); }},
    {"divisibleby", [](R&, const V& v, const A& a) { return modulo(v, other(a)).number() == 0; },
     true},
    {"eq", [](R& r, const V& v, const A& a) { return equals(v, other(a), r.budget); }, true},
    {"even", [](R&, const V& v, const A&) { return has_remainder(v, 0); }},
    {"false", [](R&, const V& v, const A&) { return v.is_bool() && !v.boolean(); }},
    {"float", [](R&, const V& v, const A&) { return v.is_float(); }},
    {"ge", [](R& r, const V& v, const A& a) { return order(r, v, a) >= 0; }, true},
    {"gt", [](R& r, const V& v, const A& a) { return order(r, v, a) > 0; }, true},
    {"in", [](R& r, const V& v, const A& a) { return contains(other(a), v, r.budget); }, true},
    {"integer", [](R&, const V& v, const A&) { return v.is_int() && !v.is_bool(); }},
    {"iterable", [](R&, const V& v, const A&) { return is_iterable(v); }},
    {"le", [](R& r, const V& v, const A& a) { return order(r, v, a) <= 0; }, true},
    {"lt", [](R& r, const V& v, const A& a) { return order(r, v, a) < 0; }, true},
    {"mapping", [](R&, const V& v, const A&) { return v.is_dict(); }},
    {"ne", [](R& r, const V& v, const A& a) { return !equals(v, other(a), r.budget); }, true},
    {"none", [](R&, const V& v, const A&) { return v.is_none(); }},
    {"number", [](R&, const V& v, const A&) { return v.is_number(); }},
    {"odd", [](R&, const V& v, const A&) { return has_remainder(v, 1); }},
    {"sequence", [](R&, const V& v,
                    const A&) { return is_iterable(v) && !(v.is_seq() && !v.seq().can_index()); }},
    {"string", [](R&, const V& v, const A&) { return v.is_string(); }},
    {"true", [](R&, const V& v, const A&) { return v.is_bool() && v.boolean(); }},
    {"undefined", [](R&, const V& v, const A&) { return v.is_undefined(); }},
};
// Other spellings: the operators are for select('>=', 3).
constexpr std::pair<std::string_view, std::string_view> kAliases[] = {
    {"equalto", "eq"}, {"greaterthan", "gt"}, {"lessthan", "lt"}, {"==", "eq"}, {"!=", "ne"},
    {"<", "lt"},       {"<=", "le"},          {">", "gt"},        {">=", "ge"}};

}  // namespace

bool Test::apply(Runtime& runtime, const Value& input, const Args& args) const {
  if (!takes_other && !(args.positional.empty() && args.named.empty()))
    raise("the test '", name, "' takes no argument");
  return function(runtime, input, args);
}

const Test* find_test(std::string_view name) {
  for (const auto& [alias, meant] : kAliases)
    if (name == alias) name = meant;
  const auto* found = std::find_if(std::begin(kTests), std::end(kTests),
                                   [&](const Test& test) { return test.name == name; });
  return found == std::end(kTests) ? nullptr : found;
}

std::vector<std::string_view> test_names() {
  std::vector<std::string_view> names;
  for (const Test& test : kTests) names.push_back(test.name);
  return names;
}

}  // namespace ft::jinja
