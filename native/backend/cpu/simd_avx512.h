// Vectors of 16 floats: AVX-512 F, BW, DQ, VL. See simd.h.
#pragma once

#include <immintrin.h>

namespace scholia {
namespace {

using F32 = __m512;
constexpr int kLanes = 16;
// Rows of the register-blocked kernels: 14 x 2 accumulators, 2 columns and 1 broadcast of 32.
constexpr int kPanelRows = 14;

inline F32 load(const float* x) { return _mm512_loadu_ps(x); }
inline void store(float* x, F32 v) { _mm512_storeu_ps(x, v); }
inline F32 splat(float x) { return _mm512_set1_ps(x); }
inline F32 add(F32 a, F32 b) { return _mm512_add_ps(a, b); }
inline F32 sub(F32 a, F32 b) { return _mm512_sub_ps(a, b); }
inline F32 mul(F32 a, F32 b) { return _mm512_mul_ps(a, b); }
inline F32 mul_add(F32 a, F32 b, F32 c) { return _mm512_fmadd_ps(a, b, c); }
inline F32 max(F32 a, F32 b) { return _mm512_max_ps(a, b); }
inline F32 min(F32 a, F32 b) { return _mm512_min_ps(a, b); }
inline F32 round(F32 a) {
  return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
inline F32 times_power_of_two(F32 a, F32 n) { return _mm512_scalef_ps(a, n); }

inline __mmask16 first_lanes(int n) { return n >= kLanes ? 0xFFFF : __mmask16((1U << n) - 1); }
inline F32 load_first(const float* x, int n, float fill) {
  return _mm512_mask_loadu_ps(splat(fill), first_lanes(n), x);
}
inline void store_first(float* x, F32 v, int n) { _mm512_mask_storeu_ps(x, first_lanes(n), v); }

inline float sum_lanes(F32 v) { return _mm512_reduce_add_ps(v); }
inline float max_lane(F32 v) { return _mm512_reduce_max_ps(v); }

inline F32 load_f16(const uint16_t* x) {
  return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
}
inline void store_f16(uint16_t* x, F32 v) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(x),
                      _mm512_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline F32 load_nibble(const uint16_t* x, int shift) {
  const __m512i wide =
      _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(x)));
  return _mm512_cvtepi32_ps(
      _mm512_and_si512(_mm512_srl_epi32(wide, _mm_cvtsi32_si128(shift)), _mm512_set1_epi32(15)));
}

// One step of the transposition of 16 rows: eight rows become eight columns inside each 128-bit
// lane.
inline void transpose_lanes_8x8(const __m512i* r, __m512i* c) {
  const __m512i a0 = _mm512_unpacklo_epi16(r[0], r[1]), a1 = _mm512_unpackhi_epi16(r[0], r[1]);
  const __m512i a2 = _mm512_unpacklo_epi16(r[2], r[3]), a3 = _mm512_unpackhi_epi16(r[2], r[3]);
  const __m512i a4 = _mm512_unpacklo_epi16(r[4], r[5]), a5 = _mm512_unpackhi_epi16(r[4], r[5]);
  const __m512i a6 = _mm512_unpacklo_epi16(r[6], r[7]), a7 = _mm512_unpackhi_epi16(r[6], r[7]);
  const __m512i b0 = _mm512_unpacklo_epi32(a0, a2), b1 = _mm512_unpackhi_epi32(a0, a2);
  const __m512i b2 = _mm512_unpacklo_epi32(a1, a3), b3 = _mm512_unpackhi_epi32(a1, a3);
  const __m512i b4 = _mm512_unpacklo_epi32(a4, a6), b5 = _mm512_unpackhi_epi32(a4, a6);
  const __m512i b6 = _mm512_unpacklo_epi32(a5, a7), b7 = _mm512_unpackhi_epi32(a5, a7);
  c[0] = _mm512_unpacklo_epi64(b0, b4), c[1] = _mm512_unpackhi_epi64(b0, b4);
  c[2] = _mm512_unpacklo_epi64(b1, b5), c[3] = _mm512_unpackhi_epi64(b1, b5);
  c[4] = _mm512_unpacklo_epi64(b2, b6), c[5] = _mm512_unpackhi_epi64(b2, b6);
  c[6] = _mm512_unpacklo_epi64(b3, b7), c[7] = _mm512_unpackhi_epi64(b3, b7);
}

// dst[column][16] = src[16][column] for columns [0, n_columns), a multiple of 8; rows of src are
// row_stride apart.
inline void transpose_16_rows(const uint16_t* src, size_t row_stride, int n_columns,
                              uint16_t* dst) {
  const __m512i columns_0_and_1 = _mm512_setr_epi64(0, 1, 8, 9, 2, 3, 10, 11);
  const __m512i columns_2_and_3 = _mm512_setr_epi64(4, 5, 12, 13, 6, 7, 14, 15);
  for (int first = 0; first < n_columns; first += 32) {
    const int n = n_columns - first < 32 ? n_columns - first : 32;
    const __mmask32 mask = n == 32 ? 0xFFFFFFFFU : (1U << n) - 1;
    __m512i rows[16], upper[8], lower[8];
#pragma GCC unroll 16
    for (int r = 0; r < 16; r++) {
      rows[r] = _mm512_maskz_loadu_epi16(mask, src + r * row_stride + first);
    }
    transpose_lanes_8x8(rows, upper);
    transpose_lanes_8x8(rows + 8, lower);
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      const __m512i c01 = _mm512_permutex2var_epi64(upper[j], columns_0_and_1, lower[j]);
      const __m512i c23 = _mm512_permutex2var_epi64(upper[j], columns_2_and_3, lower[j]);
      uint16_t* out = dst + size_t(first + j) * 16;
      auto put = [&](int column, __m256i v) {
        if (column < n) _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + column * 16), v);
      };
      put(0, _mm512_castsi512_si256(c01));
      put(8, _mm512_extracti64x4_epi64(c01, 1));
      put(16, _mm512_castsi512_si256(c23));
      put(24, _mm512_extracti64x4_epi64(c23, 1));
    }
  }
}

}  // namespace
}  // namespace scholia
