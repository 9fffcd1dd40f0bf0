// Chat templates: where they come from, what they are given, and which part of the text is trained
// on.
//
// A template marks answers with {% generation %} blocks, or they are found by rendering: an answer
// is what the conversation with it has beyond the prompt for it. That needs a template that leaves
// the text of earlier messages alone; where it does not (Qwen 3 drops old thinking), the answer
// would be cut in the wrong place, so that is an error.
//
// What a user typed must not become a control token. Such text gets a break: a byte that the engine
// carries along without seeing it (data/jinja/text.h), taken out after rendering.
#include "data/chat_template.h"

#include <algorithm>
#include <array>
#include <mutex>

#include "base/error.h"
#include "base/files.h"
#include "base/names.h"
#include "data/builtin_templates.h"
#include "data/jinja/builtins.h"
#include "data/jinja/template.h"

namespace ft {

namespace {

using jinja::Runtime;
using jinja::Value;

/// Puts a break into every occurrence of a special text.
class Breaker {
 public:
  explicit Breaker(std::vector<std::string> special_texts) : texts_(std::move(special_texts)) {
    // One character has no inside, and runs of blanks (tokens of Gemma) control nothing.
    for (const std::string& text : texts_)
      if (jinja::num_points(text) > 1 && !jinja::strip(text, std::nullopt, 'b').empty())
        by_first_[static_cast<unsigned char>(text[0])].push_back(text);
    for (auto& texts : by_first_) std::sort(texts.begin(), texts.end());
  }
  Breaker(const Breaker&) = delete;
  Breaker& operator=(const Breaker&) = delete;

  const std::vector<std::string>& texts() const { return texts_; }

  std::string operator()(std::string text) const {
    std::string out;
    size_t done = 0;
    for (size_t at = 0; at < text.size(); ++at) {
      if (!begins_special(std::string_view(text).substr(at))) continue;
      // After the first character: inside of every special text that begins here.
      const size_t inside = at + jinja::width(text[at]);
      out.append(text, done, inside - done);
      out += jinja::kBreakMark;
      done = inside;
    }
    return done == 0 ? std::move(text) : out.append(text, done);
  }

 private:
  std::vector<std::string> texts_;
  std::array<std::vector<std::string_view>, 256> by_first_;  // sorted

  bool begins_special(std::string_view rest) const {
    const auto& specials = by_first_[static_cast<unsigned char>(rest[0])];
    if (specials.empty()) return false;
    const std::string_view start = rest.substr(0, 2);
    auto s = std::lower_bound(specials.begin(), specials.end(), start);
    for (; s != specials.end() && s->starts_with(start); ++s)
      if (rest.starts_with(*s)) return true;
    return false;
  }
};

std::string edit_text(const void* context, std::string text) {
  return (*static_cast<const Breaker*>(context))(std::move(text));
}

/// `reasoning_content` stands for its older names too, as in transformers.
Json with_reasoning(const Json& message) {
  const Json* found = nullptr;
  for (const char* key : {"reasoning_content", "thinking", "reasoning"})
    if (!found) found = message.get_set(key);
  if (!found) return message;
  const Json reasoning = *found;
  Json::Object members;
  if (!message.get("thinking")) members.emplace_back("thinking", reasoning);
  Json out(std::move(members));
  for (const auto& [key, value] : message.object()) out.set(key, value);
  out.set("reasoning_content", reasoning);
  return out;
}

/// The variables of one conversation, rendered as often as needed.
class Conversation {
 public:
  Conversation(const jinja::Template& source, const ChatInput& input, const Breaker* breaker)
      : source_(source), input_(input) {
    try {
      convert(breaker);
    } catch (const jinja::Failure& failure) {
      fail_input(source.name(), ": ", failure.message);
    }
  }

  size_t size() const { return messages_.size(); }

  /// The first `count` messages.
  std::string render(size_t count, bool add_generation_prompt, bool mark) const {
    Runtime runtime;
    runtime.now = input_.now;
    const auto end = messages_.begin() + static_cast<std::ptrdiff_t>(count);
    jinja::Template::Variables variables = {
        {"messages", Value::list(runtime.budget, {messages_.begin(), end})},
        {"tools", tools_},
        {"documents", Value()},
        {"add_generation_prompt", Value(add_generation_prompt)},
        {"bos_token", Value(input_.bos_token)},
        {"eos_token", Value(input_.eos_token)}};
    variables.insert(variables.end(), extra_.begin(), extra_.end());
    return source_.render(runtime, variables, mark);
  }

 private:
  const jinja::Template& source_;
  const ChatInput& input_;
  std::vector<Value> messages_;
  Value tools_;
  jinja::Template::Variables extra_;

  void convert(const Breaker* breaker) {
    jinja::Budget budget;
    if (!input_.messages.is_array()) fail_input("messages: wrong type, a list is wanted");
    const auto edit = breaker ? edit_text : nullptr;
    for (const Json& message : input_.messages.array()) {
      if (!message.is_object())
        fail_input("messages: every message must be an object with role and content");
      messages_.push_back(jinja::from_json(with_reasoning(message), budget, edit, breaker));
    }
    tools_ = jinja::from_json(input_.tools, budget, edit, breaker);
    if (input_.extra.is_null()) return;
    if (!input_.extra.is_object()) fail_input("template variables: an object is wanted");
    for (const auto& [name, value] : input_.extra.object())
      extra_.emplace_back(name, jinja::from_json(value, budget, edit, breaker));
  }
};

/// Takes the marks out and notes where they were.
RenderedChat without_marks(const std::string& marked, const std::string& name) {
  RenderedChat out;
  out.text.reserve(marked.size());
  int open = 0;
  for (const char c : marked) {
    const size_t at = out.text.size();
    if (c == jinja::kBreakMark) {
      if (out.breaks.empty() || out.breaks.back() != at) out.breaks.push_back(at);
    } else if (c == jinja::kBeginMark) {
      if (open++ == 0) out.trained.push_back({at, at});
    } else if (c == jinja::kEndMark) {
      if (--open < 0) break;
      if (open == 0) out.trained.back().end = at;
    } else {
      out.text += c;
    }
  }
  if (open != 0) fail_input(name, ": the template cuts through the text of a generation block");
  return out;
}

constexpr std::string_view kInstead =
    "; a template with {% generation %} blocks or data.train_on: all is wanted";

/// What each answer adds after its generation prompt.
std::vector<Span> answer_spans(const Conversation& conversation, const ChatInput& input,
                               const std::string& full, const std::string& name) {
  std::vector<Span> spans;
  for (size_t i = 0; i < conversation.size(); ++i) {
    const Json* role = input.messages.array()[i].get("role");
    if (!role || *role != Json("assistant")) continue;
    std::string prefix, whole;
    try {
      prefix = jinja::without_marks(conversation.render(i, true, false));
      if (i + 1 < conversation.size() || input.add_generation_prompt)
        whole = jinja::without_marks(conversation.render(i + 1, false, false));
      else
        whole = full;
    } catch (const Error& error) {
      fail_input(name, ": the answer in message ", i + 1,
                 " cannot be marked, the template renders no conversation that ends there (",
                 error.what(), ")", kInstead);
    }
    if (!whole.starts_with(prefix) || !full.starts_with(whole))
      fail_input(name, ": the answer in message ", i + 1,
                 " cannot be marked, the template is not prefix-preserving (it renders earlier "
                 "messages differently once others follow)",
                 kInstead);
    spans.push_back({prefix.size(), whole.size()});
  }
  return spans;
}

/// The text of `chat_template` in tokenizer_config.json or chat_template.json: a string, or a list
/// of {name, template}, of which the one named default is taken, or the only one.
std::optional<ChatTemplate> from_config(const fs::path& file) {
  if (!fs::exists(file)) return std::nullopt;
  const Json config = read_json(file);
  const Json* value = config.get_set("chat_template");
  if (!value) return std::nullopt;
  const std::string where = file.string() + ": chat_template";
  if (value->is_string()) return ChatTemplate::parse(value->string(), where);
  if (!value->is_array()) fail_input(where, ": wrong type, a string or a list is wanted");
  std::vector<std::string_view> names;
  const Json* chosen = nullptr;
  for (const Json& entry : value->array()) {
    const Json *name = entry.get("name"), *text = entry.get("template");
    if (!name || !name->is_string() || !text || !text->is_string())
      fail_input(where, ": every entry must have a name and a template");
    names.push_back(name->string());
    if (name->string() == "default" || value->array().size() == 1) chosen = text;
  }
  if (value->array().empty()) return std::nullopt;
  if (!chosen)
    fail_input(where, ": no template is named \"default\" (there are: ", printable(join(names)),
               "); put the wanted one into a file and set data.chat_template to it");
  return ChatTemplate::parse(chosen->string(), where);
}

std::optional<ChatTemplate> from_folder(const fs::path& folder) {
  const fs::path file = folder / "chat_template.jinja";
  if (fs::exists(file)) return ChatTemplate::parse(read_file(file), file.string());
  if (auto found = from_config(folder / "chat_template.json")) return found;
  return from_config(folder / "tokenizer_config.json");
}

}  // namespace

struct ChatTemplate::Impl {
  explicit Impl(jinja::Template parsed) : source(std::move(parsed)) {}
  jinja::Template source;

  /// A tokenizer may have thousands of special texts: they are sorted once, not for every row.
  std::shared_ptr<const Breaker> breaker(const std::vector<std::string>& special_texts) {
    const std::lock_guard lock(mutex_);
    if (!breaker_ || breaker_->texts() != special_texts)
      breaker_ = std::make_shared<const Breaker>(special_texts);
    return breaker_;
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<const Breaker> breaker_;
};

ChatTemplate::ChatTemplate() = default;
ChatTemplate::~ChatTemplate() = default;
ChatTemplate::ChatTemplate(ChatTemplate&&) noexcept = default;
ChatTemplate& ChatTemplate::operator=(ChatTemplate&&) noexcept = default;

ChatTemplate ChatTemplate::parse(std::string_view source, std::string name) {
  ChatTemplate made;
  made.impl_ = std::make_unique<Impl>(jinja::Template(source, std::move(name)));
  return made;
}

std::optional<ChatTemplate> ChatTemplate::load(const std::string& choice,
                                               const fs::path& model_folder) {
  if (choice == "auto") return from_folder(model_folder);
  const auto templates = builtin_templates();
  if (const BuiltinTemplate* builtin = find(templates, choice))
    return parse(builtin->source, "chat template " + choice);
  if (fs::is_regular_file(choice)) return parse(read_file(choice), choice);
  std::vector<std::string_view> names = {"auto"};
  for (const BuiltinTemplate& builtin : templates) names.push_back(builtin.name);
  fail_usage("data.chat_template: \"", printable(choice), "\" is neither a file nor one of ",
             join(names), did_you_mean(choice, names));
}

std::string fitting_templates(const fs::path& model_folder) {
  const fs::path config = model_folder / "config.json";
  if (fs::exists(config)) {
    const std::string type =
        get_string(read_json(config), "model_type", config.string()).value_or("");
    if (type.starts_with("gemma")) return "gemma";
  }
  std::vector<std::string_view> names;
  for (const BuiltinTemplate& builtin : builtin_templates()) names.push_back(builtin.name);
  return "NAME, which is one of " + join(names) + " or a file";
}

std::string ChatTemplate::render(const ChatInput& input) const {
  const Conversation conversation(impl_->source, input, nullptr);
  return conversation.render(conversation.size(), input.add_generation_prompt, false);
}

RenderedChat ChatTemplate::render_for_training(
    const ChatInput& input, const std::vector<std::string>& special_texts) const {
  const auto breaker = impl_->breaker(special_texts);
  const Conversation conversation(impl_->source, input, breaker.get());
  const std::string& name = impl_->source.name();
  RenderedChat out = without_marks(
      conversation.render(conversation.size(), input.add_generation_prompt, true), name);
  if (!has_generation_blocks()) out.trained = answer_spans(conversation, input, out.text, name);
  return out;
}

RenderedChat ChatTemplate::render_with_breaks(const ChatInput& input,
                                              const std::vector<std::string>& special_texts) const {
  const auto breaker = impl_->breaker(special_texts);
  const Conversation conversation(impl_->source, input, breaker.get());
  return without_marks(conversation.render(conversation.size(), input.add_generation_prompt, false),
                       impl_->source.name());
}

bool ChatTemplate::has_generation_blocks() const {
  return impl_->source.has_generation_blocks();
}

}  // namespace ft
