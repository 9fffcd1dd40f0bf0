// 4-bit weights against bitsandbytes' own bytes, scales and values (parity/E_nf4/matrices).
#include "kernels/quantized.h"

#include "fixtures.h"
#include "kernels/compare.h"
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

}  // namespace
}  // namespace ft
