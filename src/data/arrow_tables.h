// Table files -> rows, through Arrow C++, whose headers stay inside arrow_tables.cpp.
#pragma once

#include <string>
#include <vector>

#include "data/rows.h"

namespace ft {

/// A CSV or TSV file with a header line. Every cell is a string as it stands in the file: numbers
/// keep their digits, empty cells are empty strings. Error (input) with file and line.
std::vector<Row> read_delimited(const std::string& file, char delimiter);

/// A Parquet file: scalars, strings, lists, structs and maps become Json. Null cells and null
/// members of structs are left out: the format cannot tell them from absent ones.
std::vector<Row> read_parquet(const std::string& file);

}  // namespace ft
