#include <CLI/CLI.hpp>
#include <cstdio>

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
  app.add_option("--tflops", launches->tflops, "ledger: ceiling of products")
      ->check(CLI::PositiveNumber);
  app.add_option("--float8-tflops", launches->float8_tflops,
                 "ledger: ceiling of products in eight bits")
      ->check(CLI::PositiveNumber);
  app.add_option("--attention-tflops", launches->attention_forward_tflops,
                 "ledger: ceiling of attention, forward")
      ->check(CLI::PositiveNumber);
  app.add_option("--attention-backward-tflops", launches->attention_backward_tflops,
                 "ledger: ceiling of attention, backward")
      ->check(CLI::PositiveNumber);
  app.add_option("--bandwidth", launches->bandwidth, "ledger: bytes a second of the memory")
      ->check(CLI::PositiveNumber);
  app.add_option("--peak-tflops", launches->peak_tflops, "ledger: what MFU is a share of")
      ->check(CLI::PositiveNumber);
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
