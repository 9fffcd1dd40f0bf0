// data.columns and the keys of rows: renaming, and errors that say which key is not there.
#pragma once

#include <string>
#include <vector>

#include "data/formats.h"

namespace ft {

/// The row under our names: {ours: theirs} moves theirs to ours.
Row rename_columns(const Row& row, const DataConfig& config);

/// Error (usage) when data.columns names a key that no format has, or a column that no row has.
void check_columns(const Rows& rows, const DataConfig& config);

/// Error (input) when a renamed row lacks a required key of the format.
void check_keys(const Row& row, const Format& format, const DataConfig& config);

/// Keys of a row, for messages: at most ten.
std::string list_keys(const Json& row);

}  // namespace ft
