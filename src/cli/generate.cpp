#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/options.h"

namespace ft {
namespace {

void add_sampling(CLI::App& app, SamplingOptions& s) {
  app.add_option("--max-new-tokens", s.max_new_tokens, "at most this many tokens (256)")
      ->check(CLI::Range(1, 1 << 24));
  app.add_option("--temperature", s.temperature, "0: greedy (the default)")
      ->check(CLI::Range(0.0, 100.0));
  app.add_option("--top-k", s.top_k, "sample from the k best tokens; 0: all")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--top-p", s.top_p, "sample from the best tokens that make up this share")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--min-p", s.min_p, "drop tokens below this share of the best one's probability")
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--repetition-penalty", s.repetition_penalty,
                 "above 1: seen tokens become less likely")
      ->check(CLI::Range(0.01, 100.0));
  app.add_option("--seed", s.seed, "of the random choices (42)");
  app.add_option("--n", s.n, "samples per prompt")->check(CLI::Range(1, 4096));
  app.add_option("--stop", s.stop, "text that ends the answer; may be given several times")
      ->allow_extra_args(false);
}

/// A folder of that very name, or NAME=DIR.
NamedAdapter parse_adapter(const std::string& text) {
  const size_t equals = text.find('=');
  if (equals == std::string::npos || std::filesystem::exists(text)) return {text, text};
  return {text.substr(0, equals), text.substr(equals + 1)};
}

void print_text(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

Json to_json(const GenerateResult& result) {
  Json::Array completions;
  for (const Completion& c : result.completions) {
    Json::Array ids;
    for (const int32_t id : c.token_ids) ids.emplace_back(static_cast<int64_t>(id));
    completions.push_back(Json::Object{{"prompt", c.prompt},
                                       {"text", c.text},
                                       {"token_ids", std::move(ids)},
                                       {"finish_reason", c.finish_reason}});
  }
  return Json::Object{{"completions", std::move(completions)},
                      {"tokens_per_second", result.tokens_per_second}};
}

int run_chat(const GenerateOptions& options) {
  std::fprintf(stderr, "chat with %s; end with Ctrl-D\n", options.config.model.c_str());
  chat(
      options,
      []() -> std::optional<std::string> {
        std::fprintf(stderr, "> ");
        std::string line;
        if (!std::getline(std::cin, line)) return std::nullopt;
        return line;
      },
      print_text);
  return 0;
}

int run_prompts(const GenerateOptions& options, bool json) {
  const bool streams =
      !json && options.prompts.size() == 1 && !options.prompts_file && options.sampling.n == 1;
  const GenerateResult result =
      generate(options, streams ? print_text : std::function<void(const std::string&)>());
  if (json) {
    print_text(to_json(result).dump() + "\n");
  } else if (streams) {
    print_text("\n");
  } else {
    for (const Completion& c : result.completions)
      print_text("### " + c.prompt + "\n" + c.text + "\n\n");
  }
  return 0;
}

}  // namespace

Action setup_generate(CLI::App& app);

Action setup_generate(CLI::App& app) {
  auto shared = std::make_shared<ConfigOptions>();
  auto options = std::make_shared<GenerateOptions>();
  shared->add_to(app, true, true);
  auto adapters = std::make_shared<std::vector<std::string>>();
  app.add_option("--adapter", *adapters,
                 "PEFT adapter folder; several with names, which `adapter` in a line of --prompts "
                 "chooses from (absent: the first; null: none)")
      ->type_name("[NAME=]DIR")
      ->allow_extra_args(false);
  app.add_option("--prompt", options->prompts, "a user turn (with --raw: text to continue)")
      ->allow_extra_args(false);
  app.add_option("--prompts", options->prompts_file,
                 "JSON Lines with prompt, messages or input_ids")
      ->type_name("FILE");
  app.add_option("--system", options->system, "system message");
  app.add_flag("--raw", options->raw, "no chat template");
  add_sampling(app, options->sampling);
  return [=] {
    options->config = shared->load(Purpose::kOther);
    need(!options->config.model.empty(), "--model DIR");
    for (const std::string& text : *adapters) options->adapters.push_back(parse_adapter(text));
    const bool has_prompt = !options->prompts.empty() || options->prompts_file;
    need(has_prompt || isatty(STDIN_FILENO) == 1,
         "--prompt TEXT or --prompts FILE (a chat needs a terminal)");
    return has_prompt ? run_prompts(*options, shared->json) : run_chat(*options);
  };
}

}  // namespace ft
