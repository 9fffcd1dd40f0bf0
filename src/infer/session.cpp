#include "infer/session.h"

#include <set>

#include "base/error.h"
#include "base/files.h"
#include "config/fields.h"
#include "kernels/device.h"
#include "kernels/mode.h"

namespace ft {
namespace {

void add_eos(const Json& json, const std::string& where, std::set<int32_t>& ids) {
  const Json* eos = json.get_set("eos_token_id");
  if (!eos) return;
  const Json::Array list = eos->is_array() ? eos->array() : Json::Array{*eos};
  for (const Json& id : list) {
    if (!id.is_int()) fail_input(where, ": eos_token_id: an integer or a list of them is wanted");
    ids.insert(static_cast<int32_t>(id.integer()));
  }
}

/// The first special token after the answer in a rendered exchange.
std::optional<int32_t> turn_end(const Session& s) {
  ChatInput input;
  input.messages = Json::Array{Json::Object{{"role", "user"}, {"content", "a"}},
                               Json::Object{{"role", "assistant"}, {"content", "b"}}};
  input.bos_token = s.tokenizer->bos_token;
  input.eos_token = s.tokenizer->eos_token;
  try {
    const RenderedChat chat = s.chat_template->render_for_training(input, {});
    if (chat.trained.empty()) return std::nullopt;
    for (const Token& t : s.tokenizer->encode(chat.text, {}))
      if (t.begin > chat.trained.back().begin && s.tokenizer->is_special(t.id)) return t.id;
  } catch (const Error&) {  // a template that refuses this exchange says nothing about its turns
  }
  return std::nullopt;
}

Session open_text(const RunConfig& config, const fs::path& folder) {
  Session s;
  const bool has_tokenizer =
      fs::exists(folder / "tokenizer.json") || fs::exists(folder / "tokenizer.model");
  if (has_tokenizer) s.tokenizer = Tokenizer::load(folder);
  s.chat_template = ChatTemplate::load(config.data.chat_template, folder);
  if (!s.chat_template) s.fitting_templates = fitting_templates(folder);
  return s;
}

/// A base that is stored in four bits is taken as it is.
void check_quantization(const RunConfig& config, const Model& model) {
  if (!model.quantization) return;
  RunConfig as_loaded = config;
  as_loaded.quantization = *model.quantization;
  for (const std::string& key : changed_keys(config, as_loaded))
    if (config.given_keys.contains(key))
      fail_usage(key, ": ", printable_line(model.folder.string()),
                 " is stored in 4 bits in another way (", model.quantization->type,
                 "); leave it out, or use the base in 16 bits");
}

}  // namespace

DataContext Session::data_context(const DataConfig& config) const {
  return {config,
          tokenizer.get(),
          chat_template ? &*chat_template : nullptr,
          model       ? model->decoder.spec.vocab_size
          : tokenizer ? tokenizer->size()
                      : 0,
          true,
          fitting_templates};
}

const Tokenizer& Session::need_tokenizer() const {
  if (!tokenizer)
    fail_input(model ? model->folder.string() : "model",
               ": no tokenizer.json or tokenizer.model, which text needs");
  return *tokenizer;
}

at::Device parse_device(const std::string& name) {
  if (name == "auto") return has_cuda() ? at::Device(at::kCUDA, 0) : at::Device(at::kCPU);
  if (name == "cpu") return at::kCPU;
  if (!has_cuda())
    fail_usage("device: ", name,
               ": no CUDA device can be used here; device: cpu or auto is wanted");
  return at::Device(name == "cuda" ? "cuda:0" : name);
}

Session open_session(const RunConfig& config, const std::optional<std::string>& adapter) {
  set_kernel_mode(config.kernels == "reference" ? KernelMode::kReference : KernelMode::kAuto);
  Session s = open_text(config, config.model);
  s.model = load_model(config.model, parse_dtype(config.dtype), parse_device(config.device),
                       config.method == "qlora" ? &config.quantization : nullptr);
  check_quantization(config, *s.model);
  if (adapter) s.adapters = load_adapter(*s.model, *adapter);
  return s;
}

Session open_text_session(const RunConfig& config) {
  return open_text(config, config.model);
}

std::vector<int32_t> encode_messages(const Session& session, const Json& messages,
                                     const Json& tools) {
  if (!session.chat_template)
    fail_usage(
        session.model->folder.string(),
        ": the model has no chat template; set data.chat_template: ", session.fitting_templates,
        " (--set data.chat_template=...) or use --raw for plain text");
  const Tokenizer& tokenizer = session.need_tokenizer();
  ChatInput input;
  input.messages = messages;
  input.tools = tools;
  input.add_generation_prompt = true;
  input.bos_token = tokenizer.bos_token;
  input.eos_token = tokenizer.eos_token;
  const RenderedChat chat =
      session.chat_template->render_with_breaks(input, tokenizer.special_texts());
  return tokenizer.encode_ids(chat.text, {.breaks = chat.breaks});
}

std::vector<int32_t> end_tokens(const Session& s) {
  std::set<int32_t> ids;
  for (const char* name : {"generation_config.json", "config.json"}) {
    const fs::path file = s.model->folder / name;
    if (fs::exists(file)) add_eos(read_json(file), file.string(), ids);
  }
  if (s.tokenizer && s.tokenizer->eos_id) ids.insert(*s.tokenizer->eos_id);
  if (s.tokenizer && s.chat_template)
    if (const auto id = turn_end(s)) ids.insert(*id);
  return {ids.begin(), ids.end()};
}

}  // namespace ft
