// `text`: {"text": "..."}: language modelling. The tokenizer adds BOS as it does by itself, EOS
// goes behind the text, every token but the first is trained. Special-token text inside is read as
// special tokens, as HF does: such files often hold whole rendered conversations.
#include "data/formats.h"
#include "data/label.h"

namespace ft {

Document make_text(const Row& row, const DocumentMaker& maker) {
  return label_text(text_member(row, "text"), maker.tokenizer(), row.where);
}

}  // namespace ft
