// `sharegpt`: {"conversations": [{"from", "value"}], "system": "...", "tools": "JSON text"}, with
// the tool turns that LLaMA-Factory added: function_call holds {"name", "arguments"} (or a list of
// them) as JSON text, observation what the tool answered. They become the tool_calls and the tool
// role that chat templates know; bare function descriptions get the {"type": "function"} wrapping
// that those expect.
#include <array>

#include "base/error.h"
#include "base/names.h"
#include "data/conversation.h"

namespace ft {
namespace {

struct From {
  std::string_view name;
  std::string_view role;
};
constexpr std::array<From, 8> kFrom = {{{"human", "user"},
                                        {"gpt", "assistant"},
                                        {"system", "system"},
                                        {"function_call", "assistant"},
                                        {"observation", "tool"},
                                        {"tool", "tool"},
                                        {"user", "user"},
                                        {"assistant", "assistant"}}};

Json wrapped(Json function) {
  return Json::Object{{"type", "function"}, {"function", std::move(function)}};
}

/// {"name", "arguments"} as a tool call; arguments given as JSON text become an object.
Json tool_call(const Json& call, const std::string& where) {
  const auto name = get_string(call, "name", where);
  const Json* arguments = call.get_set("arguments");
  if (!name || !arguments) fail_input(where, ": a function call needs \"name\" and \"arguments\"");
  return wrapped(Json::Object{
      {"name", *name},
      {"arguments", arguments->is_string() ? parse_json(arguments->string(), where) : *arguments}});
}

Json function_call(const std::string& text, const std::string& where) {
  const Json parsed = parse_json(text, where);
  Json::Array calls;
  if (parsed.is_array()) {
    for (const Json& call : parsed.array()) calls.push_back(tool_call(call, where));
  } else {
    calls.push_back(tool_call(parsed, where));
  }
  return Json::Object{{"role", "assistant"}, {"content", ""}, {"tool_calls", std::move(calls)}};
}

void add_turn(Conversation& conversation, const Json& turn, const Row& row, const std::string& at) {
  const std::string where = str(row.where, ": ", at);
  if (!turn.is_object()) fail_input(where, ": an object is wanted");
  const auto from = get_string(turn, "from", where);
  const auto value = get_string(turn, "value", where);
  if (!from || !value)
    fail_input(where, ": no \"", from ? "value" : "from", "\"",
               turn.get("role") ? "; {role, content} entries are the messages format "
                                  "(data.columns: {messages: conversations})"
                                : "");
  const From* known = find(kFrom, *from);
  if (!known) {
    std::vector<std::string_view> names;
    names.reserve(std::size(kFrom));
    for (const From& f : kFrom) names.push_back(f.name);
    fail_input(where, ": from: unknown value \"", printable(*from), "\"",
               did_you_mean(*from, names), ", one of ", join(names), " is wanted");
  }
  Json message = known->name == "function_call"
                     ? function_call(*value, where)
                     : Json(Json::Object{{"role", known->role}, {"content", *value}});
  conversation.add(std::move(message), loss_flag(turn, row, at));
}

}  // namespace

Document make_sharegpt(const Row& row, const DocumentMaker& maker) {
  Conversation conversation;
  if (auto tools = list_member(row, "tools"); tools && !tools->array().empty()) {
    for (Json& tool : tools->array())
      if (!tool.get("function")) tool = wrapped(std::move(tool));
    conversation.tools = std::move(*tools);
  }
  const auto system = get_string(row.value, "system", row.where);
  if (system && !system->empty()) conversation.add("system", *system);
  const auto turns = list_member(row, "conversations");
  if (!turns || turns->array().empty())
    fail_input(row.where, ": conversations: an empty list, turns are wanted");
  for (size_t i = 0; i < turns->array().size(); ++i)
    add_turn(conversation, turns->array()[i], row, str("conversations[", i, "]"));
  return make_chat(std::move(conversation), row, maker);
}

}  // namespace ft
