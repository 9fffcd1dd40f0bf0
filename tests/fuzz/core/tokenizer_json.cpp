// tokenizer.json: load, then encode and decode a kilobyte.
#include "data/tokenizer.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  static const std::string text = [] {
    std::string all =
        "Hello, world!  It's 2025; caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 "
        "\xf0\x9f\x8c\x8d\n\n\t<s>[INST] ";
    while (all.size() < 1024) all += all;
    return all.substr(0, 1024);
  }();
  ft::fuzz_file("t/tokenizer.json", data);
  const auto tokenizer = ft::Tokenizer::load(ft::fuzz_folder() / "t");
  const auto ids = tokenizer->encode_ids(text, {.add_special_tokens = true});
  for (const int32_t id : ids)
    if (id < 0 || id >= tokenizer->size()) ft::finding("an id outside the vocabulary");
  tokenizer->decode(ids);
}
