// AdamW with 8-bit moments: the maps are bitsandbytes', every number gets the nearest code, five
// steps are those of the reference, and loops and kernel do as the plain twin in every master mode.
#include "base/error.h"
#include "fixtures.h"
#include "kernels/adamw8bit_cases.h"
#include "kernels/cpu_loops.h"
#include "kernels/device.h"

namespace ft {
namespace {

void update(const Adamw8bitState& t, const Tensor& grad, const AdamwSettings& s) {
  adamw8bit(t.param, grad, t.moments, t.extra, s);
}

class Adamw8bit : public testing::TestWithParam<AdamwCase> {};

TEST_P(Adamw8bit, CpuLoopsAsPlain) {
  for (const int64_t n : {1, 255, 256, 2049, 70001}) {
    SCOPED_TRACE(n);
    expect_as_plain_8bit(GetParam(), n, three_8bit_steps(GetParam(), n, update).tensors());
  }
}

TEST_P(Adamw8bit, CudaKernelAsPlain) {
  if (!has_cuda()) GTEST_SKIP() << "no CUDA device";
  const at::Device device(at::kCUDA, 0);
  for (const int64_t n : {1, 255, 256, 70001})
    expect_as_plain_8bit(GetParam(), n, three_8bit_steps(GetParam(), n, update, device).tensors());
}

INSTANTIATE_TEST_SUITE_P(All, Adamw8bit, testing::ValuesIn(kAdamwCases), adamw_case_name);

TEST(Adamw8bitMap, EveryNumberGetsTheNearestCode) {
  for (const bool is_signed : {true, false}) {
    const DynamicMap& map = dynamic_map(is_signed);
    std::vector<float> x = {1, 0, 1e-9f, 1e-30f};
    for (int i = 0; i < 255; ++i)
      for (const float up : {0.0f, 2.0f})
        for (const float v : {map.values[i], map.middles[i]}) {
          x.push_back(v);
          x.push_back(std::nextafter(v, up - 1));
        }
    Rng rng(5);
    while (x.size() < 20000) {
      const double size = std::pow(10.0, -8 * rng.uniform());
      x.push_back(static_cast<float>(is_signed && rng.uniform() < 0.5 ? -size : size));
    }
    if (is_signed) x.insert(x.end(), {-0.0f, -1e-9f, -1.0f});
    for (float& v : x) v = std::clamp(v, is_signed ? -1.0f : 0.0f, 1.0f);
    for (size_t at = 0; at < x.size(); at += 255) {
      std::vector<float> block(x.begin() + static_cast<long>(at),
                               x.begin() + static_cast<long>(std::min(x.size(), at + 255)));
      block.push_back(1);  // the scale
      std::vector<uint8_t> codes(block.size());
      std::vector<float> scale(1), back(block.size());
      const auto n = static_cast<int64_t>(block.size());
      cpu::quantize_blocks(block.data(), n, map, codes.data(), scale.data());
      cpu::dequantize_blocks(codes.data(), scale.data(), n, map, back.data());
      EXPECT_EQ(scale[0], 1);
      for (size_t i = 0; i < block.size(); ++i) {
        const auto wanted = std::lower_bound(map.middles, map.middles + 255, block[i]);
        ASSERT_EQ(codes[i], wanted - map.middles) << block[i];
        ASSERT_EQ(back[i], map.values[codes[i]]);
      }
    }
  }
}

TEST(Adamw8bitMap, ABlockOfZerosStaysZero) {
  const std::vector<float> zeros(256, 0.0f);
  std::vector<uint8_t> codes(256);
  std::vector<float> back(256, 1.0f);
  float scale = 1;
  cpu::quantize_blocks(zeros.data(), 256, dynamic_map(true), codes.data(), &scale);
  cpu::dequantize_blocks(codes.data(), &scale, 256, dynamic_map(true), back.data());
  EXPECT_EQ(scale, 0);
  EXPECT_EQ(back, zeros);
}

/// Codes of ours that are not the reference's, and by how much at most.
void expect_codes(const Tensor& ours, const Tensor& wanted) {
  const Tensor difference = ours.view(-1).to(at::kInt).sub(wanted.to(at::kInt));
  EXPECT_LE(num_above(difference, 0), ours.numel() / 100);
  EXPECT_EQ(num_above(difference, 1), 0);
}

void run_reference_case() {
  const fs::path folder = parity_case("E_nf4", "adamw8bit");
  const Json info = read_json(folder / "case.json");
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  for (const Json& row : info.get("tensors8")->array()) {
    const std::string id = row.get("id")->string();
    SCOPED_TRACE(id);
    const Adamw8bitState state =
        start_8bit(expected.at(id + ".start").clone(), MasterWeights::kNone);
    const double largest = row.get("largest_move")->number();
    for (int64_t step = 1; step <= info.get("steps")->integer(); ++step) {
      const auto& betas = info.get("betas")->array();
      update(state, expected.at(str(id, ".grad", step)),
             {info.get("lr")->number(), betas[0].number(), betas[1].number(),
              info.get("eps")->number(), info.get("weight_decay")->number(), step});
      const std::string at = str(".step", step);
      if (!expected.contains(id + at)) continue;
      EXPECT_LE(max_abs(state.param, expected.at(id + at)),
                step == 1 ? tolerance(info, "params_max_abs_after_step1") : 2e-2 * largest);
      expect_codes(state.moments.exp_avg, expected.at(id + ".m_u8" + at));
      expect_codes(state.moments.exp_avg_sq, expected.at(id + ".v_u8" + at));
      EXPECT_LE(max_abs(state.moments.exp_avg_scale, expected.at(id + ".m_absmax" + at)), 1e-6);
      EXPECT_LE(max_abs(state.moments.exp_avg_sq_scale, expected.at(id + ".v_absmax" + at)), 1e-6);
    }
    EXPECT_LE(max_abs(state.param, expected.at(id + ".fp32_adamw_final")),
              1.1 * row.get("max_abs_8bit_vs_fp32_adamw")->number());
  }
}

TEST(Adamw8bitParity, FiveSteps) {
  FT_NEEDS(parity_case("E_nf4", "adamw8bit"));
  run_reference_case();
}

TEST(Adamw8bitParity, FiveStepsOfThePlainTwin) {
  FT_NEEDS(parity_case("E_nf4", "adamw8bit"));
  const PlainTwins plain;
  run_reference_case();
}

TEST(Adamw8bitParity, MapsAreBitsandbytes) {
  const fs::path folder = parity_case("E_nf4", "adamw8bit");
  FT_NEEDS(folder);
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const Tensor tables = make_dynamic_tables(at::kCPU);
  EXPECT_TRUE(same_bits(tables[0], expected.at("code_signed")));
  EXPECT_TRUE(same_bits(tables[2], expected.at("code_unsigned")));
}

}  // namespace
}  // namespace ft
