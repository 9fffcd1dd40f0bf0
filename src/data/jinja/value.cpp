// What Python does with its values: truth, equality, order, membership. Marks in strings are not
// seen. Comparing charges the budget at every element: a list that contains itself twice at each of
// a hundred levels is small in memory and endless to walk.
#include "data/jinja/value.h"

#include <algorithm>
#include <cmath>

#include "data/jinja/text.h"

namespace ft::jinja {
namespace {

int deepest(int so_far, const Value& value) {
  return std::max(so_far, value.depth());
}

int check_depth(int depth) {
  if (depth > kMaxValueDepth) raise("lists and dicts nested deeper than ", kMaxValueDepth);
  return depth;
}

int compare_numbers(const Value& a, const Value& b) {
  if (a.is_int() && b.is_int()) {
    return a.integer() < b.integer() ? -1 : a.integer() > b.integer();
  }
  return a.number() < b.number() ? -1 : a.number() > b.number();
}

}  // namespace

std::optional<Value> Object::attribute(Runtime&, std::string_view) {
  return std::nullopt;
}

Value Object::call(Runtime&, const Args&) {
  raise("'", type_name(), "' object is not callable");
}

Value Value::list(Budget& budget, std::vector<Value> items, Form form) {
  if (items.size() > kMaxItems) raise("a list of more than ", kMaxItems, " elements");
  budget.allocate(sizeof(Seq) + items.size() * sizeof(Value));
  budget.work(1 + items.size());
  Seq seq{std::move(items), form};
  int depth = 0;
  for (const Value& item : seq.items) depth = deepest(depth, item);
  seq.depth = check_depth(depth + 1);
  return std::make_shared<const Seq>(std::move(seq));
}

Value Value::dict(Budget& budget, std::vector<std::pair<Value, Value>> items) {
  budget.allocate(sizeof(Dict) + items.size() * 2 * sizeof(Value));
  budget.work(1 + items.size());
  Dict dict{std::move(items)};
  int depth = 0;
  for (const auto& [key, value] : dict.items) depth = deepest(deepest(depth, key), value);
  dict.depth = check_depth(depth + 1);
  return std::make_shared<const Dict>(std::move(dict));
}

std::string_view Value::type_name() const {
  if (is_none()) return "NoneType";
  if (is_undefined()) return "Undefined";
  if (is_bool()) return "bool";
  if (is_int()) return "int";
  if (is_float()) return "float";
  if (is_string()) return "str";
  if (is_dict()) return "dict";
  if (is_object()) return object()->type_name();
  static constexpr std::string_view kForms[] = {
      "list", "tuple", "range", "generator", "dict_keys", "dict_values", "dict_items"};
  return kForms[static_cast<size_t>(seq().form)];
}

int Value::depth() const {
  return is_seq() ? seq().depth : is_dict() ? dict().depth : 0;
}

const Value* Dict::find(const Value& key, Budget& budget) const {
  for (const auto& [name, value] : items)
    if (equals(name, key, budget)) return &value;
  return nullptr;
}

const Value* Dict::find(std::string_view key, Budget& budget) const {
  budget.work(1 + items.size());
  for (const auto& [name, value] : items) {
    if (!name.is_string()) continue;
    const std::string& text = name.string();
    if (text == key || (has_marks(text) && without_marks(text) == key)) return &value;
  }
  return nullptr;
}

bool truthy(const Value& v) {
  if (v.is_none() || v.is_undefined()) return false;
  if (v.is_int()) return v.integer() != 0;
  if (v.is_float()) return v.number() != 0;
  if (v.is_string()) return !v.string().empty();
  if (v.is_seq()) return v.seq().form == Form::kIterator || !v.seq().items.empty();
  if (v.is_dict()) return !v.dict().items.empty();
  return true;
}

bool equals(const Value& a, const Value& b, Budget& budget) {
  budget.work();
  if (a.is_number() && b.is_number()) {
    if (a.is_int() && b.is_int()) return a.integer() == b.integer();
    return a.number() == b.number();
  }
  if (a.is_string() && b.is_string()) {
    const std::string &x = a.string(), &y = b.string();
    if (x == y) return true;
    budget.scan(x.size() + y.size());
    return (has_marks(x) || has_marks(y)) && without_marks(x) == without_marks(y);
  }
  if (a.is_seq() && b.is_seq()) {
    const Seq &x = a.seq(), &y = b.seq();
    if (&x == &y) return true;
    if (x.form == Form::kIterator || x.form != y.form) return false;
    return std::equal(x.items.begin(), x.items.end(), y.items.begin(), y.items.end(),
                      [&](const Value& i, const Value& j) { return equals(i, j, budget); });
  }
  if (a.is_dict() && b.is_dict()) {
    const Dict &x = a.dict(), &y = b.dict();
    if (x.items.size() != y.items.size()) return false;
    return std::all_of(x.items.begin(), x.items.end(), [&](const auto& member) {
      const Value* other = y.find(member.first, budget);
      return other && equals(member.second, *other, budget);
    });
  }
  if (a.is_object() && b.is_object()) return a.object() == b.object();
  return (a.is_none() && b.is_none()) || (a.is_undefined() && b.is_undefined());
}

int compare(const Value& a, const Value& b, Budget& budget) {
  budget.work();
  for (const Value* v : {&a, &b})
    if (v->is_undefined()) raise(v->undefined_message());
  if (a.is_number() && b.is_number()) return compare_numbers(a, b);
  if (a.is_string() && b.is_string()) {
    budget.scan(std::min(a.string().size(), b.string().size()));
    const Text x(a.string()), y(b.string());  // the bytes of UTF-8 are in the order of code points
    return x.plain().compare(y.plain());
  }
  raise("no order between instances of '", a.type_name(), "' and '", b.type_name(), "'");
}

std::shared_ptr<const Seq> iterate(const Value& v, Budget& budget) {
  std::vector<Value> items;
  if (v.is_seq()) {
    const Seq& seq = v.seq();
    if (seq.form != Form::kIterator) return v.shared_seq();
    items.assign(seq.items.begin() + static_cast<std::ptrdiff_t>(seq.next), seq.items.end());
    seq.next = seq.items.size();
  } else if (v.is_string()) {
    const Text text(v.string());
    const std::string_view plain = text.plain();
    if (num_points(plain) > kMaxItems) raise("a list of more than ", kMaxItems, " elements");
    budget.work(plain.size());
    budget.allocate(plain.size() * 64);  // a shared string each, before list() counts them
    for (size_t at = 0, end; at < plain.size(); at = end) {
      end = std::min(at + width(plain[at]), plain.size());
      items.emplace_back(has_marks(v.string()) ? text.cut(at, end)
                                               : std::string(plain.substr(at, end - at)));
    }
  } else if (v.is_dict()) {
    for (const auto& member : v.dict().items) items.push_back(member.first);
  } else if (!v.is_undefined()) {
    raise("'", v.type_name(), "' object is not iterable");
  }
  return Value::list(budget, std::move(items)).shared_seq();
}

size_t length(const Value& v, Budget& budget) {
  if (v.is_undefined()) return 0;
  if (v.is_string()) {
    budget.scan(v.string().size());
    return num_points(Text(v.string()).plain());
  }
  if (v.is_dict()) return v.dict().items.size();
  if (v.is_seq() && v.seq().form != Form::kIterator) return v.seq().items.size();
  raise("object of type '", v.type_name(), "' has no len()");
}

bool contains(const Value& container, const Value& item, Budget& budget) {
  if (container.is_string()) {
    if (!item.is_string())
      raise("'in <string>' requires string as left operand, not ", item.type_name());
    budget.scan(container.string().size() + item.string().size());
    return find_text(Text(container.string()).plain(), Text(item.string()).plain()) !=
           std::string_view::npos;
  }
  if (container.is_dict()) {
    if (item.is_dict() || (item.is_seq() && item.seq().form == Form::kList))
      raise("unhashable type: '", item.type_name(), "'");
    return container.dict().find(item, budget) != nullptr;
  }
  if (!container.is_seq() && !container.is_undefined())
    raise("argument of type '", container.type_name(), "' is not iterable");
  const auto items = iterate(container, budget);
  return std::any_of(items->items.begin(), items->items.end(),
                     [&](const Value& v) { return equals(v, item, budget); });
}

}  // namespace ft::jinja
