#include <CLI/CLI.hpp>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include "cli/commands.h"
#include "cli/options.h"

namespace ft {

Action setup_plan(CLI::App& app);

Action setup_plan(CLI::App& app) {
  auto shared = std::make_shared<ConfigOptions>();
  auto options = std::make_shared<PlanOptions>();
  auto memory = std::make_shared<uint64_t>(0);
  auto launches = std::make_shared<LedgerOptions>();
  auto is_ledger = std::make_shared<bool>(false);
  auto document = std::make_shared<int64_t>(0);
  shared->add_to(app, true, true);
  app.add_option("--memory", *memory, "to fit into, as 24GiB or 24GB (default: what is here)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true))
      ->type_name("SIZE");
  app.add_flag("--ledger", *is_ledger,
               "every kernel of one step on a GPU, with FLOPs, bytes and launches");
  app.add_option("--document", *document, "ledger: tokens of a document (default: a whole row)")
      ->check(CLI::PositiveNumber);
  const auto ceiling = [&](const char* name, double LedgerOptions::*value, const char* help) {
    app.add_option(name, (*launches).*value, help)->check([](const std::string& text) {
      const double read = std::strtod(text.c_str(), nullptr);
      return std::isfinite(read) && read > 0 ? "" : "a number above 0 is wanted";
    });
  };
  ceiling("--tflops", &LedgerOptions::tflops, "ledger: ceiling of products");
  ceiling("--float8-tflops", &LedgerOptions::float8_tflops,
          "ledger: ceiling of products in eight bits");
  ceiling("--attention-tflops", &LedgerOptions::attention_forward_tflops,
          "ledger: ceiling of attention, forward");
  ceiling("--attention-backward-tflops", &LedgerOptions::attention_backward_tflops,
          "ledger: ceiling of attention, backward");
  ceiling("--bandwidth", &LedgerOptions::bandwidth, "ledger: bytes a second of the memory");
  ceiling("--peak-tflops", &LedgerOptions::peak_tflops, "ledger: what MFU is a share of");
  return [=] {
    options->config = shared->load(Purpose::kOther);
    options->json = shared->json;
    if (*memory > 0) options->memory_bytes = static_cast<int64_t>(*memory);
    need(!options->config.model.empty(), "--config FILE (or --model DIR)");
    launches->config = options->config;
    launches->json = options->json;
    if (*document > 0) launches->document = *document;
    const std::string text = *is_ledger ? ledger(*launches) : plan(*options);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return 0;
  };
}

}  // namespace ft
