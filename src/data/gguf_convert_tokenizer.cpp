// tokenizer.json is put together as text: the vocabulary and the merges of a large model are half a
// million entries, too many for a tree of values.
#include "data/gguf_convert_tokenizer.h"

#include <algorithm>
#include <cmath>
#include <unordered_set>

#include "base/error.h"

namespace ft {
namespace {

// Tokens that end a turn in the chat formats of the supported families. Files often name only the
// end of the document.
constexpr std::string_view kTurnEnds[] = {"<end_of_turn>", "<|eot_id|>", "<|eom_id|>",
                                          "<|im_end|>"};

// Longer pieces are no words of any vocabulary, and finding their halves takes quadratic time.
constexpr size_t kMaxPiece = 1024;

std::vector<PieceType> read_types(const GgufFile& file, size_t num_tokens) {
  constexpr const char* kKey = "tokenizer.ggml.token_type";
  const auto numbers = file.get_ints(kKey);
  if (!numbers) return std::vector<PieceType>(num_tokens, PieceType::kNormal);
  if (numbers->size() != num_tokens)
    fail_input(file.where(), ": ", kKey, ": ", numbers->size(), " entries for ", num_tokens,
               " tokens");
  std::vector<PieceType> types;
  for (const int64_t n : *numbers) {
    if (n < 1 || n > 6) fail_input(file.where(), ": ", kKey, ": ", n, " is no type of token");
    types.push_back(static_cast<PieceType>(n));
  }
  return types;
}

std::vector<std::string_view> read_tokens(const GgufFile& file, int64_t embedding_rows) {
  constexpr const char* kKey = "tokenizer.ggml.tokens";
  const auto tokens = file.get_strings(kKey);
  const auto bad = [&](const auto&... what) {
    fail_input(file.where(), ": ", kKey, ": ", what...);
  };
  if (!tokens || tokens->empty()) bad("the vocabulary is missing");
  if (tokens->size() > static_cast<size_t>(embedding_rows))
    bad(tokens->size(), " tokens, but the embedding has only ", embedding_rows, " rows");
  std::unordered_set<std::string_view> seen;
  for (size_t i = 0; i < tokens->size(); ++i) {
    const std::string_view t = (*tokens)[i];
    if (t.empty() || t.size() > kMaxPiece || t.find('\0') != std::string_view::npos)
      bad("entry ", i, " is empty, longer than ", kMaxPiece, " bytes or has a zero byte");
    if (!seen.insert(t).second) bad("entry ", i, ", ", printable(t), ", appears twice");
  }
  return *tokens;
}

std::string text_of(const GgufVocabulary& v, int64_t id) {
  return std::string(v.tokens[static_cast<size_t>(id)]);
}

Json added_token(std::string_view content, bool special) {
  return Json::Object{{"content", content}, {"single_word", false}, {"lstrip", false},
                      {"rstrip", false},    {"normalized", false},  {"special", special}};
}

/// The tokens that are cut out of the text before it is split, by id.
std::vector<std::pair<int64_t, Json>> added_tokens(const GgufVocabulary& v,
                                                   const GgufTokenizer& parts) {
  std::vector<std::pair<int64_t, Json>> added;
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    // A respelled token (spaces as U+2581) is found by the merges: raw text never holds it.
    const bool user = v.types[i] == PieceType::kUserDefined && parts.spelling[i] == v.tokens[i];
    if (v.is_special(i) || user)
      added.emplace_back(static_cast<int64_t>(i), added_token(v.tokens[i], v.is_special(i)));
  }
  return added;
}

/// Puts BOS and EOS around the text where the file says so; null when it does not.
Json post_processor(const GgufVocabulary& v) {
  if (!v.add_bos && !v.add_eos) return {};
  Json specials = Json::Object{};
  const auto special = [&](int64_t id, int type) {
    const std::string text = text_of(v, id);
    specials.set(
        text, Json::Object{{"id", text}, {"ids", Json::Array{id}}, {"tokens", Json::Array{text}}});
    return Json(Json::Object{{"SpecialToken", Json::Object{{"id", text}, {"type_id", type}}}});
  };
  Json::Array single, pair;
  for (const int type : {0, 1}) {
    Json::Array part;
    if (v.add_bos) part.push_back(special(*v.bos, type));
    part.push_back(
        Json::Object{{"Sequence", Json::Object{{"id", type == 0 ? "A" : "B"}, {"type_id", type}}}});
    if (v.add_eos) part.push_back(special(*v.eos, type));
    if (type == 0) single = part;
    pair.insert(pair.end(), part.begin(), part.end());
  }
  Json around = Json::Object{{"type", "TemplateProcessing"},
                             {"single", std::move(single)},
                             {"pair", std::move(pair)},
                             {"special_tokens", std::move(specials)}};
  if (v.is_spm) return around;
  Json offsets = Json::Object{{"type", "ByteLevel"},
                              {"add_prefix_space", true},
                              {"trim_offsets", false},
                              {"use_regex", true}};
  return Json::Object{{"type", "Sequence"},
                      {"processors", Json::Array{std::move(offsets), std::move(around)}}};
}

std::string tokenizer_json(const GgufVocabulary& v, const GgufTokenizer& parts) {
  Json head = Json::Object{{"version", "1.0"}, {"truncation", nullptr}, {"padding", nullptr}};
  Json::Array added;
  for (const auto& [id, token] : added_tokens(v, parts)) {
    Json::Object entry{{"id", id}};
    for (const auto& member : token.object()) entry.push_back(member);
    added.emplace_back(std::move(entry));
  }
  head.set("added_tokens", std::move(added));
  head.set("normalizer", parts.normalizer);
  head.set("pre_tokenizer", parts.pre_tokenizer);
  head.set("post_processor", post_processor(v));
  head.set("decoder", parts.decoder);
  const Json model = Json::Object{{"type", "BPE"},
                                  {"dropout", nullptr},
                                  {"unk_token", parts.unk_token},
                                  {"continuing_subword_prefix", nullptr},
                                  {"end_of_word_suffix", nullptr},
                                  {"fuse_unk", parts.fuse_unk},
                                  {"byte_fallback", parts.byte_fallback},
                                  {"ignore_merges", parts.ignore_merges}};
  std::string out = head.dump();
  out.back() = ',';
  std::string open_model = model.dump();
  open_model.back() = ',';
  out += "\n\"model\": " + open_model + "\n\"vocab\": {";
  const char* separator = "\n";
  for (size_t i = 0; i < parts.spelling.size(); ++i) {
    if (parts.spelling[i].empty()) continue;
    out.append(separator).append(json_quote(parts.spelling[i])).append(": ");
    out += std::to_string(i);
    separator = ",\n";
  }
  out += "},\n\"merges\": [";
  separator = "\n";
  for (const auto& [left, right] : parts.merges) {
    out.append(separator).append("[").append(json_quote(left)).append(", ");
    out.append(json_quote(right)).append("]");
    separator = ",\n";
  }
  return out + "]}}\n";
}

/// bos_token and the like: what special_tokens_map.json and tokenizer_config.json have in common.
Json named_tokens(const GgufVocabulary& v) {
  Json names = Json::Object{};
  if (v.bos) names.set("bos_token", text_of(v, *v.bos));
  if (v.eos) names.set("eos_token", text_of(v, *v.eos));
  if (v.unk) names.set("unk_token", text_of(v, *v.unk));
  if (v.pad) names.set("pad_token", text_of(v, *v.pad));
  return names;
}

std::string tokenizer_config(const GgufFile& file, const GgufVocabulary& v,
                             const GgufTokenizer& parts, int64_t context) {
  Json config = Json::Object{{"add_bos_token", v.add_bos}, {"add_eos_token", v.add_eos}};
  Json decoder = Json::Object{};
  for (auto& [id, token] : added_tokens(v, parts))
    decoder.object().emplace_back(std::to_string(id), std::move(token));
  config.set("added_tokens_decoder", std::move(decoder));
  const Json names = named_tokens(v);
  for (const auto& [key, text] : names.object()) config.set(key, text);
  config.set("clean_up_tokenization_spaces", false);
  config.set("model_max_length", context);
  // The general class takes tokenizer.json as it is; Gemma's own one is what its models name.
  config.set("tokenizer_class", v.is_gemma ? "GemmaTokenizer" : "PreTrainedTokenizerFast");
  if (const auto chat = file.get_string("tokenizer.chat_template"))
    config.set("chat_template", *chat);
  return config.dump_indented() + "\n";
}

}  // namespace

bool GgufVocabulary::is_special(size_t id) const {
  const auto i = static_cast<int64_t>(id);
  return types[id] == PieceType::kControl || types[id] == PieceType::kUnknown || i == bos ||
         i == eos || i == unk || i == pad;
}

GgufVocabulary read_vocabulary(const GgufFile& file, std::string_view architecture,
                               int64_t embedding_rows) {
  GgufVocabulary v{};
  const auto kind = file.get_string("tokenizer.ggml.model");
  if (!kind || (*kind != "gpt2" && *kind != "llama"))
    fail_input(file.where(), ": tokenizer.ggml.model: ",
               kind ? str('"', printable(*kind), '"') : std::string("missing"),
               "; supported are gpt2 (byte-level BPE) and llama (SentencePiece)");
  v.is_spm = *kind == "llama";
  v.is_gemma = v.is_spm && architecture.starts_with("gemma");
  v.tokens = read_tokens(file, embedding_rows);
  v.types = read_types(file, v.tokens.size());
  const auto id = [&](std::string_view name) {
    const std::string key = str("tokenizer.ggml.", name, "_token_id");
    const auto number = file.get_int(key);
    if (number && (*number < 0 || *number >= static_cast<int64_t>(v.tokens.size())))
      fail_input(file.where(), ": ", key, ": ", *number, " is not in the vocabulary");
    return number;
  };
  v.bos = id("bos"), v.eos = id("eos"), v.unk = id("unknown"), v.pad = id("padding");
  v.eot = id("eot"), v.eom = id("eom");
  if (v.is_spm && !v.is_gemma && v.tokens.size() > 2) {  // what llama.cpp assumes
    if (!v.unk) v.unk = 0;
    if (!v.bos) v.bos = 1;
    if (!v.eos) v.eos = 2;
  }
  v.add_bos = file.get_bool("tokenizer.ggml.add_bos_token")
                  .value_or(v.bos && (v.is_spm || bpe_adds_bos(file)));
  v.add_eos = file.get_bool("tokenizer.ggml.add_eos_token").value_or(false);
  v.add_space_prefix =
      file.get_bool("tokenizer.ggml.add_space_prefix").value_or(v.is_spm && !v.is_gemma);
  if ((v.add_bos && !v.bos) || (v.add_eos && !v.eos))
    fail_input(file.where(), ": tokenizer.ggml.", v.add_bos && !v.bos ? "bos" : "eos",
               "_token_id: missing, although the token is to be added to every text");
  return v;
}

std::vector<int64_t> stop_ids(const GgufVocabulary& v) {
  std::vector<int64_t> ids;
  for (const auto& id : {v.eos, v.eot, v.eom})
    if (id) ids.push_back(*id);
  for (size_t i = 0; i < v.tokens.size(); ++i) {
    const bool whole = v.types[i] == PieceType::kControl || v.types[i] == PieceType::kUserDefined;
    if (whole &&
        std::find(std::begin(kTurnEnds), std::end(kTurnEnds), v.tokens[i]) != std::end(kTurnEnds))
      ids.push_back(static_cast<int64_t>(i));
  }
  std::sort(ids.begin(), ids.end());
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

TextFiles tokenizer_files(const GgufFile& file, const GgufVocabulary& v, int64_t context) {
  const GgufTokenizer parts = v.is_spm ? spm_parts(file, v) : bpe_parts(file, v);
  TextFiles files;
  files["tokenizer.json"] = tokenizer_json(v, parts);
  files["tokenizer_config.json"] = tokenizer_config(file, v, parts, context);
  files["special_tokens_map.json"] = named_tokens(v).dump_indented() + "\n";
  if (v.is_spm) files["tokenizer.model"] = sentencepiece_model(file, v);
  return files;
}

}  // namespace ft
