// Runs a kernel's threads as fibers (ucontext) on one thread of the host. A fiber runs until it
// waits at a barrier; when none can run, complete barriers open. If then still none can run, some
// thread waits for one that left or that waits elsewhere: on a device that is a hang or worse, here
// an error.
#include <ucontext.h>

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "cuda_runtime.h"

namespace emulate {
namespace {

constexpr size_t kStackBytes = 64 << 10;
constexpr unsigned kWarp = 32;

enum class State { kReady, kAtBlockBarrier, kAtWarpBarrier, kDone };

struct Fiber {
  ucontext_t context;
  State state;
  std::vector<char> stack = std::vector<char>(kStackBytes);
};

Order run_order = Order::kForward;
unsigned grid_limit = 0;
std::vector<Fiber> fibers;  // of the running block
std::vector<uint64_t> slots;
ucontext_t scheduler;
const std::function<void()>* body;
unsigned running;

void fiber_main() {
  (*body)();
  fibers[running].state = State::kDone;
  swapcontext(&fibers[running].context, &scheduler);  // never comes back
}

void suspend(State state) {
  const unsigned thread = running;
  fibers[thread].state = state;
  swapcontext(&fibers[thread].context, &scheduler);
}

void resume(unsigned thread) {
  running = thread;
  threadIdx = dim3(thread);
  swapcontext(&scheduler, &fibers[thread].context);
}

/// Opens the barrier at which all of [begin, end) wait; true if they do.
bool open(State barrier, unsigned begin, unsigned end) {
  for (unsigned i = begin; i < end; ++i)
    if (fibers[i].state != barrier) return false;
  for (unsigned i = begin; i < end; ++i) fibers[i].state = State::kReady;
  return true;
}

bool open_barriers(unsigned count) {
  bool any = open(State::kAtBlockBarrier, 0, count);
  for (unsigned begin = 0; begin < count; begin += kWarp)
    any |= open(State::kAtWarpBarrier, begin, std::min(count, begin + kWarp));
  return any;
}

unsigned in_order(unsigned i, unsigned count) {
  return run_order == Order::kForward ? i : count - 1 - i;
}

void run_block(unsigned count) {
  for (unsigned i = 0; i < count; ++i) {
    Fiber& f = fibers[i];
    f.state = State::kReady;
    getcontext(&f.context);
    f.context.uc_stack.ss_sp = f.stack.data();
    f.context.uc_stack.ss_size = f.stack.size();
    f.context.uc_link = nullptr;
    makecontext(&f.context, fiber_main, 0);
  }
  do {
    bool all_done = true;
    for (unsigned i = 0; i < count; ++i) {
      const unsigned thread = in_order(i, count);
      if (fibers[thread].state == State::kReady) resume(thread);
      all_done &= fibers[thread].state == State::kDone;
    }
    if (all_done) return;
  } while (open_barriers(count));
  throw std::logic_error("emulated launch: a barrier is not reached by all threads");
}

}  // namespace

void set_order(Order order) {
  run_order = order;
}

void limit_grid(unsigned blocks) {
  grid_limit = blocks;
}

void run(const cudaLaunchConfig_t& config, const std::function<void()>& thread) {
  body = &thread;
  gridDim = config.gridDim;
  if (grid_limit > 0) gridDim.x = std::min(gridDim.x, grid_limit);
  blockDim = config.blockDim;
  if (fibers.size() < blockDim.x) fibers.resize(blockDim.x);
  slots.resize(fibers.size());
  for (unsigned i = 0; i < gridDim.x; ++i) {
    blockIdx = dim3(in_order(i, gridDim.x));
    run_block(blockDim.x);
  }
}

void wait_for_block() {
  suspend(State::kAtBlockBarrier);
}

void wait_for_warp() {
  suspend(State::kAtWarpBarrier);
}

uint64_t& exchange_slot(unsigned thread) {
  return slots[thread];
}

}  // namespace emulate
