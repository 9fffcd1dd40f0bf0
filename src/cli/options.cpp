#include "cli/options.h"

#include <CLI/CLI.hpp>

#include "base/error.h"

namespace ft {

void ConfigOptions::add_to(CLI::App& app, bool with_model, bool with_json) {
  app.add_option("--config", config, "configuration file (YAML)")->type_name("FILE");
  app.add_option("--set", overrides,
                 "KEY=VALUE: any key of the configuration; may be given several times")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  app.add_option("--threads", threads, "CPU threads (default: all cores)")
      ->check(CLI::Range(1, 1024));
  if (with_model) app.add_option("--model", model, "Hugging Face model folder")->type_name("DIR");
  if (with_json) app.add_flag("--json", json, "one JSON document on stdout");
}

RunConfig ConfigOptions::load(Purpose purpose) const {
  set_threads(threads);
  std::vector<Override> parsed;
  for (const auto& text : overrides) parsed.push_back(parse_override(text));
  RunConfig result = load_config(config, parsed, purpose);
  if (!model.empty()) result.model = model;
  return result;
}

void need(bool given, const char* what) {
  if (!given) fail_usage(what, " is wanted (see --help)");
}

}  // namespace ft
