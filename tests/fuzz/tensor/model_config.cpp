// config.json -> the spec of a model.
#include "fuzz/fuzz.h"
#include "model/spec.h"

FT_FUZZ(data) {
  const ft::ModelSpec spec = ft::make_spec(ft::parse_json(data, "config.json"), "config.json");
  if (spec.num_layers < 1 || spec.hidden_size < 1 || spec.num_kv_heads < 1 ||
      spec.num_heads % spec.num_kv_heads != 0 || spec.vocab_size < 1 ||
      static_cast<int64_t>(spec.windows.size()) > spec.num_layers)
    ft::finding("a spec that no model has");
}
