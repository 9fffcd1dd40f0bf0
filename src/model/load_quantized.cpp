// A packed weight is X.weight with the companions .absmax, .quant_map, with double quantisation
// .nested_absmax and .nested_quant_map, and a JSON text, .quant_state.bitsandbytes__nf4 (or fp4).
// The packed bytes may be declared as another dtype (bnb_4bit_quant_storage): they are the same.
#include "model/load_quantized.h"

#include <bit>

#include "base/error.h"
#include "model/load.h"

namespace ft {
namespace {

constexpr const char* kState = ".quant_state.bitsandbytes__";

/// Reads the companions of one weight; every problem names the tensor.
class PackedReader {
 public:
  PackedReader(StoredByName& stored, std::string name, std::string where)
      : stored_(stored), name_(std::move(name)), where_(std::move(where)) {}

  std::unique_ptr<QuantizedWeight> read(const std::string& type,
                                        const std::vector<int64_t>& shape) {
    QuantizedWeight q;
    q.type = type;
    q.out = shape[0];
    q.in = shape[1];
    const StoredTensor& text = *take(kState + type);
    const Json state =
        parse_json({reinterpret_cast<const char*>(text.bytes.data()), text.bytes.size()},
                   where_ + ": " + name_);
    check_state(state, shape);
    q.block_size = size_in(state, "blocksize");
    q.stored = stored_dtype(state);
    const int64_t count = q.out * q.in, blocks = (count + q.block_size - 1) / q.block_size;
    q.codes = packed_bytes((count + 1) / 2);
    q.code_map = numbers(".quant_map", DType::kF32, 16);
    const bool is_nested = stored_.contains(name_ + ".nested_absmax");
    q.absmax = numbers(".absmax", is_nested ? DType::kU8 : DType::kF32, blocks);
    if (is_nested) {
      q.nested_block_size = size_in(state, "nested_blocksize");
      q.nested_offset = state.get("nested_offset") ? number_in(state, "nested_offset") : 0;
      q.nested_absmax = numbers(".nested_absmax", DType::kF32,
                                (blocks + q.nested_block_size - 1) / q.nested_block_size);
      q.nested_map = numbers(".nested_quant_map", DType::kF32, 256);
    }
    return std::make_unique<QuantizedWeight>(std::move(q));
  }

 private:
  template <typename... What>
  [[noreturn]] void bad(const What&... what) const {
    fail_input(where_, ": ", printable(name_), ": ", what...);
  }

  const StoredTensor* take(const std::string& companion) {
    const auto found = stored_.find(name_ + companion);
    if (found == stored_.end()) bad(companion, " of the packed weight is missing");
    const StoredTensor* tensor = found->second;
    stored_.erase(found);
    return tensor;
  }

  Tensor numbers(const std::string& companion, DType dtype, int64_t count) {
    const StoredTensor& t = *take(companion);
    if (t.dtype != dtype || t.numel() != count)
      bad(companion, " is ", dtype_name(t.dtype), " ", shape_text(t.shape), ", wanted ", count,
          " of ", dtype_name(dtype));
    return to_tensor(t).view({count});
  }

  Tensor packed_bytes(int64_t count) {
    StoredTensor bytes = *stored_.at(name_);
    if (static_cast<int64_t>(bytes.bytes.size()) != count)
      bad("holds ", bytes.bytes.size(), " packed bytes, config.json wants ", count);
    bytes.dtype = DType::kU8;
    bytes.shape = {count};
    return to_tensor(bytes);
  }

  double number_in(const Json& state, const char* key) const {
    const Json* value = state.get(key);
    if (!value || !value->is_number()) bad(kState, ": ", key, ": a number is wanted");
    return value->number();
  }

  int64_t size_in(const Json& state, const char* key) const {
    const double value = number_in(state, key);
    const auto size = static_cast<int64_t>(value >= 32 && value <= 1 << 20 ? value : 0);
    if (!std::has_single_bit(static_cast<uint64_t>(size)) || static_cast<double>(size) != value)
      bad(kState, ": ", key, ": a power of two from 32 on is wanted");
    return size;
  }

  at::ScalarType stored_dtype(const Json& state) const {
    const Json* dtype = state.get("dtype");
    if (dtype && dtype->is_string())
      for (const char* known : {"bfloat16", "float16", "float32"})
        if (dtype->string() == known) return parse_dtype(known);
    bad(kState, ": dtype: bfloat16, float16 or float32 is wanted");
  }

  void check_state(const Json& state, const std::vector<int64_t>& shape) const {
    const Json* stored_shape = state.get("shape");
    Json::Array wanted;
    for (const int64_t size : shape) wanted.emplace_back(size);
    if (!stored_shape || stored_shape->dump() != Json(wanted).dump())
      bad("is ", stored_shape ? printable(stored_shape->dump()) : "of no shape",
          ", config.json wants ", shape_text(shape));
  }

  StoredByName& stored_;
  std::string name_, where_;
};

}  // namespace

std::unique_ptr<QuantizedWeight> take_packed_weight(StoredByName& stored, const std::string& name,
                                                    const std::vector<int64_t>& shape,
                                                    const std::string& where) {
  for (const char* type : {"nf4", "fp4"})
    if (stored.contains(name) && stored.contains(name + kState + type))
      return PackedReader(stored, name, where).read(type, shape);
  return nullptr;
}

}  // namespace ft
