// Memory for CPU tensors: one arena with best-fit reuse. A training step makes and drops the same
// large buffers again and again; the C allocator mixes them with small objects that stay, and its
// heap grows and is searched ever longer.
#pragma once

#include <cstddef>

namespace ft {

/// Makes LibTorch take large CPU buffers from the arena. Call once, before the first tensor.
void install_host_arena();

}  // namespace ft
