// Reads a Hugging Face tokenizer.json (model type BPE) into TokenizerParts. Where the `tokenizers`
// library only warns (an added token whose id contradicts the vocabulary) this is an error:
// training would go to the wrong row of the embedding.
#include <algorithm>
#include <string>
#include <unordered_map>

#include "base/error.h"
#include "base/json.h"
#include "data/pipeline_tokenizer.h"

namespace ft {
namespace {

int32_t checked_id(const Json* value, const std::string& where) {
  if (!value || !value->is_int()) fail_input(where, ": a token id is wanted");
  if (value->integer() < 0 || value->integer() >= Vocab::kMaxId)
    fail_input(where, ": id ", value->integer(), " is out of range, 0 to ", Vocab::kMaxId - 1,
               " is wanted");
  return static_cast<int32_t>(value->integer());
}

const Json& required(const Json& object, std::string_view key, const std::string& where) {
  const Json* found = object.get(key);
  if (!found) fail_input(where, ": ", key, " is missing");
  return *found;
}

/// The two large parts, taken while the file is read: as Json values they would need hundreds of
/// megabytes.
struct LargeParts {
  Vocab vocab;
  std::string merge_texts;  ///< left and right of each merge, one after the other
  struct MergeText {
    size_t begin;
    uint32_t left, right;  ///< bytes
  };
  std::vector<MergeText> merges;

  void add_token(std::string_view text, const Json& value, const std::string& where) {
    const bool good = value.is_int() && value.integer() >= 0 && value.integer() < Vocab::kMaxId;
    const int32_t id = good ? static_cast<int32_t>(value.integer())
                            : checked_id(&value, str(where, "[\"", printable(text), "\"]"));
    if (vocab.add(text, id)) return;
    if (vocab.find(text) >= 0) fail_input(where, ": \"", printable(text), "\" is there twice");
    fail_input(where, "[\"", printable(text), "\"]: id ", id, " is taken by \"",
               printable(vocab.text(id)), "\"");
  }
  void add_merge(const Json& value, const std::string& where);
};

/// The two parts of a merge: ["a", "b"], or "a b" in older files.
std::pair<std::string_view, std::string_view> merge_parts(const Json& json) {
  if (json.is_array() && json.array().size() == 2 && json.array()[0].is_string() &&
      json.array()[1].is_string())
    return {json.array()[0].string(), json.array()[1].string()};
  if (!json.is_string()) return {};
  const std::string_view text = json.string();
  const size_t space = text.find(' ');
  if (space == text.npos || text.find(' ', space + 1) != text.npos) return {};
  return {text.substr(0, space), text.substr(space + 1)};
}

void LargeParts::add_merge(const Json& value, const std::string& where) {
  const auto [left, right] = merge_parts(value);
  if (left.empty() || right.empty())
    fail_input(where, "[", merges.size(), "]: two tokens are wanted");
  merges.push_back({merge_texts.size(), static_cast<uint32_t>(left.size()),
                    static_cast<uint32_t>(right.size())});
  merge_texts.append(left).append(right);
}

std::vector<Merge> find_merges(const LargeParts& large, const std::string& where) {
  std::vector<Merge> merges;
  merges.reserve(large.merges.size());
  const Vocab& vocab = large.vocab;
  for (const auto& entry : large.merges) {
    const auto rank = static_cast<uint32_t>(merges.size());
    const auto product =
        std::string_view(large.merge_texts).substr(entry.begin, size_t{entry.left} + entry.right);
    const auto left = product.substr(0, entry.left), right = product.substr(entry.left);
    const Merge merge{vocab.find(left), vocab.find(right), vocab.find(product), rank};
    if (merge.left < 0 || merge.right < 0 || merge.product < 0)
      fail_input(where, "[", rank, "]: \"",
                 printable(merge.left < 0    ? left
                           : merge.right < 0 ? right
                                             : product),
                 "\" is not in the vocabulary");
    merges.push_back(merge);
  }
  return merges;
}

std::unique_ptr<Bpe> parse_model(const Json& model, LargeParts large, bool byte_level,
                                 const std::string& where) {
  if (!model.is_object()) fail_input(where, ": an object is wanted");
  const std::string type = get_string(model, "type", where).value_or("BPE");
  if (type != "BPE")
    fail_input(where, ": model type \"", printable(type), "\" is not supported (BPE is)");
  if (get_double(model, "dropout", where).value_or(0) != 0)
    fail_input(where, ".dropout: only 0 is supported, encoding is deterministic");
  for (const char* key : {"continuing_subword_prefix", "end_of_word_suffix"})
    if (!get_string(model, key, where).value_or("").empty())
      fail_input(where, ".", key, ": not supported");
  if (!required(model, "vocab", where).is_object())
    fail_input(where, ".vocab: an object of token and id is wanted");
  if (large.vocab.size() == 0) fail_input(where, ".vocab: it is empty");
  if (!required(model, "merges", where).is_array()) fail_input(where, ".merges: a list is wanted");
  const std::vector<Merge> merges = find_merges(large, where + ".merges");
  const Vocab& vocab = large.vocab;
  BpeOptions options;
  options.byte_level = byte_level;
  options.byte_fallback = get_bool(model, "byte_fallback", where).value_or(false);
  options.fuse_unk = get_bool(model, "fuse_unk", where).value_or(false);
  options.ignore_merges = get_bool(model, "ignore_merges", where).value_or(false);
  if (const auto unk = get_string(model, "unk_token", where)) {
    options.unk = vocab.find(*unk);
    if (options.unk < 0)
      fail_input(where, ".unk_token: \"", printable(*unk), "\" is not in the vocabulary");
  }
  return std::make_unique<Bpe>(std::move(large.vocab), merges, options);
}

std::vector<AddedToken> parse_added(const Json& root, const Vocab& vocab, const std::string& file) {
  std::vector<AddedToken> added;
  const Json* list = root.get_set("added_tokens");
  if (!list) return added;
  if (!list->is_array()) fail_input(file, ": added_tokens: a list is wanted");
  std::unordered_map<std::string_view, int32_t> id_of;
  std::unordered_map<int32_t, std::string_view> text_of;
  for (size_t i = 0; i < list->array().size(); ++i) {
    const Json& json = list->array()[i];
    const std::string where = str(file, ": added_tokens[", i, "]");
    if (!json.is_object()) fail_input(where, ": an object is wanted");
    AddedToken token;
    token.id = checked_id(json.get("id"), where + ".id");
    token.content = required_string(json, "content", where);
    const auto flag = [&](const char* key) { return get_bool(json, key, where).value_or(false); };
    token.single_word = flag("single_word");
    token.lstrip = flag("lstrip");
    token.rstrip = flag("rstrip");
    token.special = flag("special");
    token.normalized = get_bool(json, "normalized", where).value_or(!token.special);
    if (token.content.empty()) continue;
    const int32_t in_vocab = vocab.find(token.content);
    if (in_vocab >= 0 ? in_vocab != token.id : vocab.has(token.id))
      fail_input(where, ": \"", printable(token.content), "\" with id ", token.id,
                 " contradicts model.vocab");
    const std::string_view content = json.get("content")->string();
    const auto [text, new_text] = id_of.emplace(content, token.id);
    const auto [id, new_id] = text_of.emplace(token.id, content);
    if (text->second != token.id || id->second != content)
      fail_input(where, ": \"", printable(content), "\" with id ", token.id,
                 " contradicts an earlier added token");
    if (new_text && new_id) added.push_back(std::move(token));
  }
  return added;
}

/// What add_special_tokens puts around a text; processors of a sequence wrap one another.
class PostProcessor {
 public:
  PostProcessor(TokenizerParts& parts, int64_t size) : parts_(parts), size_(size) {}

  void parse(const Json& json, const std::string& where, int depth) {
    if (json.is_null()) return;
    const std::string type = component_type(json, where);
    if (type == "Sequence") {
      const auto& list = sequence_of(json, "processors", where, depth);
      for (size_t i = 0; i < list.size(); ++i)
        parse(list[i], str(where, ".processors[", i, "]"), depth + 1);
    } else if (type == "TemplateProcessing") {
      parse_template(json, where);
    } else if (type == "BertProcessing" || type == "RobertaProcessing") {
      parts_.prefix.insert(parts_.prefix.begin(), pair_id(json, "cls", where));
      parts_.suffix.push_back(pair_id(json, "sep", where));
    } else if (type != "ByteLevel") {  // ByteLevel only trims the offsets it reports
      fail_input(where, ": post-processor \"", printable(type),
                 "\" is not supported (Sequence, TemplateProcessing, ByteLevel, BertProcessing and "
                 "RobertaProcessing are)");
    }
  }

 private:
  TokenizerParts& parts_;
  int64_t size_;

  int32_t known_id(const Json* json, const std::string& where) const {
    const int32_t id = checked_id(json, where);
    if (id >= size_) fail_input(where, ": id ", id, " is not in the vocabulary");
    return id;
  }

  int32_t pair_id(const Json& json, std::string_view key, const std::string& where) const {
    const Json* pair = json.get(key);
    if (!pair || !pair->is_array() || pair->array().size() != 2)
      fail_input(where, ".", key, ": a token and its id are wanted");
    return known_id(&pair->array()[1], str(where, ".", key));
  }

  void parse_template(const Json& json, const std::string& where) {
    const Json* items = json.get("single");
    if (!items || !items->is_array()) fail_input(where, ".single: a list is wanted");
    std::vector<int32_t> before, after;
    bool seen_text = false;
    for (size_t i = 0; i < items->array().size(); ++i) {
      const std::string here = str(where, ".single[", i, "]");
      const Json& item = items->array()[i];
      if (const Json* sequence = item.get("Sequence")) {
        if (!sequence->is_object() || required_string(*sequence, "id", here) != "A" || seen_text)
          fail_input(here, ": the text A is wanted once");
        seen_text = true;
      } else if (const Json* special = item.get("SpecialToken")) {
        std::vector<int32_t>& side = seen_text ? after : before;
        append_special(json, required_string(*special, "id", here), where, side);
      } else {
        fail_input(here, ": Sequence or SpecialToken is wanted");
      }
    }
    if (!seen_text) fail_input(where, ".single: the text A is missing");
    parts_.prefix.insert(parts_.prefix.begin(), before.begin(), before.end());
    parts_.suffix.insert(parts_.suffix.end(), after.begin(), after.end());
  }

  void append_special(const Json& json, const std::string& name, const std::string& where,
                      std::vector<int32_t>& side) const {
    const Json* table = json.get("special_tokens");
    const Json* entry = table ? table->get(name) : nullptr;
    const Json* ids = entry ? entry->get("ids") : nullptr;
    if (!ids || !ids->is_array())
      fail_input(where, ".special_tokens: \"", printable(name), "\" with its ids is missing");
    for (const Json& id : ids->array())
      side.push_back(known_id(&id, str(where, ".special_tokens[\"", printable(name), "\"].ids")));
  }
};

}  // namespace

TokenizerParts load_tokenizer_json(const std::filesystem::path& path) {
  const std::string file = path.string();
  const std::string vocab_where = file + ": model.vocab", merges_where = file + ": model.merges";
  LargeParts large;
  const JsonTake takes[] = {
      {"model.vocab", true,
       [&](std::string_view text, const Json& id) { large.add_token(text, id, vocab_where); }},
      {"model.merges", false,
       [&](std::string_view, const Json& merge) { large.add_merge(merge, merges_where); }}};
  const Json root = read_json(path, takes);
  if (!root.is_object()) fail_input(file, ": an object is wanted");
  const auto part = [&](const char* key) {
    const Json* found = root.get(key);
    return found ? *found : Json();
  };
  TokenizerParts parts;
  parts.normalizer = Normalizer::parse(part("normalizer"), file + ": normalizer");
  parts.pre_tokenizer = PreTokenizer::parse(part("pre_tokenizer"), file + ": pre_tokenizer");
  parts.decoder = TokenDecoder::parse(part("decoder"), file + ": decoder");
  parts.bpe = parse_model(required(root, "model", file), std::move(large),
                          parts.pre_tokenizer.is_byte_level(), file + ": model");
  parts.added = parse_added(root, parts.bpe->vocab(), file);
  int64_t size = parts.bpe->vocab().size();
  for (const AddedToken& token : parts.added) size = std::max<int64_t>(size, token.id + 1);
  PostProcessor(parts, size).parse(part("post_processor"), file + ": post_processor", 0);
  return parts;
}

}  // namespace ft
