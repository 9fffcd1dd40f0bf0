#include "train/paged_states.h"

#include <c10/core/StreamGuard.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

#include "base/error.h"
#include "base/files.h"

namespace ft {
namespace {

c10::impl::VirtualGuardImpl cuda_guard() {
  return c10::impl::VirtualGuardImpl(c10::DeviceType::CUDA);
}

/// f(from, to) for the tensors that are there.
template <typename F>
void for_each_pair(const StateTensors& from, StateTensors& to, F&& f) {
  for (size_t i = 0; i < from.of.size(); ++i)
    if (from.of[i].defined()) f(from.of[i], to.of[i]);
}

}  // namespace

PageFile::PageFile(const std::filesystem::path& folder) : folder_(folder.string()) {
  std::string name;
  do {
    name = (folder / ".optimizer-XXXXXX").string();
    fd_ = ::mkostemp(name.data(), O_CLOEXEC);
  } while (fd_ < 0 && errno == EINTR);
  if (fd_ < 0)
    fail(Code::kOutput, folder_, ": no file for the paged optimizer: ", std::strerror(errno));
  remove_tree(name);
}

PageFile::~PageFile() {
  ::close(fd_);  // the mappings of tensors that are alive keep the file
}

Tensor PageFile::zeros(at::IntArrayRef sizes, at::ScalarType dtype) {
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  int64_t bytes = static_cast<int64_t>(c10::elementSize(dtype));
  for (const int64_t size : sizes) bytes *= size;
  bytes = std::max(page, (bytes + page - 1) / page * page);
  // Reserved now: a full disk would be a signal at the first write to a page otherwise.
  const int error = ::posix_fallocate(fd_, size_, bytes);
  if (error != 0)
    fail(Code::kOutput, folder_, ": no room for the states of the paged optimizer (",
         (size_ + bytes) >> 20, " MiB so far): ", std::strerror(error));
  const auto length = static_cast<size_t>(bytes);
  void* data = ::mmap(nullptr, length, PROT_READ | PROT_WRITE, MAP_SHARED, fd_, size_);
  if (data == MAP_FAILED)
    fail(Code::kOutput, folder_,
         ": the paged optimizer's file cannot be mapped: ", std::strerror(errno));
  size_ += bytes;
  return at::from_blob(
      data, sizes, [length](void* p) { ::munmap(p, length); }, at::TensorOptions().dtype(dtype));
}

DeviceStaging::DeviceStaging(at::Device device)
    : device_(device), copies_(cuda_guard().getStreamFromGlobalPool(device)) {}

Tensor DeviceStaging::zeros(at::IntArrayRef sizes, at::ScalarType dtype) {
  return ops::pinned(sizes, dtype).zero_();
}

void DeviceStaging::prefetch(size_t index, const StateTensors& host) {
  if (arrivals_.contains(index)) return;
  const c10::StreamGuard on_copies(copies_);
  Arrival arrival{{}, c10::Event(c10::DeviceType::CUDA)};
  for_each_pair(host, arrival.state, [&](const Tensor& from, Tensor& to) {
    to = from.to(device_, from.scalar_type(), /*non_blocking=*/true, /*copy=*/true);
  });
  arrival.event.record(copies_);
  arrivals_.emplace(index, std::move(arrival));
}

StateTensors DeviceStaging::take(size_t index, const StateTensors& host) {
  prefetch(index, host);
  const auto found = arrivals_.find(index);
  found->second.event.block(cuda_guard().getStream(device_));
  StateTensors state = std::move(found->second.state);
  arrivals_.erase(found);
  return state;
}

void DeviceStaging::give_back(const StateTensors& host, const StateTensors& on_device) const {
  c10::Event updated(c10::DeviceType::CUDA);
  updated.record(cuda_guard().getStream(device_));
  updated.block(copies_);
  // The device's tensors were taken on the copies' stream: their memory is used again there, after
  // these copies.
  const c10::StreamGuard on_copies(copies_);
  StateTensors to = host;
  for_each_pair(on_device, to,
                [](const Tensor& from, Tensor& back) { back.copy_(from, /*non_blocking=*/true); });
}

void DeviceStaging::wait() const {
  copies_.synchronize();
}

}  // namespace ft
