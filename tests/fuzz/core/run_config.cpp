// A configuration: what loads must print as YAML that loads to the same.
#include "config/fields.h"
#include "fuzz/fuzz.h"

FT_FUZZ(data) {
  const ft::RunConfig config = ft::load_config(ft::fuzz_file("run.yaml", data).string(), {});
  const ft::RunConfig again =
      ft::load_config(ft::fuzz_file("again.yaml", ft::to_yaml(config)).string(), {});
  if (!ft::changed_keys(config, again).empty())
    ft::finding("to_yaml does not read back: " + ft::changed_keys(config, again)[0]);
}
