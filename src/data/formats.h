// Dataset formats: what a row must hold and how it becomes a Document. The TABLE is formats.cpp.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace ft {

/// What making documents needs, prepared once for all rows.
struct DocumentMaker {
  explicit DocumentMaker(const DataContext& data_context);
  const DataContext& context;
  std::vector<std::string> special_texts;
  /// The tokenizer; Error (input) when the model folder has none.
  const Tokenizer& tokenizer() const;
};

/// The row has all required keys, under our names.
using MakeDocument = Document (*)(const Row& row, const DocumentMaker& maker);

struct Format {
  std::string_view name;
  std::string_view help;
  std::vector<std::string_view> required;
  std::vector<std::string_view> optional;
  MakeDocument make;
};

std::span<const Format> formats();

// One file each under formats/.
Document make_messages(const Row& row, const DocumentMaker& maker);
Document make_sharegpt(const Row& row, const DocumentMaker& maker);
Document make_prompt_completion(const Row& row, const DocumentMaker& maker);
Document make_alpaca(const Row& row, const DocumentMaker& maker);
Document make_text(const Row& row, const DocumentMaker& maker);
Document make_tokens(const Row& row, const DocumentMaker& maker);

/// The string under a required key. Error (input) with row.where when it is something else.
const std::string& text_member(const Row& row, std::string_view key);
/// The list under `key`, given as such or as a string of JSON (CSV has nothing else); nullopt when
/// absent, null or an empty string.
std::optional<Json> list_member(const Row& row, std::string_view key);

}  // namespace ft
