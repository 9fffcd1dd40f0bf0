// Each step makes a new text; where nothing changes the old one passes through untouched.
#include "data/normalizer.h"

#include <algorithm>

#include "base/error.h"

namespace ft {
namespace {

constexpr int kMaxDepth = 16;
// Steps that each lengthen the text could multiply; real ones turn a byte into three.
void check_growth(size_t size, size_t limit) {
  if (size > limit) fail_input("normalizer: the text would grow to ", size, " bytes");
}

AlignedText replace_all(AlignedText text, const SplitPattern& pattern, std::string_view content,
                        size_t limit) {
  std::vector<ByteRange> found;
  pattern.find_all(text.view(), found);
  if (found.empty()) return text;
  check_growth(text.size() + found.size() * content.size(), limit);
  AlignedText out;
  size_t done = 0;
  for (const auto [begin, end] : found) {
    out.append(text, done, begin);
    const uint32_t from = begin < text.size() ? text.origin_begin(begin)
                          : begin > 0         ? text.origin_end(begin - 1)
                                              : 0;
    out.append(content, from, end > begin ? text.origin_end(end - 1) : from);
    done = end;
  }
  out.append(text, done, text.size());
  return out;
}

AlignedText prepend(AlignedText text, std::string_view content, size_t limit) {
  if (text.size() == 0) return text;
  check_growth(text.size() + content.size(), limit);
  AlignedText out;
  out.append(content, text.origin_begin(0), text.origin_begin(0));
  out.append(text, 0, text.size());
  return out;
}

AlignedText strip(AlignedText text, bool left, bool right) {
  static const SplitPattern spaces("\\p{White_Space}+", SplitPattern::Syntax::kPcre, "strip");
  std::vector<ByteRange> found;
  spaces.find_all(text.view(), found);
  size_t begin = 0, end = text.size();
  if (left && !found.empty() && found.front().begin == 0) begin = found.front().end;
  if (right && !found.empty() && found.back().end == end) end = std::max(begin, found.back().begin);
  if (begin == 0 && end == text.size()) return text;
  return text.slice(begin, end);
}

std::optional<UnicodeForm> unicode_form(std::string_view name) {
  if (name == "NFC") return UnicodeForm::kNfc;
  if (name == "NFD") return UnicodeForm::kNfd;
  if (name == "NFKC") return UnicodeForm::kNfkc;
  if (name == "NFKD") return UnicodeForm::kNfkd;
  return std::nullopt;
}

}  // namespace

std::string required_string(const Json& json, std::string_view key, const std::string& where) {
  auto value = get_string(json, key, where);
  if (!value) fail_input(where, ".", key, ": missing, a string is wanted");
  return *std::move(value);
}

std::string component_type(const Json& json, const std::string& where) {
  if (!json.is_object()) fail_input(where, ": an object with a \"type\" is wanted");
  return required_string(json, "type", where);
}

const Json::Array& sequence_of(const Json& json, std::string_view key, const std::string& where,
                               int depth) {
  const Json* list = json.get(key);
  if (!list || !list->is_array()) fail_input(where, ".", key, ": missing, a list is wanted");
  if (depth >= kMaxDepth) fail_input(where, ": nested deeper than ", kMaxDepth, " sequences");
  return list->array();
}

std::shared_ptr<const SplitPattern> parse_pattern(const Json* json, const std::string& where) {
  using Syntax = SplitPattern::Syntax;
  const Json* literal = json ? json->get("String") : nullptr;
  const Json* regex = json ? json->get("Regex") : nullptr;
  const Json* text = literal ? literal : regex;
  if (!text || !text->is_string())
    fail_input(where, ".pattern: {\"String\": ...} or {\"Regex\": ...} is wanted");
  if (literal && literal->string().empty()) fail_input(where, ".pattern: an empty text");
  return std::make_shared<SplitPattern>(
      text->string(), literal ? Syntax::kLiteral : Syntax::kOniguruma, where + ".pattern");
}

Normalizer Normalizer::parse(const Json& json, const std::string& where) {
  Normalizer result;
  if (!json.is_null()) result.parse_into(json, where, 0);
  return result;
}

void Normalizer::parse_into(const Json& json, const std::string& where, int depth) {
  const std::string type = component_type(json, where);
  if (type == "Sequence") {
    const auto& list = sequence_of(json, "normalizers", where, depth);
    for (size_t i = 0; i < list.size(); ++i)
      parse_into(list[i], str(where, ".normalizers[", i, "]"), depth + 1);
  } else if (type == "Replace") {
    steps_.push_back({Kind::kReplace, required_string(json, "content", where),
                      parse_pattern(json.get("pattern"), where)});
  } else if (type == "Prepend") {
    steps_.push_back({Kind::kPrepend, required_string(json, "prepend", where), nullptr});
  } else if (type == "Strip") {
    steps_.push_back({Kind::kStrip, "", nullptr, get_bool(json, "strip_left", where).value_or(true),
                      get_bool(json, "strip_right", where).value_or(true)});
  } else if (const auto form = unicode_form(type)) {
    steps_.push_back({Kind::kUnicode, "", nullptr, false, false, *form});
  } else {
    fail_input(
        where, ": normalizer \"", printable(type),
        "\" is not supported (Sequence, Replace, Prepend, Strip, NFC, NFD, NFKC and NFKD are)");
  }
}

AlignedText Normalizer::apply(AlignedText text) const {
  const size_t limit = 64 * text.size() + 4096;
  for (const Step& step : steps_) {
    switch (step.kind) {
      case Kind::kReplace:
        text = replace_all(std::move(text), *step.pattern, step.content, limit);
        break;
      case Kind::kPrepend:
        text = prepend(std::move(text), step.content, limit);
        break;
      case Kind::kStrip:
        text = strip(std::move(text), step.left, step.right);
        break;
      case Kind::kUnicode:
        text = normalize_unicode(text, step.form);
        break;
    }
  }
  return text;
}

}  // namespace ft
