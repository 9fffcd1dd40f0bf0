// The key/value cache against a forward pass without it, for every family of the reference cases:
// windows, soft caps, norms on q and k, two rotations. The sequences are longer than the windows.
#include <numeric>

#include "fixtures.h"
#include "kernels/matrix_unit.h"
#include "model/decode.h"

namespace ft {
namespace {

class CacheParity : public testing::TestWithParam<std::string> {};

/// Tokens [begin, end) of two sequences that go through the cache together, each from its own
/// place.
Batch stretch(const std::vector<std::vector<int32_t>>& sequences, int64_t begin, int64_t end) {
  Batch batch;
  batch.bounds = {0};
  for (const auto& ids : sequences) {
    const auto stop = std::min(end, static_cast<int64_t>(ids.size()));
    for (int64_t i = begin; i < stop; ++i) {
      batch.tokens.push_back(ids[static_cast<size_t>(i)]);
      batch.positions.push_back(i);
      batch.targets.push_back(kIgnore);
    }
    batch.bounds.push_back(static_cast<int64_t>(batch.tokens.size()));
  }
  return batch;
}

TEST_P(CacheParity, StretchesGiveTheLogitsOfTheWhole) {
  const fs::path folder = parity_case("A_forward", GetParam());
  FT_NEEDS(folder);
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto model = load_model(folder / "model", at::kFloat, at::kCPU);
  const Decoder& d = model->decoder;
  at::NoGradGuard guard;
  const std::vector<std::vector<int32_t>> sequences = {to_ids(expected.at("input_ids_0")),
                                                       to_ids(expected.at("input_ids_1"))};
  const auto longest = static_cast<int64_t>(std::max(sequences[0].size(), sequences[1].size()));
  // At once, token by token, and in pieces that begin inside a window and go past it.
  for (const int64_t step : {longest, int64_t{1}, int64_t{5}, int64_t{13}}) {
    SCOPED_TRACE(step);
    KvCache cache(d.spec, 2, longest, at::kFloat, at::kCPU);
    std::vector<std::vector<Tensor>> logits(2);
    for (int64_t begin = 0; begin < longest; begin += step) {
      const Batch batch = stretch(sequences, begin, begin + step);
      Sequence s = make_sequence(d.spec, batch, at::kCPU);
      s.cache = &cache;
      const Tensor hidden = d.forward(s);
      for (size_t i = 0; i < 2; ++i) {
        const int64_t from = batch.bounds[i], count = batch.bounds[i + 1] - from;
        if (count > 0) logits[i].push_back(d.logits(hidden.narrow(0, from, count)));
      }
    }
    const Json info = read_json(folder / "case.json");
    for (size_t i = 0; i < 2; ++i)
      EXPECT_LE(max_abs(ops::cat(logits[i]), expected.at("logits_" + std::to_string(i))),
                tolerance(info, "logits_max_abs"));
  }
}

/// What goes alone through the cache takes the short way of decode_token(), two together do not.
TEST_P(CacheParity, ATokenAloneGivesTheBitsThatItGivesInCompany) {
  if (!has_matrix_unit()) GTEST_SKIP() << "no matrix unit";
  const fs::path folder = parity_case("A_forward", GetParam());
  FT_NEEDS(folder);
  const TensorMap expected = read_tensors(folder / "expected.safetensors");
  const auto model = load_model(folder / "model", at::kBFloat16, at::kCPU);
  const Decoder& d = model->decoder;
  at::NoGradGuard guard;
  const std::vector<int32_t> first = to_ids(expected.at("input_ids_0")),
                             second = to_ids(expected.at("input_ids_1"));
  const auto length = static_cast<int64_t>(std::min(first.size(), second.size()));
  const auto run = [&](const std::vector<std::vector<int32_t>>& sequences) {
    KvCache cache(d.spec, 2, length, at::kBFloat16, at::kCPU);
    std::vector<Tensor> hidden;  // of the second sequence
    for (int64_t i = 0; i < length; ++i) {
      Sequence s = make_sequence(d.spec, stretch(sequences, i, i + 1), at::kCPU);
      s.cache = &cache;
      EXPECT_EQ(decode_token(d, d.embed_tokens(s.tokens), s).has_value(),
                sequences[0].empty() && i > 0);
      const Tensor h = d.forward(s);
      hidden.push_back(h.narrow(0, h.size(0) - 1, 1));
    }
    return ops::cat(hidden);
  };
  EXPECT_TRUE(run({{}, second}).equal(run({first, second})));
}

INSTANTIATE_TEST_SUITE_P(A_forward, CacheParity, testing::ValuesIn(parity_cases("A_forward", {})),
                         case_name);

}  // namespace
}  // namespace ft
