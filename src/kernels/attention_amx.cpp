// Attention on the CPU's matrix unit (amx.h), bfloat16: FlashAttention-2's way (Dao 2023) per
// document and head, 32 queries against the 32 keys of a block at a time, only blocks that a query
// sees. The forward pass holds one strip of scores, 32 queries by the keys that they see, in
// float32, so that its softmax is the plain one; the backward pass makes the probabilities again
// from the stored log-sum-exp. With P the probabilities, O the output and S the scaled scores
// before the soft cap:
//   dV = P^T dO,   dP = dO V^T,   dS = P (dP - rowsum(dO O)) (1 - tanh^2),
//   dQ = scale dS K,   dK = scale dS^T Q
// A key head and its query heads are one task, so that no sum depends on the number of threads.
#include <algorithm>
#include <cmath>
#include <limits>

#include "base/error.h"
#include "kernels/amx.h"
#include "kernels/attention.h"
#include "kernels/autograd.h"
#include "kernels/cpu_loops.h"

namespace ft {

namespace {

using namespace amx;

/// One document: its rows in the batch, and what its positions see.
struct Document {
  int64_t begin, length;
  int64_t window;  ///< 0: everything before
  int64_t first_key(int64_t query) const {
    return window == 0 ? 0 : std::max<int64_t>(0, query - window + 1);
  }
  int64_t num_blocks() const { return blocks(length); }
  /// The blocks of keys [from, to) that a block of queries sees.
  int64_t from(int64_t block) const { return first_key(block * kBlock) / kBlock; }
  int64_t to(int64_t block) const { return block + 1; }
};

/// The heads of a tensor [N, heads, D].
struct Heads {
  uint16_t* data;
  int64_t heads, dim;
  int64_t stride() const { return heads * dim; }
  uint16_t* row(int64_t n, int64_t head) const { return data + n * stride() + head * dim; }
};
Heads heads_of(const Tensor& t) {
  return {static_cast<uint16_t*>(const_cast<void*>(t.const_data_ptr())), t.size(1), t.size(2)};
}

/// Buffers of a task, cut from one tensor.
class Scratch {
 public:
  explicit Scratch(int64_t bytes) : memory_(ops::empty({bytes}, at::kByte)) {}
  template <typename T>
  T* take(int64_t count) {
    auto* p = reinterpret_cast<T*>(static_cast<uint8_t*>(memory_.data_ptr()) + used_);
    used_ += bytes<T>(count);
    FT_INVARIANT(used_ <= memory_.numel());
    return p;
  }
  template <typename T>
  static int64_t bytes(int64_t count) {
    return (count * static_cast<int64_t>(sizeof(T)) + 63) / 64 * 64;
  }

 private:
  Tensor memory_;
  int64_t used_ = 0;
};

/// Tiles of one head of a document's rows. Along the sum lies the head's dimension (`by_dim`:
/// [row blocks][dim blocks]) or the rows ([dim blocks][row blocks]).
void pack_head(const Heads& x, const Document& d, int64_t head, bool by_dim, bool is_left,
               int64_t first_block, int64_t num_blocks, uint16_t* out) {
  const int64_t first = first_block * kBlock, rows = d.length - first, dims = blocks(x.dim);
  const uint16_t* p = x.row(d.begin + first, head);
  if (by_dim) {
    const Source s{p, x.stride(), rows, x.dim, true};
    for (int64_t r = 0; r < num_blocks; ++r)
      for (int64_t k = 0; k < dims; ++k, out += kPacked)
        pack_block(s, r * kBlock, k * kBlock, !is_left, out);
  } else {
    const Source s{p, x.stride(), x.dim, rows, false};
    for (int64_t c = 0; c < dims; ++c)
      for (int64_t r = 0; r < num_blocks; ++r, out += kPacked)
        pack_block(s, c * kBlock, r * kBlock, is_left, out);
  }
}

/// exp(x) for x <= 0 to about 1 unit in the last place, as cpu_loops.cpp has it; below -64 as at
/// -64. A NaN stays one: of two operands these maxima give the second then.
FT_VECTOR inline __m512 exp_negative(__m512 x) {
  x = _mm512_max_ps(_mm512_set1_ps(-64.0f), x);
  const __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504088896341f)),
                                        _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 r = _mm512_fmadd_ps(n, _mm512_set1_ps(2.12194440e-4f),
                                   _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x));
  __m512 p = _mm512_set1_ps(1.9875691500e-4f);
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
  p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
  p = _mm512_fmadd_ps(_mm512_mul_ps(p, r), r, _mm512_add_ps(r, _mm512_set1_ps(1.0f)));
  return _mm512_scalef_ps(p, n);
}

/// tanh(x), by exp(-2 |x|).
FT_VECTOR inline __m512 tanh_of(__m512 x) {
  const __m512 e = exp_negative(_mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(-2.0f)));
  const __m512 one = _mm512_set1_ps(1.0f);
  const __m512 t = _mm512_div_ps(_mm512_sub_ps(one, e), _mm512_add_ps(one, e));
  const __m512 sign = _mm512_and_ps(x, _mm512_set1_ps(-0.0f));
  return _mm512_or_ps(t, sign);
}

/// The keys of [key, key + 16) among [first, last].
inline __mmask16 visible(int64_t key, int64_t first, int64_t last) {
  const int64_t low = std::clamp<int64_t>(first - key, 0, 16),
                high = std::clamp<int64_t>(last + 1 - key, 0, 16);
  return static_cast<__mmask16>(((1u << high) - 1) & ~((1u << low) - 1));
}

FT_VECTOR inline void store_pair(uint16_t* out, __m512 low, __m512 high) {
  _mm512_storeu_si512(out, to_bf16(low, high));
}

/// Scores of a strip, [key blocks][32][32] -> probabilities times their sum, as left tiles, and per
/// query the factor 1 / sum and the log-sum-exp.
FT_VECTOR void soften(float* strip, const Document& d, int64_t query_block,
                      const AttentionSettings& settings, uint16_t* tiles, float* factor,
                      float* lse) {
  const int64_t from = d.from(query_block), to = d.to(query_block);
  const __m512 scale = _mm512_set1_ps(static_cast<float>(settings.scale)),
               lowest = _mm512_set1_ps(-std::numeric_limits<float>::infinity());
  const auto cap = static_cast<float>(settings.softcap);
  for (int64_t i = 0; i < kBlock; ++i) {
    const int64_t query = std::min(query_block * kBlock + i, d.length - 1),
                  first = d.first_key(query);
    __m512 most = lowest;
    for (int64_t j = from; j < to; ++j)
      for (int64_t half = 0; half < 2; ++half) {
        float* s = strip + (j - from) * kSums + i * kBlock + half * 16;
        __m512 value = _mm512_mul_ps(_mm512_loadu_ps(s), scale);
        if (cap != 0)
          value = _mm512_mul_ps(tanh_of(_mm512_div_ps(value, _mm512_set1_ps(cap))),
                                _mm512_set1_ps(cap));
        value = _mm512_mask_mov_ps(lowest, visible(j * kBlock + half * 16, first, query), value);
        _mm512_storeu_ps(s, value);
        most = _mm512_max_ps(most, value);
      }
    const float top = _mm512_reduce_max_ps(most);
    __m512 sum = _mm512_setzero_ps();
    for (int64_t j = from; j < to; ++j) {
      const float* s = strip + (j - from) * kSums + i * kBlock;
      __m512 p[2];
      for (int64_t half = 0; half < 2; ++half) {
        const __mmask16 mask = visible(j * kBlock + half * 16, first, query);
        p[half] = _mm512_maskz_mov_ps(
            mask, exp_negative(_mm512_sub_ps(_mm512_loadu_ps(s + half * 16), _mm512_set1_ps(top))));
        sum = _mm512_add_ps(sum, p[half]);
      }
      store_pair(tiles + (j - from) * kPacked + i * kBlock, p[0], p[1]);
    }
    const float total = _mm512_reduce_add_ps(sum);
    factor[i] = 1 / total;
    lse[i] = top + std::log(total);
  }
}

/// c [32, 32] * factor of its row -> columns [column, column + 32) of `rows` rows.
FT_VECTOR void write_rows(const float* c, int64_t rows, const float* factor, uint16_t* out,
                          int64_t stride, int64_t cols) {
  const __mmask32 mask = first_of_32(cols);
  for (int64_t i = 0; i < rows; ++i) {
    const __m512 f = _mm512_set1_ps(factor ? factor[i] : 1.0f);
    const __m512i bits = to_bf16(_mm512_mul_ps(_mm512_loadu_ps(c + i * kBlock), f),
                                 _mm512_mul_ps(_mm512_loadu_ps(c + i * kBlock + 16), f));
    _mm512_mask_storeu_epi16(out + i * stride, mask, bits);
  }
}

/// One block of the backward pass: scores and dP, both [32, 32] -> P and dS (times scale) as left
/// tiles.
FT_VECTOR void gradients(const float* scores, const float* dp, const Document& d,
                         int64_t query_block, int64_t key_block, const AttentionSettings& settings,
                         const float* lse, const float* delta, uint16_t* p_tiles,
                         uint16_t* ds_tiles) {
  const __m512 scale = _mm512_set1_ps(static_cast<float>(settings.scale));
  const auto cap = static_cast<float>(settings.softcap);
  for (int64_t i = 0; i < kBlock; ++i) {
    const int64_t query = std::min(query_block * kBlock + i, d.length - 1),
                  first = d.first_key(query);
    __m512 p[2], ds[2];
    for (int64_t half = 0; half < 2; ++half) {
      const __mmask16 mask = visible(key_block * kBlock + half * 16, first, query);
      __m512 s = _mm512_mul_ps(_mm512_loadu_ps(scores + i * kBlock + half * 16), scale);
      __m512 slope = scale;
      if (cap != 0) {
        const __m512 t = tanh_of(_mm512_div_ps(s, _mm512_set1_ps(cap)));
        s = _mm512_mul_ps(t, _mm512_set1_ps(cap));
        slope = _mm512_fnmadd_ps(_mm512_mul_ps(t, t), scale, scale);
      }
      const __m512 difference =
          _mm512_min_ps(_mm512_setzero_ps(), _mm512_sub_ps(s, _mm512_set1_ps(lse[i])));
      p[half] = _mm512_maskz_mov_ps(mask, exp_negative(difference));
      const __m512 change =
          _mm512_sub_ps(_mm512_loadu_ps(dp + i * kBlock + half * 16), _mm512_set1_ps(delta[i]));
      ds[half] = _mm512_mul_ps(_mm512_mul_ps(p[half], change), slope);
    }
    store_pair(p_tiles + i * kBlock, p[0], p[1]);
    store_pair(ds_tiles + i * kBlock, ds[0], ds[1]);
  }
}

FT_VECTOR float dot(const uint16_t* a, const uint16_t* b, int64_t n) {
  __m512 sum = _mm512_setzero_ps();
  for (int64_t i = 0; i < n; i += 16) {
    const __mmask16 mask = first_of_16(n - i);
    sum = _mm512_fmadd_ps(load_bf16(a + i, mask), load_bf16(b + i, mask), sum);
  }
  return _mm512_reduce_add_ps(sum);
}

void full_block(std::initializer_list<Part> parts, bool adds, float* c) {
  block<2, 2>(parts.begin(), parts.size(), 0, adds, c);
}

std::vector<Document> documents_of(const Documents& documents, int64_t window) {
  std::vector<Document> all;
  for (size_t s = 0; s + 1 < documents.bounds.size(); ++s)
    if (documents.bounds[s + 1] > documents.bounds[s])
      all.push_back({documents.bounds[s], documents.bounds[s + 1] - documents.bounds[s], window});
  return all;
}

/// f(document, key head) for all of them, on the threads.
template <typename F>
void for_key_heads(const std::vector<Document>& documents, int64_t key_heads, const F& f) {
  int64_t rows = 0;
  for (const Document& d : documents) rows += d.length;
  const auto tasks = static_cast<int64_t>(documents.size()) * key_heads;
  if (tasks == 0) return;
  cpu::parallel_rows(tasks, rows / tasks * 64 * kBlock, [&](int64_t begin, int64_t end) {
    configure();
    for (int64_t i = begin; i < end; ++i)
      f(documents[static_cast<size_t>(i / key_heads)], i % key_heads);
    release();
  });
}

void forward_heads(const Heads& q, const Heads& k, const Heads& v, const Heads& out, float* lse,
                   const Document& d, int64_t key_head, const AttentionSettings& settings) {
  const int64_t B = d.num_blocks(), dims = blocks(q.dim), group = q.heads / k.heads;
  const int64_t tiles = B * dims * kPacked;
  Scratch scratch(2 * Scratch::bytes<uint16_t>(tiles) + Scratch::bytes<uint16_t>(dims * kPacked) +
                  Scratch::bytes<uint16_t>(B * kPacked) + Scratch::bytes<float>(B * kSums) +
                  Scratch::bytes<float>(kSums) + 2 * Scratch::bytes<float>(kBlock));
  auto *keys = scratch.take<uint16_t>(tiles), *values = scratch.take<uint16_t>(tiles),
       *queries = scratch.take<uint16_t>(dims * kPacked),
       *probabilities = scratch.take<uint16_t>(B * kPacked);
  auto *strip = scratch.take<float>(B * kSums), *sums = scratch.take<float>(kSums),
       *factor = scratch.take<float>(kBlock), *row_lse = scratch.take<float>(kBlock);
  pack_head(k, d, key_head, true, false, 0, B, keys);
  pack_head(v, d, key_head, false, false, 0, B, values);
  for (int64_t head = key_head * group; head < (key_head + 1) * group; ++head)
    for (int64_t m = 0; m < B; ++m) {
      const int64_t from = d.from(m), count = d.to(m) - from,
                    rows = std::min(kBlock, d.length - m * kBlock);
      pack_head(q, d, head, true, true, m, 1, queries);
      for (int64_t j = 0; j < count; ++j)
        full_block({{queries, keys + (from + j) * dims * kPacked, 0, dims}}, false,
                   strip + j * kSums);
      soften(strip, d, m, settings, probabilities, factor, row_lse);
      for (int64_t c = 0; c < dims; ++c) {
        full_block({{probabilities, values + (c * B + from) * kPacked, 0, count}}, false, sums);
        write_rows(sums, rows, factor, out.row(d.begin + m * kBlock, head) + c * kBlock,
                   out.stride(), out.dim - c * kBlock);
      }
      for (int64_t i = 0; i < rows; ++i)
        lse[(d.begin + m * kBlock + i) * q.heads + head] = row_lse[i];
    }
}

struct Gradients {
  Heads dq, dk, dv;
};

void backward_heads(const Heads& q, const Heads& k, const Heads& v, const Heads& out,
                    const Heads& dy, const float* lse, const Gradients& to, const Document& d,
                    int64_t key_head, const AttentionSettings& settings) {
  const int64_t B = d.num_blocks(), dims = blocks(q.dim), group = q.heads / k.heads;
  const int64_t tiles = B * dims * kPacked, row_tiles = dims * kPacked;
  Scratch scratch(3 * Scratch::bytes<uint16_t>(tiles) + 4 * Scratch::bytes<uint16_t>(row_tiles) +
                  Scratch::bytes<uint16_t>(B * kPacked) + 3 * Scratch::bytes<uint16_t>(kPacked) +
                  2 * Scratch::bytes<float>(B * dims * kSums) + 2 * Scratch::bytes<float>(kSums) +
                  2 * Scratch::bytes<float>(kBlock));
  auto *keys = scratch.take<uint16_t>(tiles), *keys_along = scratch.take<uint16_t>(tiles),
       *values = scratch.take<uint16_t>(tiles), *queries = scratch.take<uint16_t>(row_tiles),
       *queries_along = scratch.take<uint16_t>(row_tiles),
       *grads = scratch.take<uint16_t>(row_tiles), *grads_along = scratch.take<uint16_t>(row_tiles),
       *ds = scratch.take<uint16_t>(B * kPacked), *p = scratch.take<uint16_t>(kPacked),
       *p_turned = scratch.take<uint16_t>(kPacked), *ds_turned = scratch.take<uint16_t>(kPacked);
  auto *dk = scratch.take<float>(B * dims * kSums), *dv = scratch.take<float>(B * dims * kSums),
       *scores = scratch.take<float>(kSums), *dp = scratch.take<float>(kSums),
       *row_lse = scratch.take<float>(kBlock), *delta = scratch.take<float>(kBlock);
  std::fill_n(dk, B * dims * kSums, 0.0f);
  std::fill_n(dv, B * dims * kSums, 0.0f);
  pack_head(k, d, key_head, true, false, 0, B, keys);
  pack_head(k, d, key_head, false, false, 0, B, keys_along);
  pack_head(v, d, key_head, true, false, 0, B, values);
  for (int64_t head = key_head * group; head < (key_head + 1) * group; ++head)
    for (int64_t m = 0; m < B; ++m) {
      const int64_t from = d.from(m), count = d.to(m) - from, row = d.begin + m * kBlock,
                    rows = std::min(kBlock, d.length - m * kBlock);
      pack_head(q, d, head, true, true, m, 1, queries);
      pack_head(q, d, head, false, false, m, 1, queries_along);
      pack_head(dy, d, head, true, true, m, 1, grads);
      pack_head(dy, d, head, false, false, m, 1, grads_along);
      for (int64_t i = 0; i < kBlock; ++i) {  // rows past the end: their gradients are zero
        row_lse[i] = i < rows ? lse[(row + i) * q.heads + head] : 0;
        delta[i] = i < rows ? dot(dy.row(row + i, head), out.row(row + i, head), q.dim) : 0;
      }
      for (int64_t j = from; j < from + count; ++j) {
        full_block({{queries, keys + j * row_tiles, 0, dims}}, false, scores);
        full_block({{grads, values + j * row_tiles, 0, dims}}, false, dp);
        uint16_t* ds_tiles = ds + (j - from) * kPacked;
        gradients(scores, dp, d, m, j, settings, row_lse, delta, p, ds_tiles);
        pack_block({p, kBlock, kBlock, kBlock, false}, 0, 0, true, p_turned);
        pack_block({ds_tiles, kBlock, kBlock, kBlock, false}, 0, 0, true, ds_turned);
        for (int64_t c = 0; c < dims; ++c) {
          full_block({{p_turned, grads_along + c * kPacked, 0, 1}}, true,
                     dv + (j * dims + c) * kSums);
          full_block({{ds_turned, queries_along + c * kPacked, 0, 1}}, true,
                     dk + (j * dims + c) * kSums);
        }
      }
      for (int64_t c = 0; c < dims; ++c) {
        full_block({{ds, keys_along + (c * B + from) * kPacked, 0, count}}, false, scores);
        write_rows(scores, rows, nullptr, to.dq.row(row, head) + c * kBlock, to.dq.stride(),
                   q.dim - c * kBlock);
      }
    }
  for (int64_t j = 0; j < B; ++j)
    for (int64_t c = 0; c < dims; ++c) {
      const int64_t rows = std::min(kBlock, d.length - j * kBlock), row = d.begin + j * kBlock;
      write_rows(dk + (j * dims + c) * kSums, rows, nullptr, to.dk.row(row, key_head) + c * kBlock,
                 to.dk.stride(), k.dim - c * kBlock);
      write_rows(dv + (j * dims + c) * kSums, rows, nullptr, to.dv.row(row, key_head) + c * kBlock,
                 to.dv.stride(), k.dim - c * kBlock);
    }
}

}  // namespace

OpHalves unit_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                        const Documents& documents, const AttentionSettings& settings) {
  const auto parts = documents_of(documents, settings.window);
  return {
      [=](Saved& saved) {
        const Tensor out = ops::empty_like(q), lse = ops::empty({q.size(0), q.size(1)}, at::kFloat);
        const Heads qs = heads_of(q), ks = heads_of(k), vs = heads_of(v), os = heads_of(out);
        auto* row_lse = static_cast<float*>(lse.data_ptr());
        for_key_heads(parts, k.size(1), [&](const Document& d, int64_t head) {
          forward_heads(qs, ks, vs, os, row_lse, d, head, settings);
        });
        saved.tensors = {q, k, v, out, lse};
        return out;
      },
      [parts, settings](const Tensor& grad, const Saved& saved) -> std::vector<Tensor> {
        const Tensor dy = grad.contiguous();
        const Tensor dq = ops::empty_like(saved.tensors[0]), dk = ops::empty_like(saved.tensors[1]),
                     dv = ops::empty_like(saved.tensors[2]);
        const Gradients to{heads_of(dq), heads_of(dk), heads_of(dv)};
        const Heads qs = heads_of(saved.tensors[0]), ks = heads_of(saved.tensors[1]),
                    vs = heads_of(saved.tensors[2]), os = heads_of(saved.tensors[3]),
                    dys = heads_of(dy);
        const auto* lse = static_cast<const float*>(saved.tensors[4].const_data_ptr());
        for_key_heads(parts, ks.heads, [&](const Document& d, int64_t head) {
          backward_heads(qs, ks, vs, os, dys, lse, to, d, head, settings);
        });
        return {dq, dk, dv};
      }};
}

}  // namespace ft
