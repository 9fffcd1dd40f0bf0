// Text from a model: batched decoding with a key/value cache.
#pragma once

#include <functional>
#include <vector>

#include "finetune/run.h"
#include "infer/session.h"

namespace ft {

struct Generated {
  std::vector<int32_t> ids;  ///< without the end token
  std::string text;
  std::string finish_reason;  ///< stop | length
};

struct Request {
  std::vector<int32_t> ids;
  size_t number = 0;     ///< place among all prompts: chooses the random stream
  int64_t adapter = -1;  ///< of the session's bank; -1: the base
};

/// Continues every prompt `sampling.n` times (results: all samples of prompt 0, then of prompt 1,
/// ...). `on_text` gets new text of the first result as soon as it is certain (whole characters, no
/// part of a stop string). Ends before the next token when `should_stop` says so.
std::vector<Generated> generate_batch(const Session& session,
                                      const std::vector<std::vector<int32_t>>& prompts,
                                      const SamplingOptions& sampling,
                                      const std::vector<int32_t>& end_ids,
                                      const std::function<void(const std::string&)>& on_text = {},
                                      const std::function<bool()>& should_stop = {});
std::vector<Generated> generate_batch(const Session& session, const std::vector<Request>& requests,
                                      const SamplingOptions& sampling,
                                      const std::vector<int32_t>& end_ids,
                                      const std::function<void(const std::string&)>& on_text = {},
                                      const std::function<bool()>& should_stop = {});

/// Error: (usage) no token, (input) one that the model does not have.
void check_prompt(const std::vector<int32_t>& prompt, const Session& session);

}  // namespace ft
