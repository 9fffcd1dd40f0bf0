// Rows -> documents that fit into max_length and have something to train on. Nothing is left out
// without being counted (DataCounts), and data without any trained token is an error: a run over it
// would report a loss of 0 and succeed.
#include "data/dataset.h"

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "base/names.h"
#include "data/columns.h"
#include "data/formats.h"

namespace ft {
namespace {

const Format& format_named(const std::string& name) {
  if (const Format* format = find(formats(), name)) return *format;
  std::vector<std::string_view> names;
  for (const Format& format : formats()) names.push_back(format.name);
  fail_usage("data.format: unknown value \"", printable(name), "\"", did_you_mean(name, names),
             ", auto or one of ", join(names), " is wanted");
}

void check_ids(const Example& example, const DataContext& context, const std::string& where) {
  if (context.vocab_size <= 0) return;
  for (const int32_t id : example.ids)
    if (id < 0 || id >= context.vocab_size)
      fail_input(where, ": the tokenizer gives id ", id, ", the model's vocabulary ends at ",
                 context.vocab_size - 1, "; model and tokenizer files do not belong together");
}

Document make_checked(const Row& row, const Format& format, const DocumentMaker& maker) {
  const Row renamed = rename_columns(row, maker.context.config);
  check_keys(renamed, format, maker.context.config);
  Document document = format.make(renamed, maker);
  check_ids(document.example, maker.context, row.where);
  if (maker.context.keep_texts) return document;
  Document bare;
  bare.example = std::move(document.example);
  return bare;
}

int64_t num_targets(const Example& example) {
  return std::count_if(example.labels.begin(), example.labels.end(),
                       [](int32_t label) { return label != kIgnore; });
}

/// Tokens [begin, end) as a document of its own: nothing predicts its first token. The text is cut
/// along with them; what samples start from goes with the first piece.
Document piece_of(const Document& whole, size_t begin, size_t end) {
  const auto slice = [&](const auto& list) {
    const auto at = list.begin();
    return std::decay_t<decltype(list)>(at + static_cast<ptrdiff_t>(begin),
                                        at + static_cast<ptrdiff_t>(end));
  };
  Document piece;
  piece.example = {slice(whole.example.ids), slice(whole.example.labels)};
  piece.example.labels[0] = kIgnore;
  if (!whole.offsets.empty()) {
    piece.offsets = slice(whole.offsets);
    const size_t first = piece.offsets[0].begin;
    size_t last = first;
    for (const Span& span : piece.offsets) last = std::max(last, span.end);
    piece.rendered = whole.rendered.substr(first, last - first);
    for (Span& span : piece.offsets)
      span = {std::max(span.begin, first) - first, std::max(span.end, first) - first};
  }
  if (begin == 0) {
    piece.prompt_messages = whole.prompt_messages;
    piece.prompt = whole.prompt;
    piece.reference = whole.reference;
  }
  return piece;
}

/// data.overflow: one document becomes none, itself, or several.
std::vector<Document> fit_length(Document document, const DataConfig& config, DataCounts& counts) {
  const size_t length = document.example.ids.size();
  const auto limit = static_cast<size_t>(config.max_length);
  std::vector<Document> out;
  if (length <= limit) {
    out.push_back(std::move(document));
  } else if (config.overflow == "drop") {
    ++counts.dropped;
    counts.tokens_lost += static_cast<int64_t>(length);
  } else if (config.overflow == "split") {
    ++counts.split;
    for (size_t begin = 0; begin < length; begin += limit)
      out.push_back(piece_of(document, begin, std::min(begin + limit, length)));
  } else {
    ++counts.truncated;
    counts.tokens_lost += static_cast<int64_t>(length - limit);
    out.push_back(piece_of(document, 0, limit));
  }
  return out;
}

std::string file_of(const std::string& where) {
  return where.substr(0, where.rfind(':'));
}

[[noreturn]] void no_targets_left(const Rows& rows, const DataCounts& counts,
                                  const DataConfig& config) {
  fail_input(file_of(rows[0].where), ": no trainable token in the data: of ", counts.rows, " rows ",
             counts.no_targets, " have no answer to train on within data.max_length ",
             config.max_length, " and ", counts.dropped,
             " are longer and dropped; check data.format, data.max_length, data.overflow and "
             "data.train_on");
}

void check_config(const DataConfig& config, const std::string& format) {
  if (config.max_length < 1) fail_usage("data.max_length: at least 1 is wanted");
  const std::string& overflow = config.overflow;
  if (overflow != "truncate" && overflow != "drop" && overflow != "split")
    fail_usage("data.overflow: unknown value \"", printable(overflow),
               "\", truncate, drop or split is wanted");
  if (config.system_prompt && (format == "text" || format == "tokens"))
    fail_usage("data.system_prompt: the ", format, " format has no conversations to put it into");
}

/// Preference data also fits formats of plain conversations, which would train on rejected answers.
void refuse_preferences(const Row& row) {
  for (const char* key : {"chosen", "rejected", "kto_tag", "label"}) {
    const Json* member = row.value.get_set(key);
    if (member && (std::string_view(key) != "label" || member->is_bool()))
      fail_input(row.where, ": \"", key,
                 "\" marks preference data; set data.format to train on its conversations as they "
                 "stand");
  }
}

}  // namespace

Document make_document(const Row& row, const std::string& format, const DataContext& context) {
  return make_checked(row, format_named(format), DocumentMaker(context));
}

void check_row(const Row& row, const std::string& format, const DataContext& context) {
  check_keys(rename_columns(row, context.config), format_named(format), context.config);
}

std::string detect_format(const Row& first, const DataContext& context) {
  const DataConfig& config = context.config;
  if (config.format != "auto") return std::string(format_named(config.format).name);
  const Row row = rename_columns(first, config);
  std::vector<std::string_view> fitting;
  std::vector<std::string> wanted;
  for (const Format& format : formats()) {
    const bool fits = std::all_of(format.required.begin(), format.required.end(),
                                  [&](std::string_view key) { return row.value.get_set(key); });
    if (fits) fitting.push_back(format.name);
    wanted.push_back(str(format.name, " (", join(format.required), ")"));
  }
  refuse_preferences(row);
  if (fitting.size() == 1) return std::string(fitting[0]);
  if (fitting.size() > 1)
    fail_input(row.where, ": fits several formats (", join(fitting),
               "); say which with data.format");
  fail_input(row.where, ": no data format has the keys ", list_keys(row.value), "; formats are ",
             join({wanted.begin(), wanted.end()}),
             "; rename with data.columns, for example {prompt: question, completion: answer}");
}

void DataCounts::add(const DataCounts& other) {
  for (const auto& [name, member] : kDataCounts) this->*member += other.*member;
}

Dataset make_dataset(const Rows& rows, const DataContext& context, const DatasetOptions& options) {
  if (rows.empty() && !options.is_part) fail_input("data: no rows");
  if (!options.is_part) check_columns(rows, context.config);
  Dataset data;
  data.format = options.format.empty() ? detect_format(rows[0], context) : options.format;
  check_config(context.config, data.format);
  const Format& format = format_named(data.format);
  const DocumentMaker maker(context);
  DataCounts& counts = data.counts;
  const auto is_enough = [&] {
    return options.max_documents &&
           data.documents.size() >= static_cast<size_t>(*options.max_documents);
  };
  for (size_t r = 0; r < rows.size() && !is_enough(); ++r) {
    if (options.before_row) options.before_row();
    ++counts.rows;
    Document whole = make_checked(rows[r], format, maker);
    data.lengths.push_back(static_cast<int64_t>(whole.example.ids.size()));
    for (Document& document : fit_length(std::move(whole), context.config, counts)) {
      const int64_t targets = num_targets(document.example);
      if (targets == 0) ++counts.no_targets;
      if ((targets == 0 && !options.keep_empty) || is_enough()) continue;
      counts.tokens += static_cast<int64_t>(document.example.ids.size());
      counts.targets += targets;
      data.documents.push_back(std::move(document));
      data.row_of.push_back(static_cast<int64_t>(r));
    }
  }
  counts.examples = static_cast<int64_t>(data.documents.size());
  if (counts.targets == 0 && !options.keep_empty && !options.is_part)
    no_targets_left(rows, counts, context.config);
  if (options.keep_empty && counts.truncated + counts.dropped > 0)
    log_warning(file_of(rows[0].where), ": ", counts.truncated, " examples truncated and ",
                counts.dropped, " dropped, longer than data.max_length ", context.config.max_length,
                " (", counts.tokens_lost, " tokens lost)");
  return data;
}

}  // namespace ft
