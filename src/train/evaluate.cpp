#include "train/evaluate.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "data/window.h"
#include "finetune/run.h"
#include "infer/session.h"
#include "objectives/sft.h"

namespace ft {
namespace {

/// Losses of the targets of document s, from the losses of all places of the batch.
std::vector<float> document_losses(const Batch& batch, const float* losses, size_t s) {
  std::vector<float> found;
  for (int64_t i = batch.bounds[s]; i < batch.bounds[s + 1]; ++i)
    if (batch.targets[static_cast<size_t>(i)] != kIgnore) found.push_back(losses[i]);
  return found;
}

struct Writers {
  std::string per_example, token_logprobs;

  void add(size_t index, const std::vector<float>& losses) {
    double sum = 0;
    Json::Array logprobs;
    for (const float loss : losses) {
      sum += static_cast<double>(loss);
      logprobs.emplace_back(-static_cast<double>(loss));
    }
    const Json mean = losses.empty() ? Json() : Json(sum / static_cast<double>(losses.size()));
    per_example +=
        with_finite_numbers(
            Json::Object{{"index", index}, {"loss", mean}, {"target_tokens", losses.size()}})
            .dump() +
        "\n";
    token_logprobs +=
        with_finite_numbers(Json::Object{{"logprobs", std::move(logprobs)}}).dump() + "\n";
  }
};

/// Before an evaluation that may take hours.
void check_results(const EvalOptions& o) {
  const auto is_same = [](const std::string& a, const std::string& b) {
    std::error_code ignored;
    return fs::weakly_canonical(a, ignored) == fs::weakly_canonical(b, ignored);
  };
  for (const auto& [option, file] : {std::pair("--per-example", o.per_example),
                                     std::pair("--token-logprobs", o.token_logprobs)}) {
    if (!file) continue;
    for (const auto* inputs : {&o.config.data.eval, &o.config.data.train})
      for (const std::string& input : *inputs)
        if (is_same(*file, input))
          fail_usage(option, ": ", printable(*file), " is the data; another file is wanted");
    const bool exists = is_there(*file);
    const fs::path folder = behind_links(fs::absolute(*file)).parent_path();
    if (!exists && !is_there(folder))
      fail(Code::kOutput, *file, ": there is no folder ", folder.string());
    if (exists && fs::is_directory(*file))
      fail(Code::kOutput, *file, ": a folder, a file is wanted");
    if (::access(exists ? file->c_str() : folder.c_str(), W_OK) != 0)
      fail(Code::kOutput, *file, ": cannot be written: ", std::strerror(errno));
  }
  if (o.per_example && o.token_logprobs && is_same(*o.per_example, *o.token_logprobs))
    fail_usage("--per-example and --token-logprobs: the same file");
}

/// What /dev/stdout leads to may be a file, which the result printed later goes to as well.
bool is_stdout(const fs::path& path) {
  struct stat file {
  }, out{};
  return ::stat(path.c_str(), &file) == 0 && ::fstat(STDOUT_FILENO, &out) == 0 &&
         file.st_ino == out.st_ino && file.st_dev == out.st_dev;
}

/// All of it or, in what is not a file (a pipe, /dev/null), what that takes. A file in a folder
/// that may not be changed is written in its place.
void write_results(const std::string& file, const std::string& content) {
  const fs::path path = behind_links(fs::absolute(file));
  if (is_stdout(file))
    std::fwrite(content.data(), 1, content.size(), stdout);  // checked at the end
  else if (is_there(file) && !fs::is_regular_file(file))
    append_file(file, content);
  else if (::access(path.parent_path().c_str(), W_OK) != 0)
    write_file(path, content);
  else
    replace_file(path, content);
}

}  // namespace

Losses evaluate_examples(const Model& model, const std::vector<Example>& examples,
                         int64_t max_tokens,
                         const std::function<void(size_t, const std::vector<float>&)>& on_example,
                         const std::function<bool()>& should_stop) {
  Losses total;
  for (size_t begin = 0; begin < examples.size();) {
    if (should_stop && should_stop()) {
      total.is_complete = false;
      return total;
    }
    Batch batch;
    size_t end = begin;
    while (end < examples.size() &&
           (end == begin ||
            batch.num_tokens() + static_cast<int64_t>(examples[end].ids.size()) <= max_tokens))
      batch.add(examples[end++]);
    total.targets += batch.num_targets();
    if (batch.num_targets() == 0) {  // nothing to compute, and perhaps no token at all
      for (; begin < end; ++begin)
        if (on_example) on_example(begin, {});
      continue;
    }
    const Tensor losses = sft_token_losses(model, batch).contiguous();
    const auto* values = static_cast<const float*>(losses.const_data_ptr());
    size_t document = 0;
    for (size_t i = begin; i < end; ++i) {
      // An example without tokens is no document of the batch.
      const auto own = examples[i].ids.empty() ? std::vector<float>()
                                               : document_losses(batch, values, document++);
      for (const float loss : own) total.sum += static_cast<double>(loss);
      if (on_example) on_example(i, own);
    }
    begin = end;
  }
  return total;
}

EvalResult evaluate(const EvalOptions& options) {
  const auto start = std::chrono::steady_clock::now();
  check_results(options);
  const Session session = open_session(options.config, options.adapter);
  const DataConfig& data = options.config.data;
  const Rows rows =
      data.eval.empty() ? read_split(data, options.config.seed).eval : Rows(data.eval);
  DataContext context = session.data_context(data);
  context.keep_texts = false;
  Dataset set = make_dataset(
      rows, context, {.keep_empty = true, .max_documents = options.config.eval.max_examples});
  const std::vector<Example> examples = take_examples(set.documents);
  Writers writers;
  const Losses losses =
      evaluate_examples(*session.model, examples, data.packing ? data.max_length : 1,
                        [&](size_t i, const std::vector<float>& own) { writers.add(i, own); });
  if (losses.targets == 0)
    fail_input(data.eval.empty() ? "data.train" : data.eval[0], ": no trainable token in the data");
  if (options.per_example) write_results(*options.per_example, writers.per_example);
  if (options.token_logprobs) write_results(*options.token_logprobs, writers.token_logprobs);
  EvalResult result{losses.mean(), std::exp(losses.mean()), 0, losses.targets,
                    static_cast<int64_t>(examples.size())};
  result.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return result;
}

}  // namespace ft
