// Rows of JSON Lines -> documents with tokens and labels, in the format that their keys say.
#include "data/dataset.h"
#include "data/fake_tokenizer.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  static const ft::FakeTokenizer tokenizer;
  static const auto chat = ft::ChatTemplate::load("chatml", ".");
  ft::DataConfig config;
  config.max_length = 64;
  config.overflow = data.size() % 2 ? "truncate" : "split";
  const ft::DataContext context{
      .config = config, .tokenizer = &tokenizer, .chat_template = &*chat, .vocab_size = 320};
  const ft::Dataset set =
      ft::make_dataset(ft::Rows({ft::fuzz_file("d.jsonl", data).string()}), context);
  int64_t targets = 0;
  for (const ft::Document& d : set.documents) {
    const ft::Example& e = d.example;
    if (e.ids.size() != e.labels.size() || e.ids.empty() || e.ids.size() > 64 ||
        e.labels[0] != ft::kIgnore)
      ft::finding("ids and labels do not fit each other");
    for (size_t i = 0; i < e.ids.size(); ++i) {
      if (e.ids[i] < 0 || e.ids[i] >= 320) ft::finding("an id outside the vocabulary");
      // Rows of token ids may bring labels of their own.
      if (e.labels[i] != ft::kIgnore && (e.labels[i] < 0 || e.labels[i] >= 320))
        ft::finding("a label outside the vocabulary");
      targets += e.labels[i] != ft::kIgnore;
    }
  }
  if (targets == 0) ft::finding("nothing to train on, and nobody said so");
}
