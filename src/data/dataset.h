// Data files -> examples: container (JSON Lines, JSON, CSV, TSV, Parquet) -> rows -> format ->
// token ids and labels.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "data/batch.h"
#include "data/chat_template.h"
#include "data/tokenizer.h"
#include "finetune/config.h"

namespace ft {

/// A row of a data file as it stood there.
struct Row {
  Json value;         ///< an object
  std::string where;  ///< "file:line" (or "file: row n"), for messages
};

/// The rows of all files in order. Error (input) names file and line of what is wrong.
std::vector<Row> read_rows(const std::vector<std::string>& files);

/// What turning rows into examples met, for the report at the start of a run.
struct DataCounts {
  int64_t rows = 0, examples = 0;
  int64_t truncated = 0, dropped = 0, split = 0;  ///< over-long documents, by data.overflow
  int64_t tokens_lost = 0;                        ///< cut off or dropped with them
  int64_t no_targets = 0;                         ///< without any trained token; left out
  int64_t tokens = 0, targets = 0;
};

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

/// The format of the rows: data.format, or, for auto, what the first row's keys say. Error (input)
/// when none fits.
std::string detect_format(const std::vector<Row>& rows, const DataContext& context);

struct Dataset {
  std::vector<Document>
      documents;  ///< in input order; over-long and target-less ones already dealt with
  std::vector<int64_t> row_of;   ///< index into the rows, per document
  std::vector<int64_t> lengths;  ///< tokens of each row, before data.overflow
  std::string format;
  DataCounts counts;
};

/// `keep_empty`: keep examples without targets (eval --per-example reports them) and never truncate
/// silently.
Dataset make_dataset(const std::vector<Row>& rows, const DataContext& context,
                     bool keep_empty = false);

/// Train and eval rows as the configuration says: own eval files, or a share of the rows after a
/// shuffle with `seed`.
struct SplitRows {
  std::vector<Row> train, eval;
};
SplitRows read_split(const DataConfig& config, int64_t seed);

}  // namespace ft
