// Each step maps a list of token texts to another list, as in `tokenizers`; joined at the end.
// Trap: ByteLevel decodes all tokens together and replaces broken parts the usual way, but
// ByteFallback turns every byte of a broken run into a U+FFFD of its own.
#include "data/token_decoder.h"

#include <charconv>

#include "base/error.h"
#include "data/normalizer.h"
#include "data/utf8.h"

namespace ft {
namespace {

using Tokens = std::vector<std::string>;

// Replace steps that each lengthen the text could multiply; real ones shorten it.
void check_growth(size_t size, size_t limit) {
  if (size > limit) fail_input("decoder: the text would grow to ", size, " bytes");
}

size_t total_size(const Tokens& tokens) {
  size_t size = 0;
  for (const std::string& token : tokens) size += token.size();
  return size;
}

void byte_level_decode(Tokens& tokens) {
  std::string bytes;
  for (const std::string& token : tokens) {
    const size_t before = bytes.size();
    for (size_t at = 0; at < token.size();) {
      const CodePoint point = decode_point(token, at);
      const int byte = point.valid ? char_to_byte(point.value) : -1;
      if (byte < 0) {  // not spelled in the alphabet (an added token): taken as it is
        bytes.resize(before);
        bytes += token;
        break;
      }
      bytes += static_cast<char>(byte);
      at += point.length;
    }
  }
  tokens.assign(1, lossy_utf8(bytes));
}

/// The byte of a <0xXX> token, or -1.
int fallback_byte(const std::string& token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  int value = -1;
  const char* const end = token.data() + 5;
  const auto read = std::from_chars(token.data() + 3, end, value, 16);
  return read.ptr == end && value >= 0 ? value : -1;
}

void byte_fallback_decode(Tokens& tokens) {
  Tokens out;
  std::string bytes;
  const auto flush = [&] {
    if (bytes.empty()) return;
    if (valid_utf8_prefix(bytes) == bytes.size()) {
      out.push_back(bytes);
    } else {
      std::string broken;
      for (size_t i = 0; i < bytes.size(); ++i) append_point(broken, 0xfffd);
      out.push_back(broken);
    }
    bytes.clear();
  };
  for (std::string& token : tokens) {
    const int byte = fallback_byte(token);
    if (byte >= 0) {
      bytes += static_cast<char>(byte);
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  tokens = std::move(out);
}

void strip(std::string& token, std::string_view content, int64_t start, int64_t stop) {
  size_t begin = 0, end = token.size();
  const auto is_at = [&](size_t at) {
    return std::string_view(token).substr(at, content.size()) == content;
  };
  for (int64_t i = 0; i < start && begin + content.size() <= end && is_at(begin); ++i)
    begin += content.size();
  for (int64_t i = 0; i < stop && begin + content.size() <= end && is_at(end - content.size()); ++i)
    end -= content.size();
  token = token.substr(begin, end - begin);
}

void replace(std::string& token, const SplitPattern& pattern, std::string_view content,
             size_t limit) {
  std::vector<ByteRange> found;
  pattern.find_all(token, found);
  if (found.empty()) return;
  check_growth(token.size() + found.size() * content.size(), limit);
  std::string out;
  size_t done = 0;
  for (const auto [begin, end] : found) {
    out.append(token, done, begin - done).append(content);
    done = end;
  }
  token = out.append(token, done);
}

void metaspace_decode(Tokens& tokens, std::string_view mark, bool keeps_first) {
  for (size_t i = 0; i < tokens.size(); ++i) {
    std::string out;
    for (size_t at = 0; at < tokens[i].size();) {
      if (std::string_view(tokens[i]).substr(at, mark.size()) == mark) {
        if (i > 0 || keeps_first) out += ' ';
        at += mark.size();
      } else {
        out += tokens[i][at++];
      }
    }
    tokens[i] = std::move(out);
  }
}

std::string joined(const Tokens& tokens, std::string_view separator) {
  std::string out;
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (i > 0) out += separator;
    out += tokens[i];
  }
  return out;
}

}  // namespace

TokenDecoder TokenDecoder::parse(const Json& json, const std::string& where) {
  TokenDecoder result;
  if (!json.is_null()) result.parse_into(json, where, 0);
  return result;
}

TokenDecoder TokenDecoder::byte_level() {
  TokenDecoder result;
  result.steps_.push_back({Kind::kByteLevel, "", nullptr});
  return result;
}

void TokenDecoder::parse_into(const Json& json, const std::string& where, int depth) {
  const std::string type = component_type(json, where);
  if (type == "Sequence") {
    const auto& list = sequence_of(json, "decoders", where, depth);
    for (size_t i = 0; i < list.size(); ++i)
      parse_into(list[i], str(where, ".decoders[", i, "]"), depth + 1);
  } else if (type == "ByteLevel") {
    steps_.push_back({Kind::kByteLevel, "", nullptr});
  } else if (type == "ByteFallback") {
    steps_.push_back({Kind::kByteFallback, "", nullptr});
  } else if (type == "Fuse") {
    steps_.push_back({Kind::kFuse, "", nullptr});
  } else if (type == "Strip") {
    const std::string content = required_string(json, "content", where);
    if (content.empty() || decode_point(content, 0).length != content.size())
      fail_input(where, ".content: one character is wanted");
    steps_.push_back({Kind::kStrip, content, nullptr, get_int(json, "start", where).value_or(0),
                      get_int(json, "stop", where).value_or(0)});
  } else if (type == "Replace") {
    steps_.push_back({Kind::kReplace, required_string(json, "content", where),
                      parse_pattern(json.get("pattern"), where)});
  } else if (type == "Metaspace") {
    const std::string mark = get_string(json, "replacement", where).value_or("\xe2\x96\x81");
    if (mark.empty()) fail_input(where, ".replacement: one character is wanted");
    const bool never = get_string(json, "prepend_scheme", where).value_or("always") == "never" ||
                       !get_bool(json, "add_prefix_space", where).value_or(true);
    steps_.push_back({Kind::kMetaspace, mark, nullptr, 0, 0, never});
  } else {
    fail_input(where, ": decoder \"", printable(type),
               "\" is not supported (Sequence, ByteLevel, ByteFallback, Fuse, Strip, Replace and "
               "Metaspace are)");
  }
}

void TokenDecoder::run(const Step& step, size_t limit, Tokens& tokens) {
  switch (step.kind) {
    case Kind::kByteLevel:
      return byte_level_decode(tokens);
    case Kind::kByteFallback:
      return byte_fallback_decode(tokens);
    case Kind::kFuse:
      tokens.assign(1, joined(tokens, ""));
      return;
    case Kind::kStrip:
      for (std::string& token : tokens) strip(token, step.content, step.start, step.stop);
      return;
    case Kind::kReplace:
      for (std::string& token : tokens) replace(token, *step.pattern, step.content, limit);
      return check_growth(total_size(tokens), limit);
    case Kind::kMetaspace:
      return metaspace_decode(tokens, step.content, step.keeps_first);
  }
}

std::string TokenDecoder::decode(Tokens tokens) const {
  if (steps_.empty()) return joined(tokens, " ");
  const size_t limit = 64 * total_size(tokens) + 4096;
  for (const Step& step : steps_) run(step, limit, tokens);
  return joined(tokens, "");
}

}  // namespace ft
