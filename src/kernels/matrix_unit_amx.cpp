// unit:: for x86-64: Intel AMX. Tiles and blocks are those of amx.h.
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <array>

#include "base/error.h"
#include "kernels/amx.h"
#include "kernels/cpu_loops.h"
#include "kernels/matrix_unit.h"

namespace ft::unit {
namespace {

using namespace amx;

/// Where a finished block goes.
struct Result {
  void* data;
  int64_t rows, cols;
  bool is_float;
  const uint16_t* bias;
  bool streams;  ///< past the caches: rows of whole lines, more than they hold
};

FT_VECTOR void write_block(const float* c, int64_t m, int64_t n, const Result& out) {
  const int64_t rows = std::min(kBlock, out.rows - m), cols = std::min(kBlock, out.cols - n);
  const __mmask32 mask = first_of_32(cols);
  const auto low_mask = static_cast<__mmask16>(mask),
             high_mask = static_cast<__mmask16>(mask >> 16);
  __m512 low_bias = _mm512_setzero_ps(), high_bias = low_bias;
  if (out.bias) {
    low_bias = load_bf16(out.bias + n, low_mask);
    high_bias = load_bf16(out.bias + n + 16, high_mask);
  }
  for (int64_t i = 0; i < rows; ++i, c += kBlock) {
    const __m512 low = _mm512_add_ps(_mm512_loadu_ps(c), low_bias),
                 high = _mm512_add_ps(_mm512_loadu_ps(c + 16), high_bias);
    const int64_t at = (m + i) * out.cols + n;
    if (out.is_float) {
      _mm512_mask_storeu_ps(static_cast<float*>(out.data) + at, low_mask, low);
      _mm512_mask_storeu_ps(static_cast<float*>(out.data) + at + 16, high_mask, high);
    } else {
      const __m512i bits = to_bf16(low, high);
      uint16_t* to = static_cast<uint16_t*>(out.data) + at;
      if (out.streams) {
        _mm512_stream_si512(reinterpret_cast<__m512i*>(to), bits);
      } else {
        _mm512_mask_storeu_epi16(to, mask, bits);
      }
    }
  }
}

const uint16_t* elements(const Tensor& t) {
  return static_cast<const uint16_t*>(t.const_data_ptr());
}

void check_operand(const Tensor& t) {
  FT_INVARIANT(t.dim() == 2 && t.scalar_type() == at::kBFloat16 && t.stride(1) == 1);
}

/// Asks for a share of the panel of columns [n, n + 32), rows of the sum [begin, end), which is
/// packed next: its lines are far apart and not foreseen by the processor.
void prefetch(const Source& s, int64_t n, int64_t begin, int64_t end) {
  constexpr int64_t kLine = 32;  // elements
  if (s.rows_are_outer) {
    for (int64_t i = n; i < std::min(n + kBlock, s.outer); ++i)
      for (int64_t k = begin; k < end; k += kLine) _mm_prefetch(s.data + i * s.ld + k, _MM_HINT_T1);
  } else {
    for (int64_t k = begin; k < end; ++k) _mm_prefetch(s.data + k * s.ld + n, _MM_HINT_T1);
  }
}

FT_VECTOR void round_scaled(const float* x, float scale, int64_t n, uint16_t* y) {
  const __m512 factor = _mm512_set1_ps(scale);
  for (int64_t i = 0; i < n; i += 32) {
    const __mmask32 mask = first_of_32(n - i);
    const __m512 low = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask), x + i),
                 high = _mm512_maskz_loadu_ps(static_cast<__mmask16>(mask >> 16), x + i + 16);
    _mm512_mask_storeu_epi16(y + i, mask,
                             to_bf16(_mm512_mul_ps(low, factor), _mm512_mul_ps(high, factor)));
  }
}

/// The operand's matrix, scaled, in bfloat16.
Tensor right_matrix(const Right& r) {
  if (r.matrix.scalar_type() != at::kFloat || !r.matrix.is_contiguous())
    return (r.scale == 1 ? r.matrix : r.matrix.mul(r.scale)).to(at::kBFloat16);
  Tensor cast = ops::empty(r.matrix.sizes(), at::kBFloat16);
  round_scaled(static_cast<const float*>(r.matrix.const_data_ptr()), static_cast<float>(r.scale),
               cast.numel(), static_cast<uint16_t*>(cast.data_ptr()));
  return cast;
}

Source right_source(const Right& r) {
  check_operand(r.matrix);
  return {elements(r.matrix), r.matrix.stride(0), r.matrix.size(r.transposed ? 0 : 1),
          r.matrix.size(r.transposed ? 1 : 0), r.transposed};
}

/// A stretch of the sums, [begin, end) of every term that is as long, over all rows and columns.
struct Pass {
  int64_t begin, end;
  bool is_first, is_last;
};

/// A left operand's share of a pass, undefined past its end. A long one is packed here.
Tensor left_tiles(const Packed& left, const Pass& pass) {
  if (left.tiles().defined()) return pass.is_first ? left.tiles() : Tensor();
  if (pass.begin >= left.inner()) return {};
  const Tensor& x = left.plain();
  const Tensor part = x.narrow(1, pass.begin, std::min(pass.end, left.inner()) - pass.begin);
  return x.stride(1) == 1 ? pack(part, false) : pack(part.t(), true);
}

/// Columns of panels [first, last); lefts: per source its tiles, or undefined; sums: float32
/// [panels, row blocks, 32, 32] when there are several passes.
void multiply_panels(const std::vector<Tensor>& lefts, const std::vector<Source>& sources,
                     const Pass& pass, int64_t first, int64_t last, float* sums,
                     const Result& result) {
  const int64_t row_blocks = blocks(result.rows);
  std::vector<Part> parts;
  std::vector<const Source*> part_sources;
  int64_t total = 0;
  for (size_t i = 0; i < lefts.size(); ++i) {
    if (!lefts[i].defined()) continue;
    const int64_t count = lefts[i].size(1);
    parts.push_back({elements(lefts[i]), nullptr, count * kPacked, count});
    part_sources.push_back(&sources[i]);
    total += count;
  }
  const Tensor panel = ops::empty({total * kPacked}, at::kBFloat16);
  alignas(64) std::array<float, kSums> block_sums;
  configure();
  for (int64_t n = first; n < last; ++n) {
    auto* out = static_cast<uint16_t*>(panel.data_ptr());
    for (size_t i = 0; i < parts.size(); ++i) {
      parts[i].right = out;
      for (int64_t k = 0; k < parts[i].count; ++k, out += kPacked)
        pack_block(*part_sources[i], n * kBlock, pass.begin + k * kBlock,
                   part_sources[i]->rows_are_outer, out);
    }
    const Source& main = *part_sources[0];
    const int64_t length = std::min(pass.end, main.inner) - pass.begin;
    for (int64_t m = 0; m < row_blocks; ++m) {
      if (n + 1 < last)
        prefetch(main, (n + 1) * kBlock, pass.begin + length * m / row_blocks,
                 pass.begin + length * (m + 1) / row_blocks);
      float* c = sums ? sums + (n * row_blocks + m) * kSums : block_sums.data();
      block_for(result.rows - m * kBlock, result.cols - n * kBlock)(parts.data(), parts.size(), m,
                                                                    !pass.is_first, c);
      if (pass.is_last) write_block(c, m * kBlock, n * kBlock, result);
    }
  }
  release();
  if (result.streams) _mm_sfence();
}

/// A term of few rows: x [rows, inner] and a weight [cols, inner].
struct DotTerm {
  const uint16_t *x, *w;
  int64_t x_ld, w_ld, inner;
};

constexpr int64_t kAhead = 1024;  // elements; a weight is asked for so long before it is used
constexpr int kStreams = 4;       // places at which it is read in turn

FT_VECTOR inline __m512bh load_32(const uint16_t* p, __mmask32 mask) {
  const __m512i bits = _mm512_maskz_loadu_epi16(mask, p);
  __m512bh pairs;
  __builtin_memcpy(&pairs, &bits, sizeof pairs);
  return pairs;
}

/// Columns [n, n + 32) of all rows, and of the same size those `step`, 2 `step`, .. columns further
/// on. A column's weights are one run of memory, and so are the columns of each place; the places
/// are pages apart, so that the pages' addresses are looked up beside each other. (Neighbouring
/// columns in turn, which share their pages, are read a sixth slower.)
template <int kRows, int kPlaces>
FT_VECTOR void dot_blocks(const std::vector<DotTerm>& terms, int64_t n, int64_t step,
                          const Result& out) {
  alignas(64) float c[kPlaces][kRows * kBlock];
  for (int64_t i = 0; i < std::min(kBlock, out.cols - n); ++i) {
    __m512 sums[kPlaces][kRows];
    for (auto& of_place : sums)
      for (__m512& sum : of_place) sum = _mm512_setzero_ps();
    for (const DotTerm& t : terms) {
      const uint16_t* w[kPlaces];
      for (int p = 0; p < kPlaces; ++p)  // past the last column: any, it is not written
        w[p] = t.w + std::min(n + p * step + i, out.cols - 1) * t.w_ld;
      const auto add = [&](int64_t k, __mmask32 mask) FT_VECTOR __attribute__((always_inline)) {
        __m512bh x[kRows];
        for (int r = 0; r < kRows; ++r) x[r] = load_32(t.x + r * t.x_ld + k, mask);
        for (int p = 0; p < kPlaces; ++p) {
          // The processor itself foresees less. Past the end it does no harm.
          _mm_prefetch(w[p] + k + kAhead, _MM_HINT_T1);
          const __m512bh weights = load_32(w[p] + k, mask);
          for (int r = 0; r < kRows; ++r) sums[p][r] = _mm512_dpbf16_ps(sums[p][r], x[r], weights);
        }
      };
      const int64_t whole = t.inner / 32 * 32;
      for (int64_t k = 0; k < whole; k += 32) add(k, ~__mmask32{0});
      if (whole < t.inner) add(whole, first_of_32(t.inner - whole));
    }
    for (int p = 0; p < kPlaces; ++p)
      for (int r = 0; r < kRows; ++r) c[p][r * kBlock + i] = _mm512_reduce_add_ps(sums[p][r]);
  }
  for (int p = 0; p < kPlaces; ++p) write_block(c[p], 0, n + p * step, out);
}

template <int kRows>
void dot_products(const std::vector<DotTerm>& terms, const Result& out) {
  int64_t inner = 0;
  for (const DotTerm& t : terms) inner += t.inner;
  cpu::parallel_rows(blocks(out.cols), inner * kBlock, [&](int64_t begin, int64_t end) {
    const int64_t part = (end - begin) / kStreams;
    for (int64_t i = begin; i < begin + part; ++i)
      dot_blocks<kRows, kStreams>(terms, i * kBlock, part * kBlock, out);
    for (int64_t i = begin + part * kStreams; i < end; ++i)
      dot_blocks<kRows, 1>(terms, i * kBlock, 0, out);
  });
}

/// Few rows by weights as they are stored, or false.
bool multiply_few(const std::vector<Term>& terms, const std::vector<Source>& sources,
                  const Result& out) {
  if (out.rows > kFewRows) return false;
  std::vector<DotTerm> dots;
  for (size_t i = 0; i < terms.size(); ++i) {
    const Tensor& x = terms[i].left.plain();
    const Source& s = sources[i];
    if (!s.rows_are_outer || x.stride(1) != 1) return false;
    dots.push_back({elements(x), s.data, x.stride(0), s.ld, s.inner});
  }
  constexpr void (*kBy[])(const std::vector<DotTerm>&, const Result&) = {
      dot_products<1>, dot_products<2>, dot_products<3>, dot_products<4>};
  kBy[out.rows - 1](dots, out);
  return true;
}

}  // namespace

bool probe() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  constexpr unsigned kAmxBf16 = 1u << 22, kAmxTile = 1u << 24;
  if ((d & kAmxBf16) == 0 || (d & kAmxTile) == 0) return false;
  if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512dq") ||
      !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512bf16"))
    return false;
  constexpr long kRequestPermission = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
  return syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
}

Tensor pack(const Tensor& x, bool transposed) {
  check_operand(x);
  const Source source{elements(x), x.stride(0), x.size(transposed ? 1 : 0),
                      x.size(transposed ? 0 : 1), !transposed};
  const int64_t along = blocks(source.inner), across = blocks(source.outer);
  Tensor tiles = ops::empty({across, along, kPacked}, at::kBFloat16);
  auto* out = static_cast<uint16_t*>(tiles.data_ptr());
  cpu::parallel_rows(across, along * kPacked, [&](int64_t begin, int64_t end) {
    for (int64_t m = begin; m < end; ++m)
      for (int64_t k = 0; k < along; ++k)
        pack_block(source, m * kBlock, k * kBlock, transposed, out + (m * along + k) * kPacked);
  });
  return tiles;
}

Tensor multiply(const std::vector<Term>& terms, const Tensor& bias, at::ScalarType dtype) {
  std::vector<Tensor> matrices;  // kept until the end
  std::vector<Source> sources;
  int64_t longest = 0;
  for (const auto& [left, right] : terms) {
    matrices.push_back(right_matrix(right));
    sources.push_back(right_source({matrices.back(), right.transposed}));
    FT_INVARIANT(left.rows() == terms[0].left.rows() && left.inner() == sources.back().inner &&
                 sources.back().outer == sources[0].outer);
    longest = std::max(longest, left.inner());
  }
  const int64_t rows = terms[0].left.rows(), cols = sources[0].outer, panels = blocks(cols);
  const Tensor y = ops::empty({rows, cols}, dtype);
  constexpr int64_t kCaches = int64_t{4} << 20;
  const bool streams = dtype == at::kBFloat16 && cols % kBlock == 0 &&
                       static_cast<int64_t>(y.nbytes()) > kCaches &&
                       reinterpret_cast<uintptr_t>(y.data_ptr()) % 64 == 0;
  const Result result{
      y.data_ptr(), rows, cols, dtype == at::kFloat, bias.defined() ? elements(bias) : nullptr,
      streams};
  if (multiply_few(terms, sources, result)) return y;
  Tensor sums;
  if (longest > kMaxInner) sums = ops::empty({panels, blocks(rows), kSums}, at::kFloat);
  auto* sums_data = sums.defined() ? static_cast<float*>(sums.data_ptr()) : nullptr;
  for (int64_t begin = 0; begin < longest; begin += kMaxInner) {
    const Pass pass{begin, begin + kMaxInner, begin == 0, begin + kMaxInner >= longest};
    std::vector<Tensor> lefts;
    for (const Term& t : terms) lefts.push_back(left_tiles(t.left, pass));
    cpu::parallel_rows(panels, rows * kBlock, [&](int64_t first, int64_t last) {
      multiply_panels(lefts, sources, pass, first, last, sums_data, result);
    });
  }
  return y;
}

void multiply_row(const Tensor& x, const Tensor& weight, const Tensor& bias, const Tensor& y) {
  const int64_t cols = weight.size(0), inner = weight.size(1);
  FT_INVARIANT(x.numel() == inner && y.numel() == cols);
  dot_products<1>({{elements(x), elements(weight), inner, inner, inner}},
                  {y.data_ptr(), 1, cols, false, bias.defined() ? elements(bias) : nullptr, false});
}

}  // namespace ft::unit
