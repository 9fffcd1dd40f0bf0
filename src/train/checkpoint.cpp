#include "train/checkpoint.h"

#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "base/safetensors.h"
#include "kernels/device.h"

namespace ft {
namespace {

constexpr const char* kFiles[] = {"state.json", "trained.safetensors", "optimizer.safetensors"};

/// What is wrong with a checkpoint folder, or nullopt.
std::optional<std::string> damage(const fs::path& folder) {
  try {
    const std::string where = (folder / "manifest.json").string();
    const Json manifest = read_json(folder / "manifest.json");
    for (const char* name : kFiles) {
      const Json* entry = manifest.get(name);
      if (!entry ||
          get_int(*entry, "bytes", where) != static_cast<int64_t>(fs::file_size(folder / name)) ||
          get_string(*entry, "checksum", where) != checksum(folder / name))
        return str(name, " is damaged");
    }
  } catch (const Error& e) {
    return e.what();
  } catch (const fs::filesystem_error& e) {
    return e.what();
  }
  return std::nullopt;
}

Json to_json(const LoaderPosition& p) {
  Json counts = Json::Object{};
  for (const auto& [name, member] : kDataCounts) counts.set(name, p.counts.*member);
  return Json::Object{{"epoch", p.epoch},
                      {"window", p.window},
                      {"step", p.step},
                      {"epochs_done", p.epochs_done},
                      {"steps_per_epoch", p.steps_per_epoch},
                      {"counts", counts}};
}

LoaderPosition read_position(const Json& json, const std::string& where) {
  LoaderPosition p;
  p.epoch = get_int(json, "epoch", where).value_or(0);
  p.window = get_int(json, "window", where).value_or(0);
  p.step = get_int(json, "step", where).value_or(0);
  p.epochs_done = get_double(json, "epochs_done", where).value_or(0);
  p.steps_per_epoch = get_int(json, "steps_per_epoch", where).value_or(0);
  const Json* counts = json.get_set("counts");
  if (counts && counts->is_object())
    for (const auto& [name, member] : kDataCounts)
      p.counts.*member = get_int(*counts, name, where).value_or(0);
  return p;
}

NamedTensors named(const std::vector<Param*>& params) {
  NamedTensors all;
  for (const Param* p : params) all.emplace_back(p->name, p->value);
  return all;
}

int64_t bytes_of(const NamedTensors& tensors) {
  int64_t bytes = 0;
  for (const auto& [name, tensor] : tensors) bytes += static_cast<int64_t>(tensor.nbytes());
  return bytes;
}

constexpr size_t kAlignment = 64, kPage = 4096;

size_t aligned_bytes(const NamedTensors& tensors) {
  size_t bytes = 0;
  for (const auto& [name, tensor] : tensors)
    bytes += (tensor.nbytes() + kAlignment - 1) / kAlignment * kAlignment;
  return bytes;
}

/// Tensors like `live` that lie at `at`, which moves on.
NamedTensors laid_out(const NamedTensors& live, std::byte*& at) {
  NamedTensors all;
  for (const auto& [name, tensor] : live) {
    all.emplace_back(
        name, at::from_blob(at, tensor.sizes(), at::TensorOptions().dtype(tensor.scalar_type())));
    at += (tensor.nbytes() + kAlignment - 1) / kAlignment * kAlignment;
  }
  return all;
}

void copy_into(NamedTensors& copy, const NamedTensors& live) {
  const at::NoGradGuard guard;
  for (size_t i = 0; i < live.size(); ++i) copy[i].second.copy_(live[i].second.detach());
}

std::string size_text(int64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MiB", static_cast<double>(bytes) / 0x1p20);
  return text;
}

/// Copies stored tensors into live ones, which are of `paged` where it is given; the two sets of
/// names must be the same.
void restore(const fs::path& file, const NamedTensors& live, const Optimizer* paged = nullptr) {
  at::NoGradGuard guard;
  std::map<std::string, StoredTensor> stored;
  for (auto& t : read_safetensors(file)) stored.emplace(t.name, t);
  if (stored.size() != live.size())
    fail_input(file.string(), ": ", stored.size(), " tensors, this run has ", live.size());
  for (const auto& [name, tensor] : live) {
    const auto found = stored.find(name);
    if (found == stored.end() || at::IntArrayRef(found->second.shape) != tensor.sizes())
      fail_input(file.string(), ": ", name,
                 ": missing or of another shape; the checkpoint is of another run");
    tensor.detach().copy_(to_tensor(found->second));
    release_pages(found->second.bytes.data(), found->second.bytes.size());
    if (paged) paged->release(tensor.const_data_ptr(), tensor.nbytes());
  }
}

std::vector<std::pair<int64_t, fs::path>> numbered(const fs::path& checkpoints) {
  std::vector<std::pair<int64_t, fs::path>> found;
  for (const fs::path& path : list_folder(checkpoints)) {
    const std::string name = path.filename().string();
    if (!name.starts_with("step-")) continue;
    int64_t step = 0;
    const auto end = std::from_chars(name.data() + 5, name.data() + name.size(), step);
    if (end.ec == std::errc() && end.ptr == name.data() + name.size())
      found.emplace_back(step, path);
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

}  // namespace

CheckpointWriter::CheckpointWriter(fs::path output, const SaveConfig& config,
                                   std::vector<Param*> params, const Optimizer& optimizer)
    : output_(std::move(output)),
      folder_(output_ / "checkpoints"),
      config_(config),
      params_(std::move(params)),
      optimizer_(optimizer) {}

int64_t CheckpointWriter::checkpoint_bytes() const {
  return bytes_of(named(params_)) + bytes_of(optimizer_.state());
}

int64_t CheckpointWriter::copy_bytes() const {
  return config_.background && !optimizer_.is_paged() ? checkpoint_bytes() : 0;
}

void CheckpointWriter::check() {
  if (pending_.valid() && pending_.wait_for(std::chrono::seconds(0)) == std::future_status::ready)
    pending_.get();
}

void CheckpointWriter::wait() {
  if (pending_.valid()) pending_.get();
}

void CheckpointWriter::save(const TrainState& state) {
  wait();
  write(state, named(params_), optimizer_.state());
}

void CheckpointWriter::prepare() {
  // Half: a run that fills the machine's memory must not die of being saved.
  if (copies_ || copy_bytes() == 0 || copy_bytes() > available_memory() / 2) return;
  const NamedTensors trained = named(params_), states = optimizer_.state();
  const size_t bytes = aligned_bytes(trained) + aligned_bytes(states);
  // Not of the arena, which would give the blocks that the next step wants.
  void* range = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (range == MAP_FAILED) return;
  ::madvise(range, bytes, MADV_HUGEPAGE);
  copies_ = {static_cast<std::byte*>(range), [bytes](std::byte* p) { ::munmap(p, bytes); }};
  std::byte* at = copies_.get();
  trained_copy_ = laid_out(trained, at);
  states_copy_ = laid_out(states, at);
  wait();
  pending_ = std::async(std::launch::async, [this, bytes] {
    for (size_t page = 0; page < bytes; page += kPage) copies_.get()[page] = std::byte{};
  });
}

void CheckpointWriter::save_beside(const TrainState& state) {
  wait();
  prepare();
  wait();
  if (!copies_) return save(state);
  copy_into(trained_copy_, named(params_));
  copy_into(states_copy_, optimizer_.state());
  pending_ =
      std::async(std::launch::async, [this, state] { write(state, trained_copy_, states_copy_); });
}

void CheckpointWriter::write(const TrainState& s, const NamedTensors& trained,
                             const NamedTensors& states) try {
  make_folders(folder_);
  const fs::path target = folder_ / ("step-" + std::to_string(s.step));
  StagedFolder staged(target);
  const Json state =
      Json::Object{{"step", s.step},
                   {"tokens", s.tokens},
                   {"seconds", s.seconds},
                   {"best_eval_loss", s.best_eval_loss ? Json(*s.best_eval_loss) : Json()},
                   {"last_eval_loss", s.last_eval_loss ? Json(*s.last_eval_loss) : Json()},
                   {"evaluations_without_gain", s.evaluations_without_gain},
                   {"owes_evaluation", s.owes_evaluation},
                   {"threads", s.threads},
                   {"device", s.device},
                   {"data", to_json(s.data)},
                   {"inputs", s.inputs},
                   {"config", s.config}};
  Json manifest = Json::Object{};
  const auto enter = [&](const char* name, const Written& file) {
    if (static_cast<int64_t>(fs::file_size(staged.path() / name)) != file.bytes)
      fail(Code::kOutput, (staged.path() / name).string(), ": is not as long as what was written");
    manifest.set(name, Json::Object{{"bytes", file.bytes}, {"checksum", file.checksum}});
  };
  enter(kFiles[0],
        write_file(staged.path() / kFiles[0], with_finite_numbers(state).dump_indented() + "\n"));
  enter(kFiles[1], save_tensors(staged.path() / kFiles[1], trained));
  enter(kFiles[2],
        save_tensors(staged.path() / kFiles[2], states,
                     [&](const void* data, size_t size) { optimizer_.release(data, size); }));
  write_file(staged.path() / "manifest.json", manifest.dump_indented() + "\n");
  // A resumed run goes on with the lines up to this step: they must not be younger than it.
  if (fs::exists(output_ / "metrics.jsonl")) sync_path(output_ / "metrics.jsonl");
  staged.commit();
  whole_.insert(target);
  prune();
} catch (const Error& e) {
  not_saved(e.code(), s.step, e.what());
} catch (const fs::filesystem_error& e) {
  not_saved(Code::kOutput, s.step, printable(e.what()));
} catch (const std::bad_alloc&) {
  not_saved(Code::kRun, s.step, "out of memory");
}

void CheckpointWriter::not_saved(Code code, int64_t step, const std::string& why) const {
  std::error_code unknown;
  const auto space = fs::space(output_, unknown);
  fail(code, why, "; the checkpoint of step ", step, " is not saved (it needs ",
       size_text(checkpoint_bytes()), ", ",
       unknown ? "?" : size_text(static_cast<int64_t>(space.available)), " are free in ",
       output_.string(), ")");
}

/// Deletes what is older than the newest `keep` whole ones; a damaged one counts for none.
void CheckpointWriter::prune() {
  int64_t found = 0;
  for (const auto& [step, folder] : numbered(folder_)) {
    if (found == config_.keep) {
      remove_tree(folder);
    } else if (whole_.contains(folder) || !damage(folder)) {
      whole_.insert(folder);
      ++found;
    }
  }
}

TrainState load_state(const fs::path& folder) {
  const std::string where = (folder / "state.json").string();
  const Json json = read_json(folder / "state.json");
  TrainState s;
  s.step = get_int(json, "step", where).value_or(0);
  s.tokens = get_int(json, "tokens", where).value_or(0);
  s.seconds = get_double(json, "seconds", where).value_or(0);
  s.best_eval_loss = get_double(json, "best_eval_loss", where);
  s.last_eval_loss = get_double(json, "last_eval_loss", where);
  s.evaluations_without_gain = get_int(json, "evaluations_without_gain", where).value_or(0);
  s.owes_evaluation = get_bool(json, "owes_evaluation", where).value_or(false);
  s.threads = get_int(json, "threads", where).value_or(0);
  s.device = get_string(json, "device", where).value_or("");
  s.config = get_string(json, "config", where).value_or("");
  const Json *data = json.get_set("data"), *inputs = json.get_set("inputs");
  if (!data || !inputs)
    fail_input(where, ": does not say where the run was in its data: it is of an older version");
  if (!data->is_object() || !inputs->is_object())
    fail_input(where, ": data or inputs: not an object");
  s.data = read_position(*data, where);
  s.inputs = *inputs;
  const LoaderPosition& p = s.data;
  if (std::min({s.step, s.tokens, s.evaluations_without_gain, p.epoch, p.window, p.step,
                p.steps_per_epoch}) < 0)
    fail_input(where, ": one of step, tokens, evaluations_without_gain or data is no count");
  return s;
}

void load_tensors(const fs::path& folder, const std::vector<Param*>& params,
                  const Optimizer& optimizer) {
  restore(folder / "trained.safetensors", named(params));
  restore(folder / "optimizer.safetensors", optimizer.state(), &optimizer);
}

bool has_checkpoints(const fs::path& checkpoints) {
  return !numbered(checkpoints).empty();
}

std::optional<fs::path> newest_checkpoint(const fs::path& checkpoints) {
  for (const auto& [step, folder] : numbered(checkpoints)) {
    const auto what = damage(folder);
    if (!what) return folder;
    log_warning(folder.string(), ": passed over: ", *what);
  }
  return std::nullopt;
}

}  // namespace ft
