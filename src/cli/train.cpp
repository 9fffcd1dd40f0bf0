#include <CLI/CLI.hpp>

#include "cli/commands.h"
#include "cli/options.h"

namespace ft {

Action setup_train(CLI::App& app);

Action setup_train(CLI::App& app) {
  auto shared = std::make_shared<ConfigOptions>();
  auto options = std::make_shared<TrainOptions>();
  shared->add_to(app, false, false);
  app.add_flag("--resume", options->resume, "go on from the newest whole checkpoint of output_dir");
  app.add_flag("--overwrite", options->overwrite, "replace the results in output_dir");
  auto text_only = std::make_shared<bool>();
  app.add_flag("--text-only", *text_only, kTextOnlyHelp);
  return [=] {
    if (*text_only) shared->overrides.push_back("save.text_only=true");
    options->config = shared->load(Purpose::kTrain);
    return train(*options);
  };
}

}  // namespace ft
