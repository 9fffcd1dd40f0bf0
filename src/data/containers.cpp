// Containers of rows: JSON Lines in line_file.cpp, JSON here, tables in arrow_tables.cpp. Nothing
// is guessed about the columns: a row keeps the keys and the nesting it has in its file. A JSON
// array is cut into its elements by a scan that knows strings and brackets only, and each element
// is parsed by itself: every row knows its line, and no second copy of the file is built.
#include <algorithm>
#include <array>
#include <cctype>
#include <fstream>

#include "base/error.h"
#include "base/files.h"
#include "base/names.h"
#include "data/arrow_tables.h"
#include "data/line_file.h"
#include "data/rows.h"

namespace ft {
namespace {

/// The text of a file without its byte order mark.
std::string_view without_bom(std::string_view text, const std::string& file) {
  if (text.starts_with("\xff\xfe") || text.starts_with("\xfe\xff"))
    fail_input(file, ": UTF-16 text; save the file as UTF-8");
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);
  return text;
}

bool is_space(char c) {
  return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

Row make_row(std::string_view text, std::string where) {
  Json value = parse_json(text, where);
  if (value.is_array())
    fail_input(where,
               ": a list, an object is wanted; a file that is one JSON array is named .json");
  if (!value.is_object())
    fail_input(where, ": an object with named values is wanted, for example {\"text\": \"...\"}");
  return {std::move(value), std::move(where)};
}

/// A place in a JSON text that knows its line.
struct Cursor {
  std::string_view text;
  const std::string& file;
  size_t at = 0;
  int64_t line = 1;

  char peek() const { return at < text.size() ? text[at] : '\0'; }
  void step() {
    if (text[at] == '\n') ++line;
    ++at;
  }
  void skip_space() {
    while (at < text.size() && is_space(text[at])) step();
  }
  [[noreturn]] void wrong(std::string_view what) const { fail_input(file, ":", line, ": ", what); }
  void expect_end() {
    skip_space();
    if (at < text.size()) wrong("text after the end of the JSON array");
  }
};

/// Moves over one value: up to the comma or bracket that ends it. What it holds is for the parser.
void skip_value(Cursor& c) {
  int64_t depth = 0;
  bool in_string = false;
  for (; c.at < c.text.size(); c.step()) {
    const char ch = c.text[c.at];
    if (in_string) {
      if (ch == '\\' && c.at + 1 < c.text.size())
        c.step();
      else if (ch == '"')
        in_string = false;
      continue;
    }
    if (ch == '"') in_string = true;
    if (ch == '[' || ch == '{') ++depth;
    if ((ch == ']' || ch == '}') && depth-- == 0) return;
    if (ch == ',' && depth == 0) return;
  }
}

std::vector<Row> elements_of(std::string_view text, const std::string& file) {
  Cursor c{text, file};
  std::vector<Row> rows;
  c.skip_space();
  c.step();  // [
  for (;;) {
    c.skip_space();
    if (c.peek() == ']' && rows.empty()) break;
    const size_t begin = c.at;
    const int64_t line = c.line;
    skip_value(c);
    rows.push_back(make_row(text.substr(begin, c.at - begin), str(file, ":", line)));
    if (c.peek() == ']') break;
    if (c.peek() != ',') c.wrong("the JSON array ends too early, a ] is wanted");
    c.step();
  }
  c.step();
  c.expect_end();
  return rows;
}

/// The first character of a file that is neither space nor byte order mark; 0 when there is none.
char first_character(const std::string& file) {
  std::ifstream in(file, std::ios::binary);
  char c = 0;
  while (in.get(c) &&
         (is_space(c) || std::string_view("\xef\xbb\xbf").find(c) != std::string::npos))
    c = 0;
  return c;
}

std::vector<Row> read_json_array(const std::string& file) {
  const std::string text = read_file(file);
  return elements_of(without_bom(text, file), file);
}

std::vector<Row> read_csv(const std::string& file) {
  return read_delimited(file, ',');
}

std::vector<Row> read_tsv(const std::string& file) {
  return read_delimited(file, '\t');
}

struct Container {
  std::string_view name;                              ///< the ending of the file
  std::vector<Row> (*read)(const std::string& file);  ///< null: JSON Lines
};

constexpr std::array<Container, 5> kContainers = {{{".jsonl", nullptr},
                                                   {".json", read_json_array},
                                                   {".csv", read_csv},
                                                   {".tsv", read_tsv},
                                                   {".parquet", read_parquet}}};

const Container& container_of(const std::string& file) {
  std::string ending = fs::path(file).extension().string();
  for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const Container* container = find(kContainers, ending);
  if (!container) {
    std::vector<std::string_view> known;
    known.reserve(kContainers.size());
    for (const Container& entry : kContainers) known.push_back(entry.name);
    fail_input(printable(file), ": unknown kind of data file, the name must end in one of ",
               join(known));
  }
  std::error_code unknown;
  const fs::file_status status = fs::status(file, unknown);
  if (fs::is_directory(status)) fail_input(printable(file), ": a folder, a file is wanted");
  if (fs::exists(status) && !fs::is_regular_file(status))  // read more than once
    fail_input(printable(file), ": not a regular file");
  // What many tools write under the name of .json is JSON Lines.
  if (container->read == read_json_array && first_character(file) != '[') return kContainers[0];
  return *container;
}

/// The size of a value as text, without what JSON puts around it.
size_t text_bytes(const Json& value) {
  size_t bytes = 4;
  if (value.is_string()) bytes += value.string().size();
  if (value.is_array())
    for (const Json& item : value.array()) bytes += text_bytes(item);
  if (value.is_object())
    for (const auto& [key, item] : value.object()) bytes += key.size() + text_bytes(item);
  return bytes;
}

/// Adds the first and last MB of a file.
void add_ends(Checksum& sum, const std::string& file, uint64_t size) {
  constexpr uint64_t kEnd = 1 << 20;
  std::ifstream in(file, std::ios::binary);
  std::string end(std::min(size, kEnd), '\0');
  for (const uint64_t at : {uint64_t{0}, size - end.size()}) {
    in.seekg(static_cast<std::streamoff>(at));
    in.read(end.data(), static_cast<std::streamsize>(end.size()));
    sum.add(end.data(), end.size());
  }
}

}  // namespace

struct Rows::Files {
  struct File {
    std::string name;
    size_t begin = 0;                    ///< the number of its first row
    std::vector<Row> held = {};          ///< of other containers than
    std::optional<LineFile> lines = {};  ///< JSON Lines
    size_t size() const { return lines ? lines->size() : held.size(); }
  };
  std::vector<File> files;
  size_t size = 0;

  const File& of(size_t row) const {
    const auto after = std::upper_bound(files.begin(), files.end(), row,
                                        [](size_t r, const File& f) { return r < f.begin; });
    return *(after - 1);
  }
};

Rows::Rows(const std::vector<std::string>& names) {
  const auto all = std::make_shared<Files>();
  for (const std::string& name : names) {
    const Container& container = container_of(name);
    Files::File file{name, all->size};
    if (container.read)
      file.held = container.read(name);
    else
      file.lines.emplace(name);
    if (file.size() == 0) fail_input(printable(name), ": no rows");
    all->size += file.size();
    if (all->size > UINT32_MAX) fail_input(printable(name), ": more than ", UINT32_MAX, " rows");
    all->files.push_back(std::move(file));
  }
  files_ = all;
}

size_t Rows::size() const {
  return chosen_ ? chosen_->size() : files_ ? files_->size : 0;
}

Row Rows::operator[](size_t i) const {
  const size_t row = chosen_ ? (*chosen_)[i] : i;
  const Files::File& file = files_->of(row);
  const size_t own = row - file.begin;
  if (!file.lines) return file.held[own];
  return make_row(file.lines->text(own), str(file.name, ":", file.lines->line(own)));
}

size_t Rows::bytes(size_t i) const {
  const size_t row = chosen_ ? (*chosen_)[i] : i;
  const Files::File& file = files_->of(row);
  const size_t own = row - file.begin;
  return file.lines ? file.lines->bytes(own) : text_bytes(file.held[own].value);
}

Rows Rows::pick(std::vector<uint32_t> chosen) const {
  if (chosen_)
    for (uint32_t& i : chosen) i = (*chosen_)[i];
  Rows picked;
  picked.files_ = files_;
  picked.chosen_ = std::move(chosen);
  return picked;
}

Json Rows::fingerprint() const {
  Json::Array all;
  if (!files_) return all;
  for (const Files::File& file : files_->files) {
    const uint64_t size = fs::file_size(file.name);
    Checksum sum;
    add_ends(sum, file.name, size);
    for (size_t i = 0; i < file.size(); ++i) {
      const uint64_t bytes = file.lines ? file.lines->bytes(i) : i;
      sum.add(reinterpret_cast<const char*>(&bytes), sizeof bytes);
    }
    all.push_back(Json::Object{{"file", file.name}, {"bytes", size}, {"sum", sum.text()}});
  }
  return all;
}

std::vector<Row> read_rows(const std::vector<std::string>& files) {
  const Rows rows(files);
  std::vector<Row> all;
  for (size_t i = 0; i < rows.size(); ++i) all.push_back(rows[i]);
  return all;
}

}  // namespace ft
