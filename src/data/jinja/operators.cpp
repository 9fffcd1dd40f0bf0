// Arithmetic as Python does it, on 64-bit integers: what would not fit is an error. Sizes are
// checked before anything is built ('a' * 10**10).
#include <cmath>

#include "data/jinja/builtins.h"

namespace ft::jinja {
namespace {

[[noreturn]] void unsupported(std::string_view op, const Value& a, const Value& b) {
  for (const Value* v : {&a, &b})
    if (v->is_undefined()) raise(v->undefined_message());
  raise("unsupported operand type(s) for ", op, ": '", a.type_name(), "' and '", b.type_name(),
        "'");
}

[[noreturn]] void overflow() {
  raise("an integer is out of range");
}

bool both_int(const Value& a, const Value& b) {
  return a.is_int() && b.is_int();
}

void check_divisor(const Value& b) {
  if (b.number() == 0) raise("division by zero");
}

Value repeat(Runtime& runtime, const std::string& text, int64_t times) {
  const size_t count = times < 0 || text.empty() ? 0 : static_cast<size_t>(times);
  if (count > 0 && count > kMaxText / text.size())
    raise("a text grows beyond ", kMaxText >> 20, " MiB");
  Builder out(runtime.budget);
  for (size_t i = 0; i < count; ++i) out.append(text);
  return out.take();
}

}  // namespace

Value add(Runtime& runtime, const Value& a, const Value& b) {
  if (both_int(a, b)) {
    int64_t sum;
    if (__builtin_add_overflow(a.integer(), b.integer(), &sum)) overflow();
    return sum;
  }
  if (a.is_number() && b.is_number()) return a.number() + b.number();
  if (a.is_string() && b.is_string()) {
    Builder out(runtime.budget);
    out.append(a.string());
    out.append(b.string());
    return out.take();
  }
  if (a.is_seq() && b.is_seq() && a.seq().form <= Form::kTuple && a.seq().form == b.seq().form) {
    std::vector<Value> items = a.seq().items;
    items.insert(items.end(), b.seq().items.begin(), b.seq().items.end());
    return Value::list(runtime.budget, std::move(items), a.seq().form);
  }
  unsupported("+", a, b);
}

Value subtract(const Value& a, const Value& b) {
  if (both_int(a, b)) {
    int64_t difference;
    if (__builtin_sub_overflow(a.integer(), b.integer(), &difference)) overflow();
    return difference;
  }
  if (!a.is_number() || !b.is_number()) unsupported("-", a, b);
  return a.number() - b.number();
}

Value multiply(Runtime& runtime, const Value& a, const Value& b) {
  if (both_int(a, b)) {
    int64_t product;
    if (__builtin_mul_overflow(a.integer(), b.integer(), &product)) overflow();
    return product;
  }
  if (a.is_number() && b.is_number()) return a.number() * b.number();
  if (a.is_string() && b.is_int()) return repeat(runtime, a.string(), b.integer());
  if (a.is_int() && b.is_string()) return repeat(runtime, b.string(), a.integer());
  unsupported("*", a, b);
}

Value divide(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) unsupported("/", a, b);
  check_divisor(b);
  return a.number() / b.number();
}

Value floor_divide(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) unsupported("//", a, b);
  check_divisor(b);
  if (!both_int(a, b)) return std::floor(a.number() / b.number());
  const int64_t x = a.integer(), y = b.integer();
  if (x == INT64_MIN && y == -1) overflow();
  return x / y - ((x % y != 0) && ((x < 0) != (y < 0)));
}

Value modulo(const Value& a, const Value& b) {
  if (a.is_string()) raise("the % of a text is not supported, use ~ or '{}'.format()");
  if (!a.is_number() || !b.is_number()) unsupported("%", a, b);
  check_divisor(b);
  // The result has the sign of the divisor.
  if (!both_int(a, b)) {
    const double y = b.number(), r = std::fmod(a.number(), y);
    if (r == 0) return std::copysign(0.0, y);
    return (r < 0) != (y < 0) ? r + y : r;
  }
  const int64_t x = a.integer(), y = b.integer();
  if (y == -1) return int64_t{0};  // INT64_MIN % -1 traps
  const int64_t r = x % y;
  return r != 0 && (r < 0) != (y < 0) ? r + y : r;
}

Value power(const Value& a, const Value& b) {
  if (!a.is_number() || !b.is_number()) unsupported("** or pow()", a, b);
  if (!both_int(a, b) || b.integer() < 0) {
    const double result = std::pow(a.number(), b.number());
    if (!std::isfinite(result)) raise("the result of ** is no finite number");
    return result;
  }
  int64_t base = a.integer(), result = 1;
  for (uint64_t n = static_cast<uint64_t>(b.integer()); n > 0; n >>= 1) {
    if ((n & 1) && __builtin_mul_overflow(result, base, &result)) overflow();
    if (n > 1 && __builtin_mul_overflow(base, base, &base)) overflow();
  }
  return result;
}

Value negate(const Value& a) {
  if (a.is_undefined()) raise(a.undefined_message());
  if (!a.is_number()) raise("bad operand type for unary -: '", a.type_name(), "'");
  if (a.is_float()) return -a.number();
  if (a.integer() == INT64_MIN) overflow();
  return -a.integer();
}

}  // namespace ft::jinja
