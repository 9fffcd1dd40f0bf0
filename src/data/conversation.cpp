// Conversations: checks that a template would only answer with nonsense or a message without a
// line, and which answers carry loss. A template tells the trained parts of the text in order; with
// one part an answer, single answers can be left out (`loss`, `weight`, answers inside a prompt).
#include "data/conversation.h"

#include <algorithm>
#include <array>

#include "base/error.h"
#include "base/names.h"
#include "data/label.h"

namespace ft {
namespace {

struct Role {
  std::string_view name;
  std::string_view rendered;  ///< as chat templates call it
};
// developer is OpenAI's newer word for system; the templates of Llama and Gemma know only the
// older.
constexpr std::array<Role, 5> kRoles = {{{"system", "system"},
                                         {"developer", "system"},
                                         {"user", "user"},
                                         {"assistant", "assistant"},
                                         {"tool", "tool"}}};

std::string_view checked_role(const Json& message, const Row& row, std::string_view at) {
  const Json* role = message.get_set("role");
  if (!role || !role->is_string()) {
    fail_input(row.where, ": ", at, ": no \"role\"",
               message.get("from") ? "; {from, value} entries are the sharegpt format "
                                     "(data.columns: {conversations: messages})"
                                   : ", one of system, user, assistant, tool is wanted");
  }
  if (const Role* known = find(kRoles, role->string())) return known->rendered;
  std::vector<std::string_view> names;
  names.reserve(std::size(kRoles));
  for (const Role& r : kRoles) names.push_back(r.name);
  fail_input(row.where, ": ", at, ": role: unknown value \"", printable(role->string()), "\"",
             did_you_mean(role->string(), names), ", one of ", join(names), " is wanted");
}

/// A string, or a list of {"type": "text", "text": ...} put together.
std::string checked_content(const Json& message, const Row& row, std::string_view at) {
  const Json* content = message.get_set("content");
  const Json* calls = message.get_set("tool_calls");
  if (!content) {
    if (calls) return "";
    fail_input(row.where, ": ", at, ": no \"content\"");
  }
  if (content->is_string()) return content->string();
  if (!content->is_array())
    fail_input(row.where, ": ", at, ": content: wrong type, a string is wanted");
  std::string text;
  for (const Json& part : content->array()) {
    const Json* piece = part.get_set("text");
    if (!piece || !piece->is_string())
      fail_input(row.where, ": ", at, ": content: a part that is no text; only text can be used");
    text += piece->string();
  }
  return text;
}

/// The spans of answers that are not trained. `spans` are those of all answers.
std::vector<Span> take_silent(std::vector<Span>& spans, const std::vector<bool>& answered,
                              std::string_view where) {
  std::vector<Span> silent, kept;
  if (std::find(answered.begin(), answered.end(), false) == answered.end()) return silent;
  if (spans.size() != answered.size())
    fail_input(where, ": the chat template marks ", spans.size(), " trained parts for ",
               answered.size(),
               " assistant messages, so that single messages cannot be left out; "
               "use another data.chat_template or leave out loss and weight");
  for (size_t i = 0; i < spans.size(); ++i) (answered[i] ? kept : silent).push_back(spans[i]);
  spans = std::move(kept);
  return silent;
}

ChatInput chat_input(const Conversation& conversation, const Tokenizer& tokenizer) {
  ChatInput input;
  input.messages = conversation.messages;
  input.tools = conversation.tools;
  input.bos_token = tokenizer.bos_token;
  input.eos_token = tokenizer.eos_token;
  return input;
}

/// Fills what samples at the end of a run need: the conversation before its last answer.
void add_sample_texts(Document& out, ChatInput input, const ChatTemplate& chat_template) {
  Json::Array& messages = input.messages.array();
  while (!messages.empty()) {
    const Json answer = std::move(messages.back());
    messages.pop_back();
    if (answer.get("role")->string() != "assistant") continue;
    const Json* calls = answer.get_set("tool_calls");
    out.reference = answer.get("content")->string();
    if (out.reference.empty() && calls) out.reference = calls->dump();
    break;
  }
  if (messages.empty()) return;  // nothing that a generation could start from
  input.add_generation_prompt = true;
  out.prompt = chat_template.render(input);
  out.prompt_messages = std::move(input.messages);
}

}  // namespace

void Conversation::add(std::string_view role, std::string_view content) {
  add(Json::Object{{"role", role}, {"content", content}});
}

void Conversation::add(Json message, bool is_trained) {
  if (message.get("role")->string() == "assistant") answered.push_back(is_trained);
  messages.array().push_back(std::move(message));
}

bool loss_flag(const Json& message, const Row& row, std::string_view at) {
  const std::string where = str(row.where, ": ", at);
  const bool loss = get_bool(message, "loss", where).value_or(true);
  const double weight = get_double(message, "weight", where).value_or(1);
  if (weight != 0 && weight != 1) fail_input(where, ": weight: 0 or 1 is wanted");
  return loss && weight == 1;
}

void add_message(Conversation& conversation, const Json& message, const Row& row,
                 std::string_view at) {
  if (!message.is_object()) fail_input(row.where, ": ", at, ": an object is wanted");
  Json checked = message;
  checked.set("role", checked_role(message, row, at));
  checked.set("content", checked_content(message, row, at));
  const bool is_trained = loss_flag(message, row, at);
  checked.erase("loss");
  checked.erase("weight");
  if (const Json* calls = checked.get_set("tool_calls"); calls && !calls->is_array())
    fail_input(row.where, ": ", at, ": tool_calls: wrong type, a list is wanted");
  conversation.add(std::move(checked), is_trained);
}

void add_messages(Conversation& conversation, const Json& list, const Row& row,
                  std::string_view key) {
  if (list.array().empty())
    fail_input(row.where, ": ", key, ": an empty list, messages are wanted");
  for (size_t i = 0; i < list.array().size(); ++i)
    add_message(conversation, list.array()[i], row, str(key, "[", i, "]"));
}

Document make_chat(Conversation conversation, const Row& row, const DocumentMaker& maker) {
  const DataContext& context = maker.context;
  const Tokenizer& tokenizer = maker.tokenizer();
  if (!context.chat_template)
    fail_input(row.where,
               ": a conversation, but the model has no chat template; set data.chat_template: ",
               context.fitting_templates);
  Json::Array& messages = conversation.messages.array();
  const auto& system = context.config.system_prompt;
  if (system && (messages.empty() || messages[0].get("role")->string() != "system"))
    messages.insert(messages.begin(), Json::Object{{"role", "system"}, {"content", *system}});

  ChatInput input = chat_input(conversation, tokenizer);
  const TrainOn on = train_on(context.config);
  const bool all_answers = std::find(conversation.answered.begin(), conversation.answered.end(),
                                     false) == conversation.answered.end();
  RenderedChat chat;
  try {
    // Without answers to tell apart, templates that cannot mark them will do as well.
    chat = on == TrainOn::kAll && all_answers
               ? context.chat_template->render_with_breaks(input, maker.special_texts)
               : context.chat_template->render_for_training(input, maker.special_texts);
  } catch (const Error& e) {
    fail(e.code(), row.where, ": ", e.what());  // the template does not know the row
  }
  const std::vector<Span> silent = take_silent(chat.trained, conversation.answered, row.where);
  Document out = label_chat(std::move(chat), silent, on, tokenizer, row.where);
  if (context.keep_texts) add_sample_texts(out, std::move(input), *context.chat_template);
  return out;
}

}  // namespace ft
