// Data files as numbered rows: container (JSON Lines, JSON, CSV, TSV, Parquet) -> rows.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"

namespace ft {

/// A row of a data file as it stood there.
struct Row {
  Json value;         ///< an object
  std::string where;  ///< "file:line" (or "file: row n"), for messages
};

/// The rows of files, or some of them. JSON Lines stay in their files and are parsed when they are
/// asked for; other containers are held. Copies share; reading is safe from several threads.
class Rows {
 public:
  Rows() = default;
  /// All rows of all files in order. Error (input) names file and line of what is wrong.
  explicit Rows(const std::vector<std::string>& files);

  size_t size() const;
  bool empty() const { return size() == 0; }
  /// Error (input) when what stands there is not a JSON object.
  Row operator[](size_t i) const;
  /// The size of the row's text, in tables about.
  size_t bytes(size_t i) const;
  /// Rows of these, by number.
  Rows pick(std::vector<uint32_t> chosen) const;
  /// For each file its name, its size and a sum over its first and last MB and where its rows
  /// begin: another file, or a changed one, has other values.
  Json fingerprint() const;

 private:
  struct Files;
  std::shared_ptr<const Files> files_;
  std::optional<std::vector<uint32_t>> chosen_;
};

/// All rows of all files, parsed.
std::vector<Row> read_rows(const std::vector<std::string>& files);

}  // namespace ft
