// The chunks of the head's loss: which rows they hold, where targets are few and where a filled-up
// list of rows ends in the middle of a chunk or on the number of all rows.
#include "data/batch.h"
#include "kernels/autograd.h"
#include "kernels/compare.h"
#include "kernels/kernels.h"

namespace ft {
namespace {

struct Shape {
  const char* name;
  int64_t rows, vocab;
  std::vector<int64_t> ignored;  ///< rows without a target
  int64_t from = -1;             ///< every row from here on has none either
};

void PrintTo(const Shape& s, std::ostream* out) {
  *out << s.name;
}

class HeadChunks : public testing::TestWithParam<Shape> {
 protected:
  std::vector<int64_t> targets() const {
    const Shape& s = GetParam();
    std::vector<int64_t> all;
    for (int64_t i = 0; i < s.rows; ++i)
      all.push_back(s.from >= 0 && i >= s.from ? kIgnore : i * 31 % s.vocab);
    for (const int64_t i : s.ignored) all[static_cast<size_t>(i)] = kIgnore;
    return all;
  }
};

TEST_P(HeadChunks, LossesAndGradientsAreThoseOfTheWholeProduct) {
  const Shape& s = GetParam();
  const Tensor h = normal({s.rows, 4}, 1).to(at::kFloat).set_requires_grad(true);
  const Tensor w = normal({s.vocab, 4}, 2).to(at::kFloat);
  const Tensor wanted = ops::from_vector(targets(), at::kCPU);
  const Tensor h2 = h.detach().clone().set_requires_grad(true);
  const Tensor log_p = ops::linear(h2, w).log_softmax(-1);
  const Tensor has_target = wanted.ne(kIgnore);
  const Tensor plain =
      log_p.gather(1, wanted.clamp_min(0).unsqueeze(1)).squeeze(1).neg().mul(has_target);

  const Targets given = make_targets(targets(), at::kCPU);
  const Tensor each = token_losses(h.detach(), w, given);
  EXPECT_LE(each.sub(plain.detach()).abs().max().item().toDouble(), 1e-4);

  const Tensor loss = linear_cross_entropy(h, w, given);
  const double sum = plain.detach().to(at::kDouble).sum().item().toDouble();
  EXPECT_NEAR(loss.item().toDouble(), sum, 1e-5 * sum);
  run_backward(loss);
  run_backward(plain.sum());
  EXPECT_LE(h.grad().sub(h2.grad()).abs().max().item().toDouble(), 1e-4);
}

// A chunk is 64 MiB of logits, in rows a multiple of 64: 192 rows at a vocabulary of 83886.
INSTANTIATE_TEST_SUITE_P(Shapes, HeadChunks,
                         testing::Values(Shape{"all_rows", 64, 50, {}},
                                         Shape{"one_without", 64, 50, {0}},
                                         Shape{"filled_up_to_all_rows", 128, 50, {0, 17, 64, 90}},
                                         Shape{"ends_inside_a_chunk", 130, 50, {3}},
                                         Shape{"several_chunks", 256, 83886, {0, 128}},
                                         Shape{"ends_before_the_last_chunk", 256, 83886, {}, 197},
                                         Shape{"one_target", 70, 50, {}, 1}),
                         [](const auto& shape) { return std::string(shape.param.name); });

}  // namespace
}  // namespace ft
