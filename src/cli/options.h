// Options that several commands share.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "finetune/run.h"

namespace CLI {
class App;
}

namespace ft {

struct ConfigOptions {
  std::string config, model;
  std::vector<std::string> overrides;
  int threads = 0;
  bool json = false;

  void add_to(CLI::App& app, bool with_model, bool with_json);
  /// The configuration with --model and every --set applied.
  RunConfig load(Purpose purpose) const;
};

inline constexpr const char* kTextOnlyHelp =
    "of an image and text model, write only the language model";

/// Fails (usage) unless the option was given.
void need(bool given, const char* what);

}  // namespace ft
