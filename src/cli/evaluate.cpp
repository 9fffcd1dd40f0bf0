#include <CLI/CLI.hpp>
#include <cstdio>

#include "base/json.h"
#include "cli/commands.h"
#include "cli/options.h"

namespace ft {

Action setup_eval(CLI::App& app);

Action setup_eval(CLI::App& app) {
  auto shared = std::make_shared<ConfigOptions>();
  auto options = std::make_shared<EvalOptions>();
  auto data = std::make_shared<std::vector<std::string>>();
  shared->add_to(app, true, true);
  app.add_option("--adapter", options->adapter, "PEFT adapter folder")->type_name("DIR");
  app.add_option("--data", *data, "evaluation data")->type_name("FILE")->allow_extra_args(false);
  app.add_option("--per-example", options->per_example, "write one JSON line per example")
      ->type_name("FILE");
  app.add_option("--token-logprobs", options->token_logprobs,
                 "write log-probabilities of all target tokens")
      ->type_name("FILE");
  return [=] {
    RunConfig& config = options->config;
    config = shared->load(Purpose::kOther);
    if (!data->empty()) {
      config.data.eval = *data;
      config.data.eval_split = 0;
    }
    need(!config.model.empty(), "--model DIR (or --config FILE)");
    need(!config.data.eval.empty() || config.data.eval_split > 0, "--data FILE");
    const EvalResult r = evaluate(*options);
    if (shared->json) {
      const Json out = Json::Object{{"loss", r.loss},
                                    {"perplexity", r.perplexity},
                                    {"target_tokens", r.target_tokens},
                                    {"examples", r.examples},
                                    {"seconds", r.seconds}};
      std::printf("%s\n", with_finite_numbers(out).dump().c_str());
    } else {
      std::printf("loss %.6f  perplexity %.4f  (%ld target tokens in %ld examples, %.1f s)\n",
                  r.loss, r.perplexity, r.target_tokens, r.examples, r.seconds);
    }
    return 0;
  };
}

}  // namespace ft
