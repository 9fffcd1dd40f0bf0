// Find the command in the table, run it, turn what goes wrong into one line and an exit status.
#include <fcntl.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <iostream>
#include <map>
#include <vector>

#include "base/error.h"
#include "base/mapped_file.h"
#include "base/names.h"
#include "cli/commands.h"

namespace ft {
void prepare_runtime();
namespace {

int report(Code code, const std::string& message) {
  // A configuration may have several faults, a line each; elsewhere a name may hold a line's end.
  const std::string text =
      code == Code::kUsage ? printable_lines(message) : printable_line(message);
  std::fprintf(stderr, "error: %s\n", text.c_str());
  return static_cast<int>(code);
}

/// Errors of LibTorch and the standard library: their first line only.
int report_foreign(const std::exception& e) {
  const std::string text = e.what(), first = text.substr(0, text.find('\n'));
  const bool memory = dynamic_cast<const std::bad_alloc*>(&e) ||
                      text.find("can't allocate memory") != std::string::npos ||
                      text.find("out of memory") != std::string::npos;
  if (memory)
    return report(Code::kRun,
                  "out of memory: a smaller train.batch_size or data.max_length, "
                  "train.gradient_checkpointing: true "
                  "or method: lora needs less (" +
                      printable(first) + ")");
  // What is written is asked about without exceptions: this is a path to read.
  if (const auto* error = dynamic_cast<const std::filesystem::filesystem_error*>(&e))
    return report(Code::kInput, error->path1().string() + ": " + error->code().message());
  return report(Code::kInternal, "internal: " + printable(first) +
                                     "; this is a fault of finetune, please report it");
}

int unknown_command(const std::string& name) {
  std::vector<std::string_view> names;
  for (const Command& c : commands()) names.push_back(c.name);
  return report(Code::kUsage, printable(name) + ": no such command" + did_you_mean(name, names) +
                                  "; commands: " + join(names));
}

int run(int argc, char** argv) {
  CLI::App app(
      "Fine-tunes Gemma and Llama family language models. finetune COMMAND --help tells more.",
      "finetune");
  std::map<CLI::App*, Action> actions;
  for (const Command& c : commands()) {
    CLI::App* sub = app.add_subcommand(std::string(c.name), std::string(c.help));
    actions[sub] = c.setup(*sub);
  }
  app.set_version_flag("--version", "finetune 0.1.0");
  if (argc > 1 && argv[1][0] != '-' && !find(commands(), argv[1])) return unknown_command(argv[1]);
  int status = 0;
  try {
    app.parse(argc, argv);
    if (app.get_subcommands().empty())
      return report(Code::kUsage, "no command; finetune --help lists them");
    status = actions.at(app.get_subcommands()[0])();
  } catch (const CLI::Success& e) {
    status = app.exit(e);  // --help, --version
    std::cout.flush();
  } catch (const CLI::ParseError& e) {
    return report(Code::kUsage, printable(e.what()) + " (see finetune --help)");
  }
  errno = 0;
  if ((std::fflush(stdout) != 0 || std::ferror(stdout)) && status == 0)
    return report(Code::kOutput, std::string("stdout: cannot be written") +
                                     (errno != 0 ? str(": ", std::strerror(errno)) : ""));
  return status;
}

}  // namespace
}  // namespace ft

/// Where a caller closed one of the first three files, the next one opened would take its place,
/// and what is said to the user would go there. A closed stdout stays one that cannot be written.
void hold_standard_files() {
  int fd = 0;
  while (fd >= 0 && fd <= STDERR_FILENO) {
    fd = ::open("/dev/null", O_RDWR);
    if (fd != STDOUT_FILENO) continue;
    ::close(fd);
    fd = ::open("/dev/null", O_RDONLY);
  }
  if (fd >= 0) ::close(fd);
}

/// Threads that wait for work must sleep, not spin: on a machine that does anything else, spinning
/// ones make a step five times slower. libgomp reads this from the environment when it is loaded,
/// so the program starts itself again, before the libraries' constructors have run (10 ms).
void choose_waiting(int, char** argv, char** envp) {
  hold_standard_files();
  // There is nothing to save before the run's own handler stands, nor after it; this also lasts
  // while the program that is started again is loaded.
  if (argv[0] && argv[1] && std::strcmp(argv[1], "train") == 0) std::signal(SIGUSR1, SIG_IGN);
  std::vector<char*> environment;
  for (char** e = envp; *e; ++e) {
    if (std::strncmp(*e, "OMP_WAIT_POLICY=", 16) == 0 ||
        std::strncmp(*e, "GOMP_SPINCOUNT=", 15) == 0)
      return;
    environment.push_back(*e);
  }
  static char policy[] = "OMP_WAIT_POLICY=passive";
  environment.push_back(policy);
  environment.push_back(nullptr);
  execve("/proc/self/exe", argv, environment.data());  // when it fails, the threads spin
}
__attribute__((section(".preinit_array"),
               used)) void (*const choose_waiting_first)(int, char**, char**) = choose_waiting;

int main(int argc, char** argv) {
  ft::prepare_runtime();
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  ft::install_mapping_faults();
  try {
    return ft::run(argc, argv);
  } catch (const ft::Error& e) {
    return ft::report(e.code(), e.what());
  } catch (const std::exception& e) {
    return ft::report_foreign(e);
  }
}
