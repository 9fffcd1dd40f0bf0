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
  shared->add_to(app, true, true);
  app.add_option("--memory", *memory, "to fit into, as 24GiB or 24GB (default: what is here)")
      ->transform(CLI::AsSizeValue(/*kb_is_1000=*/true))
      ->type_name("SIZE");
  return [=] {
    options->config = shared->load(Purpose::kOther);
    options->json = shared->json;
    if (*memory > 0) options->memory_bytes = static_cast<int64_t>(*memory);
    need(!options->config.model.empty(), "--config FILE (or --model DIR)");
    const std::string text = plan(*options);
    std::fwrite(text.data(), 1, text.size(), stdout);
    return 0;
  };
}

}  // namespace ft
