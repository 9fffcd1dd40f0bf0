// Finds the tokenizer of a model folder and applies what stands beside it. tokenizer_config.json
// changes the tokenizer as transformers does: its added_tokens_decoder and named special tokens
// become added tokens, add_bos_token and add_eos_token replace the template of tokenizer.json. A
// sentencepiece model has further tokens in added_tokens.json, and no template: BOS alone.
#include "data/tokenizer.h"

#include <algorithm>
#include <charconv>
#include <unordered_map>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"
#include "data/pipeline_tokenizer.h"

namespace ft {
namespace {

/// The object in a file that need not be there.
Json optional_object(const fs::path& file) {
  if (!fs::exists(file)) return {};
  Json json = read_json(file);
  if (!json.is_object()) fail_input(file.string(), ": an object is wanted");
  return json;
}

/// A token written as a string or as an object with `content`; empty when it is neither.
std::string token_text(const Json* json) {
  if (!json) return {};
  if (json->is_string()) return json->string();
  const Json* content = json->get_set("content");
  return content && content->is_string() ? content->string() : std::string();
}

/// The added tokens by text and by id, for tables of thousands of them.
class AddedIndex {
 public:
  explicit AddedIndex(TokenizerParts& parts) : parts_(parts) {
    for (size_t i = 0; i < parts.added.size(); ++i) remember(i);
  }

  /// Adds a token or gives a known one new flags. Error when text and id do not belong together.
  void put(AddedToken token, const std::string& where) {
    const auto by_text = by_text_.find(token.content);
    const auto by_id = by_id_.find(token.id);
    const bool is_known =
        by_text != by_text_.end() && by_id != by_id_.end() && by_text->second == by_id->second;
    const Vocab& vocab = parts_.vocab();
    const int32_t in_vocab = vocab.find(token.content);
    const bool contradicts_vocab = in_vocab >= 0 ? in_vocab != token.id : vocab.has(token.id);
    const bool is_new = by_text == by_text_.end() && by_id == by_id_.end();
    if (!is_known && (!is_new || contradicts_vocab))
      fail_input(where, ": \"", printable(token.content), "\" with id ", token.id, " contradicts ",
                 parts_.sentencepiece ? "tokenizer.model" : "tokenizer.json");
    if (is_known) {
      parts_.added[by_id->second] = std::move(token);
    } else {
      parts_.added.push_back(std::move(token));
      remember(parts_.added.size() - 1);
    }
  }

 private:
  TokenizerParts& parts_;
  std::unordered_map<std::string, size_t> by_text_;
  std::unordered_map<int32_t, size_t> by_id_;

  void remember(size_t i) {
    by_text_.emplace(parts_.added[i].content, i);
    by_id_.emplace(parts_.added[i].id, i);
  }
};

void apply_added_decoder(TokenizerParts& parts, const Json& config, const std::string& file) {
  const Json* table = config.get_set("added_tokens_decoder");
  if (!table) return;
  if (!table->is_object()) fail_input(file, ": added_tokens_decoder: an object is wanted");
  AddedIndex index(parts);
  for (const auto& [key, value] : table->object()) {
    const std::string where = str(file, ": added_tokens_decoder[\"", printable(key), "\"]");
    AddedToken token;
    const auto read = std::from_chars(key.data(), key.data() + key.size(), token.id);
    if (read.ec != std::errc() || read.ptr != key.data() + key.size() || token.id < 0 ||
        token.id >= Vocab::kMaxId)
      fail_input(where, ": the key must be a token id");
    token.content = token_text(&value);
    if (token.content.empty()) continue;
    const auto flag = [&, &entry = value](const char* name) {
      return get_bool(entry, name, where).value_or(false);
    };
    if (value.is_object()) {
      token.single_word = flag("single_word");
      token.lstrip = flag("lstrip");
      token.rstrip = flag("rstrip");
      token.special = flag("special");
      token.normalized = get_bool(value, "normalized", where).value_or(!token.special);
    }
    index.put(std::move(token), where);
  }
}

/// added_tokens.json, of the time before added_tokens_decoder: texts and their ids.
void apply_added_tokens(TokenizerParts& parts, const fs::path& path) {
  const Json table = optional_object(path);
  if (table.is_null()) return;
  AddedIndex index(parts);
  for (const auto& [content, id] : table.object()) {
    const std::string where = str(path.string(), ": \"", printable(content), "\"");
    if (!id.is_int() || id.integer() < 0 || id.integer() >= Vocab::kMaxId)
      fail_input(where, ": a token id is wanted");
    if (content.empty()) continue;
    AddedToken token;
    token.id = static_cast<int32_t>(id.integer());
    token.content = content;
    const AddedToken* known = parts.find_added(content);
    token.special = known && known->special;
    index.put(std::move(token), where);
  }
}

/// Named special tokens of the vocabulary are special even where the tokenizer's own file does not
/// list them as such.
void make_special(TokenizerParts& parts, const std::string& text) {
  if (text.empty()) return;
  for (AddedToken& known : parts.added) {
    if (known.content != text) continue;
    if (parts.sentencepiece) known.special = true;  // tokenizer.json has a flag of its own
    return;
  }
  const int32_t id = parts.vocab().find(text);
  if (id < 0) return;
  AddedToken token;
  token.id = id;
  token.content = text;
  token.special = true;
  parts.added.push_back(std::move(token));
}

void apply_special_names(TokenizerParts& parts, const Json& config) {
  for (const char* key :
       {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    make_special(parts, token_text(config.get_set(key)));
  for (const char* key : {"additional_special_tokens", "extra_special_tokens"}) {
    const Json* list = config.get_set(key);
    if (!list) continue;
    if (list->is_array())
      for (const Json& entry : list->array()) make_special(parts, token_text(&entry));
    if (list->is_object())
      for (const auto& [name, entry] : list->object()) make_special(parts, token_text(&entry));
  }
}

struct NamedToken {
  std::string text;
  std::optional<int32_t> id;
};

/// bos, eos or pad: by name from the tokenizer's own files, else by id from the model's.
NamedToken named_token(const TokenizerParts& parts, const std::vector<Json>& by_name,
                       const std::vector<Json>& by_id, const std::string& name) {
  const std::string key = name + "_token";
  for (const Json& file : by_name) {
    NamedToken token{token_text(file.get_set(key)), std::nullopt};
    if (token.text.empty()) continue;
    const int32_t id = parts.id_of(token.text);
    if (id >= 0) token.id = id;
    return token;
  }
  for (const Json& file : by_id) {
    const Json* value = file.get_set(key + "_id");
    if (value && value->is_array() && !value->array().empty()) value = &value->array().front();
    if (!value || !value->is_int()) continue;
    const int64_t id = value->integer();
    for (const AddedToken& token : parts.added)
      if (token.id == id) return {token.content, token.id};
    if (parts.vocab().has(id))
      return {std::string(parts.vocab().text(id)), static_cast<int32_t>(id)};
  }
  return {};
}

/// As transformers: a config that says either of the two replaces the template of tokenizer.json.
void apply_template(TokenizerParts& parts, const Json& config, const std::string& file,
                    std::optional<int32_t> bos, std::optional<int32_t> eos) {
  const auto add_bos = get_bool(config, "add_bos_token", file);
  const auto add_eos = get_bool(config, "add_eos_token", file);
  if (!add_bos && !add_eos) return;
  parts.prefix.clear();
  parts.suffix.clear();
  if (add_bos.value_or(false) && bos) parts.prefix = {*bos};
  if (add_eos.value_or(false) && eos) parts.suffix = {*eos};
}

/// The template of a tokenizer without tokenizer.json: BOS, and what the config says.
void apply_model_template(TokenizerParts& parts, const Json& config, const std::string& file,
                          std::optional<int32_t> bos, std::optional<int32_t> eos) {
  if (get_bool(config, "add_bos_token", file).value_or(true) && bos) parts.prefix = {*bos};
  if (get_bool(config, "add_eos_token", file).value_or(false) && eos) parts.suffix = {*eos};
  parts.prefix_after_special = get_bool(config, "legacy", file).value_or(true);
}

/// The name a sentencepiece model has for it, where no file names another.
void use_own_name(NamedToken& token, const Vocab& vocab, std::optional<int32_t> own) {
  if (token.text.empty() && own) token = {std::string(vocab.text(*own)), own};
}

struct FoundTokenizer {
  TokenizerParts parts;
  fs::path file;
  bool is_json = false;
};

FoundTokenizer find_tokenizer(const fs::path& folder) {
  const fs::path json = folder / "tokenizer.json";
  if (fs::exists(json)) return {load_tokenizer_json(json), json, true};
  for (const fs::path& file :
       {folder / "tokenizer.model", folder / "original" / "tokenizer.model"}) {
    if (!fs::exists(file)) continue;
    const std::string content = read_file(file);
    const bool is_list = is_tiktoken(content);
    return {is_list ? parse_tiktoken(content, file.string())
                    : parse_sentencepiece(content, file.string()),
            file};
  }
  fail_input(folder.string(), ": no tokenizer, tokenizer.json or tokenizer.model is wanted");
}

}  // namespace

std::unique_ptr<Tokenizer> Tokenizer::load(const std::filesystem::path& folder) {
  FoundTokenizer found = find_tokenizer(folder);
  TokenizerParts& parts = found.parts;
  const fs::path config_file = folder / "tokenizer_config.json";
  const std::vector<Json> by_name = {optional_object(config_file),
                                     optional_object(folder / "special_tokens_map.json")};
  const std::vector<Json> by_id = {optional_object(folder / "generation_config.json"),
                                   optional_object(folder / "config.json")};
  const Json& config = by_name.front();
  if (parts.sentencepiece) apply_added_tokens(parts, folder / "added_tokens.json");
  if (found.is_json || parts.sentencepiece) {
    apply_added_decoder(parts, config, config_file.string());
    for (const Json& file : by_name) apply_special_names(parts, file);
  }
  NamedToken bos = named_token(parts, by_name, by_id, "bos");
  NamedToken eos = named_token(parts, by_name, by_id, "eos");
  NamedToken pad = named_token(parts, by_name, by_id, "pad");
  if (parts.sentencepiece) {
    const SentencePieceModel& model = *parts.sentencepiece;
    use_own_name(bos, model.vocab(), model.bos());
    use_own_name(eos, model.vocab(), model.eos());
    use_own_name(pad, model.vocab(), model.pad());
    apply_model_template(parts, config, config_file.string(), bos.id, eos.id);
    finish_sentencepiece(parts, found.file.string());
  } else if (found.is_json) {
    apply_template(parts, config, config_file.string(), bos.id, eos.id);
  } else {  // Meta's folder has no file that names them
    const auto or_default = [&](NamedToken& token, const char* text) {
      if (token.text.empty()) token = {text, parts.id_of(text)};
    };
    or_default(bos, "<|begin_of_text|>");
    or_default(eos, "<|end_of_text|>");
  }
  auto tokenizer = std::make_unique<PipelineTokenizer>(std::move(parts));
  tokenizer->bos_token = bos.text;
  tokenizer->eos_token = eos.text;
  tokenizer->pad_token = pad.text;
  tokenizer->bos_id = bos.id;
  tokenizer->eos_id = eos.id;
  tokenizer->pad_id = pad.id;
  return tokenizer;
}

std::vector<int32_t> Tokenizer::encode_ids(std::string_view text,
                                           const EncodeOptions& options) const {
  std::vector<int32_t> ids;
  for (const Token& token : encode(text, options)) ids.push_back(token.id);
  return ids;
}

}  // namespace ft
