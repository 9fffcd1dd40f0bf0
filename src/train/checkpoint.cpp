#include "train/checkpoint.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <fstream>
#include <map>

#include "base/error.h"
#include "base/files.h"
#include "base/log.h"
#include "base/safetensors.h"
#include "base/seed.h"
#include "model/load.h"

namespace ft {
namespace {

/// A 64-bit checksum against damage (not against malice): eight bytes a round through mix64, and
/// the length. Read piece by piece: a mapping of the file would count as memory of the run.
std::string checksum(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  if (!in) fail_input(file.string(), ": cannot be read");
  std::vector<uint64_t> words(1 << 16);
  uint64_t sum = 0, bytes = 0;
  while (in) {
    in.read(reinterpret_cast<char*>(words.data()), static_cast<std::streamsize>(words.size() * 8));
    const auto got = static_cast<size_t>(in.gcount());
    std::memset(reinterpret_cast<char*>(words.data()) + got, 0, words.size() * 8 - got);
    for (size_t i = 0; i < (got + 7) / 8; ++i) sum = mix64(sum ^ words[i]);
    bytes += got;
  }
  char text[17];
  std::snprintf(text, sizeof text, "%016lx", mix64(sum ^ bytes));
  return text;
}

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
  if (const Json* counts = json.get("counts"))
    for (const auto& [name, member] : kDataCounts)
      p.counts.*member = get_int(*counts, name, where).value_or(0);
  return p;
}

NamedTensors named(const std::vector<Param*>& params) {
  NamedTensors all;
  for (const Param* p : params) all.emplace_back(p->name, p->value);
  return all;
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
  if (!fs::is_directory(checkpoints)) return found;
  for (const auto& entry : fs::directory_iterator(checkpoints)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("step-")) continue;
    int64_t step = 0;
    const auto end = std::from_chars(name.data() + 5, name.data() + name.size(), step);
    if (end.ec == std::errc() && end.ptr == name.data() + name.size())
      found.emplace_back(step, entry.path());
  }
  std::sort(found.rbegin(), found.rend());
  return found;
}

}  // namespace

void save_checkpoint(const fs::path& folder, const TrainState& s, const std::vector<Param*>& params,
                     const Optimizer& optimizer) {
  make_folders(folder.parent_path());
  StagedFolder staged(folder);
  const Json state =
      Json::Object{{"step", s.step},
                   {"tokens", s.tokens},
                   {"seconds", s.seconds},
                   {"best_eval_loss", s.best_eval_loss ? Json(*s.best_eval_loss) : Json()},
                   {"last_eval_loss", s.last_eval_loss ? Json(*s.last_eval_loss) : Json()},
                   {"evaluations_without_gain", s.evaluations_without_gain},
                   {"owes_evaluation", s.owes_evaluation},
                   {"threads", s.threads},
                   {"data", to_json(s.data)},
                   {"data_files", s.data_files},
                   {"config", s.config}};
  write_file(staged.path() / "state.json", with_finite_numbers(state).dump_indented() + "\n");
  save_tensors(staged.path() / "trained.safetensors", named(params));
  save_tensors(staged.path() / "optimizer.safetensors", optimizer.state(),
               [&](const void* data, size_t size) { optimizer.release(data, size); });
  Json manifest = Json::Object{};
  for (const char* name : kFiles)
    manifest.set(name,
                 Json::Object{{"bytes", static_cast<int64_t>(fs::file_size(staged.path() / name))},
                              {"checksum", checksum(staged.path() / name)}});
  write_file(staged.path() / "manifest.json", manifest.dump_indented() + "\n");
  staged.commit();
}

TrainState read_state(const fs::path& folder) {
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
  s.config = get_string(json, "config", where).value_or("");
  const Json *data = json.get("data"), *files = json.get("data_files");
  if (!data || !files)
    fail_input(where, ": does not say where the run was in its data: it is of an older version");
  s.data = read_position(*data, where);
  s.data_files = *files;
  return s;
}

void load_checkpoint(const fs::path& folder, const std::vector<Param*>& params,
                     const Optimizer& optimizer) {
  restore(folder / "trained.safetensors", named(params));
  restore(folder / "optimizer.safetensors", optimizer.state(), &optimizer);
}

std::optional<fs::path> newest_checkpoint(const fs::path& checkpoints) {
  for (const auto& [step, folder] : numbered(checkpoints)) {
    const auto what = damage(folder);
    if (!what) return folder;
    log_warning(folder.string(), ": passed over: ", *what);
  }
  return std::nullopt;
}

void prune_checkpoints(const fs::path& checkpoints, int64_t keep) {
  const auto all = numbered(checkpoints);
  for (size_t i = static_cast<size_t>(keep); i < all.size(); ++i) fs::remove_all(all[i].second);
}

}  // namespace ft
