// What depends on how and where the program is built: the only file with #if.
#pragma once

// One function, compiled for several instruction sets; the loader picks the best one the processor
// has.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define FT_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define FT_CLONES
#endif
