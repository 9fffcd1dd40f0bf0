// Text -> token ids with labels: the rules of loss masks, apart from where the text comes from.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "data/dataset.h"

namespace ft {

/// Labels for all tokens of a document but the first, or only for some of them.
enum class TrainOn { kSome, kAll };

/// `data.train_on` as configured.
TrainOn train_on(const DataConfig& config);

/// A rendered conversation: nothing is added to its text. kSome: tokens that start inside a trained
/// span have labels. kAll: all but those that start inside `silent` spans. Error (input) beginning
/// with `where` when the text begins with two BOS.
Document label_chat(RenderedChat chat, const std::vector<Span>& silent, TrainOn on,
                    const Tokenizer& tokenizer, std::string_view where);

/// Prompt and completion as one text (a tokenizer would cut it differently at the join) with EOS
/// behind it. kSome: labels from the first token on in which it differs from the prompt alone.
Document label_completion(const std::string& prompt, const std::string& completion, TrainOn on,
                          const Tokenizer& tokenizer, std::string_view where);

/// A text with EOS behind it. All tokens have labels; an empty text has none.
Document label_text(const std::string& text, const Tokenizer& tokenizer, std::string_view where);

}  // namespace ft
