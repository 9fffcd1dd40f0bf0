#include "train/fingerprint.h"

#include <algorithm>
#include <cstring>

#include "base/files.h"
#include "base/mapped_file.h"
#include "model/load.h"

namespace ft {
namespace {

class Fingerprint {
 public:
  void add(const std::string& text) {
    all_ += text;
    all_ += '\n';
  }
  void add_content(const fs::path& file) {
    if (fs::is_regular_file(file)) add(checksum(file));
  }
  /// Size, header and samples: another model has other weights everywhere.
  void add_weights(const fs::path& file) {
    if (!fs::is_regular_file(file)) return;
    const auto mapped = MappedFile::open(file);
    const auto bytes = mapped->bytes();
    uint64_t header = 0;
    if (bytes.size() >= 8) std::memcpy(&header, bytes.data(), 8);
    add(file.filename().string() + " " + std::to_string(bytes.size()));
    if (header > bytes.size()) return;
    const char* data = reinterpret_cast<const char*>(bytes.data());
    add(std::string(data, header));
    constexpr size_t kSamples = 64, kSample = 4096;
    const size_t rest = bytes.size() - header, size = std::min(rest, kSample);
    Checksum samples;
    for (size_t i = 0; i < kSamples; ++i)
      samples.add(data + header + (rest - size) / (kSamples - 1) * i, size);
    add(samples.text());
  }
  std::string text() const {
    Checksum sum;
    sum.add(all_.data(), all_.size());
    return sum.text();
  }

 private:
  std::string all_;
};

}  // namespace

Json fingerprints(const RunConfig& config) {
  const fs::path folder = config.model;
  Fingerprint model, tokenizer;
  model.add_content(folder / "config.json");
  for (const fs::path& file : list_folder(folder, Code::kInput))
    if (file.extension() == ".safetensors") model.add_weights(file);
  for (const char* name : kTokenizerFiles) tokenizer.add_content(folder / name);
  tokenizer.add_content(config.data.chat_template);
  return Json::Object{{"model", model.text()}, {"tokenizer", tokenizer.text()}};
}

}  // namespace ft
