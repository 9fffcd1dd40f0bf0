// A reserved range of addresses, cut into blocks that lie end to end. A block has a header in front
// of its data; free neighbours are joined at once (Knuth's boundary tags); the smallest free block
// that is large enough serves, the lowest of equals.
#include "kernels/host_arena.h"

#include <c10/core/Allocator.h>
#include <c10/core/CPUAllocator.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>
#include <set>

namespace ft {
namespace {

constexpr size_t kAlign = 64;         // a cache line, and the vector width
constexpr size_t kSmall = 16 * 1024;  // below: the C allocator is good at these

struct alignas(kAlign) Block {
  size_t size;  ///< bytes of data after this header
  Block* before;
  bool is_free;
  std::byte* data() { return reinterpret_cast<std::byte*>(this) + sizeof(Block); }
  Block* after() { return reinterpret_cast<Block*>(data() + size); }
};

class Arena {
 public:
  Arena() {
    // Addresses only: a page costs memory when it is first written. Twice the machine's memory
    // leaves room for gaps.
    capacity_ = 2 * static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) *
                static_cast<size_t>(sysconf(_SC_PAGESIZE));
    void* range = mmap(nullptr, capacity_, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (range == MAP_FAILED) return;
    madvise(range, capacity_, MADV_HUGEPAGE);
    begin_ = top_ = static_cast<std::byte*>(range);
  }

  bool owns(const void* p) const { return begin_ && p >= begin_ && p < begin_ + capacity_; }

  void* take(size_t bytes) {
    bytes = (bytes + kAlign - 1) / kAlign * kAlign;
    const std::lock_guard lock(mutex_);
    const auto found = free_.lower_bound({bytes, nullptr});
    if (found == free_.end()) return extend(bytes);
    Block* block = found->second;
    free_.erase(found);
    split(block, bytes);
    block->is_free = false;
    return block->data();
  }

  void give(void* p) {
    const std::lock_guard lock(mutex_);
    auto* block = reinterpret_cast<Block*>(static_cast<std::byte*>(p) - sizeof(Block));
    if (Block* next = block->after(); reinterpret_cast<std::byte*>(next) < top_ && next->is_free)
      join(block, next);
    if (block->before && block->before->is_free) {
      free_.erase({block->before->size, block->before});
      Block* first = block->before;
      first->size += sizeof(Block) + block->size;
      relink(first);
      block = first;
    }
    block->is_free = true;
    free_.insert({block->size, block});
  }

 private:
  void* extend(size_t bytes) {
    if (!begin_ || top_ + sizeof(Block) + bytes > begin_ + capacity_) return nullptr;
    // A free last block grows instead of staying behind.
    if (last_ && last_->is_free) {
      free_.erase({last_->size, last_});
      top_ = reinterpret_cast<std::byte*>(last_);
      last_ = last_->before;
    }
    last_ = new (top_) Block{bytes, last_, false};
    top_ = last_->data() + bytes;
    return last_->data();
  }

  void split(Block* block, size_t bytes) {
    if (block->size < bytes + sizeof(Block) + kSmall) return;
    auto* rest =
        new (block->data() + bytes) Block{block->size - bytes - sizeof(Block), block, true};
    block->size = bytes;
    relink(rest);
    free_.insert({rest->size, rest});
  }

  /// Takes the free `next` into `block`.
  void join(Block* block, Block* next) {
    free_.erase({next->size, next});
    block->size += sizeof(Block) + next->size;
    relink(block);
  }

  /// Tells the block after this one where it begins now.
  void relink(Block* block) {
    if (reinterpret_cast<std::byte*>(block->after()) < top_) {
      block->after()->before = block;
    } else {
      last_ = block;
    }
  }

  std::byte *begin_ = nullptr, *top_ = nullptr;
  size_t capacity_ = 0;
  Block* last_ = nullptr;
  std::set<std::pair<size_t, Block*>> free_;
  std::mutex mutex_;
};

Arena& arena() {
  static Arena* const instance = new Arena;  // never destroyed: tensors may outlive static objects
  return *instance;
}

void release(void* p) {
  if (arena().owns(p)) {
    arena().give(p);
  } else {
    std::free(p);
  }
}

class HostAllocator : public c10::Allocator {
 public:
  c10::DataPtr allocate(size_t bytes) override {
    void* p = bytes >= kSmall ? arena().take(bytes) : nullptr;
    if (!p && bytes > 0 && posix_memalign(&p, kAlign, bytes) != 0) throw std::bad_alloc();
    return {p, p, release, c10::Device(c10::DeviceType::CPU)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return release; }
  void copy_data(void* to, const void* from, size_t bytes) const override {
    std::memcpy(to, from, bytes);
  }
};

}  // namespace

void install_host_arena() {
  static HostAllocator allocator;
  c10::SetCPUAllocator(&allocator, /*priority=*/1);
}

}  // namespace ft
