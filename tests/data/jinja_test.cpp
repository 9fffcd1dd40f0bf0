// The template engine against what jinja2 gives (checked against jinja2 3.1 in transformers'
// environment), its error messages, its sandbox and its limits.
#include <gtest/gtest.h>

#include "base/error.h"
#include "data/jinja/template.h"

namespace ft {
namespace {

const Json& variables() {
  static const Json json = parse_json(
      R"({"s": "Hello, World", "u": "h\u00e9llo \u4e2d\u6587 \ud83d\ude00", "n": 42, "f": 3.75,
          "no": null, "l": [3, 1, 2], "ls": ["b", "A", "c"], "empty": "",
          "d": {"b": 1, "a": 2, "items": 5, "x": {"y": [1, {"k": "v"}]}},
          "ms": [{"role": "system", "content": "S", "n": 2}, {"role": "user", "content": "U", "n": 1},
                 {"role": "assistant", "content": "A", "n": 3, "calls": [1]}]})",
      "test");
  return json;
}

std::string render(const std::string& source) {
  return jinja::Template(source, "t").render(variables());
}

std::string error_of(const std::string& source) {
  try {
    return "rendered: " + render(source).substr(0, 200);
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInput);
    return error.what();
  }
}

using Cases = std::vector<std::pair<const char*, const char*>>;

/// Each expression inside {{ }}.
void expect_values(const Cases& cases) {
  for (const auto& [expression, wanted] : cases) {
    SCOPED_TRACE(expression);
    EXPECT_EQ(render("{{ " + std::string(expression) + " }}"), wanted);
  }
}
void expect_texts(const Cases& cases) {
  for (const auto& [source, wanted] : cases) {
    SCOPED_TRACE(source);
    EXPECT_EQ(render(source), wanted);
  }
}
/// The error begins with "t:LINE: " and contains the text.
void expect_errors(const Cases& cases, const std::string& begin = "t:1: ") {
  for (const auto& [source, wanted] : cases) {
    const std::string error = error_of(source);
    EXPECT_TRUE(error.starts_with(begin)) << source << "\n" << error;
    EXPECT_NE(error.find(wanted), std::string::npos) << source << "\n" << error;
  }
}

TEST(Jinja, Operators) {
  expect_values({{"n // 5", "8"},
                 {"-7 // 2", "-4"},
                 {"-7 % 3", "2"},
                 {"7 % -3", "-2"},
                 {"0.0 % -3", "-0.0"},
                 {"-3 % 1.0", "0.0"},
                 {"n / 6", "7.0"},
                 {"2 ** 3 ** 2", "64"},
                 {"-2 ** 2", "4"},
                 {"2 ** -1", "0.5"},
                 {"2 * 3 ~ 4", "64"},
                 {"'a' 'b' \"c\"", "abc"},
                 {"1 < 2 < 3", "True"},
                 {"1 < 3 < 2", "False"},
                 {"1 == 1.0 and true == 1", "True"},
                 {"not 1 in l", "False"},
                 {"5 not in l", "True"},
                 {"'ell' in s", "True"},
                 {"'b' in d", "True"},
                 {"n is not none", "True"},
                 {"'a' is in 'abc'", "True"},
                 {"0 or 5", "5"},
                 {"'' and 5", ""},
                 {"'y' if n > 1 else 'n'", "y"},
                 {"'y' if false", ""},
                 {"'ab' * 2", "abab"},
                 {"[1] + [2]", "[1, 2]"},
                 {"1e16", "1e+16"},
                 {"0.1 + 0.2", "0.30000000000000004"}});
}

TEST(Jinja, SlicesCountCodePoints) {
  expect_values({{"u[::-1]", "\xf0\x9f\x98\x80 \xe6\x96\x87\xe4\xb8\xad oll\xc3\xa9h"},
                 {"u[1:2]", "\xc3\xa9"},
                 {"u[-4:-1]", "\xe4\xb8\xad\xe6\x96\x87 "},
                 {"u[6:0:-2]",
                  "\xe4\xb8\xad"
                  "ol"},
                 {"u|length", "10"},
                 {"u.find('\xe4\xb8\xad')", "6"},
                 {"s[5]", ","},
                 {"s[99]", ""},
                 {"l[:-1]", "[3, 1]"},
                 {"l[::-1]", "[2, 1, 3]"},
                 {"(1, 2, 3)[1:]", "(2, 3)"},
                 {"s[100:]", ""}});
}

TEST(Jinja, PrintsAsPython) {
  expect_values(
      {{"[1, 'a', none, true, 2.0, (1,), {'k': \"it's\"}]",
        "[1, 'a', None, True, 2.0, (1,), {'k': \"it's\"}]"},
       {"['\\n\\x07']", "['\\n\\x07']"},
       {"d.items()|first", "('b', 1)"},
       {"range(3)|list", "[0, 1, 2]"},
       {"d|tojson", "{\"b\": 1, \"a\": 2, \"items\": 5, \"x\": {\"y\": [1, {\"k\": \"v\"}]}}"},
       {"[1, {'a': []}]|tojson(indent=1)", "[\n 1,\n {\n  \"a\": []\n }\n]"},
       {"{'b': 1, 'a': '<\\u00e9'}|tojson(sort_keys=true, separators=(',', ':'))",
        "{\"a\":\"<\xc3\xa9\",\"b\":1}"}});
}

TEST(Jinja, StringMethodsAndFilters) {
  expect_values({{"' a  b '.split()", "['a', 'b']"},
                 {"' a  b '.split(' ')", "['', 'a', '', 'b', '']"},
                 {"'a,b,c'.rsplit(',', 1)", "['a,b', 'c']"},
                 {"'aaaaa'.split('aa')", "['', '', 'a']"},
                 {"'a\\r\\nb\\n'.splitlines()", "['a', 'b']"},
                 {"'xxabxx'.strip('x')", "ab"},
                 {"s.startswith(('x', 'He'))", "True"},
                 {"s.replace('l', 'L', 1)", "HeLlo, World"},
                 {"'ab'.replace('', '-')", "-a-b-"},
                 {"'they\\'re bill-o'|title", "They're Bill-O"},
                 {"'stra\\u00dfe \\u00e9'|upper", "STRASSE \xc3\x89"},
                 {"'{}-{x} {{}} {}|'.format(1, 'b', x={'k': 2})", "1-{'k': 2} {} b|"},
                 {"'a\\n\\nb'|indent(2)", "a\n\n  b"},
                 {"'-'.join(ls)", "b-A-c"},
                 {"'x'|int(7)", "7"},
                 {"' 12 '|int", "12"},
                 {"'-1_000'|int", "-1000"},
                 {"'1__0'|int", "0"},
                 {"'1_0.5'|float", "10.5"},
                 {"2.5|int", "2"},
                 {"'\\u0416\\u03a9\\u0141'|lower|upper", "\xd0\x96\xce\xa9\xc5\x81"},
                 {"'\\u0436\\u03c9\\u0142'|capitalize", "\xd0\x96\xcf\x89\xc5\x82"},
                 {"'<a>'|e", "&lt;a&gt;"}});
}

TEST(Jinja, SequenceFilters) {
  expect_values(
      {{"ms|map(attribute='role')|join(',')", "system,user,assistant"},
       {"ms|selectattr('role', 'equalto', 'user')|map(attribute='content')|list", "['U']"},
       {"ms|rejectattr('calls', 'defined')|list|length", "2"},
       {"l|select('gt', 1)|list", "[3, 2]"},
       {"l|sort(reverse=true)", "[3, 2, 1]"},
       {"ls|sort", "['A', 'b', 'c']"},
       {"ms|sort(attribute='n')|map(attribute='content')|join", "USA"},
       {"{'b': 1, 'a': 2}|dictsort", "[('a', 2), ('b', 1)]"},
       {"'y' if ms|selectattr('role', 'eq', 'x') else 'n'", "y"},
       {"ls|map('replace', 'A', 'z')|list", "['b', 'z', 'c']"}});
}

TEST(Jinja, Undefined) {
  expect_values({{"nope", ""},
                 {"nope is defined", "False"},
                 {"d.nope is undefined", "True"},
                 {"nope|default('x')", "x"},
                 {"no|default('x')", "None"},
                 {"no|default('x', true)", "x"},
                 {"nope|length", "0"},
                 {"'a' ~ nope", "a"},
                 {"not nope", "True"},
                 {"nope == other", "True"}});
  expect_errors({{"{{ nope.x }}", "'nope' is undefined"},
                 {"{{ d.nope.x }}", "'dict object' has no attribute 'nope'"},
                 {"{{ nope + 1 }}", "'nope' is undefined"},
                 {"{{ nope() }}", "'nope' is undefined"},
                 {"{{ nope|tojson }}", "not JSON serializable"}});
}

TEST(Jinja, DotPrefersMethodsBracketsPreferKeys) {
  expect_values({{"d['items']", "5"},
                 {"d.items() | length", "4"},
                 {"d.x.y.1.k", "v"},
                 {"d.get('zz', 9)", "9"},
                 {"d.get('b')", "1"}});
}

TEST(Jinja, Scopes) {
  expect_texts({{"{% set x = 1 %}{% for i in l %}{% set x = i %}{% endfor %}{{ x }}", "1"},
                {"{% set x = 1 %}{% if true %}{% set x = 2 %}{% endif %}{{ x }}", "2"},
                {"{% set ns = namespace(x=0) %}{% for i in l %}{% set ns.x = ns.x + i %}{% endfor "
                 "%}{{ ns.x }}",
                 "6"},
                {"{% macro m(a) %}{{ a }}{{ x }}{% endmacro %}{% set x = 5 %}{{ m(1) }}", "15"},
                {"{% set x %}a{{ n }}{% endset %}{{ x|length }}", "3"},
                {"{% set a, b = 1, 2 %}{{ b }}{{ a }}", "21"}});
}

TEST(Jinja, Loops) {
  expect_texts(
      {{"{% for k, v in {'a': 1}.items() %}{{ k }}={{ v }}{% endfor %}", "a=1"},
       {"{% for i in l if i > 1 %}{{ loop.index }}/{{ loop.length }} {% else %}none{% endfor %}",
        "1/2 2/2 "},
       {"{% for i in [] %}x{% else %}none{% endfor %}", "none"},
       {"{% for i in l %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% endfor %}", "32"},
       {"{% for i in l %}{{ i }}{% break %}{% endfor %}", "3"},
       {"{% for i in l %}{{ loop.previtem }}<{{ i }}>{{ loop.nextitem }}{{ loop.revindex }} "
        "{% endfor %}",
        "<3>13 3<1>22 1<2>1 "},
       {"{% for a, (b, c) in [(1, (2, 3))] %}{{ c }}{{ b }}{{ a }}{% endfor %}", "321"}});
  expect_errors({{"{% for a, b in [1] %}{% endfor %}", "'int' object is not iterable"},
                 {"{% for a, b in [(1,)] %}{% endfor %}", "not enough values to unpack"},
                 {"{% for i in 5 %}{% endfor %}", "'int' object is not iterable"}});
}

TEST(Jinja, Macros) {
  expect_texts(
      {{"{% macro m(a, b=2, c=a) %}[{{ a }}{{ b }}{{ c }}]{% endmacro %}{{ m(1) }}{{ m(1, c=3) }}",
        "[121][123]"},
       {"{% macro f(n) %}{{ n }}{% if n %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(3) }}",
        "3210"}});
  expect_errors({{"{% macro m(a) %}{% endmacro %}{{ m(1, 2) }}", "takes not more than 1 argument"},
                 {"{% macro m(a) %}{% endmacro %}{{ m(b=2) }}", "no keyword argument 'b'"}});
}

TEST(Jinja, WhitespaceControl) {
  expect_texts({{"  {% if true %}  \n  x\n  {% endif %}  \ny", "  \n  x\n  \ny"},
                {"{% if true %}\nx{% endif %}\n\ny", "x\ny"},
                {"a\n  {%- if true -%}  \n x {% endif %}", "ax "},
                {"a\n  {%+ if true %}b{% endif +%}\nc", "a\n  b\nc"},
                {"a {{- 1 -}} b", "a1b"},
                {"a\n  {{ 1 }}\nb\n", "a\n  1\nb"},
                {"  {# c #}  \nx", "  \nx"},
                {"x {#- c -#} \n y", "xy"},
                {"{% raw %}{{ a }}{% endraw %}", "{{ a }}"},
                {"a\r\nb\rc", "a\nb\nc"},
                {"{{ {'a': {'b': 1}}.a.b }}", "1"},
                {"{{ '}}' ~ '%}' }}", "}}%}"}});
}

TEST(Jinja, SyntaxErrorsNameTheLine) {
  expect_errors({{"{{ 1 + }}", "unexpected '}}'"},
                 {"{{ (1 }}", "unexpected '}', expected ')'"},
                 {"{{ 'abc }}", "no closing '"},
                 {"{# abc", "Missing end of comment"},
                 {"{% raw %}", "Missing end of raw"},
                 {"{{ 1", "the template ends inside a tag"},
                 {"{% if true %}", "{% elif %} is missing"},
                 {"{% nope %}", "unknown tag 'nope'"},
                 {"{% fro %}", "did you mean \"for\""},
                 {"{% break %}", "outside loop"},
                 {"{{ s|uper }}", "did you mean \"upper\""},
                 {"{{ s is strong }}", "did you mean \"string\""},
                 {"{% set none = 1 %}", "can't assign to 'none'"},
                 {"{{ 99999999999999999999 }}", "out of range"},
                 {"{% endfor %}", "unknown tag 'endfor'"}});
  expect_errors({{"a\nb\n{{ 1 + }}", "unexpected"},
                 {"a\n{{ s }}\n{{ nope.x }}", "'nope' is undefined"},
                 {"\n\n{{ raise_exception('a\nb') }}", "a b"}},
                "t:3: ");
}

TEST(Jinja, Sandbox) {
  expect_values({{"s.__class__", ""}, {"d.__init__ is defined", "False"}});
  expect_errors({{"{{ s.__class__.__mro__ }}", "unsafe"},
                 {"{{ l.append(1) }}", "access to attribute 'append' of 'list' object is unsafe"},
                 {"{{ d.update({}) }}", "unsafe"},
                 {"{{ d.pop('b') }}", "unsafe"},
                 {"{{ '{0.__class__.x}'.format('a') }}", "only {}, {0} and {name}"},
                 {"{{ ''.join.__globals__.x }}", "unsafe"},
                 {"{{ ({})['__class__']['x'] }}", "unsafe"},
                 {"{% set d.b = 2 %}", "non-namespace"},
                 {"{% set ns = namespace(_a=1) %}", "underscore"},
                 {"{% include 'x' %}", "not supported"},
                 {"{% import 'x' as y %}", "not supported"},
                 {"{% extends 'x' %}", "not supported"},
                 {"{{ open('x') }}", "'open' is undefined"}});
}

TEST(Jinja, WhatNoChatTemplateUsesIsRefused) {
  expect_errors({{"{{ l|groupby('x') }}", "No filter named 'groupby'"},
                 {"{{ l is sameas l }}", "No test named 'sameas'"},
                 {"{{ s.swapcase() }}", "'str object' has no attribute 'swapcase'"},
                 {"{{ '%s' % s }}", "not supported"},
                 {"{{ '{:>3}'.format(s) }}", "only {}, {0} and {name}"},
                 {"{{ range(*l) }}", "not supported"},
                 {"{% for x in l recursive %}{% endfor %}", "not supported"},
                 {"{% call m() %}{% endcall %}", "not supported"},
                 {"{% with a = 1 %}{% endwith %}", "not supported"},
                 {"{% filter upper %}{% endfilter %}", "not supported"},
                 {"{{ cycler(1) }}", "'cycler' is undefined"},
                 {"{{ [1] < [2] }}", "no order between"},
                 {"{{ [1] * 2 }}", "unsupported operand"},
                 {"{{ range(3) }}", "a range has no text"},
                 {"{{ l|tojson(true) }}", "not supported"},
                 {"{{ 0x10 }}", "a number ends with 'x'"}});
}

TEST(Jinja, LimitsOnWorkAndMemory) {
  expect_errors(
      {{"{{ 'a' * 10**10 }}", "16 MiB"},
       {"{% set ns = namespace(x=l) %}{% for i in range(20) %}{% set ns.x = ns.x + ns.x %}"
        "{% endfor %}",
        "1000000 elements"},
       {"{{ range(200000) }}", "Range too big"},
       {"{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "loop steps"},
       {"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "nested too deeply"},
       {"{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(60) }}",
        "loop steps"},
       {"{% set ns = namespace(x='ab') %}{% for i in range(120) %}{% set ns.x = ns.x ~ ns.x %}{% "
        "endfor %}",
        "16 MiB"},
       {"{% set ns = namespace(x=1) %}{% for i in range(999) %}{% set ns.x = [ns.x] %}{% endfor %}",
        "nested deeper"},
       {"{% set ns = namespace(x=1) %}{% for i in range(90) %}{% set ns.x = [ns.x, ns.x] %}{% "
        "endfor %}"
        "{{ ns.x|tojson }}",
        "16 MiB"},
       {"{% set x = 'a' * 16000000 %}{% for i in range(9999) %}{{ 'b' in x }}{% endfor %}",
        "more work"},
       {"{% set x = 'ab' * 8000000 %}{{ range(9999)|map('replace', 1, x)|map('upper')|list }}", ""},
       {"{{ ' '|indent(10**12) }}", "indent"},
       {"{{ [1]|tojson(indent=10**12) }}", "indent"},
       {"{{ ('a' * 16000000)|list }}", ""},
       {"{{ ('a ' * 8000000).split() }}", "1000000 elements"}});
}

TEST(Jinja, LimitsOnNumbers) {
  expect_errors({{"{{ 9223372036854775807 + 1 }}", "out of range"},
                 {"{{ -9223372036854775807 - 2 }}", "out of range"},
                 {"{{ 9223372036854775807 * 2 }}", "out of range"},
                 {"{{ 2 ** 64 }}", "out of range"},
                 {"{{ (-9223372036854775807 - 1) // -1 }}", "out of range"},
                 {"{{ 1 / 0 }}", "division by zero"},
                 {"{{ 1 % 0 }}", "division by zero"},
                 {"{{ n is none[0] }}", "takes no argument"}});
  expect_values({{"(-9223372036854775807 - 1) % -1", "0"},
                 {"[1, 2][::-9223372036854775807]", "[2]"},
                 {"range(9223372036854775800, 9223372036854775807, 5)|list|length", "2"}});
}

TEST(Jinja, DeepSourceIsRefused) {
  const auto times = [](const std::string& part) {
    std::string out;
    for (int i = 0; i < 20000; ++i) out += part;
    return out;
  };
  for (const std::string& source :
       {"{{ " + times("(") + "1" + times(")") + " }}", "{{ " + times("[") + times("]") + " }}",
        "{{ " + times("-") + "1 }}", "{{ " + times("not ") + "1 }}", "{{ a" + times(".b") + " }}",
        "{{ a" + times("[0]") + " }}", "{{ 1" + times(" + 1") + " }}",
        "{{ 1" + times("|int") + " }}", "{{ 1" + times(" if 1 else 1") + " }}", times("{% if 1 %}"),
        times("{% macro a() %}")})
    EXPECT_NE(error_of(source).find("deeper than"), std::string::npos) << source.substr(0, 40);
  EXPECT_EQ(render("{{ 1" + times(" ~ 1") + " }}").size(), 20001u);
}

}  // namespace
}  // namespace ft
