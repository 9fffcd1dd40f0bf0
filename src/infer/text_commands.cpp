// inspect() and tokenize(): commands that need a model's tokenizer and template but none of its
// weights.
#include <unistd.h>

#include "base/error.h"
#include "base/files.h"
#include "data/inspect.h"
#include "data/tokenize_lines.h"
#include "finetune/run.h"
#include "infer/session.h"

namespace ft {

std::string inspect(const RunConfig& config, int64_t num_examples, bool json) {
  const Session session = open_text_session(config);
  DataContext context = session.data_context(config.data);
  context.vocab_size = load_spec(config.model).vocab_size;
  const SplitRows rows = read_split(config.data, config.seed);
  WindowCut cut(rows.train, config);
  const Dataset train_set = make_dataset(cut.rows(0, 0), context);
  std::optional<Dataset> eval_set;
  if (!rows.eval.empty())
    eval_set = make_dataset(rows.eval, context, {.max_documents = config.eval.max_examples});
  const Inspection inspection =
      inspect_data(config, cut, train_set, eval_set ? &*eval_set : nullptr, session.tokenizer.get(),
                   num_examples);
  if (json) return inspection_json(inspection).dump() + "\n";
  return inspection_text(inspection, isatty(STDOUT_FILENO) == 1);
}

void tokenize(const TokenizeRequest& request,
              const std::function<std::optional<std::string>()>& read,
              const std::function<void(const std::string&)>& write) {
  const auto tokenizer = Tokenizer::load(request.model);
  const auto chat_template =
      ChatTemplate::load(request.chat_template.value_or("auto"), request.model);
  const TokenizeOptions options{request.add_special_tokens, request.parse_special,
                                fitting_templates(request.model)};
  while (const auto line = read())
    write(tokenize_line(*line, *tokenizer, chat_template ? &*chat_template : nullptr, options)
              .dump() +
          "\n");
}

}  // namespace ft
