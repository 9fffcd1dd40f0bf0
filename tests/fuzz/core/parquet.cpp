// Parquet: footer, pages and types.
#include "data/dataset.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  for (const ft::Row& row : ft::read_rows({ft::fuzz_file("d.parquet", data).string()}))
    if (!row.value.is_object() || row.where.empty()) ft::finding("a row that is none");
}
