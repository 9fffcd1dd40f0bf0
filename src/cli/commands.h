// The table of commands. A row sets up its options on a CLI11 subcommand and gives back what runs
// it.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace CLI {
class App;
}

namespace ft {

using Action = std::function<int()>;

struct Command {
  std::string_view name, help;
  Action (*setup)(CLI::App& app);
};

std::span<const Command> commands();

}  // namespace ft
