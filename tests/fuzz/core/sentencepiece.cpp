// tokenizer.model: load, then encode and decode.
#include "data/tokenizer.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  const std::string text =
      "Hello, world!  2025 caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87\n\n<start_of_turn>";
  ft::fuzz_file("s/tokenizer.model", data);
  const auto tokenizer = ft::Tokenizer::load(ft::fuzz_folder() / "s");
  const auto ids = tokenizer->encode_ids(text, {.add_special_tokens = true});
  for (const int32_t id : ids)
    if (id < 0 || id >= tokenizer->size()) ft::finding("an id outside the vocabulary");
  tokenizer->decode(ids);
}
