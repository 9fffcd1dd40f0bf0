// Containers of rows: JSON Lines and JSON here, tables in arrow_tables.cpp. Nothing is guessed
// about the columns: a row keeps the keys and the nesting it has in its file. A JSON array is cut
// into its elements by a scan that knows strings and brackets only, and each element is parsed by
// itself: every row knows its line, and no second copy of the file is built.
#include <array>
#include <cctype>

#include "base/error.h"
#include "base/files.h"
#include "base/names.h"
#include "data/arrow_tables.h"
#include "data/dataset.h"

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

bool is_blank(std::string_view text) {
  for (const char c : text)
    if (!is_space(c)) return false;
  return true;
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

std::vector<Row> lines_of(std::string_view text, const std::string& file) {
  std::vector<Row> rows;
  for (int64_t line = 1; !text.empty(); ++line) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view here = text.substr(0, end);
    if (!is_blank(here)) rows.push_back(make_row(here, str(file, ":", line)));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return rows;
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

std::vector<Row> read_json_lines(const std::string& file) {
  const std::string text = read_file(file);
  return lines_of(without_bom(text, file), file);
}

/// An array of objects; a file that begins with an object is read as JSON Lines, which is what many
/// tools write under this name.
std::vector<Row> read_json_rows(const std::string& file) {
  const std::string text = read_file(file);
  const std::string_view content = without_bom(text, file);
  const size_t first = content.find_first_not_of(" \t\r\n");
  if (first == std::string_view::npos) return {};
  return content[first] == '[' ? elements_of(content, file) : lines_of(content, file);
}

std::vector<Row> read_csv(const std::string& file) {
  return read_delimited(file, ',');
}

std::vector<Row> read_tsv(const std::string& file) {
  return read_delimited(file, '\t');
}

struct Container {
  std::string_view name;  ///< the ending of the file
  std::vector<Row> (*read)(const std::string& file);
};

constexpr std::array<Container, 5> kContainers = {{{".jsonl", read_json_lines},
                                                   {".json", read_json_rows},
                                                   {".csv", read_csv},
                                                   {".tsv", read_tsv},
                                                   {".parquet", read_parquet}}};

}  // namespace

std::vector<Row> read_rows(const std::vector<std::string>& files) {
  std::vector<Row> all;
  for (const std::string& file : files) {
    std::string ending = fs::path(file).extension().string();
    for (char& c : ending) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    const Container* container = find(kContainers, ending);
    if (!container) {
      std::vector<std::string_view> known;
      for (const Container& entry : kContainers) known.push_back(entry.name);
      fail_input(printable(file), ": unknown kind of data file, the name must end in one of ",
                 join(known));
    }
    if (fs::is_directory(file)) fail_input(printable(file), ": a folder, a file is wanted");
    std::vector<Row> rows = container->read(file);
    if (rows.empty()) fail_input(printable(file), ": no rows");
    all.insert(all.end(), std::make_move_iterator(rows.begin()),
               std::make_move_iterator(rows.end()));
  }
  return all;
}

}  // namespace ft
