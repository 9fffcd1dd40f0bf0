// All sequences advance together: one forward pass over the packed prompts fills the cache, then
// one token each a pass. Sequences that have ended take no part. Every sequence draws from its own
// random stream, so that a prompt's text does not depend on what else is in the batch.
#include "infer/generate.h"

#include <algorithm>
#include <chrono>

#include "base/error.h"
#include "base/seed.h"
#include "infer/sampler.h"

namespace ft {
namespace {

struct Track {
  std::vector<int32_t> seen;  ///< prompt and answer
  int64_t adapter;
  Generated out;
  Rng rng{0};
  bool done = false;
  size_t shown = 0;  ///< bytes of text handed out
};

/// New tokens of every live sequence as a batch with their positions.
Batch next_batch(const std::vector<std::vector<int32_t>>& fresh, const KvCache& cache) {
  Batch batch;
  batch.bounds = {0};
  for (size_t s = 0; s < fresh.size(); ++s) {
    int64_t position = cache.length(static_cast<int64_t>(s));
    for (const int32_t id : fresh[s]) {
      batch.tokens.push_back(id);
      batch.targets.push_back(kIgnore);
      batch.positions.push_back(position++);
    }
    batch.bounds.push_back(batch.num_tokens());
  }
  return batch;
}

/// Logits after the last new token of each sequence that has one: [live, V] float32 on the host, in
/// sequence order.
Tensor last_logits(const Session& session, const std::vector<Track>& streams,
                   const std::vector<std::vector<int32_t>>& fresh, KvCache& cache) {
  const Model& model = *session.model;
  if (session.bank) {
    std::vector<int64_t> adapters;  // of each row
    for (size_t s = 0; s < fresh.size(); ++s)
      adapters.insert(adapters.end(), fresh[s].size(), streams[s].adapter);
    session.bank->choose(adapters, model.device);
  }
  Sequence sequence = make_sequence(model.decoder.spec, next_batch(fresh, cache), model.device);
  sequence.cache = &cache;
  const Tensor hidden = model.decoder.forward(sequence);
  std::vector<int64_t> rows;
  for (size_t s = 0; s < fresh.size(); ++s)
    if (!fresh[s].empty()) rows.push_back(sequence.documents.bounds[s + 1] - 1);
  const Tensor picked = hidden.index_select(0, ops::from_vector(rows, model.device));
  return model.decoder.logits(picked).to(at::kFloat).to(at::kCPU).contiguous();
}

/// Where the earliest stop string begins in `text`, or npos.
size_t find_stop(const std::string& text, const std::vector<std::string>& stops) {
  size_t first = std::string::npos;
  for (const auto& stop : stops) first = std::min(first, text.find(stop));
  return first;
}

/// Bytes at the end of `text` that may still change: the beginning of a stop string, or of a broken
/// character.
size_t uncertain_tail(const std::string& text, const std::vector<std::string>& stops) {
  size_t tail = text.ends_with("\xef\xbf\xbd") ? 3 : 0;
  for (const auto& stop : stops)
    for (size_t n = std::min(stop.size() - 1, text.size()); n > tail; --n)
      if (text.ends_with(stop.substr(0, n))) tail = n;
  return tail;
}

class Decoding {
 public:
  Decoding(const Session& session, const SamplingOptions& sampling,
           const std::vector<int32_t>& ends)
      : session_(session), sampling_(sampling), ends_(ends) {}

  /// Takes a token into a stream; decides whether it ends there.
  void take(Track& s, int32_t id) const {
    if (std::find(ends_.begin(), ends_.end(), id) != ends_.end()) {
      finish(s, "stop");
      return;
    }
    s.seen.push_back(id);
    s.out.ids.push_back(id);
    if (!sampling_.stop.empty() && session_.tokenizer) {
      const std::string text = session_.tokenizer->decode(s.out.ids, true);
      if (find_stop(text, sampling_.stop) != std::string::npos) finish(s, "stop");
    }
    if (!s.done && static_cast<int64_t>(s.out.ids.size()) >= sampling_.max_new_tokens)
      finish(s, "length");
  }

  void show(Track& s, const std::function<void(const std::string&)>& on_text) const {
    if (!on_text || !session_.tokenizer) return;
    std::string text = s.done ? s.out.text : session_.tokenizer->decode(s.out.ids, true);
    if (!s.done) text.resize(text.size() - uncertain_tail(text, sampling_.stop));
    if (text.size() <= s.shown) return;
    on_text(text.substr(s.shown));
    s.shown = text.size();
  }

 private:
  void finish(Track& s, const char* reason) const {
    s.done = true;
    s.out.finish_reason = reason;
    if (!session_.tokenizer) return;
    s.out.text = session_.tokenizer->decode(s.out.ids, true);
    const size_t stop = find_stop(s.out.text, sampling_.stop);
    if (stop != std::string::npos) s.out.text.resize(stop);
  }

  const Session& session_;
  const SamplingOptions& sampling_;
  const std::vector<int32_t>& ends_;
};

}  // namespace

void check_prompt(const std::vector<int32_t>& prompt, const Session& session) {
  if (prompt.empty()) fail_usage("prompt: empty after tokenisation; at least one token is needed");
  for (const int32_t id : prompt)
    if (id < 0 || id >= session.model->decoder.spec.vocab_size)
      fail_input("prompt: token id ", id, " is outside the model's vocabulary of ",
                 session.model->decoder.spec.vocab_size);
}

std::vector<Generated> generate_batch(const Session& session,
                                      const std::vector<std::vector<int32_t>>& prompts,
                                      const SamplingOptions& sampling,
                                      const std::vector<int32_t>& end_ids,
                                      const std::function<void(const std::string&)>& on_text,
                                      const std::function<bool()>& should_stop) {
  std::vector<Request> requests;
  for (const auto& prompt : prompts) requests.push_back({prompt, requests.size()});
  return generate_batch(session, requests, sampling, end_ids, on_text, should_stop);
}

std::vector<Generated> generate_batch(const Session& session, const std::vector<Request>& requests,
                                      const SamplingOptions& sampling,
                                      const std::vector<int32_t>& end_ids,
                                      const std::function<void(const std::string&)>& on_text,
                                      const std::function<bool()>& should_stop) {
  at::NoGradGuard guard;
  std::vector<Track> streams;
  std::vector<std::vector<int32_t>> fresh;
  size_t longest = 0;
  for (const Request& r : requests) {
    check_prompt(r.ids, session);
    longest = std::max(longest, r.ids.size());
    for (int64_t i = 0; i < sampling.n; ++i) {
      streams.push_back(
          {r.ids,
           r.adapter,
           {},
           Rng(seed(sampling.seed, r.number * 1000003 + static_cast<size_t>(i), Stream::kSampling)),
           false,
           0});
      fresh.push_back(r.ids);
    }
  }
  const Model& model = *session.model;
  const int64_t capacity = static_cast<int64_t>(longest) + sampling.max_new_tokens;
  KvCache cache(model.decoder.spec, static_cast<int64_t>(streams.size()), capacity,
                model.decoder.dtype, model.device);
  const Decoding decoding(session, sampling, end_ids);
  while (std::any_of(streams.begin(), streams.end(), [](const Track& s) { return !s.done; })) {
    if (should_stop && should_stop()) break;
    const Tensor logits = last_logits(session, streams, fresh, cache);  // [live, V]
    const auto* row = static_cast<const float*>(logits.const_data_ptr());
    for (size_t s = 0; s < streams.size(); ++s) {
      fresh[s].clear();
      if (streams[s].done) continue;
      std::vector<float> values(row, row + logits.size(1));
      row += logits.size(1);
      const int32_t id = sample_token(values, streams[s].seen, sampling, streams[s].rng);
      decoding.take(streams[s], id);
      if (!streams[s].done) fresh[s] = {id};
    }
    decoding.show(streams[0], on_text);
  }
  std::vector<Generated> results;
  for (Track& s : streams) results.push_back(std::move(s.out));
  return results;
}

}  // namespace ft
