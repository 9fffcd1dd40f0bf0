// The optimizer's variants against the plain one: pages and fused updates change where and when,
// never a bit; 8 bits are for large matrices; a gradient that is not finite stops a fused update.
#include "train/optimizer.h"

#include "base/error.h"
#include "fixtures.h"
#include "kernels/autograd.h"
#include "kernels/compare.h"
#include "kernels/device.h"
#include "train/step.h"

namespace ft {
namespace {

/// A matrix of more than a page's piece, a small one, a vector: bfloat16 with the given settings.
struct Weights {
  ParamStore params;
  Weights() {
    add("large", {1031, 1050});
    add("small", {60, 60});
    add("norm.weight", {5000});
  }
  void add(const std::string& name, std::vector<int64_t> sizes) {
    params.add(name, normal(sizes, params.all().size()).to(at::kBFloat16)).train();
  }
  /// Its gradient is a fixed random one.
  Tensor loss(uint64_t step) {
    Tensor total = ops::zeros({}, at::kFloat);
    for (Param& p : params.all())
      total = total.add(p.value.to(at::kFloat).mul(normal(p.value.sizes(), step)).sum());
    return total;
  }
};

TrainConfig settings(const std::string& optimizer, const std::string& master, bool fused = false) {
  TrainConfig c;
  c.optimizer = optimizer;
  c.master_weights = master;
  c.weight_decay = 0.1;
  c.fused_update = fused;
  return c;
}

double fused_norm(Optimizer& optimizer) {
  std::vector<double> sums;
  for (const Tensor& sum : optimizer.end_fused()) sums.push_back(sum.item().toDouble());
  return optimizer.fused_norm(sums);
}

struct Result {
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::vector<double> norms;
};
Result three_steps(const TrainConfig& config) {
  Weights w;
  Optimizer optimizer(w.params.trainable(), config, 3, testing::TempDir());
  Result result;
  for (int64_t step = 1; step <= 3; ++step) {
    const Tensor loss = w.loss(static_cast<uint64_t>(step));
    if (config.fused_update) optimizer.begin_fused(1e-2, loss, step);
    run_backward(loss);
    if (config.fused_update) {
      result.norms.push_back(fused_norm(optimizer));
      for (Param& p : w.params.all()) EXPECT_FALSE(p.value.grad().defined());
      continue;
    }
    optimizer.collect();
    result.norms.push_back(optimizer.gradient_norm().item().toDouble());
    optimizer.update(1e-2, ops::full({}, 1, at::kDouble), step);
  }
  for (Param& p : w.params.all()) result.tensors.emplace_back(p.name, p.value.detach());
  for (const auto& [name, t] : optimizer.state()) result.tensors.emplace_back(name, t.clone());
  return result;
}

void expect_same(const Result& a, const Result& b) {
  EXPECT_EQ(a.norms, b.norms);
  ASSERT_EQ(a.tensors.size(), b.tensors.size());
  for (size_t i = 0; i < a.tensors.size(); ++i) {
    EXPECT_EQ(a.tensors[i].first, b.tensors[i].first);
    EXPECT_TRUE(same_bits(a.tensors[i].second, b.tensors[i].second)) << a.tensors[i].first;
  }
}

class OptimizerVariants : public testing::TestWithParam<const char*> {};

TEST_P(OptimizerVariants, PagesAndFusedUpdatesGiveTheSameBits) {
  for (const std::string optimizer : {"adamw", "adamw8bit"}) {
    SCOPED_TRACE(optimizer);
    const Result plain = three_steps(settings(optimizer, GetParam()));
    EXPECT_GT(max_abs(plain.tensors[0].second, normal({1031, 1050}, 0)), 1e-3);
    expect_same(three_steps(settings("paged_" + optimizer, GetParam())), plain);
    expect_same(three_steps(settings(optimizer, GetParam(), true)), plain);
    expect_same(three_steps(settings("paged_" + optimizer, GetParam(), true)), plain);
  }
}

INSTANTIATE_TEST_SUITE_P(Masters, OptimizerVariants,
                         testing::Values("kahan", "stochastic", "float32", "none"),
                         [](const auto& master) { return std::string(master.param); });

TEST(Optimizer8bit, IsForLargeMatrices) {
  Weights w;
  const Optimizer optimizer(w.params.trainable(), settings("adamw8bit", "none"), 3);
  for (const auto& [name, t] : optimizer.state()) {
    const bool is_code = name == "large.exp_avg" || name == "large.exp_avg_sq";
    EXPECT_EQ(t.scalar_type(), is_code ? at::kByte : at::kFloat) << name;
  }
}

TEST(OptimizerPaged, StatesLeaveTheResidentSet) {
  constexpr int64_t kCount = 8 << 20, kStates = kCount * 8;
  const auto memory = [&](const std::string& optimizer_name) {
    ParamStore params;
    params.add("w", ops::zeros({kCount / 1024, 1024}, at::kFloat)).train();
    const int64_t before = resident_memory();
    Optimizer optimizer(params.trainable(), settings(optimizer_name, "none"), 3,
                        testing::TempDir());
    Tensor& w = params.at("w").value;
    for (int64_t step = 1; step <= 2; ++step) {
      w.mutable_grad() = ops::full(w.sizes(), 1e-3, at::kFloat);
      optimizer.collect();
      optimizer.update(1e-2, ops::full({}, 1, at::kDouble), step);
    }
    return resident_memory() - before;
  };
  const int64_t paged = memory("paged_adamw"), plain = memory("adamw");
  EXPECT_GE(plain - paged, kStates * 9 / 10) << plain << " and paged " << paged;
}

TEST(OptimizerPaged, RefusesAFolderThatTakesNoFile) {
  Weights w;
  try {
    const Optimizer optimizer(w.params.trainable(), settings("paged_adamw", "none"), 3,
                              "/nonexistent");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), Code::kOutput);
    EXPECT_NE(std::string(e.what()).find("/nonexistent: no file"), std::string::npos) << e.what();
  }
}

TEST(OptimizerFused, StopsAtAGradientThatIsNotFinite) {
  ParamStore params;
  for (const char* name : {"a", "b", "c"}) params.add(name, ops::full({2}, 1, at::kFloat)).train();
  Optimizer optimizer(params.trainable(), settings("adamw", "none", true), 3);
  const auto x = [&](const char* name) { return params.at(name).value; };
  // The backward pass comes to c, then b, whose gradient is c * 1 / 0, then a.
  const Tensor loss = x("a").mul(x("b").sub(1).abs().sqrt()).mul(x("c")).sum();
  const Tensor all = loss.add(x("c").sum());
  optimizer.begin_fused(0.1, all, 1);
  run_backward(all);
  EXPECT_FALSE(std::isfinite(fused_norm(optimizer)));
  ASSERT_TRUE(optimizer.refused());
  EXPECT_EQ(optimizer.refused()->name, "b");
  EXPECT_TRUE(x("b").eq(1).all().item().toBool());
  for (const char* name : {"a", "b", "c"}) {
    EXPECT_FALSE(x(name).grad().defined()) << name;
    EXPECT_TRUE(x(name).isfinite().all().item().toBool()) << name;
  }
  EXPECT_TRUE(x("c").lt(1).all().item().toBool());
}

TEST(OptimizerFused, ALossThatIsNotFiniteLeavesTheWeights) {
  const auto model = load_model(tiny_model(), at::kFloat, at::kCPU);
  for (Param& p : model->params.all()) p.train();
  RunConfig config;
  config.train.fused_update = true;
  config.train.max_grad_norm = 0;
  Optimizer optimizer(model->params.trainable(), config.train, 0);
  {
    const at::NoGradGuard guard;
    model->params.at("model.norm.weight").value[0].fill_(NAN);
  }
  std::vector<Tensor> before;
  for (const Param& p : model->params.all()) before.push_back(p.value.detach().clone());
  try {
    train_step({*model, nullptr, optimizer, config}, {single_document({1, 2, 3, 4})}, 0, 0.1);
    FAIL();
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("the step was not applied"), std::string::npos);
  }
  EXPECT_FALSE(optimizer.refused());
  size_t i = 0;
  for (const Param& p : model->params.all())
    EXPECT_TRUE(same_bits(p.value.detach(), before[i++])) << p.name;
}

}  // namespace
}  // namespace ft
