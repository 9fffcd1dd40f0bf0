// GGUF keeps the scaling of Llama 3.1 and later not as its four parameters but as its result: one
// divisor per frequency. The parameters are found again by trying the lengths that come into
// question: the largest divisor is the factor, low and high frequency factors are 1 and 4 in every
// published model, and a wrong original length shows in the divisors between 1 and the factor.
#include "data/gguf_convert_rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "base/error.h"

namespace ft {
namespace {

constexpr double kLow = 1.0, kHigh = 4.0;

/// The divisors that llama.cpp's converter computes for these parameters.
double llama3_divisor(double frequency, double factor, double length) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < length / kHigh) return 1;
  if (wavelength > length / kLow) return factor;
  const double smooth = (length / wavelength - kLow) / (kHigh - kLow);
  return 1 / ((1 - smooth) / factor + smooth);
}

bool explains(const std::vector<float>& divisors, double theta, double factor, double length) {
  const auto n = static_cast<double>(divisors.size());
  for (size_t i = 0; i < divisors.size(); ++i) {
    const double frequency = std::pow(theta, -static_cast<double>(i) / n);
    const double wanted = llama3_divisor(frequency, factor, length);
    if (!(std::abs(divisors[i] - wanted) <= 1e-4 * wanted)) return false;
  }
  return true;
}

Json llama3_scaling(const GgufFile& file, const GgufTensor& t, const GgufSizes& sizes,
                    double theta) {
  const auto bad = [&](const auto&... what) {
    fail_input(file.where(), ": ", t.name, ": ", what...);
  };
  if (t.type != GgmlType::kF32 || t.shape != std::vector<int64_t>{sizes.head_dim / 2})
    bad(sizes.head_dim / 2, " float32 values are wanted");
  std::vector<float> divisors(static_cast<size_t>(t.shape[0]));
  dequantize(t.type, t.bytes.data(), divisors.size(), divisors.data());
  for (const float d : divisors)
    if (!std::isfinite(d)) bad("a value that is no finite number");
  const double factor = tidy_float(*std::max_element(divisors.begin(), divisors.end()));
  if (explains(divisors, theta, 1, 8192)) return {};
  std::vector<int64_t> lengths{8192};
  for (int64_t length = 16; length <= 1 << 20; length *= 2) lengths.push_back(length);
  for (const int64_t length : lengths)
    if (explains(divisors, theta, factor, static_cast<double>(length)))
      return Json::Object{{"rope_type", "llama3"},
                          {"factor", factor},
                          {"low_freq_factor", kLow},
                          {"high_freq_factor", kHigh},
                          {"original_max_position_embeddings", length}};
  bad("frequency divisors that are not those of llama3 scaling; config.json has no words for them");
  return {};
}

}  // namespace

Json read_rope_scaling(const GgufFile& file, const std::string& architecture,
                       const GgufSizes& sizes, double theta) {
  if (!(theta > 1) || !std::isfinite(theta))
    fail_input(file.where(), ": ", architecture, ".rope.freq_base: ", theta,
               ", more than 1 is wanted");
  const std::string prefix = architecture + ".rope.scaling.";
  const std::string type(file.get_string(prefix + "type").value_or("none"));
  const GgufTensor* divisors = file.find("rope_freqs.weight");
  if (type != "none" && type != "linear")
    fail_input(file.where(), ": ", prefix, "type: \"", printable(type),
               "\" is not supported; none, linear and rope_freqs.weight are");
  if (divisors && type == "linear")
    fail_input(file.where(), ": ", prefix, "type: linear together with rope_freqs.weight");
  if (divisors) return llama3_scaling(file, *divisors, sizes, theta);
  if (type == "none") return {};
  const auto factor = file.get_float(prefix + "factor");
  if (!factor || !(*factor >= 1) || !std::isfinite(*factor))
    fail_input(file.where(), ": ", prefix, "factor: a number of at least 1 is wanted");
  return Json::Object{{"rope_type", "linear"}, {"factor", tidy_float(*factor)}};
}

Json rope_parameters(const Json& scaling, double theta) {
  Json parameters = scaling.is_null() ? Json(Json::Object{{"rope_type", "default"}}) : scaling;
  parameters.set("rope_theta", theta);
  return parameters;
}

}  // namespace ft
