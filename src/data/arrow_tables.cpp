// CSV, TSV and Parquet through Arrow C++; the only file that includes Arrow.
// CSV: type inference is off, because a number that is read and written again is another text
// (1.0, 007, 1e5). Arrow numbers records, people look for lines, and a quoted cell may hold
// newlines: a small scan of the quotes finds the line each record begins on.
// Parquet: files are checked as untrusted (page checksums, ValidateFull: offsets and UTF-8).
// Format: https://parquet.apache.org/docs/file-format/, CSV: RFC 4180.
#include "data/arrow_tables.h"

#include <arrow/api.h>
#include <arrow/csv/api.h>
#include <arrow/io/api.h>
#include <arrow/util/float16.h>
#include <arrow/util/utf8.h>
#include <parquet/arrow/reader.h>
#include <parquet/exception.h>

#include <algorithm>
#include <limits>

#include "base/error.h"
#include "base/files.h"

namespace ft {
namespace {

constexpr int kMaxDepth = 64;  // of nested Parquet columns, as base/json.h has for JSON

/// Arrow's own words may end in newlines and follow ours.
[[noreturn]] void fail_reading(const std::string& file, std::string_view reason) {
  while (!reason.empty() && (reason.back() == '\n' || reason.back() == '.'))
    reason.remove_suffix(1);
  fail_input(file, ": damaged, or not of the kind that its name says: ", printable(reason));
}

[[noreturn]] void fail_arrow(const std::string& file, const arrow::Status& status) {
  fail_reading(file, status.message());
}

template <typename T>
T value_of(arrow::Result<T> result, const std::string& file) {
  if (!result.ok()) fail_arrow(file, result.status());
  return std::move(result).ValueUnsafe();
}

// ---- CSV ----

/// Line (from 1) on which each record begins; lines without any character are no records, as Arrow
/// has it. A quote opens a quoted cell only at the start of a cell. Error (input) for one that
/// never ends: Arrow would take the rest of the file as its text.
std::vector<int64_t> record_lines(std::string_view text, char delimiter, const std::string& file) {
  std::vector<int64_t> lines;
  int64_t line = 1, started = 1;
  bool quoted = false, quoted_cell = false, cell_start = true, empty = true;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    const bool ends_line =
        c == '\n' || (c == '\r' && !(i + 1 < text.size() && text[i + 1] == '\n'));
    if (ends_line) ++line;
    if (quoted) {
      if (c == '"') quoted = false;  // the second of a doubled quote opens it again below
    } else if (c == '"' && (cell_start || (quoted_cell && text[i - 1] == '"'))) {
      quoted = quoted_cell = true;
    } else if (ends_line) {
      if (!empty) lines.push_back(started);
      started = line;
      empty = cell_start = true;
      quoted_cell = false;
      continue;
    }
    if (c != '\r' || quoted) {
      empty = false;
      cell_start = !quoted && c == delimiter;
      if (cell_start) quoted_cell = false;
    }
  }
  if (quoted) fail_input(file, ":", started, ": a quoted cell that never ends");
  if (!empty) lines.push_back(started);
  return lines;
}

void check_utf8(std::string_view text, const std::string& file) {
  arrow::util::InitializeUTF8();
  if (arrow::util::ValidateUTF8(text)) return;
  for (int64_t line = 1;; ++line) {
    const std::string_view here = text.substr(0, text.find('\n'));
    if (!arrow::util::ValidateUTF8(here) || here.size() == text.size())
      fail_input(file, ":", line, ": not valid UTF-8; save the file as UTF-8");
    text.remove_prefix(here.size() + 1);
  }
}

/// Cells of one column as views. Column types were asked for, so the array is a StringArray.
const arrow::StringArray& strings(const arrow::RecordBatch& batch, int column) {
  return static_cast<const arrow::StringArray&>(*batch.column(column));
}

std::vector<std::string> column_names(const arrow::Schema& schema, const std::string& file) {
  std::vector<std::string> names = schema.field_names();
  std::vector<std::string> sorted = names;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  if (twice != sorted.end())
    fail_input(file, ":1: two columns are named \"", printable(*twice), "\"");
  return names;
}

/// All columns as strings, record by record on this thread: only then do errors know their record.
arrow::Result<std::shared_ptr<arrow::csv::StreamingReader>> open_csv(
    const std::string& text, const arrow::csv::ParseOptions& parse) {
  auto convert = arrow::csv::ConvertOptions::Defaults();
  convert.default_column_type = arrow::utf8();
  convert.check_utf8 = false;  // done before, with the line
  auto read = arrow::csv::ReadOptions::Defaults();
  read.use_threads = false;
  // A record must fit into a block: one block when the file allows it.
  read.block_size = static_cast<int32_t>(
      std::clamp<size_t>(text.size() + 1, 1 << 20, std::numeric_limits<int32_t>::max() / 2));
  // Not copied: `text` outlives the reader.
  const auto source = std::make_shared<arrow::io::BufferReader>(
      std::make_shared<arrow::Buffer>(std::string_view(text)));
  return arrow::csv::StreamingReader::Make(arrow::io::default_io_context(), source, read, parse,
                                           convert);
}

// ---- Parquet ----

Json cell(const arrow::Array& array, int64_t i, int depth);

Json list_cell(const arrow::Array& values, int64_t begin, int64_t end, int depth) {
  Json::Array items;
  for (int64_t k = begin; k < end; ++k) items.push_back(cell(values, k, depth));
  return items;
}

Json struct_cell(const arrow::StructArray& array, int64_t i, int depth) {
  Json::Object members;
  for (int f = 0; f < array.num_fields(); ++f) {
    Json member = cell(*array.field(f), i, depth);
    if (!member.is_null()) members.emplace_back(array.type()->field(f)->name(), std::move(member));
  }
  return members;
}

/// An object when the keys are strings, else a list of {key, value}.
Json map_cell(const arrow::MapArray& array, int64_t i, int depth) {
  Json object{Json::Object{}};
  Json::Array pairs;
  for (int64_t k = array.value_offset(i); k < array.value_offset(i + 1); ++k) {
    Json key = cell(*array.keys(), k, depth);
    Json value = cell(*array.items(), k, depth);
    if (key.is_string()) {
      object.set(key.string(), std::move(value));
    } else {
      pairs.push_back(Json::Object{{"key", std::move(key)}, {"value", std::move(value)}});
    }
  }
  return pairs.empty() ? object : Json(std::move(pairs));
}

/// Bytes that are no text (pictures) count as absent: nothing here can train on them.
Json text_cell(std::string_view bytes) {
  return arrow::util::ValidateUTF8(bytes) ? Json(bytes) : Json();
}

Json cell(const arrow::Array& array, int64_t i, int depth) {
  using arrow::Type;
  if (depth > kMaxDepth) fail_input("columns nested deeper than ", kMaxDepth, " levels");
  if (array.IsNull(i)) return {};
  const auto as = [&]<typename A>(A*) -> const A& { return static_cast<const A&>(array); };
#define FT_AS(type) as(static_cast<arrow::type*>(nullptr))
  switch (array.type_id()) {
    case Type::BOOL:
      return FT_AS(BooleanArray).Value(i);
    case Type::INT8:
      return static_cast<int64_t>(FT_AS(Int8Array).Value(i));
    case Type::INT16:
      return static_cast<int64_t>(FT_AS(Int16Array).Value(i));
    case Type::INT32:
      return static_cast<int64_t>(FT_AS(Int32Array).Value(i));
    case Type::INT64:
      return static_cast<int64_t>(FT_AS(Int64Array).Value(i));
    case Type::UINT8:
      return static_cast<int64_t>(FT_AS(UInt8Array).Value(i));
    case Type::UINT16:
      return static_cast<int64_t>(FT_AS(UInt16Array).Value(i));
    case Type::UINT32:
      return static_cast<int64_t>(FT_AS(UInt32Array).Value(i));
    case Type::UINT64: {
      const uint64_t v = FT_AS(UInt64Array).Value(i);
      if (v > static_cast<uint64_t>(INT64_MAX)) return static_cast<double>(v);
      return static_cast<int64_t>(v);
    }
    case Type::HALF_FLOAT:
      return arrow::util::Float16::FromBits(FT_AS(HalfFloatArray).Value(i)).ToDouble();
    case Type::FLOAT:
      return static_cast<double>(FT_AS(FloatArray).Value(i));
    case Type::DOUBLE:
      return FT_AS(DoubleArray).Value(i);
    case Type::STRING:
      return text_cell(FT_AS(StringArray).GetView(i));
    case Type::LARGE_STRING:
      return text_cell(FT_AS(LargeStringArray).GetView(i));
    case Type::STRING_VIEW:
      return text_cell(FT_AS(StringViewArray).GetView(i));
    case Type::BINARY:
      return text_cell(FT_AS(BinaryArray).GetView(i));
    case Type::LARGE_BINARY:
      return text_cell(FT_AS(LargeBinaryArray).GetView(i));
    case Type::LIST: {
      const auto& list = FT_AS(ListArray);
      return list_cell(*list.values(), list.value_offset(i), list.value_offset(i + 1), depth + 1);
    }
    case Type::LARGE_LIST: {
      const auto& list = FT_AS(LargeListArray);
      return list_cell(*list.values(), list.value_offset(i), list.value_offset(i + 1), depth + 1);
    }
    case Type::FIXED_SIZE_LIST: {
      const auto& list = FT_AS(FixedSizeListArray);
      return list_cell(*list.values(), list.value_offset(i), list.value_offset(i + 1), depth + 1);
    }
    case Type::STRUCT:
      return struct_cell(FT_AS(StructArray), i, depth + 1);
    case Type::MAP:
      return map_cell(FT_AS(MapArray), i, depth + 1);
    case Type::DICTIONARY: {
      const auto& coded = FT_AS(DictionaryArray);
      return cell(*coded.dictionary(), coded.GetValueIndex(i), depth + 1);
    }
    case Type::EXTENSION:
      return cell(*FT_AS(ExtensionArray).storage(), i, depth + 1);
    default: {  // dates, times, decimals: as Arrow prints them
      const auto scalar = array.GetScalar(i);
      return scalar.ok() ? text_cell((*scalar)->ToString()) : Json();
    }
  }
#undef FT_AS
}

std::unique_ptr<parquet::arrow::FileReader> open_parquet(const std::string& file) {
  parquet::ReaderProperties properties = parquet::default_reader_properties();
  properties.set_page_checksum_verification(true);
  parquet::ArrowReaderProperties arrow_properties;
  arrow_properties.set_use_threads(false);
  arrow_properties.set_pre_buffer(false);
  arrow_properties.set_batch_size(1024);
  parquet::arrow::FileReaderBuilder builder;
  auto opened = arrow::io::ReadableFile::Open(file);
  if (!opened.ok()) fail_input(file, ": cannot be read: ", printable(opened.status().message()));
  const auto source = std::move(opened).ValueUnsafe();
  const auto status = builder.Open(source, properties);
  if (!status.ok()) fail_arrow(file, status);
  builder.properties(arrow_properties);
  return value_of(builder.Build(), file);
}

std::vector<Row> parquet_rows(const std::string& file) {
  const auto reader = open_parquet(file);
  const auto batches = value_of(reader->GetRecordBatchReader(), file);
  column_names(*batches->schema(), file);
  std::vector<Row> rows;
  for (;;) {
    const auto batch = value_of(batches->Next(), file);
    if (!batch) return rows;
    const auto status = batch->ValidateFull();
    if (!status.ok()) fail_arrow(file, status);
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      Json::Object members;
      for (int c = 0; c < batch->num_columns(); ++c) {
        Json value = cell(*batch->column(c), i, 0);
        if (!value.is_null()) members.emplace_back(batch->column_name(c), std::move(value));
      }
      rows.push_back({Json(std::move(members)), str(file, ": row ", rows.size() + 1)});
    }
  }
}

}  // namespace

std::vector<Row> read_delimited(const std::string& file, char delimiter) {
  const std::string text = read_file(file);
  check_utf8(text, file);
  const std::string_view bom = "\xef\xbb\xbf";
  const std::vector<int64_t> lines = record_lines(
      std::string_view(text).substr(text.starts_with(bom) ? bom.size() : 0), delimiter, file);
  if (lines.size() < 2) fail_input(file, ": no rows, a header line and rows below it are wanted");

  std::string ragged;  // what the first record with too few or too many cells is
  auto parse = arrow::csv::ParseOptions::Defaults();
  parse.delimiter = delimiter;
  parse.newlines_in_values = true;
  parse.invalid_row_handler = [&](const arrow::csv::InvalidRow& row) {
    const auto number = static_cast<size_t>(row.number);
    ragged = str(file, row.number > 0 && number <= lines.size() ? str(":", lines[number - 1]) : "",
                 ": ", row.actual_columns, " cells, the header names ", row.expected_columns,
                 "; a cell that holds the separator or a newline needs quotes");
    return arrow::csv::InvalidRowResult::Error;
  };
  auto opened = open_csv(text, parse);
  if (!ragged.empty()) fail_input(ragged);
  const auto table = value_of(std::move(opened), file);
  const std::vector<std::string> names = column_names(*table->schema(), file);

  std::vector<Row> rows;
  for (;;) {
    auto next = table->Next();
    if (!ragged.empty()) fail_input(ragged);
    const auto batch = value_of(std::move(next), file);
    if (!batch) return rows;
    for (int64_t i = 0; i < batch->num_rows(); ++i) {
      Json::Object members;
      for (int c = 0; c < batch->num_columns(); ++c)
        members.emplace_back(names[static_cast<size_t>(c)], strings(*batch, c).GetView(i));
      const size_t n = rows.size() + 1;
      rows.push_back({Json(std::move(members)),
                      n < lines.size() ? str(file, ":", lines[n]) : str(file, ": row ", n)});
    }
  }
}

std::vector<Row> read_parquet(const std::string& file) {
  try {
    return parquet_rows(file);
  } catch (const parquet::ParquetException& e) {
    fail_reading(file, e.what());
  }
}

}  // namespace ft
