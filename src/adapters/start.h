// Where A and B of an adapter start (`lora.init`).
#pragma once

#include <string>

#include "model/linear.h"

namespace ft {

struct AdapterStart {
  Tensor a;                   ///< [R, in] float32
  Tensor b;                   ///< [out, R] float32
  bool changes_base = false;  ///< scale B A is to be taken out of the base weight
};

/// default: A uniform within 1/sqrt(in) (Kaiming with a = sqrt 5), B zero. gaussian: A normal with
/// deviation 1/R, B zero. pissa: the R largest singular triplets of the weight, shared evenly (Meng
/// et al. 2024). olora: Q and R of its QR decomposition, cut off at R (Buyukakyuz 2024). The last
/// two are functions of the weight alone; rank is at most min(out, in) there, or Error (usage).
AdapterStart adapter_start(const std::string& init, const Linear& base, int64_t rank, double scale,
                           uint64_t seed);

/// Whether a start of that name is taken out of the base weight.
bool start_changes_base(const std::string& init);

}  // namespace ft
