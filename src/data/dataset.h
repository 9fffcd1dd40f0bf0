// Rows -> examples: format -> token ids and labels.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"
#include "data/batch.h"
#include "data/chat_template.h"
#include "data/rows.h"
#include "data/tokenizer.h"
#include "finetune/config.h"

namespace ft {

/// What turning rows into examples met, for the report at the start of a run.
struct DataCounts {
  int64_t rows = 0, examples = 0;
  int64_t truncated = 0, dropped = 0, split = 0;  ///< over-long documents, by data.overflow
  int64_t tokens_lost = 0;                        ///< cut off or dropped with them
  int64_t no_targets = 0;                         ///< without any trained token; left out
  int64_t tokens = 0, targets = 0;
  void add(const DataCounts& other);
};

/// The counts by name, as files and reports hold them.
constexpr std::pair<const char*, int64_t DataCounts::*> kDataCounts[] = {
    {"rows", &DataCounts::rows},
    {"examples", &DataCounts::examples},
    {"truncated", &DataCounts::truncated},
    {"dropped", &DataCounts::dropped},
    {"split", &DataCounts::split},
    {"tokens_lost", &DataCounts::tokens_lost},
    {"no_targets", &DataCounts::no_targets},
    {"tokens", &DataCounts::tokens},
    {"target_tokens", &DataCounts::targets}};

/// The parts that rendering needs. `tokenizer` may be null for data in the `tokens` format only.
struct DataContext {
  const DataConfig& config;
  const Tokenizer* tokenizer = nullptr;
  const ChatTemplate* chat_template = nullptr;  ///< null: the model has none
  int64_t vocab_size = 0;                       ///< ids must be below it
  /// Also fill what Document holds besides the example. Off for training data, where it would only
  /// cost memory and time.
  bool keep_texts = true;
  /// For the error where there is no template: what data.chat_template can be.
  std::string fitting_templates = "NAME";
};

/// A row turned into text for a person: the conversation before tokenisation.
struct Document {
  Example example;
  std::string rendered;       ///< empty for the tokens format
  std::vector<Span> offsets;  ///< bytes of `rendered` that each token stands for
  Json prompt_messages;   ///< messages up to the last answer (null when the format has none), for
                          ///< samples
  std::string prompt;     ///< the text a generation would start from
  std::string reference;  ///< the answer the data holds
};

/// Renders, tokenises and labels one row. Error (input) begins with row.where. `format` is a name,
/// never auto.
Document make_document(const Row& row, const std::string& format, const DataContext& context);

/// The format of rows like this one: data.format, or, for auto, what its keys say. Error (input)
/// when none fits.
std::string detect_format(const Row& first, const DataContext& context);

/// Error (input) when the row is not what its format needs, as far as that can be told without
/// rendering it.
void check_row(const Row& row, const std::string& format, const DataContext& context);

struct Dataset {
  std::vector<Document>
      documents;  ///< in input order; over-long and target-less ones already dealt with
  std::vector<int64_t> row_of;   ///< index into the rows, per document
  std::vector<int64_t> lengths;  ///< tokens of each row, before data.overflow
  std::string format;
  DataCounts counts;
};

struct DatasetOptions {
  /// Keep examples without targets (eval --per-example reports them) and never truncate silently.
  bool keep_empty = false;
  /// The rows are some of more: what holds for all of them together is not asked of these.
  bool is_part = false;
  std::string format = {};                    ///< empty: detected
  std::optional<int64_t> max_documents = {};  ///< what comes after them is not looked at
  std::function<void()> before_row = {};      ///< called before each
};
Dataset make_dataset(const Rows& rows, const DataContext& context,
                     const DatasetOptions& options = {});

/// Train and eval rows as the configuration says: own eval files, or a share of the rows after a
/// shuffle with `seed`.
struct SplitRows {
  Rows train, eval;
};
SplitRows read_split(const DataConfig& config, int64_t seed);

}  // namespace ft
