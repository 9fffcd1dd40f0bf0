// The launchers of the .cu files compiled for the CPU, as ft::emulated::rms_norm(...) and so on:
// beside the real ones, which may be in the same program.
#pragma once

#include "cuda_runtime.h"

// launch.h with declarations as in a CUDA build, its namespace renamed, and its include of the
// runtime's header satisfied by ours.
#define FT_WITH_CUDA
#define cuda emulated
#include "kernels/launch.h"
#undef cuda
