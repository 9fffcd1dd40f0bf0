// Runs a kernel's threads as fibers (ucontext) on one thread of the host. A warp runs ahead until
// it waits for the others, as far as it ever could on a device: a barrier too few shows. If at the
// end not all threads of the block wait at the same barrier, some wait for one that left or that
// waits elsewhere: on a device that is a hang or worse, here an error.
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

/// True if all of [begin, end) are in this state; then they may go on.
bool open(State barrier, unsigned begin, unsigned end) {
  for (unsigned i = begin; i < end; ++i)
    if (fibers[i].state != barrier) return false;
  for (unsigned i = begin; i < end; ++i) fibers[i].state = State::kReady;
  return true;
}

unsigned in_order(unsigned i, unsigned count) {
  return run_order == Order::kForward ? i : count - 1 - i;
}

void start(Fiber& f) {
  f.state = State::kReady;
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack.data();
  f.context.uc_stack.ss_size = f.stack.size();
  f.context.uc_link = nullptr;
  makecontext(&f.context, fiber_main, 0);
}

/// Runs threads [begin, end) until each waits for another warp or is done.
void run_warp(unsigned begin, unsigned end) {
  do {
    for (unsigned i = 0; i < end - begin; ++i) {
      const unsigned thread = begin + in_order(i, end - begin);
      if (fibers[thread].state == State::kReady) resume(thread);
    }
  } while (open(State::kAtWarpBarrier, begin, end));
}

void run_block(unsigned count) {
  const unsigned last_warp = (count - 1) / kWarp * kWarp;
  for (unsigned i = 0; i < count; ++i) start(fibers[i]);
  do {
    for (unsigned i = 0; i < count; i += kWarp) {
      const unsigned begin = run_order == Order::kForward ? i : last_warp - i;
      run_warp(begin, std::min(count, begin + kWarp));
    }
    if (open(State::kDone, 0, count)) return;
  } while (open(State::kAtBlockBarrier, 0, count));
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
