// generate() and chat(): prompts as text, messages or ids -> completions.
#include <chrono>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "base/names.h"
#include "data/utf8.h"
#include "infer/generate.h"

namespace ft {
namespace {

struct Prompt {
  std::vector<int32_t> ids;
  std::string text;     ///< what the user gave, for the result
  int64_t adapter = 0;  ///< among the options' adapters; -1: the base
};

Json as_messages(const std::optional<std::string>& system, const std::string& text) {
  Json::Array messages;
  if (system) messages.push_back(Json::Object{{"role", "system"}, {"content", *system}});
  messages.push_back(Json::Object{{"role", "user"}, {"content", text}});
  return messages;
}

Prompt from_text(const Session& session, const GenerateOptions& o, const std::string& text) {
  if (o.raw)
    return {session.need_tokenizer().encode_ids(
                text, {.add_special_tokens = true, .parse_special = false}),
            text};
  return {encode_messages(session, as_messages(o.system, text), {}), text};
}

/// A line of --prompts.
Prompt from_row(const Session& session, const GenerateOptions& o, const Row& row) {
  if (const Json* ids = row.value.get_set("input_ids")) {
    Prompt prompt;
    if (!ids->is_array()) fail_input(row.where, ": input_ids: a list of token ids is wanted");
    for (const Json& id : ids->array()) {
      if (!id.is_int() || id.integer() < 0 || id.integer() > INT32_MAX)
        fail_input(row.where, ": input_ids: a list of token ids is wanted");
      prompt.ids.push_back(static_cast<int32_t>(id.integer()));
    }
    if (session.tokenizer) prompt.text = session.tokenizer->decode(prompt.ids);
    return prompt;
  }
  if (const Json* messages = row.value.get_set("messages")) {
    if (!messages->is_array() || messages->array().empty())
      fail_input(row.where, ": messages: a list of messages is wanted");
    Json all = *messages;
    const Json* first_role = all.array()[0].get("role");
    if (o.system && !(first_role && *first_role == Json("system")))
      all.array().insert(all.array().begin(),
                         Json::Object{{"role", "system"}, {"content", *o.system}});
    const Json* tools = row.value.get("tools");
    return {encode_messages(session, all, tools ? *tools : Json()), all.dump()};
  }
  const auto text = get_string(row.value, "prompt", row.where);
  if (!text) fail_input(row.where, ": one of the keys prompt, messages or input_ids is wanted");
  return from_text(session, o, *text);
}

/// The adapter that a line of --prompts names: the first where it says nothing, -1 for the base.
int64_t adapter_of(const GenerateOptions& o, const Row& row) {
  const Json* named = row.value.get("adapter");
  if (!named) return o.adapters.empty() ? -1 : 0;
  if (named->is_null() || *named == Json("none")) return -1;
  if (!named->is_string())
    fail_input(row.where, ": adapter: the name of an --adapter, or null, is wanted");
  std::vector<std::string_view> names;
  for (size_t i = 0; i < o.adapters.size(); ++i) {
    if (o.adapters[i].name == named->string()) return static_cast<int64_t>(i);
    names.push_back(o.adapters[i].name);
  }
  fail_input(row.where, ": adapter: ", printable(named->string()), ": no such adapter",
             did_you_mean(named->string(), names), "; there ",
             names.empty() ? "is none (--adapter NAME=DIR)" : str("are ", printable(join(names))));
}

/// What came over the command line goes into JSON and into the tokenizer.
void check_texts(const GenerateOptions& o) {
  const auto check = [](const std::string& text, const char* option) {
    if (valid_utf8_prefix(text) < text.size())
      fail_usage(option, ": ", printable(text), ": not UTF-8, text in UTF-8 is wanted");
  };
  for (const std::string& text : o.prompts) check(text, "--prompt");
  for (const std::string& text : o.sampling.stop) {
    check(text, "--stop");
    if (text.empty()) fail_usage("--stop: empty, a text is wanted");
  }
  if (o.system) check(*o.system, "--system");
  const SamplingOptions& s = o.sampling;
  for (const auto& [option, value] :
       {std::pair("--temperature", s.temperature), std::pair("--top-p", s.top_p),
        std::pair("--min-p", s.min_p), std::pair("--repetition-penalty", s.repetition_penalty)})
    if (std::isnan(value)) fail_usage(option, ": not a number");
}

std::vector<Prompt> collect_prompts(const Session& session, const GenerateOptions& o) {
  std::vector<Prompt> prompts;
  for (const std::string& text : o.prompts) {
    prompts.push_back(from_text(session, o, text));
    prompts.back().adapter = o.adapters.empty() ? -1 : 0;
  }
  if (o.prompts_file)
    for (const Row& row : read_rows({*o.prompts_file})) {
      try {
        prompts.push_back(from_row(session, o, row));
        check_prompt(prompts.back().ids, session);
      } catch (const Error& e) {
        const std::string what = e.what();
        if (what.starts_with(row.where)) throw;
        fail_input(row.where, ": ", what);
      }
      prompts.back().adapter = adapter_of(o, row);
    }
  if (prompts.empty()) fail_usage("generate: no prompt; --prompt TEXT or --prompts FILE is wanted");
  return prompts;
}

/// All prompts in one batch, each with its adapter, but for adapters that train whole modules:
/// those take the model's place, so their prompts are batches of their own.
std::vector<Generated> generate_with_adapters(
    const Session& session, const std::vector<Prompt>& prompts, const SamplingOptions& sampling,
    const std::function<void(const std::string&)>& on_text) {
  std::map<int64_t, std::vector<Request>> batches;  // -1: the shared one
  for (size_t i = 0; i < prompts.size(); ++i) {
    const int64_t adapter = prompts[i].adapter;
    const bool is_alone = adapter >= 0 && !session.bank->set(adapter).replaced.empty();
    batches[is_alone ? adapter : -1].push_back({prompts[i].ids, i, adapter});
  }
  const auto n = static_cast<size_t>(sampling.n);
  std::vector<Generated> results(prompts.size() * n);
  const std::vector<int32_t> ends = end_tokens(session);
  for (const auto& [adapter, requests] : batches) {
    if (session.bank) session.bank->install(*session.model, adapter);
    std::vector<Generated> part = generate_batch(session, requests, sampling, ends, on_text);
    for (size_t i = 0; i < part.size(); ++i)
      results[requests[i / n].number * n + i % n] = std::move(part[i]);
  }
  return results;
}

}  // namespace

GenerateResult generate(const GenerateOptions& options,
                        const std::function<void(const std::string&)>& on_text) {
  check_texts(options);
  Session session = open_session(options.config, std::nullopt);
  if (!options.adapters.empty())
    session.bank = std::make_unique<AdapterBank>(*session.model, options.adapters);
  const std::vector<Prompt> prompts = collect_prompts(session, options);
  const auto start = std::chrono::steady_clock::now();
  const auto generated = generate_with_adapters(session, prompts, options.sampling, on_text);
  const double seconds =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  GenerateResult result;
  size_t tokens = 0;
  for (size_t i = 0; i < generated.size(); ++i) {
    const Generated& g = generated[i];
    tokens += g.ids.size();
    result.completions.push_back({prompts[i / static_cast<size_t>(options.sampling.n)].text, g.text,
                                  g.ids, g.finish_reason});
  }
  result.tokens_per_second = static_cast<double>(tokens) / seconds;
  return result;
}

void chat(const GenerateOptions& options, const std::function<std::optional<std::string>()>& read,
          const std::function<void(const std::string&)>& write) {
  check_texts(options);
  if (options.adapters.size() > 1)
    fail_usage("--adapter: ", options.adapters.size(), " given, a chat takes one");
  std::optional<std::string> adapter;
  if (!options.adapters.empty()) adapter = options.adapters[0].folder;
  const Session session = open_session(options.config, adapter);
  const std::vector<int32_t> ends = end_tokens(session);
  Json::Array messages;
  if (options.system)
    messages.push_back(Json::Object{{"role", "system"}, {"content", *options.system}});
  std::string transcript;  // of a raw conversation
  while (auto line = read()) {
    if (line->empty()) continue;
    *line = lossy_utf8(*line);
    std::vector<int32_t> ids;
    if (options.raw) {
      transcript += *line;
      ids = from_text(session, options, transcript).ids;
    } else {
      messages.push_back(Json::Object{{"role", "user"}, {"content", *line}});
      ids = encode_messages(session, messages, {});
    }
    SamplingOptions sampling = options.sampling;
    sampling.n = 1;
    const auto answer = generate_batch(session, {ids}, sampling, ends, write);
    write("\n");
    transcript += answer[0].text;
    messages.push_back(Json::Object{{"role", "assistant"}, {"content", answer[0].text}});
  }
}

}  // namespace ft
