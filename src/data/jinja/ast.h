// The parsed template: two kinds of nodes, expressions and statements, as the parser builds them
// and the interpreter walks them. Names of variables are numbers into Ast::names.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "data/jinja/value.h"

namespace ft::jinja {

struct Filter;
struct Test;
struct Expr;
struct Stmt;
using ExprPtr = std::unique_ptr<Expr>;
using Body = std::vector<std::unique_ptr<Stmt>>;

enum class ExprKind : char {
  kConst,      // value
  kName,       // name
  kList,       // items
  kTuple,      // items
  kDict,       // items: key, value, key, value, ...
  kUnary,      // op (- or +), items[0]
  kNot,        // items[0]
  kAnd,        // items[0], items[1]
  kOr,         //
  kBinary,     // op, items[0], items[1]
  kConcat,     // items joined by ~
  kCompare,    // items[0] ops[0] items[1] ops[1] ...
  kCondition,  // items: test, then, else (may be null)
  kAttribute,  // items[0].text
  kItem,       // items[0][items[1]]
  kSlice,      // items[0][items[1]:items[2]:items[3]], each but the first may be null
  kCall,       // items[0](items[1..], named)
  kFilter,     // items[0] | filter(...)
  kTest,       // items[0] is test(...)
};

enum class Op : char { kAdd, kSub, kMul, kDiv, kFloorDiv, kMod, kPow };
enum class Relation : char { kEq, kNe, kLt, kLe, kGt, kGe, kIn, kNotIn };

struct Expr {
  ExprKind kind;
  int line = 0;
  int height = 1;
  int name = -1;
  Op op = Op::kAdd;
  Value value;
  std::string text;
  std::vector<Relation> relations;
  std::vector<ExprPtr> items;
  std::vector<std::pair<std::string, ExprPtr>> named;
  const Filter* filter = nullptr;
  const Test* test = nullptr;
};

enum class StmtKind : char {
  kText,
  kOutput,
  kIf,
  kFor,
  kSet,
  kSetBlock,
  kMacro,
  kGeneration,
  kBreak,
  kContinue,
};

/// Arguments of a macro.
struct MacroShape {
  std::string name;
  std::vector<int> parameters;
  std::vector<std::string> parameter_names;
  std::vector<ExprPtr> defaults;  ///< of the last parameters
};

struct Stmt {
  StmtKind kind;
  int line = 0;
  std::string text;   // kText
  ExprPtr target;     // kFor, kSet, kSetBlock: a name, a tuple, or namespace.attribute
  ExprPtr expr;       // the value, the condition, the iterated, the call, the filter
  ExprPtr condition;  // kFor: `if`
  std::vector<std::pair<ExprPtr, Body>> branches;  // kIf
  Body body, otherwise;
  MacroShape macro;
};

struct Ast {
  std::string name;  ///< for messages
  Body body;
  std::vector<std::string> names;
  bool has_generation = false;
  int loop = -1;  ///< number of this name, if used
};

}  // namespace ft::jinja
