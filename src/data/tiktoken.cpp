// Llama 3's tokenizer.model: not sentencepiece but tiktoken's list, "base64(token) rank" on each
// line. The rank is both id and merge order: two neighbours join when their bytes together are a
// token, lowest rank first. Written out as a merge for every way to cut a token in two, that is
// ordinary BPE. Split pattern, special tokens and their order are those of Meta's llama-models
// release for Llama 3.1+.
#include <array>
#include <charconv>
#include <string>

#include "base/error.h"
#include "data/pipeline_tokenizer.h"
#include "data/utf8.h"

namespace ft {
namespace {

constexpr std::string_view kLlama3Pattern =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// Ids count on from the base vocabulary; the rest up to 256 are reserved, numbered from 2.
constexpr std::string_view kSpecialTokens[] = {
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|reserved_special_token_0|>",
    "<|reserved_special_token_1|>",
    "<|finetune_right_pad_id|>",
    "<|step_id|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<|image|>",
};
constexpr int kNumSpecial = 256;

/// -1 for a character outside of the base64 alphabet.
int sextet(char c) {
  if (c >= 'A' && c <= 'Z') return c - 'A';
  if (c >= 'a' && c <= 'z') return c - 'a' + 26;
  if (c >= '0' && c <= '9') return c - '0' + 52;
  return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/// False when the text is no base64 with padding.
bool decode_base64(std::string_view text, std::string& out) {
  out.clear();
  if (text.empty() || text.size() % 4 != 0) return false;
  size_t padding = 0;
  while (padding < 2 && text[text.size() - 1 - padding] == '=') ++padding;
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size() - padding; ++i) {
    const int value = sextet(text[i]);
    if (value < 0) return false;
    bits = bits << 6 | static_cast<uint32_t>(value);
    if (i % 4 == 0) continue;
    out += static_cast<char>(bits >> (6 - 2 * (i % 4)));
  }
  return true;
}

std::string_view next_line(std::string_view& rest) {
  const size_t end = rest.find('\n');
  std::string_view line = rest.substr(0, end);
  rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
  if (line.ends_with('\r')) line.remove_suffix(1);
  return line;
}

/// Token and rank of a line; false when it is not of that form.
bool parse_line(std::string_view line, std::string& token, int64_t& rank) {
  const size_t space = line.find(' ');
  if (space == line.npos || !decode_base64(line.substr(0, space), token)) return false;
  const char* const end = line.data() + line.size();
  const auto read = std::from_chars(line.data() + space + 1, end, rank);
  return read.ec == std::errc() && read.ptr == end;
}

Vocab parse_ranks(std::string_view content, const std::string& where) {
  constexpr size_t kMaxToken = 4096;  // the longest real one has 128 bytes
  Vocab vocab;
  vocab.reserve(content.size() / 16);
  std::string token;
  for (size_t number = 1; !content.empty(); ++number) {
    const std::string_view line = next_line(content);
    if (line.empty()) continue;
    int64_t rank = -1;
    if (!parse_line(line, token, rank))
      fail_input(where, ":", number, ": \"", printable(line), "\": base64 and a rank are wanted");
    if (token.size() > kMaxToken)
      fail_input(where, ":", number, ": a token of ", token.size(), " bytes, at most ", kMaxToken,
                 " are read");
    if (rank < 0 || rank >= Vocab::kMaxId - kNumSpecial)
      fail_input(where, ":", number, ": rank ", rank, " is out of range");
    if (!vocab.add(spell_bytes(token), static_cast<int32_t>(rank)))
      fail_input(where, ":", number, ": token or rank ", rank, " is there twice");
  }
  for (int byte = 0; byte < 256; ++byte) {
    const char c = static_cast<char>(byte);
    if (vocab.find(spell_bytes(std::string_view(&c, 1))) < 0)
      fail_input(where, ": no token for the byte ", byte, ", every byte is wanted");
  }
  return vocab;
}

std::vector<Merge> all_merges(const Vocab& vocab) {
  std::vector<Merge> merges;
  for (int32_t id = 0; id < vocab.size(); ++id) {
    const std::string_view text = vocab.text(id);
    size_t cut = 0;
    while (cut < text.size()) {
      cut += decode_point(text, cut).length;
      if (cut >= text.size()) break;
      const int32_t left = vocab.find(text.substr(0, cut));
      const int32_t right = left < 0 ? -1 : vocab.find(text.substr(cut));
      if (right >= 0) merges.push_back({left, right, id, static_cast<uint32_t>(id)});
    }
  }
  return merges;
}

}  // namespace

bool is_tiktoken(std::string_view content) {
  std::string token;
  int64_t rank = 0;
  return parse_line(next_line(content), token, rank);
}

TokenizerParts parse_tiktoken(std::string_view content, const std::string& where) {
  Vocab vocab = parse_ranks(content, where);
  const auto base = static_cast<int32_t>(vocab.size());
  const std::vector<Merge> merges = all_merges(vocab);
  BpeOptions options;
  options.byte_level = true;
  options.ignore_merges = true;
  TokenizerParts parts;
  parts.bpe = std::make_unique<Bpe>(std::move(vocab), merges, options);
  parts.pre_tokenizer = PreTokenizer::byte_level(kLlama3Pattern);
  parts.decoder = TokenDecoder::byte_level();
  constexpr int kNamed = std::size(kSpecialTokens);
  for (int i = 0; i < kNumSpecial; ++i) {
    AddedToken token;
    token.id = base + i;
    token.content = i < kNamed ? std::string(kSpecialTokens[i])
                               : str("<|reserved_special_token_", i - kNamed + 2, "|>");
    token.special = true;
    parts.added.push_back(std::move(token));
  }
  parts.prefix = {base};
  return parts;
}

}  // namespace ft
