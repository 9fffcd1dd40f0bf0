// Byte-level BPE (tokenizer.ggml.model = gpt2): tokens and merges are in the file as tokenizer.json
// has them; how the text is split before merging is only named (tokenizer.ggml.pre) and spelled out
// in the table here. The patterns are those of the families' own tokenizer.json files.
#include <unordered_set>

#include "base/error.h"
#include "data/gguf_convert_tokenizer.h"

namespace ft {
namespace {

constexpr const char* kLlama3Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
// As above with digits one at a time.
constexpr const char* kQwen2Split =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

struct PreTokenizer {
  std::string_view name;
  const char* split;  ///< nullptr: the pattern of GPT-2, which ByteLevel has built in
  bool single_digits, ignore_merges, nfc, adds_bos;
};
constexpr PreTokenizer kPreTokenizers[] = {
    {"smollm", nullptr, true, false, false, false},
    {"gpt-2", nullptr, false, false, false, false},
    {"llama-bpe", kLlama3Split, false, true, false, true},
    {"llama3", kLlama3Split, false, true, false, true},
    {"llama-v3", kLlama3Split, false, true, false, true},
    {"qwen2", kQwen2Split, false, false, true, false},
};

const PreTokenizer& find_pre_tokenizer(const GgufFile& file) {
  const auto name = file.get_string("tokenizer.ggml.pre");
  std::string known;
  for (const PreTokenizer& p : kPreTokenizers) {
    if (name == p.name) return p;
    known.append(known.empty() ? "" : ", ").append(p.name);
  }
  fail_input(file.where(), ": tokenizer.ggml.pre: ",
             name ? str('"', printable(*name), "\" is not a known way to split text")
                  : std::string("the key is missing"),
             "; known are ", known);
}

Json byte_level(bool prefix_space, bool use_regex) {
  return Json::Object{{"type", "ByteLevel"},
                      {"add_prefix_space", prefix_space},
                      {"trim_offsets", true},
                      {"use_regex", use_regex}};
}

Json pre_tokenizer(const PreTokenizer& p) {
  Json::Array steps;
  if (p.single_digits)
    steps.push_back(Json::Object{{"type", "Digits"}, {"individual_digits", true}});
  if (p.split)
    steps.push_back(Json::Object{{"type", "Split"},
                                 {"pattern", Json::Object{{"Regex", p.split}}},
                                 {"behavior", "Isolated"},
                                 {"invert", false}});
  steps.push_back(byte_level(false, p.split == nullptr));
  if (steps.size() == 1) return steps[0];
  return Json::Object{{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
}

/// `[PAD123]` of type unused: put in by the converter where the model has a row but no token.
bool is_filler(const GgufVocabulary& v, size_t id) {
  return v.types[id] == PieceType::kUnused && v.tokens[id] == str("[PAD", id, "]");
}

}  // namespace

bool bpe_adds_bos(const GgufFile& file) {
  return find_pre_tokenizer(file).adds_bos;
}

GgufTokenizer bpe_parts(const GgufFile& file, const GgufVocabulary& v) {
  const PreTokenizer& p = find_pre_tokenizer(file);
  GgufTokenizer parts;
  if (p.nfc) parts.normalizer = Json::Object{{"type", "NFC"}};
  parts.pre_tokenizer = pre_tokenizer(p);
  parts.decoder = byte_level(true, true);
  parts.ignore_merges = p.ignore_merges;
  for (size_t i = 0; i < v.tokens.size(); ++i)
    parts.spelling.emplace_back(is_filler(v, i) ? std::string_view() : v.tokens[i]);
  if (!file.has("tokenizer.ggml.merges"))
    fail_input(file.where(), ": tokenizer.ggml.merges: the key is missing");
  parts.merges = read_merges(file, parts.spelling);
  return parts;
}

std::vector<std::pair<std::string_view, std::string_view>> read_merges(
    const GgufFile& file, const std::vector<std::string>& spelling) {
  constexpr const char* kKey = "tokenizer.ggml.merges";
  const std::unordered_set<std::string_view> known(spelling.begin(), spelling.end());
  std::vector<std::pair<std::string_view, std::string_view>> merges;
  const auto lines = file.get_strings(kKey).value_or(std::vector<std::string_view>());
  for (const std::string_view line : lines) {
    const size_t space = line.find(' ', 1);
    const auto left = line.substr(0, space);
    const auto right = space == std::string_view::npos ? "" : line.substr(space + 1);
    if (left.empty() || right.empty() || !known.contains(left) || !known.contains(right) ||
        !known.contains(std::string(left) + std::string(right)))
      fail_input(file.where(), ": ", kKey, ": entry ", merges.size(), ", \"", printable(line),
                 "\", is no pair of tokens that make a token");
    merges.emplace_back(left, right);
  }
  return merges;
}

}  // namespace ft
