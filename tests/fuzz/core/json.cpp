// JSON: what parses must print as JSON that parses to the same.
#include "base/json.h"

#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  const ft::Json value = ft::parse_json(data, "a.json");
  for (const bool ascii : {false, true})
    if (!(ft::parse_json(ft::with_finite_numbers(value).dump(ascii), "again") == value))
      ft::finding("dump does not read back");
}
