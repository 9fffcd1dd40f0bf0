// `finetune inspect`: the data as the model will see it, computed apart from how it is shown.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "data/window.h"

namespace ft {

/// A token of a shown document.
struct ShownToken {
  int32_t id;
  std::string piece;  ///< as the vocabulary spells it; empty without a tokenizer
  std::string text;   ///< what it stands for in the text
  bool is_trained;
};

struct ShownDocument {
  std::string where;  ///< file and line of its row
  std::vector<ShownToken> tokens;
  int64_t num_targets = 0;
};

/// Documents with low <= tokens < high, before data.overflow.
struct LengthBin {
  int64_t low, high, count;
};

struct Inspection {
  int64_t num_windows = 1;  ///< what follows, but for steps, is of the first
  std::string format;
  DataCounts train, eval;  ///< eval: all zero without eval data
  std::vector<ShownDocument> documents;

  bool is_packed = false;
  int64_t num_rows = 0, steps_per_epoch = 0, num_steps = 0, max_length = 0;
  double occupancy = 0;  ///< of num_rows * max_length, from 0 to 1
  int64_t most_documents_in_a_row = 0;
  std::vector<std::vector<int64_t>> first_rows;  ///< document lengths of the first rows

  int64_t shortest = 0, median = 0, percentile_90 = 0, longest = 0;
  std::vector<LengthBin> histogram;
};

/// `data` made with keep_texts of the first window of `cut`; `eval` and `tokenizer` may be null.
/// Shows the first `num_shown` documents.
Inspection inspect_data(const RunConfig& config, WindowCut& cut, const Dataset& data,
                        const Dataset* eval, const Tokenizer* tokenizer, int64_t num_shown);

/// One document for `--json`.
Json inspection_json(const Inspection& inspection);

/// For a person. Trained text stands between {+ and +}, or is green when `color` is on.
std::string inspection_text(const Inspection& inspection, bool color);

}  // namespace ft
