#include "kernels/device.h"

#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <dlfcn.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <string>

#include "finetune/run.h"
#include "kernels/host_arena.h"

namespace ft {
namespace {

bool load_cuda() {
  // The driver's own library is the test: without it libtorch_cuda would load and find no device.
  void* driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
  if (!driver) return false;
  // Segments that grow instead of new ones beside them: long and short rows leave no holes.
  setenv("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True", /*overwrite=*/0);
  for (const char* name : {"libc10_cuda.so", "libtorch_cuda.so"})
    if (!dlopen(name, RTLD_NOW | RTLD_GLOBAL)) return false;
  return at::globalContext().hasCUDA();
}

int64_t machine_memory() {
  return int64_t{sysconf(_SC_PHYS_PAGES)} * sysconf(_SC_PAGESIZE);
}

/// What no process of the machine has; where the kernel does not tell, all.
int64_t free_on_machine() {
  std::ifstream info("/proc/meminfo");
  for (std::string key, rest; info >> key && std::getline(info, rest);)
    if (key == "MemAvailable:") return 1024 * int64_t{std::stol(rest)};
  return machine_memory();
}

}  // namespace

bool has_cuda() {
  static const bool loaded = load_cuda();
  return loaded;
}

int64_t resident_memory() {
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, resident = 0;
  file >> total >> resident;
  return resident * 4096;
}

int64_t peak_memory(at::Device device) {
  if (device.is_cuda()) {
    const auto stats = at::getDeviceAllocator(device.type())->getDeviceStats(device.index());
    return stats.allocated_bytes[0].peak;
  }
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

int64_t available_memory() {
  int64_t available = free_on_machine();
  // Of a container; its pages of files count as taken.
  std::ifstream limit("/sys/fs/cgroup/memory.max"), use("/sys/fs/cgroup/memory.current");
  if (int64_t most = 0, taken = 0; limit >> most && use >> taken)
    available = std::min(available, most - taken);
  return available;
}

int64_t total_memory(at::Device device) {
  if (device.is_cuda())
    return static_cast<int64_t>(
        at::getDeviceAllocator(device.type())->getMemoryInfo(device.index()).second);
  return machine_memory();
}

int64_t usable_memory(at::Device device) {
  if (device.is_cuda()) {
    at::DeviceAllocator* allocator = at::getDeviceAllocator(device.type());
    return static_cast<int64_t>(allocator->getMemoryInfo(device.index()).first) +
           allocator->getDeviceStats(device.index()).reserved_bytes[0].current;
  }
  int64_t usable = std::min(total_memory(device), free_on_machine() + resident_memory());
  // A container's limit; "max" where there is none.
  int64_t limit = 0;
  if (std::ifstream("/sys/fs/cgroup/memory.max") >> limit) usable = std::min(usable, limit);
  return usable;
}

std::string device_text(at::Device device) {
  if (device.is_cuda()) return device.str();
  const int threads = at::get_num_threads();
  return "cpu, " + std::to_string(threads) + (threads == 1 ? " thread" : " threads");
}

int64_t num_threads() {
  return at::get_num_threads();
}

void prepare_runtime() {
  install_host_arena();
}

void set_threads(int threads) {
  if (threads > 0) at::set_num_threads(threads);
}

}  // namespace ft
