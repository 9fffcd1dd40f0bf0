// Decoding on the tiny model: the cache changes nothing, sequences do not see each other, and every
// option of sampling does what it says.
#include "infer/generate.h"

#include <numeric>
#include <set>

#include "fixtures.h"
#include "infer/sampler.h"

namespace ft {
namespace {

using Ids = std::vector<int32_t>;

const Session& session() {
  static const Session* const opened = [] {
    RunConfig config;
    config.model = tiny_model().string();
    config.dtype = "float32";
    config.device = "cpu";
    return new Session(open_session(config, std::nullopt));
  }();
  return *opened;
}

/// Prompts of lengths 1, 4, 9, ... of ids that mean nothing.
std::vector<Ids> ragged_prompts() {
  std::vector<Ids> prompts;
  for (const int length : {1, 4, 9, 33, 2}) {
    Ids ids;
    for (int i = 0; i < length; ++i) ids.push_back((7 * i + 13 * length) % 300 + 3);
    prompts.push_back(ids);
  }
  return prompts;
}

Tensor next_logits(const Ids& ids) {
  at::NoGradGuard guard;
  const Decoder& d = session().model->decoder;
  const Batch batch = single_document(ids);
  const Tensor hidden = d.forward(make_sequence(d.spec, batch, at::kCPU));
  return d.logits(hidden.narrow(0, hidden.size(0) - 1, 1))[0];
}

SamplingOptions greedy(int64_t tokens) {
  SamplingOptions options;
  options.max_new_tokens = tokens;
  return options;
}

TEST(Generate, GreedyEqualsAFullForwardForEachToken) {
  for (const Ids& prompt : ragged_prompts()) {
    const auto got = generate_batch(session(), {prompt}, greedy(24), {});
    Ids so_far = prompt;
    for (const int32_t id : got[0].ids) {
      EXPECT_EQ(id, value(next_logits(so_far).argmax()));
      so_far.push_back(id);
    }
    EXPECT_EQ(got[0].ids.size(), 24u);
    EXPECT_EQ(got[0].finish_reason, "length");
  }
}

TEST(Generate, RaggedPromptsTogetherEqualOneByOne) {
  SamplingOptions sampled = greedy(20);
  sampled.temperature = 1;
  sampled.top_p = 0.9;
  for (const SamplingOptions& options : {greedy(20), sampled}) {
    const auto prompts = ragged_prompts();
    const auto together = generate_batch(session(), prompts, options, {});
    ASSERT_EQ(together.size(), prompts.size());
    // A prompt's random stream depends on its place, so only the first can be sampled alone.
    const size_t alone = options.temperature > 0 ? 1 : prompts.size();
    for (size_t i = 0; i < alone; ++i)
      EXPECT_EQ(generate_batch(session(), {prompts[i]}, options, {})[0].ids, together[i].ids) << i;
  }
}

TEST(Generate, EndTokensEndASequenceAndNoOther) {
  const auto prompts = ragged_prompts();
  const auto whole = generate_batch(session(), prompts, greedy(16), {});
  const int32_t end = whole[1].ids[5];
  const auto cut = generate_batch(session(), prompts, greedy(16), {end});
  for (size_t i = 0; i < prompts.size(); ++i) {
    const Ids& all = whole[i].ids;
    const auto at = std::find(all.begin(), all.end(), end);
    EXPECT_EQ(cut[i].ids, Ids(all.begin(), at)) << i;
    EXPECT_EQ(cut[i].finish_reason, at == all.end() ? "length" : "stop") << i;
  }
}

TEST(Generate, SeveralSamplesDifferAndFollowTheSeed) {
  SamplingOptions options = greedy(16);
  options.temperature = 1;
  options.n = 4;
  const std::vector<Ids> prompts = {{5, 6, 7}, {8, 9}};
  const auto first = generate_batch(session(), prompts, options, {});
  ASSERT_EQ(first.size(), 8u);
  std::set<Ids> different;
  for (const Generated& g : first) different.insert(g.ids);
  EXPECT_EQ(different.size(), 8u);
  const auto again = generate_batch(session(), prompts, options, {});
  for (size_t i = 0; i < first.size(); ++i) EXPECT_EQ(first[i].ids, again[i].ids);
  options.seed = 7;
  EXPECT_NE(generate_batch(session(), prompts, options, {})[0].ids, first[0].ids);
}

TEST(Generate, StopTextEndsTheAnswerBeforeIt) {
  const Tokenizer& tokenizer = *session().tokenizer;
  const Ids prompt = tokenizer.encode_ids("the cat", {});
  const auto whole = generate_batch(session(), {prompt}, greedy(48), {})[0];
  // A printable piece from the middle of the text.
  size_t at = whole.text.size() / 2;
  while (at + 1 < whole.text.size() && (whole.text[at] < 33 || whole.text[at + 1] < 33)) ++at;
  ASSERT_LT(at + 1, whole.text.size()) << whole.text;
  SamplingOptions options = greedy(48);
  options.stop = {whole.text.substr(at, 2)};
  std::string streamed;
  const auto cut = generate_batch(session(), {prompt}, options, {},
                                  [&](const std::string& text) { streamed += text; })[0];
  EXPECT_EQ(cut.finish_reason, "stop");
  EXPECT_EQ(cut.text, whole.text.substr(0, whole.text.find(options.stop[0])));
  EXPECT_EQ(streamed, cut.text);
}

TEST(Generate, StreamedPiecesMakeUpTheText) {
  std::string streamed;
  const Ids prompt = session().tokenizer->encode_ids("of the", {});
  SamplingOptions options = greedy(64);
  options.temperature = 2;
  const auto result = generate_batch(session(), {prompt}, options, {},
                                     [&](const std::string& text) { streamed += text; })[0];
  EXPECT_EQ(streamed, result.text);
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
  std::vector<float> logits = {1, 3, 3, 2};
  Rng rng(1);
  EXPECT_EQ(sample_token(logits, {}, {}, rng), 1);
}

TEST(Sampler, RepetitionPenaltyDividesOrMultiplies) {
  std::vector<float> logits = {4, 3, -1, -1.5F};
  SamplingOptions options;
  options.repetition_penalty = 2;
  Rng rng(1);
  EXPECT_EQ(sample_token(logits, {0, 0, 2}, options, rng), 1);
  EXPECT_EQ(logits, (std::vector<float>{2, 3, -2, -1.5F}));  // once, however often it was seen
}

/// Shares of `draws` draws.
std::vector<double> shares(const std::vector<float>& logits, const SamplingOptions& options,
                           int draws = 20000) {
  std::vector<double> share(logits.size());
  Rng rng(3);
  for (int i = 0; i < draws; ++i) {
    std::vector<float> copy = logits;
    share[static_cast<size_t>(sample_token(copy, {}, options, rng))] += 1.0 / draws;
  }
  return share;
}

void expect_shares(const SamplingOptions& options, const std::vector<double>& wanted) {
  // Probabilities 0.5, 0.25, 0.15, 0.1 at temperature 1.
  const std::vector<float> logits = {std::log(0.15F), std::log(0.5F), std::log(0.1F),
                                     std::log(0.25F)};
  const auto got = shares(logits, options);
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(got[i], wanted[i], 0.015) << i;
}

TEST(Sampler, SharesAreTheProbabilities) {
  SamplingOptions o;
  o.temperature = 1;
  expect_shares(o, {0.15, 0.5, 0.1, 0.25});
  o.temperature = 0.5;  // squares
  expect_shares(o, {0.0225 / 0.345, 0.25 / 0.345, 0.01 / 0.345, 0.0625 / 0.345});
}

TEST(Sampler, TopKTopPAndMinPCutTheTail) {
  SamplingOptions o;
  o.temperature = 1;
  o.top_k = 2;
  expect_shares(o, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  o.top_k = 0;
  o.top_p = 0.7;  // 0.5 is not enough, 0.75 is
  expect_shares(o, {0, 0.5 / 0.75, 0, 0.25 / 0.75});
  o.top_p = 1;
  o.min_p = 0.25;  // below an eighth
  expect_shares(o, {0.15 / 0.9, 0.5 / 0.9, 0, 0.25 / 0.9});
  o.min_p = 0;
  o.top_p = 0.01;  // the best one always stays
  expect_shares(o, {0, 1, 0, 0});
}

}  // namespace
}  // namespace ft
