// The matrix unit itself: tiles, how they are packed, and a block of a product. For x86-64 with
// GCC; FT_HAS_AMX tells. Callers have asked use_matrix_unit().
//
// A tile is 16 rows of 64 bytes. A left tile holds 16 rows of 32 elements; a right tile holds 16
// pairs of rows of 16 columns, the two elements of a pair side by side. One of the two is a load,
// the other a transposition of 16 x 16 pairs, whichever way the matrix lies in memory. A block of
// the result is 2 x 2 tiles, which with two tiles of each operand fills the unit's eight registers.
#pragma once

#include <immintrin.h>

#include <algorithm>
#include <cstdint>

#define FT_UNIT \
  __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))
#define FT_VECTOR __attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")))

namespace ft::amx {

constexpr int64_t kBlock = 32;          // rows and columns of a block of the result
constexpr int64_t kTile = 16 * 32;      // elements of a tile
constexpr int64_t kPacked = 2 * kTile;  // of a packed block: 32 rows or columns, 32 along the sum
constexpr int64_t kSums = kBlock * kBlock;

inline int64_t blocks(int64_t n) {
  return (n + kBlock - 1) / kBlock;
}

/// The first n of 32 elements.
inline uint32_t first_of_32(int64_t n) {
  return n >= 32 ? ~uint32_t{0} : (uint32_t{1} << std::max<int64_t>(n, 0)) - 1;
}
/// The first n of 16.
inline uint16_t first_of_16(int64_t n) {
  return static_cast<uint16_t>(first_of_32(std::min<int64_t>(n, 16)));
}

/// 16 bfloat16 numbers as float32.
FT_VECTOR inline __m512 load_bf16(const uint16_t* p, __mmask16 mask) {
  return _mm512_castsi512_ps(
      _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p)), 16));
}

/// 32 float32 numbers as bfloat16, rounded to nearest.
FT_VECTOR inline __m512i to_bf16(__m512 low, __m512 high) {
  const __m512bh both = _mm512_cvtne2ps_pbh(high, low);
  __m512i bits;
  __builtin_memcpy(&bits, &both, sizeof bits);
  return bits;
}

/// A tile on its way from memory: 16 vectors of 16 pairs.
struct Vectors {
  __m512i row[16];
};

/// Row i: columns [0, 32) of row i of a matrix of `rows` rows and `cols` columns, zero outside.
FT_VECTOR inline void load_rows(Vectors& v, const uint16_t* p, int64_t ld, int64_t rows,
                                int64_t cols) {
  if (rows >= 16 && cols >= 32) {
    for (int i = 0; i < 16; ++i) v.row[i] = _mm512_loadu_si512(p + i * ld);
    return;
  }
  const __mmask32 mask = first_of_32(cols);
  for (int i = 0; i < 16; ++i)
    v.row[i] = i < rows ? _mm512_maskz_loadu_epi16(mask, p + i * ld) : _mm512_setzero_si512();
}

/// Row i: rows 2 i and 2 i + 1 of columns [0, 16), interleaved.
FT_VECTOR inline void load_pairs(Vectors& v, const uint16_t* p, int64_t ld, int64_t rows,
                                 int64_t cols) {
  const __mmask16 mask = first_of_16(cols);
  for (int i = 0; i < 16; ++i) {
    __m512i low = _mm512_setzero_si512(), high = low;
    if (2 * i < rows) low = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p + 2 * i * ld));
    if (2 * i + 1 < rows)
      high = _mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(mask, p + (2 * i + 1) * ld));
    v.row[i] = _mm512_or_si512(low, _mm512_slli_epi32(high, 16));
  }
}

FT_VECTOR inline void transpose(Vectors& v) {
  Vectors t;
  for (int i = 0; i < 16; i += 2) {
    t.row[i] = _mm512_unpacklo_epi32(v.row[i], v.row[i + 1]);
    t.row[i + 1] = _mm512_unpackhi_epi32(v.row[i], v.row[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {
    v.row[i] = _mm512_unpacklo_epi64(t.row[i], t.row[i + 2]);
    v.row[i + 1] = _mm512_unpackhi_epi64(t.row[i], t.row[i + 2]);
    v.row[i + 2] = _mm512_unpacklo_epi64(t.row[i + 1], t.row[i + 3]);
    v.row[i + 3] = _mm512_unpackhi_epi64(t.row[i + 1], t.row[i + 3]);
  }
  for (int i = 0; i < 4; ++i) {  // rows i, i + 4, i + 8, i + 12 hold columns i, i + 4, ..
    const __m512i a = _mm512_shuffle_i32x4(v.row[i], v.row[i + 4], 0x88),
                  b = _mm512_shuffle_i32x4(v.row[i], v.row[i + 4], 0xdd),
                  c = _mm512_shuffle_i32x4(v.row[i + 8], v.row[i + 12], 0x88),
                  d = _mm512_shuffle_i32x4(v.row[i + 8], v.row[i + 12], 0xdd);
    t.row[i] = _mm512_shuffle_i32x4(a, c, 0x88);
    t.row[i + 8] = _mm512_shuffle_i32x4(a, c, 0xdd);
    t.row[i + 4] = _mm512_shuffle_i32x4(b, d, 0x88);
    t.row[i + 12] = _mm512_shuffle_i32x4(b, d, 0xdd);
  }
  v = t;
}

FT_VECTOR inline void store(const Vectors& v, uint16_t* tile) {
  for (int i = 0; i < 16; ++i) _mm512_storeu_si512(tile + 32 * i, v.row[i]);
}

/// A matrix in memory whose rows run along the result (`outer`) or along the sum.
struct Source {
  const uint16_t* data;
  int64_t ld, outer, inner;
  bool rows_are_outer;
};

/// The two tiles of outer [o, o + 32) x inner [k, k + 32). A left operand is transposed when its
/// rows run along the sum, a right one when they do not.
FT_VECTOR inline void pack_block(const Source& s, int64_t o, int64_t k, bool transposes,
                                 uint16_t* out) {
  Vectors v;
  for (int64_t half = 0; half < 2; ++half, o += 16, out += kTile) {
    if (o >= s.outer) {
      std::fill_n(out, kTile, uint16_t{0});
      continue;
    }
    if (s.rows_are_outer) {
      load_rows(v, s.data + o * s.ld + k, s.ld, s.outer - o, s.inner - k);
    } else {
      load_pairs(v, s.data + k * s.ld + o, s.ld, s.inner - k, s.outer - o);
    }
    if (transposes) transpose(v);
    store(v, out);
  }
}

/// A term of one pass: `count` blocks along the sum.
struct Part {
  const uint16_t *left, *right;
  int64_t left_stride, count;  ///< elements from one block of rows to the next
};

/// c [32, 32] = (adds: c +) the sum over the parts; `kRows`, `kCols`: tiles that hold anything.
template <int kRows, int kCols>
FT_UNIT inline void block(const Part* parts, size_t num_parts, int64_t row_block, bool adds,
                          float* c) {
  constexpr int kStride = kBlock * sizeof(float);
  if (adds) {
    _tile_loadd(0, c, kStride);
    if (kCols > 1) _tile_loadd(1, c + 16, kStride);
    if (kRows > 1) _tile_loadd(2, c + 16 * kBlock, kStride);
    if (kRows > 1 && kCols > 1) _tile_loadd(3, c + 16 * kBlock + 16, kStride);
  } else {
    _tile_zero(0);
    if (kCols > 1) _tile_zero(1);
    if (kRows > 1) _tile_zero(2);
    if (kRows > 1 && kCols > 1) _tile_zero(3);
  }
  for (size_t p = 0; p < num_parts; ++p) {
    const uint16_t* l = parts[p].left + row_block * parts[p].left_stride;
    const uint16_t* r = parts[p].right;
    for (int64_t k = 0; k < parts[p].count; ++k, l += 2 * kTile, r += 2 * kTile) {
      _tile_loadd(4, l, 64);
      _tile_loadd(6, r, 64);
      _tile_dpbf16ps(0, 4, 6);
      if (kCols > 1) {
        _tile_loadd(7, r + kTile, 64);
        _tile_dpbf16ps(1, 4, 7);
      }
      if (kRows > 1) {
        _tile_loadd(5, l + kTile, 64);
        _tile_dpbf16ps(2, 5, 6);
      }
      if (kRows > 1 && kCols > 1) _tile_dpbf16ps(3, 5, 7);
    }
  }
  _tile_stored(0, c, kStride);
  if (kCols > 1) _tile_stored(1, c + 16, kStride);
  if (kRows > 1) _tile_stored(2, c + 16 * kBlock, kStride);
  if (kRows > 1 && kCols > 1) _tile_stored(3, c + 16 * kBlock + 16, kStride);
}

struct alignas(64) TileConfig {
  uint8_t palette = 1, start_row = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

/// Before the first block on a thread, and after the last.
FT_UNIT inline void configure() {
  static const TileConfig config;  // static: the intrinsic does not tell that it reads all of it
  _tile_loadconfig(&config);
}
FT_UNIT inline void release() {
  _tile_release();
}

/// The block function for what is left of a result.
using BlockFunction = void (*)(const Part*, size_t, int64_t, bool, float*);
inline BlockFunction block_for(int64_t rows, int64_t cols) {
  if (rows > 16) return cols > 16 ? block<2, 2> : block<2, 1>;
  return cols > 16 ? block<1, 2> : block<1, 1>;
}

}  // namespace ft::amx
