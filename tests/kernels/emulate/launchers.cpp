// The .cu files, compiled for the CPU in the namespace ft::emulated.
#include "kernels/emulate/emulated.h"

#define cuda emulated
#include "kernels/adamw.cu"
#include "kernels/adamw8bit.cu"
#include "kernels/cross_entropy.cu"
#include "kernels/dropout.cu"
#include "kernels/float8.cu"
#include "kernels/gated_act.cu"
#include "kernels/linear_border.cu"
#include "kernels/quantized.cu"
#include "kernels/rms_norm.cu"
#include "kernels/rope.cu"
