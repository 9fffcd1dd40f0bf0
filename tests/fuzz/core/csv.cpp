// CSV and TSV: rows, and the documents made of them.
#include "data/dataset.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  if (data.empty()) return;
  const std::string name = data[0] % 2 ? "d.csv" : "d.tsv";
  for (const ft::Row& row : ft::read_rows({ft::fuzz_file(name, data.substr(1)).string()}))
    if (!row.value.is_object() || row.where.empty()) ft::finding("a row that is none");
}
