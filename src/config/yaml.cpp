// Reads YAML through the events of yaml-cpp, because its nodes hide what has to be refused:
//   repeated keys          the first one wins, silently
//   a quote never closed   is accepted at the end of the file, so a cut file loads
//   a second document      is ignored
//   << and &anchors        merge keys are not applied; aliases can blow up a small file
//   !tags                  have no effect on us
//   bytes that are not UTF-8 become U+FFFD
// Messages are our own: those of the library name no key and count lines from zero.
#include "config/yaml.h"

#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/exceptions.h>
#include <yaml-cpp/mark.h>
#include <yaml-cpp/parser.h>

#include <algorithm>
#include <map>
#include <optional>
#include <sstream>

#include "base/error.h"

namespace ft {
namespace {

using Mark = YAML::Mark;

/// A configuration has three levels; the limit keeps recursion over nodes shallow.
constexpr size_t kMaxDepth = 16;

struct SyntaxError {
  int line;
  std::string what;
};

/// Bytes of the UTF-8 sequence that begins at `i`, 0 when it is malformed.
size_t utf8_length(std::string_view text, size_t i) {
  const auto byte = [&](size_t k) { return static_cast<unsigned char>(text[k]); };
  const unsigned char lead = byte(i);
  if (lead < 0x80) return 1;
  const size_t length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : 2;
  if (lead < 0xc2 || lead > 0xf4 || i + length > text.size()) return 0;
  for (size_t k = 1; k < length; ++k)
    if ((byte(i + k) & 0xc0) != 0x80) return 0;
  // Overlong forms, surrogates, and what lies past U+10FFFF.
  const unsigned char second = byte(i + 1);
  if ((lead == 0xe0 && second < 0xa0) || (lead == 0xed && second > 0x9f) ||
      (lead == 0xf0 && second < 0x90) || (lead == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

void check_bytes(std::string_view text) {
  int line = 1;
  for (size_t i = 0; i < text.size();) {
    const char c = text[i];
    if (c == '\n') ++line;
    if (static_cast<unsigned char>(c) < 0x20 && c != '\n' && c != '\r' && c != '\t')
      throw SyntaxError{line, "control character " + printable(text.substr(i, 1)) +
                                  ", wanted a text file in UTF-8"};
    const size_t length = utf8_length(text, i);
    if (length == 0) throw SyntaxError{line, "not UTF-8, save the file in UTF-8"};
    i += length;
  }
}

/// Our words for the messages of the library that a person meets.
std::string syntax_message(const std::string& library) {
  using namespace YAML::ErrorMsg;
  const auto is = [&](const char* text) { return library.starts_with(text); };
  if (is(TAB_IN_INDENTATION)) return "indented with a tab, wanted spaces";
  if (is(END_OF_SEQ_FLOW)) return "a [ without its ]";
  if (is(END_OF_MAP_FLOW)) return "a { without its }";
  if (is(FLOW_END)) return "a ] or } without its opening bracket";
  if (is(END_OF_MAP) || is(END_OF_SEQ))
    return "this line fits no open section, check the indentation and the quotes above it";
  if (is(MAP_VALUE)) return "a second \": \" in one line, put the value in quotes";
  if (is(INVALID_ESCAPE) || is(INVALID_HEX) || is(INVALID_UNICODE))
    return "unknown \\ escape in double quotes, use single quotes or \\\\";
  if (is(EOF_IN_SCALAR)) return "a quote that is never closed";
  if (is(UNKNOWN_ANCHOR)) return "anchors and aliases (& and *) are not supported, write it out";
  return "not valid YAML, check the indentation, quotes and brackets";
}

/// Builds the tree. Throws SyntaxError for constructs that are not supported.
class Builder : public YAML::EventHandler {
 public:
  explicit Builder(std::string_view text) : text_(text) {
    line_starts_.push_back(0);
    for (size_t i = 0; i < text.size(); ++i)
      if (text[i] == '\n') line_starts_.push_back(i + 1);
  }

  YamlNode take_root() { return std::move(root_); }

  /// Line of the innermost [ or { that is still open, 0 without one.
  int open_bracket_line() const {
    for (size_t i = open_.size(); i-- > 0;)
      if (open_[i].is_flow) return open_[i].node.line;
    return 0;
  }

  void OnDocumentStart(const Mark& mark) override {
    if (num_documents_++ > 0)
      throw SyntaxError{mark.line + 1, "a second document begins here, wanted only one"};
  }
  void OnDocumentEnd() override {}
  void OnNull(const Mark& mark, YAML::anchor_t anchor) override {
    begin(mark, "", anchor, YamlNode::Kind::kNull, "");
    end();
  }
  void OnAlias(const Mark& mark, YAML::anchor_t) override { refuse_anchor(mark); }
  void OnScalar(const Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                const std::string& value) override {
    if (value.find('\0') != std::string::npos)
      throw SyntaxError{mark.line + 1, "a NUL character in a text"};
    const bool plain = tag == "?";
    if (!plain) check_closed(mark);
    begin(mark, tag, anchor, plain ? YamlNode::Kind::kPlain : YamlNode::Kind::kQuoted, value);
    end();
  }
  void OnSequenceStart(const Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                       YAML::EmitterStyle::value style) override {
    begin(mark, tag, anchor, YamlNode::Kind::kList, "");
    open_.back().is_flow = style == YAML::EmitterStyle::Flow;
  }
  void OnSequenceEnd() override { end(); }
  void OnMapStart(const Mark& mark, const std::string& tag, YAML::anchor_t anchor,
                  YAML::EmitterStyle::value style) override {
    begin(mark, tag, anchor, YamlNode::Kind::kMap, "");
    open_.back().is_flow = style == YAML::EmitterStyle::Flow;
  }
  void OnMapEnd() override { end(); }

 private:
  struct Open {
    YamlNode node;
    std::optional<YamlNode> key;  ///< of a map: read, its value not yet
    bool is_flow = false;         ///< written with brackets
  };

  [[noreturn]] static void refuse_anchor(const Mark& mark) {
    throw SyntaxError{mark.line + 1,
                      "anchors and aliases (& and *) are not supported, write it out"};
  }

  void begin(const Mark& mark, const std::string& tag, YAML::anchor_t anchor, YamlNode::Kind kind,
             const std::string& text) {
    if (anchor != 0) refuse_anchor(mark);
    if ((!tag.empty() && tag != "?" && tag != "!") || at(mark) == '!')
      throw SyntaxError{mark.line + 1, "tags (!) are not supported, leave it out"};
    if (open_.size() >= kMaxDepth)
      throw SyntaxError{mark.line + 1, str("nested deeper than ", kMaxDepth, " levels")};
    Open entry;
    entry.node.kind = kind;
    entry.node.line = mark.line + 1;
    entry.node.text = text;
    open_.push_back(std::move(entry));
  }

  void end() {
    YamlNode node = std::move(open_.back().node);
    open_.pop_back();
    if (open_.empty()) {
      root_ = std::move(node);
      return;
    }
    Open& parent = open_.back();
    if (parent.node.is_map() && !parent.key) {
      if (!node.is_scalar()) throw SyntaxError{node.line, "a key that is not a name"};
      if (node.is_plain() && node.text == "<<")
        throw SyntaxError{node.line, "merge keys (<<) are not supported, write the keys out"};
      parent.key = std::move(node);
      return;
    }
    if (parent.key) {
      node.key = parent.key->text;
      node.line = parent.key->line;
      parent.key.reset();
    }
    parent.node.items.push_back(std::move(node));
  }

  size_t offset(const Mark& mark) const {
    const size_t line = std::min(static_cast<size_t>(mark.line), line_starts_.size() - 1);
    return std::min(line_starts_[line] + static_cast<size_t>(mark.column), text_.size());
  }
  char at(const Mark& mark) const {
    const size_t i = offset(mark);
    return i < text_.size() ? text_[i] : '\0';
  }

  /// The library takes the end of the file for the end of a quoted text.
  void check_closed(const Mark& mark) const {
    const char quote = at(mark);
    if (quote != '"' && quote != '\'') return;  // a block scalar (| or >) ends with the file
    for (size_t i = offset(mark) + 1; i < text_.size(); ++i) {
      if (quote == '"' && text_[i] == '\\') {
        ++i;
      } else if (text_[i] == quote) {
        if (quote == '"' || i + 1 >= text_.size() || text_[i + 1] != quote) return;
        ++i;  // '' is a quote inside single quotes
      }
    }
    throw SyntaxError{mark.line + 1, "a quote that is never closed"};
  }

  std::string_view text_;
  std::vector<size_t> line_starts_;
  std::vector<Open> open_;
  YamlNode root_;
  int num_documents_ = 0;
};

void check_repeats(const YamlNode& node, const std::string& path,
                   std::vector<YamlProblem>& problems) {
  std::map<std::string_view, int> seen;
  for (const YamlNode& item : node.items) {
    std::string item_path = path;
    if (node.is_map()) {
      item_path += (path.empty() ? "" : ".") + item.key;
      const auto [first, is_new] = seen.emplace(item.key, item.line);
      if (!is_new)
        problems.push_back({item.line, item_path,
                            str("given twice, first in line ", first->second, ", wanted once")});
    }
    check_repeats(item, item_path, problems);
  }
}

}  // namespace

YamlNode parse_yaml(std::string_view text, std::vector<YamlProblem>& problems) {
  if (text.starts_with("\xef\xbb\xbf")) text.remove_prefix(3);  // byte order mark
  Builder builder(text);
  try {
    check_bytes(text);
    std::istringstream in{std::string(text)};
    YAML::Parser parser(in);
    while (parser.HandleNextDocument(builder)) {
    }
    YamlNode root = builder.take_root();
    check_repeats(root, "", problems);
    return root;
  } catch (const SyntaxError& e) {
    problems.push_back({e.line, "", e.what});
  } catch (const YAML::Exception& e) {
    // The library puts a missing bracket at the end of the file or in a following line.
    const bool is_open =
        e.msg == YAML::ErrorMsg::END_OF_SEQ_FLOW || e.msg == YAML::ErrorMsg::END_OF_MAP_FLOW;
    const int line = is_open ? builder.open_bracket_line() : 0;
    problems.push_back({line > 0 ? line : e.mark.line + 1, "", syntax_message(e.msg)});
  }
  return {};
}

}  // namespace ft
