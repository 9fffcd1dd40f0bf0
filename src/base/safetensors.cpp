#include "base/safetensors.h"

#include <fcntl.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/files.h"
#include "base/json.h"

namespace ft {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference reader's limit

struct DTypeRow {
  DType dtype;
  std::string_view name;
  size_t size;
};
constexpr DTypeRow kDTypes[] = {
    {DType::kBool, "BOOL", 1}, {DType::kU8, "U8", 1},     {DType::kI8, "I8", 1},
    {DType::kI16, "I16", 2},   {DType::kI32, "I32", 4},   {DType::kI64, "I64", 8},
    {DType::kF16, "F16", 2},   {DType::kBF16, "BF16", 2}, {DType::kF32, "F32", 4},
    {DType::kF64, "F64", 8},
};

StoredTensor read_entry(const std::string& name, const Json& info, std::span<const std::byte> data,
                        const std::string& where) {
  StoredTensor t{name, {}, {}, {}, nullptr};
  const auto bad = [&](const auto&... what) {
    fail_input(where, ": ", printable(name), ": ", what...);
  };
  const Json* dtype = info.get("dtype");
  const Json* shape = info.get("shape");
  const Json* offsets = info.get("data_offsets");
  if (!dtype || !dtype->is_string() || !shape || !shape->is_array() || !offsets ||
      !offsets->is_array() || offsets->array().size() != 2)
    bad("not a tensor entry: dtype, shape and two data_offsets are wanted");
  const auto* row = std::find_if(std::begin(kDTypes), std::end(kDTypes),
                                 [&](const DTypeRow& r) { return r.name == dtype->string(); });
  if (row == std::end(kDTypes)) bad("dtype ", printable(dtype->string()), " is not supported");
  t.dtype = row->dtype;
  size_t bytes = row->size;
  for (const Json& d : shape->array()) {
    if (!d.is_int() || d.integer() < 0) bad("shape has an entry that is no size");
    t.shape.push_back(d.integer());
    if (__builtin_mul_overflow(bytes, static_cast<size_t>(d.integer()), &bytes))
      bad("shape is too large");
  }
  const Json &begin = offsets->array()[0], &end = offsets->array()[1];
  if (!begin.is_int() || !end.is_int() || begin.integer() < 0 || end.integer() < begin.integer() ||
      static_cast<uint64_t>(end.integer()) > data.size())
    bad("data_offsets point outside the file (is it cut short?)");
  if (static_cast<size_t>(end.integer() - begin.integer()) != bytes)
    bad("shape needs ", bytes, " bytes, data_offsets hold ", end.integer() - begin.integer());
  t.bytes = data.subspan(static_cast<size_t>(begin.integer()), bytes);
  return t;
}

bool is_plain_name(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\\') == std::string::npos && name.find('\0') == std::string::npos;
}

std::vector<StoredTensor> read_shards(const fs::path& folder, const fs::path& index_file) {
  const Json index = read_json(index_file);
  const Json* map = index.get("weight_map");
  if (!map || !map->is_object()) fail_input(index_file.string(), ": weight_map is missing");
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [name, file] : map->object()) {
    if (!file.is_string() || !is_plain_name(file.string()))
      fail_input(index_file.string(), ": ", printable(name),
                 ": a shard must be a file name without folders, this is ",
                 file.is_string() ? printable(file.string()) : "no string");
    shards[file.string()].insert(name);
  }
  std::vector<StoredTensor> all;
  for (const auto& [file, names] : shards) {
    if (!fs::exists(folder / file))
      fail_input(index_file.string(), ": shard ", printable(file), " is missing from the folder");
    std::set<std::string> found;
    for (auto& t : read_safetensors(folder / file)) {
      if (!names.contains(t.name))
        fail_input((folder / file).string(), ": ", printable(t.name),
                   " is not listed for this shard in ", index_file.filename().string());
      found.insert(t.name);
      all.push_back(std::move(t));
    }
    for (const auto& name : names)
      if (!found.contains(name))
        fail_input((folder / file).string(), ": ", printable(name), " is missing");
  }
  return all;
}

size_t byte_size(const TensorToWrite& t) {
  size_t bytes = dtype_size(t.dtype);
  for (const int64_t d : t.shape) bytes *= static_cast<size_t>(d);
  return bytes;
}

}  // namespace

size_t dtype_size(DType dtype) {
  return kDTypes[static_cast<size_t>(dtype)].size;
}
std::string dtype_name(DType dtype) {
  return std::string(kDTypes[static_cast<size_t>(dtype)].name);
}

int64_t StoredTensor::numel() const {
  return static_cast<int64_t>(bytes.size() / dtype_size(dtype));
}

std::vector<StoredTensor> read_safetensors(const fs::path& path) {
  const std::string where = path.string();
  const auto file = MappedFile::open(path);
  const auto bytes = file->bytes();
  if (bytes.size() < 8) fail_input(where, ": too short for a safetensors file");
  uint64_t header = 0;
  std::memcpy(&header, bytes.data(), 8);
  if (header > kMaxHeader || header > bytes.size() - 8)
    fail_input(where, ": header length ", header,
               " does not fit the file (cut short, or not safetensors?)");
  const Json json = parse_json({reinterpret_cast<const char*>(bytes.data()) + 8, header}, where);
  if (!json.is_object()) fail_input(where, ": the header is no JSON object");
  const auto data = bytes.subspan(8 + header);
  std::vector<StoredTensor> tensors;
  for (const auto& [name, info] : json.object()) {
    if (name == "__metadata__") continue;
    tensors.push_back(read_entry(name, info, data, where));
    tensors.back().file = file;
  }
  std::stable_sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) {
    return std::pair(a.bytes.data(), a.bytes.size()) < std::pair(b.bytes.data(), b.bytes.size());
  });
  const std::byte* expected = data.data();
  for (const auto& t : tensors) {
    if (t.bytes.data() != expected && !(t.bytes.empty() && tensors.size() == 1))
      fail_input(where, ": ", printable(t.name), ": data overlaps another tensor or leaves a hole");
    expected = t.bytes.data() + t.bytes.size();
  }
  if (expected != data.data() + data.size())
    fail_input(where, ": bytes after the last tensor, or tensors cut off");
  return tensors;
}

std::vector<StoredTensor> read_model_tensors(const fs::path& folder) {
  const fs::path single = folder / "model.safetensors",
                 index = folder / "model.safetensors.index.json";
  if (fs::exists(single)) return read_safetensors(single);
  if (fs::exists(index)) return read_shards(folder, index);
  if (!fs::is_directory(folder))
    fail_input(folder.string(), ": no such folder; a Hugging Face model folder is wanted");
  for (const auto& entry : fs::directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".bin") || name.ends_with(".pth") || name.ends_with(".pt"))
      fail_input(
          entry.path().string(),
          ": pickled weights are not read (they can run code); save the model as safetensors");
    if (name.ends_with(".gguf"))
      fail_input(entry.path().string(),
                 ": a GGUF file; convert it first: finetune convert FILE.gguf FOLDER");
  }
  fail_input(folder.string(),
             ": no weights: model.safetensors or model.safetensors.index.json is wanted");
}

SafetensorsWriter::SafetensorsWriter(const fs::path& path,
                                     const std::vector<TensorToWrite>& tensors,
                                     const std::map<std::string, std::string>& metadata) {
  Json meta = Json::Object{{"format", "pt"}};
  for (const auto& [key, value] : metadata) meta.set(key, value);
  Json header = Json::Object{{"__metadata__", meta}};
  for (const auto& t : tensors) {
    Json::Array shape;
    for (const int64_t d : t.shape) shape.emplace_back(d);
    const size_t end = left_ + byte_size(t);
    header.object().emplace_back(t.name, Json::Object{{"dtype", dtype_name(t.dtype)},
                                                      {"shape", shape},
                                                      {"data_offsets", Json::Array{left_, end}}});
    left_ = end;
  }
  std::string text = header.dump();
  text.append((64 - (8 + text.size()) % 64) % 64,
              ' ');  // data begins on a cache line, so float reads are aligned
  const uint64_t length = text.size();
  file_ = std::make_unique<OutputFile>(path, O_TRUNC);
  file_->write(&length, 8);
  file_->write(text.data(), text.size());
}

SafetensorsWriter::~SafetensorsWriter() = default;

void SafetensorsWriter::write(const void* data, size_t size) {
  FT_INVARIANT(size <= left_);
  file_->write(data, size);
  left_ -= size;
}

Written SafetensorsWriter::finish() {
  FT_INVARIANT(left_ == 0);
  file_->sync();
  return file_->close();
}

void write_safetensors(const fs::path& path, const std::vector<TensorToWrite>& tensors,
                       const std::map<std::string, std::string>& metadata) {
  SafetensorsWriter out(path, tensors, metadata);
  for (const auto& t : tensors) out.write(t.data, byte_size(t));
  out.finish();
}

}  // namespace ft
