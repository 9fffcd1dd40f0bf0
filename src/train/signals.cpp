#include "train/signals.h"

#include <unistd.h>

#include <array>
#include <csignal>
#include <string_view>

namespace ft {
namespace {

volatile std::sig_atomic_t arrived = 0, save_requested = 0;
constexpr std::array<int, 3> kSignals = {SIGINT, SIGTERM, SIGHUP};
std::array<struct sigaction, kSignals.size()> former;
struct sigaction former_save;

void say(std::string_view text) {
  if (write(STDERR_FILENO, text.data(), text.size()) < 0)
    return;  // nothing can be done about it in a handler
}

void handle_save(int) {
  save_requested = 1;
}

void handle(int signal) {
  if (arrived != 0) _exit(128 + signal);
  arrived = signal;
  if (signal == SIGINT) say("\nfinishing this step, then saving; press Ctrl-C again to stop now\n");
}

}  // namespace

StopSignals::StopSignals() {
  arrived = 0;
  struct sigaction action {};
  action.sa_handler = handle;
  action.sa_flags = SA_RESTART;
  for (size_t i = 0; i < kSignals.size(); ++i) {
    sigaction(kSignals[i], nullptr, &former[i]);
    // nohup ignores SIGHUP for us; that choice is kept.
    if (former[i].sa_handler != SIG_IGN) sigaction(kSignals[i], &action, nullptr);
  }
}

StopSignals::~StopSignals() {
  for (size_t i = 0; i < kSignals.size(); ++i) sigaction(kSignals[i], &former[i], nullptr);
}

int StopSignals::received() {
  return arrived;
}

SaveRequests::SaveRequests() {
  save_requested = 0;
  struct sigaction action {};
  action.sa_handler = handle_save;
  action.sa_flags = SA_RESTART;
  sigaction(SIGUSR1, &action, &former_save);
}

SaveRequests::~SaveRequests() {
  sigaction(SIGUSR1, &former_save, nullptr);
}

bool SaveRequests::take() {
  const bool is_requested = save_requested != 0;
  save_requested = 0;
  return is_requested;
}

}  // namespace ft
