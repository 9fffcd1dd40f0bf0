// 4-bit weights against bitsandbytes' own bytes, scales and values (parity/E_nf4/matrices).
#include "kernels/quantized.h"

#include "base/error.h"
#include "fixtures.h"
#include "kernels/compare.h"
#include "kernels/device.h"
#include "kernels/emulate/emulated.h"
#include "kernels/kernels.h"

namespace ft {
namespace {

TEST(QuantizedParity, BytesScalesAndValues) {
  const fs::path folder = parity_case("E_nf4", "matrices");
  FT_NEEDS(folder);
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  for (const Json& matrix : info.get("matrices")->array()) {
    const std::string id = matrix.get("id")->string() + ".";
    SCOPED_TRACE(id);
    const bool is_double = matrix.get("double_quant")->boolean();
    const Tensor weight = expected.at(id + "weight");
    const QuantizedWeight q = quantize(weight, info.get("quant_type")->string(),
                                       info.get("blocksize")->integer(), is_double);
    EXPECT_TRUE(same_bits(q.codes, expected.at(id + "packed")));
    if (is_double) {
      EXPECT_TRUE(same_bits(q.absmax, expected.at(id + "absmax_u8")));
      EXPECT_TRUE(same_bits(q.nested_absmax, expected.at(id + "nested_absmax")));
      EXPECT_TRUE(same_bits(q.nested_map, expected.at("dynamic_code")));
      EXPECT_EQ(q.nested_offset, value(expected.at(id + "offset")));
    } else {
      EXPECT_TRUE(same_bits(q.absmax, expected.at(id + "absmax_f32")));
    }
    EXPECT_TRUE(same_bits(q.code_map, expected.at("nf4_code")));
    const Tensor wanted = expected.at(id + "dequantised");
    EXPECT_TRUE(same_bits(dequantize(q, wanted.scalar_type()), wanted));
    const PlainTwins plain;
    EXPECT_TRUE(same_bits(dequantize(q, wanted.scalar_type()), wanted));
  }
}

/// The bounds of bitsandbytes' own tests.
TEST(Quantized, NormalNumbersErrAsBitsandbytesExpects) {
  const Tensor w = normal({1024, 1024}, 1).to(at::kFloat);
  for (const bool is_double : {false, true}) {
    const Tensor error = dequantize(quantize(w, "nf4", 64, is_double), at::kFloat).sub(w).abs();
    EXPECT_LT(figure("mean_error", value(error.mean())), 0.1);
    EXPECT_LT(figure("mean_relative_error", value(error.div(w.abs().add(1e-8)).mean())), 0.28);
  }
}

struct Packing {
  const char* type;
  bool is_double;
  int64_t block_size;
  at::ScalarType stored;
};
/// Rows that are no multiple of a block, an odd number of weights, more than 256 blocks.
std::vector<QuantizedWeight> packed_matrices() {
  std::vector<QuantizedWeight> all;
  for (const Packing& p : {Packing{"nf4", true, 64, at::kBFloat16},
                           {"nf4", false, 64, at::kFloat},
                           {"fp4", true, 64, at::kHalf},
                           {"fp4", false, 128, at::kBFloat16},
                           {"nf4", true, 4096, at::kHalf}})
    for (const std::vector<int64_t>& size : {std::vector<int64_t>{7, 33}, {1, 1}, {70, 517}}) {
      // Weights near 1e-6 meet the steps of float16 below its normal range.
      const Tensor w = normal(size, all.size() + 1).mul(all.size() % 2 ? 1e-6 : 0.02);
      all.push_back(quantize(w.to(p.stored), p.type, p.block_size, p.is_double));
    }
  return all;
}

TEST(Quantized, EveryPackingAsThePlainTwin) {
  for (const QuantizedWeight& q : packed_matrices())
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16}) {
      SCOPED_TRACE(str(q.type, ", block ", q.block_size, ", ", toString(q.stored), " as ",
                       toString(dtype), " ", q.out, " x ", q.in));
      const Tensor fast = dequantize(q, dtype);
      const PlainTwins plain;
      EXPECT_TRUE(same_bits(fast, dequantize(q, dtype)));
    }
}

TEST(Quantized, CudaKernelAsThePlainTwin) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  for (const QuantizedWeight& q : packed_matrices())
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf}) {
      const Tensor fast = dequantize(to_device(q, at::Device(at::kCUDA, 0)), dtype).to(at::kCPU);
      const PlainTwins plain;
      EXPECT_TRUE(same_bits(fast, dequantize(q, dtype)));
    }
}

TEST(Quantized, EmulatedCudaKernelAsThePlainTwin) {
  const auto name_of = [](at::ScalarType type) {
    return type == at::kFloat      ? emulated::Dtype::kFloat32
           : type == at::kBFloat16 ? emulated::Dtype::kBFloat16
                                   : emulated::Dtype::kFloat16;
  };
  const auto bytes = [](const Tensor& t) { return static_cast<const uint8_t*>(t.data_ptr()); };
  const auto floats = [](const Tensor& t) {
    return t.defined() ? static_cast<const float*>(t.data_ptr()) : nullptr;
  };
  const PlainTwins plain;
  for (const QuantizedWeight& q : packed_matrices())
    for (const at::ScalarType dtype : {at::kFloat, at::kBFloat16, at::kHalf})
      for (const auto order : {emulate::Order::kForward, emulate::Order::kBackward}) {
        constexpr int64_t kSpare = 8;  // rows end before the next one begins
        const Tensor wide = ops::full({q.out, q.in + kSpare}, NAN, dtype);
        const Tensor y = wide.narrow(1, 0, q.in);
        const bool is_double = q.nested_map.defined();
        emulate::set_order(order);
        emulate::limit_grid(3);
        ASSERT_EQ(emulated::dequantize({name_of(dtype),
                                        name_of(q.stored),
                                        q.out * q.in,
                                        q.block_size,
                                        q.nested_block_size,
                                        bytes(q.codes),
                                        is_double ? nullptr : floats(q.absmax),
                                        is_double ? bytes(q.absmax) : nullptr,
                                        floats(q.nested_absmax),
                                        floats(q.nested_map),
                                        static_cast<float>(q.nested_offset),
                                        floats(q.code_map),
                                        q.in,
                                        {wide.data_ptr(), q.in + kSpare}},
                                       {}),
                  cudaSuccess);
        emulate::limit_grid(0);
        emulate::set_order(emulate::Order::kForward);
        EXPECT_TRUE(same_bits(y.contiguous(), dequantize(q, dtype)));
        EXPECT_TRUE(wide.narrow(1, q.in, kSpare).isnan().all().item().toBool());
      }
}

/// A linear layer on a packed weight is one on its matrix, in values and gradients.
TEST(Quantized, LinearAsOnTheMatrix) {
  const auto q = std::make_shared<QuantizedWeight>(
      quantize(normal({11, 20}, 2).to(at::kFloat), "nf4", 64, true));
  const Tensor matrix = dequantize(*q, at::kFloat);
  const std::vector<Tensor> inputs = {normal({6, 20}, 1), normal({11}, 3), normal({3, 20}, 4),
                                      normal({11, 3}, 5)};
  const auto on = [&](const LinearWeight& w, double dropout) {
    return output_and_gradients(
        [&](const std::vector<Tensor>& in) {
          return linear(in[0], {w, in[1], {in[2], in[3], 0.5, dropout, 77}});
        },
        inputs, at::kFloat);
  };
  for (const double dropout : {0.0, 0.3}) {
    const auto packed = on({Tensor(), q}, dropout), dense = on({matrix, nullptr}, dropout);
    for (size_t i = 0; i < dense.size(); ++i) EXPECT_TRUE(same_bits(packed[i], dense[i])) << i;
  }
}

/// bitsandbytes packs without statistics what has none: a block of zeros.
TEST(Quantized, ZerosStayZero) {
  for (const char* type : {"nf4", "fp4"})
    for (const bool is_double : {false, true}) {
      const auto q = quantize(ops::zeros({5, 70}, at::kFloat), type, 64, is_double);
      EXPECT_EQ(value(dequantize(q, at::kFloat).abs().max()), 0);
    }
}

}  // namespace
}  // namespace ft
