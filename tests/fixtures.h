// Reference cases as tensors: reading, comparing, and turning packed rows into our batches.
#pragma once

#include <gtest/gtest.h>

#include <map>

#include "base/files.h"
#include "base/json.h"
#include "base/safetensors.h"
#include "data/batch.h"
#include "figure.h"
#include "model/load.h"
#include "parity.h"

namespace ft {

using TensorMap = std::map<std::string, Tensor>;

inline TensorMap read_tensors(const std::filesystem::path& file) {
  TensorMap all;
  for (const auto& t : read_safetensors(file)) all[t.name] = to_tensor(t);
  return all;
}

inline std::vector<int32_t> to_ids(const Tensor& t) {
  const Tensor wide = t.to(at::kLong).contiguous();
  const auto* p = static_cast<const int64_t*>(wide.const_data_ptr());
  return {p, p + wide.numel()};
}

/// One document with every token but the first a target.
inline Batch single_document(const std::vector<int32_t>& ids) {
  Batch batch;
  Example example{ids, ids};
  example.labels[0] = kIgnore;
  batch.add(example);
  return batch;
}

/// The documents of packed rows [R, T]; `bounds` is case.json's list of [row, start, end).
inline Batch packed_rows(const Tensor& ids, const Tensor& labels, const Json& bounds) {
  Batch batch;
  for (const Json& b : bounds.array()) {
    const int64_t row = b.array()[0].integer(), begin = b.array()[1].integer(),
                  end = b.array()[2].integer();
    Example example{to_ids(ids[row].narrow(0, begin, end - begin)),
                    to_ids(labels[row].narrow(0, begin, end - begin))};
    example.labels[0] = kIgnore;
    batch.add(example);
  }
  return batch;
}

inline Tensor on_host(const Tensor& t) {
  return t.to(at::kCPU, at::kDouble);
}
inline double max_abs(const Tensor& a, const Tensor& b) {
  return on_host(a).sub(on_host(b)).abs().max().item().toDouble();
}
inline double relative_l2(const Tensor& a, const Tensor& b) {
  const double norm = on_host(b).norm().item().toDouble();
  return on_host(a).sub(on_host(b)).norm().item().toDouble() / std::max(norm, 1e-12);
}

/// The model's gradients against `grad.<parameter>` of expected.safetensors: every trained
/// tensor's, no others.
inline void expect_gradients(Model& model, const TensorMap& expected, double tolerance) {
  size_t compared = 0;
  for (const auto& [name, wanted] : expected) {
    if (!name.starts_with("grad.")) continue;
    const Tensor grad = model.params.at(name.substr(5)).value.grad();
    ASSERT_TRUE(grad.defined()) << name;
    EXPECT_LE(relative_l2(grad, wanted), tolerance) << name;
    ++compared;
  }
  EXPECT_EQ(compared, model.params.trainable().size());
}
inline double value(const Tensor& t) {
  return t.item().toDouble();
}

/// A number of case.json's tolerance table.
inline double tolerance(const Json& info, const char* key) {
  return info.get("tolerance")->get(key)->number();
}

}  // namespace ft
