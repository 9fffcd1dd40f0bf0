// What the commands work with: a model, its adapter, its tokenizer and its chat template, as one
// configuration names them.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "adapters/bank.h"
#include "data/chat_template.h"
#include "data/dataset.h"
#include "data/tokenizer.h"

namespace ft {

struct Session {
  std::unique_ptr<Model> model;
  std::optional<AdapterSet> adapters;
  std::unique_ptr<AdapterBank> bank;     ///< several adapters, chosen row by row; null: none
  std::unique_ptr<Tokenizer> tokenizer;  ///< null when the folder has none
  std::optional<ChatTemplate> chat_template;
  std::string fitting_templates;  ///< for the error where there is none

  DataContext data_context(const DataConfig& config) const;
  /// Fails (input) when there is no tokenizer.
  const Tokenizer& need_tokenizer() const;
};

/// Loads the model in config.dtype on config.device, and the adapter when one is named.
Session open_session(const RunConfig& config, const std::optional<std::string>& adapter);
/// Tokenizer and template alone.
Session open_text_session(const RunConfig& config);

at::Device parse_device(const std::string& name);

/// A conversation with the generation prompt after it, as token ids. What stands in messages is
/// never taken for a control token.
std::vector<int32_t> encode_messages(const Session& session, const Json& messages,
                                     const Json& tools);

/// Tokens that end an answer: those of generation_config.json and config.json, the tokenizer's EOS,
/// and the special token that the chat template puts after an answer.
std::vector<int32_t> end_tokens(const Session& session);

}  // namespace ft
