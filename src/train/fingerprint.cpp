#include "train/fingerprint.h"

#include <algorithm>

#include "base/error.h"
#include "base/files.h"
#include "base/safetensors.h"
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
  /// What it is, and samples of it: training changes a tensor nearly everywhere.
  void add_weights(const StoredTensor& t) {
    add(str(t.name, " ", dtype_name(t.dtype), " ", t.bytes.size()));
    for (const int64_t n : t.shape) add(std::to_string(n));
    constexpr size_t kSample = 4096;
    const size_t size = std::min(t.bytes.size(), kSample), rest = t.bytes.size() - size;
    Checksum samples;
    for (const size_t at : {size_t{0}, rest / 2, rest})
      samples.add(reinterpret_cast<const char*>(t.bytes.data()) + at, size);
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
  for (const StoredTensor& t : read_model_tensors(folder)) model.add_weights(t);
  for (const char* name : kTokenizerFiles) tokenizer.add_content(folder / name);
  tokenizer.add_content(config.data.chat_template);
  return Json::Object{{"model", model.text()}, {"tokenizer", tokenizer.text()}};
}

}  // namespace ft
