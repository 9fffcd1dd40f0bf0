// plan(): the arithmetic of memory_plan.cpp as a report. The chosen run and, beside it, the other
// methods; the largest batch and length that fit; steps and tokens where the data is there; and a
// rate, from products of this model's shapes timed for a moment on the device.
#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>

#include "base/error.h"
#include "base/files.h"
#include "data/loader.h"
#include "finetune/run.h"
#include "infer/session.h"
#include "kernels/device.h"
#include "train/memory_plan.h"
#include "train/metrics.h"
#include "train/resolve.h"

namespace ft {
namespace {

/// The data as the run will see it.
struct DataFacts {
  int64_t windows = 1;  ///< more than one: figures are estimates from the first
  int64_t examples = 0, tokens = 0, targets = 0, rows = 0, steps = 0;
  double tokens_per_step = 0;
  BatchSize largest;
};

/// nullopt when a file of data.train is not there: the plan then takes full batches.
std::optional<DataFacts> read_data(const RunConfig& config, const Session& session,
                                   int64_t vocab_size) {
  const auto exists = [](const std::string& file) { return fs::exists(file); };
  if (config.data.train.empty() || !std::ranges::all_of(config.data.train, exists))
    return std::nullopt;
  DataContext context = session.data_context(config.data);
  context.vocab_size = vocab_size;
  context.keep_texts = false;
  Loader loader(read_split(config.data, config.seed).train, context, config);
  const Window& window = loader.window();
  DataFacts facts;
  facts.windows = loader.num_windows();
  facts.examples = loader.estimate(loader.counts().examples);
  facts.tokens = loader.estimate(loader.counts().tokens);
  facts.targets = loader.estimate(loader.counts().targets);
  facts.rows = loader.estimate(window.num_rows());
  facts.steps = loader.num_steps();
  facts.largest = largest_batch(loader, config);
  facts.tokens_per_step =
      static_cast<double>(window.tokens()) / static_cast<double>(window.num_steps());
  return facts;
}

/// A way to train, as a change to the configuration.
struct Way {
  const char* name;
  const char* method;
  bool use_dora;
};
constexpr Way kWays[] = {{"full", "full", false},
                         {"lora", "lora", false},
                         {"dora", "lora", true},
                         {"qlora", "qlora", false}};

const char* name_of(const RunConfig& c) {
  for (const Way& w : kWays)
    if (c.method == w.method && (c.method == "full" || c.lora.use_dora == w.use_dora))
      return w.name;
  return "qdora";
}

/// One row of the comparison.
struct Row {
  std::string name;
  Recompute recompute;                             ///< as asked for, or what auto comes to
  MemoryPlan plan;                                 ///< with that
  std::array<int64_t, kNumRecomputes> peaks = {};  ///< by Recompute
  int64_t largest_batch = 0, largest_length = 0;   ///< 0: not even the smallest fits
};

struct Target {
  at::Device device;
  int64_t memory, program;
  MemoryPlan plan(const RunConfig& c, Recompute r, Model& outline, const BatchSize& batch) const {
    return plan_memory(c, r, outline, batch, device.is_cuda(), program);
  }
  Recompute choose(const RunConfig& c, Model& outline, const BatchSize& batch) const {
    return recompute_for(
        c.train, [&](Recompute r) { return plan(c, r, outline, batch); }, memory, device.is_cuda());
  }
};

/// The largest n in [1, most] that fits, by bisection: memory grows with n. 0 when none does.
int64_t largest(int64_t most, const std::function<bool(int64_t)>& fits) {
  int64_t low = 0;
  for (int64_t high = most; low < high;) {
    const int64_t middle = low + (high - low + 1) / 2;
    if (fits(middle)) {
      low = middle;
    } else {
      high = middle - 1;
    }
  }
  return low;
}

Row plan_row(const RunConfig& config, const BatchSize& batch, const Target& target) {
  const auto outline = outline_of_run(config);
  const Recompute chosen = target.choose(config, *outline, batch);
  Row row{name_of(config), chosen, target.plan(config, chosen, *outline, batch)};
  for (const auto& [r, key, text] : kRecomputes)
    row.peaks[static_cast<size_t>(r)] = target.plan(config, r, *outline, batch).peak();
  RunConfig changed = config;
  const Recompute most =
      asked_recompute(config.train)
          .value_or(target.device.is_cuda() ? Recompute::kOffload : Recompute::kBlocks);
  const auto fits = [&] {
    return target.plan(changed, most, *outline, full_batch(changed)).peak() <= target.memory;
  };
  row.largest_batch = largest(65536, [&](int64_t n) {
    changed.train.batch_size = n;
    return fits();
  });
  changed.train.batch_size = config.train.batch_size;
  constexpr int64_t kStep = 64;  // lengths are tried in steps of it
  row.largest_length = kStep * largest(outline->decoder.spec.max_positions / kStep, [&](int64_t n) {
                         changed.data.max_length = n * kStep;
                         return fits();
                       });
  return row;
}

/// Seconds a token of the run's products. Those of one block's q, gate and down are timed, forward
/// and backward, for about a second in all; the rest is taken to run at their rate. What is not a
/// product (norms, activations, the optimizer) is left out.
double seconds_per_token(const RunConfig& config, Recompute recompute, const ModelSpec& s,
                         const BatchSize& batch, at::Device device) {
  const at::NoGradGuard guard;
  const auto dtype = parse_dtype(config.dtype);
  const int64_t N = std::clamp<int64_t>(batch.tokens, 64, 1024), C = s.hidden_size,
                F = s.intermediate_size, q = s.num_heads * s.head_dim;
  double flops = 0, seconds = 0;
  for (const auto& [in, out] : {std::pair{C, q}, {C, F}, {F, C}}) {
    const Tensor w = ops::full({out, in}, 0.01, dtype, device);
    const Tensor x = ops::full({N, in}, 0.01, dtype, device);
    const auto once = [&] {  // a value is read so that the device has finished
      return ops::linear(x, w).mm(w).narrow(0, 0, 1).sum().item().toDouble();
    };
    once();  // compiles
    const auto start = std::chrono::steady_clock::now();
    double spent = 0;
    while (spent < 0.3) {
      once();
      flops += 4.0 * static_cast<double>(N * in * out);
      spent = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    }
    seconds += spent;
  }
  // Products of a token: forward 1, the input's gradient 1, the weight's 1 where it is trained,
  // and the blocks' forward, or gate and up, again where they are recomputed. Attention over half a
  // document: scores and values, 4 H D each key, and 2.5 times that backward.
  const double block = static_cast<double>(s.block_weights()),
               head = static_cast<double>(C * s.vocab_size);
  const double gate_up = static_cast<double>(2 * C * F);
  const double again = recompute >= Recompute::kBlocks   ? 1
                       : recompute == Recompute::kGateUp ? gate_up / block
                                                         : 0;
  const double passes = config.method == "full" ? 3 : 2;
  const double keys = static_cast<double>(batch.document) / 2;
  const double attention =
      4 * static_cast<double>(q) * keys * (recompute >= Recompute::kBlocks ? 4.5 : 3.5);
  const double total =
      static_cast<double>(s.num_layers) * (2 * block * (passes + again) + attention) +
      2 * head * passes;
  return total * seconds / flops;
}

std::string gib(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.2f", static_cast<double>(bytes) / 0x1p30);
  return text;
}

struct Part {
  const char *key, *help;
  int64_t MemoryPlan::*bytes;
};
constexpr Part kParts[] = {
    {"weights", "the model", &MemoryPlan::weights},
    {"adapter", "what is trained beside it", &MemoryPlan::adapter},
    {"gradients", "at the peak", &MemoryPlan::gradients},
    {"optimizer", "moments and what keeps small updates", &MemoryPlan::optimizer},
    {"activations", "at the peak", &MemoryPlan::activations},
    {"logits", "a chunk of them, and the head's gradient", &MemoryPlan::logits},
    {"snapshot", "a copy to write checkpoints from", &MemoryPlan::snapshot},
    {"buffers", "the program and its libraries", &MemoryPlan::buffers},
};

/// What the report is made of.
struct Report {
  RunConfig config;
  ModelSpec spec;
  Target target;
  BatchSize batch;
  std::optional<DataFacts> data;
  std::vector<Row> rows;  ///< the first is the configuration's own
  double seconds_per_token = 0;
};

Json to_json(const MemoryPlan& plan) {
  Json json = Json::Object{};
  for (const Part& p : kParts) json.set(std::string(p.key) + "_bytes", plan.*p.bytes);
  json.set("peak_bytes", plan.peak());
  return json;
}

Json to_json(const Report& r) {
  Json::Array methods;
  for (const Row& row : r.rows) {
    Json json = to_json(row.plan);
    json.set("method", row.name);
    json.set("fits", row.plan.peak() <= r.target.memory);
    json.set("largest_batch_size", row.largest_batch);
    json.set("largest_max_length", row.largest_length);
    for (const auto& [again, key, text] : kRecomputes)
      json.set(str("peak_bytes_", key), row.peaks[static_cast<size_t>(again)]);
    methods.push_back(std::move(json));
  }
  Json json = Json::Object{{"model", r.config.model},
                           {"method", r.rows[0].name},
                           {"device", device_text(r.target.device)},
                           {"memory_bytes", r.target.memory},
                           {"fits", r.rows[0].plan.peak() <= r.target.memory},
                           {"batch_tokens", r.batch.tokens},
                           {"plan", to_json(r.rows[0].plan)},
                           {"methods", std::move(methods)},
                           {"estimated_tokens_per_second", 1 / r.seconds_per_token}};
  if (r.data)
    json.set("data", Json::Object{{"windows", r.data->windows},
                                  {"examples", r.data->examples},
                                  {"tokens", r.data->tokens},
                                  {"target_tokens", r.data->targets},
                                  {"rows", r.data->rows},
                                  {"steps", r.data->steps},
                                  {"tokens_per_step", r.data->tokens_per_step}});
  return json;
}

std::string to_text(const Report& r) {
  const Row& own = r.rows[0];
  std::string text = str("model      ", r.config.model, " (", r.spec.family, ", ", r.config.dtype,
                         ", ", device_text(r.target.device), ")\n", "batch      ",
                         r.config.train.batch_size, " x ", r.config.data.max_length, " tokens",
                         r.data ? str(", largest of the data ", r.batch.tokens) : "", "; method ",
                         own.name, ", gradient_checkpointing ", recompute_name(own.recompute).key,
                         " (", recompute_name(own.recompute).text, ")\n");
  char line[160];
  for (const Part& p : kParts) {
    std::snprintf(line, sizeof line, "  %-12s %8s GiB  %s\n", p.key, gib(own.plan.*p.bytes).c_str(),
                  p.help);
    text += line;
  }
  std::snprintf(line, sizeof line, "  %-12s %8s GiB  of %s: %s\n", "peak",
                gib(own.plan.peak()).c_str(), gib(r.target.memory).c_str(),
                own.plan.peak() <= r.target.memory ? "fits" : "DOES NOT FIT");
  text += line;
  text +=
      "\nmethod    peak GiB: true  selective    false  largest batch_size  largest max_length\n";
  for (const Row& row : r.rows) {
    const auto peak = [&](Recompute again) { return gib(row.peaks[static_cast<size_t>(again)]); };
    std::snprintf(line, sizeof line, "%-9s %14s  %9s  %7s  %18ld  %18ld%s\n", row.name.c_str(),
                  peak(Recompute::kBlocks).c_str(), peak(Recompute::kGateUp).c_str(),
                  peak(Recompute::kNothing).c_str(), row.largest_batch, row.largest_length,
                  row.plan.peak() <= r.target.memory ? "" : "  does not fit");
    text += line;
  }
  text +=
      "(by gradient_checkpointing; the largest batch_size at this max_length, the largest "
      "max_length at this batch_size; 0: none)\n\n";
  std::snprintf(line, sizeof line,
                "speed      at most about %.0f tokens/s (an estimate: the "
                "model's products alone)\n",
                1 / r.seconds_per_token);
  text += line;
  if (!r.data) return text + "data       none found: full batches are taken\n";
  const double tokens = r.data->tokens_per_step * static_cast<double>(r.data->steps);
  return text + str("data       ", r.data->windows > 1 ? "about " : "", r.data->examples,
                    " examples, ", r.data->tokens, " tokens, ", r.data->rows, " rows, ",
                    r.data->steps, " steps; at least about ",
                    duration_text(tokens * r.seconds_per_token), "\n");
}

}  // namespace

std::string plan(const PlanOptions& options) {
  const RunConfig config = resolve(options.config);
  const ModelSpec spec = load_spec(config.model);
  const at::Device device = parse_device(config.device);
  const Session session = open_text_session(config);
  Report r{config,
           spec,
           {device, options.memory_bytes.value_or(total_memory(device)), 0},
           full_batch(config),
           read_data(config, session, spec.vocab_size),
           {},
           0};
  if (r.data) r.batch = r.data->largest;
  if (!device.is_cuda()) r.target.program = resident_memory();
  r.rows.push_back(plan_row(config, r.batch, r.target));
  for (const Way& way : kWays) {
    RunConfig other = config;
    other.method = way.method;
    other.lora.use_dora = way.use_dora;
    if (way.name != r.rows[0].name) r.rows.push_back(plan_row(other, r.batch, r.target));
  }
  r.seconds_per_token = seconds_per_token(config, r.rows[0].recompute, spec, r.batch, device);
  return options.json ? to_json(r).dump() + "\n" : to_text(r);
}

}  // namespace ft
