// Vectors of 8 floats: AVX2, FMA, F16C. See simd.h.
#pragma once

#include <immintrin.h>

namespace scholia {
namespace {

using F32 = __m256;
constexpr int kLanes = 8;
// Rows of the register-blocked kernels: 6 x 2 accumulators, 2 columns and 1 broadcast of 16.
constexpr int kPanelRows = 6;

inline F32 load(const float* x) { return _mm256_loadu_ps(x); }
inline void store(float* x, F32 v) { _mm256_storeu_ps(x, v); }
inline F32 splat(float x) { return _mm256_set1_ps(x); }
inline F32 add(F32 a, F32 b) { return _mm256_add_ps(a, b); }
inline F32 sub(F32 a, F32 b) { return _mm256_sub_ps(a, b); }
inline F32 mul(F32 a, F32 b) { return _mm256_mul_ps(a, b); }
inline F32 mul_add(F32 a, F32 b, F32 c) { return _mm256_fmadd_ps(a, b, c); }
inline F32 max(F32 a, F32 b) { return _mm256_max_ps(a, b); }
inline F32 min(F32 a, F32 b) { return _mm256_min_ps(a, b); }
inline F32 round(F32 a) {
  return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// n holds integers in [-252, 254]. In two steps, because 2^n itself may not be a float.
inline F32 times_power_of_two(F32 a, F32 n) {
  const __m256i whole = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(whole, 1);
  const __m256i rest = _mm256_sub_epi32(whole, half);
  const __m256i bias = _mm256_set1_epi32(127);
  auto power = [&](__m256i e) {
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(e, bias), 23));
  };
  return _mm256_mul_ps(_mm256_mul_ps(a, power(half)), power(rest));
}

inline __m256i first_lanes(int n) {
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
inline F32 load_first(const float* x, int n, float fill) {
  const __m256i mask = first_lanes(n);
  return _mm256_blendv_ps(splat(fill), _mm256_maskload_ps(x, mask), _mm256_castsi256_ps(mask));
}
inline void store_first(float* x, F32 v, int n) {
  if (n >= kLanes) return store(x, v);  // the masked store is microcode on some processors
  _mm256_maskstore_ps(x, first_lanes(n), v);
}

inline float sum_lanes(F32 v) {
  __m128 s = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_add_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}
inline float max_lane(F32 v) {
  __m128 s = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  s = _mm_max_ps(s, _mm_movehl_ps(s, s));
  return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

inline F32 load_f16(const uint16_t* x) {
  return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
}
inline void store_f16(uint16_t* x, F32 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(x),
                   _mm256_cvtps_ph(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
inline F32 load_nibble(const uint16_t* x, int shift) {
  const __m256i wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x)));
  return _mm256_cvtepi32_ps(
      _mm256_and_si256(_mm256_srl_epi32(wide, _mm_cvtsi32_si128(shift)), _mm256_set1_epi32(15)));
}

// dst[column][16] = src[16][column] for columns [0, n_columns), a multiple of 8; rows of src are
// row_stride apart. Rows 0..7 go through the lower 128-bit lane, rows 8..15 through the upper.
inline void transpose_16_rows(const uint16_t* src, size_t row_stride, int n_columns,
                              uint16_t* dst) {
  for (int first = 0; first < n_columns; first += 8) {
    __m256i r[8];
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      const uint16_t* row = src + j * row_stride + first;
      const __m128i low = _mm_loadu_si128(reinterpret_cast<const __m128i*>(row));
      r[j] = _mm256_inserti128_si256(
          _mm256_castsi128_si256(low),
          _mm_loadu_si128(reinterpret_cast<const __m128i*>(row + 8 * row_stride)), 1);
    }
    const __m256i a0 = _mm256_unpacklo_epi16(r[0], r[1]), a1 = _mm256_unpackhi_epi16(r[0], r[1]);
    const __m256i a2 = _mm256_unpacklo_epi16(r[2], r[3]), a3 = _mm256_unpackhi_epi16(r[2], r[3]);
    const __m256i a4 = _mm256_unpacklo_epi16(r[4], r[5]), a5 = _mm256_unpackhi_epi16(r[4], r[5]);
    const __m256i a6 = _mm256_unpacklo_epi16(r[6], r[7]), a7 = _mm256_unpackhi_epi16(r[6], r[7]);
    const __m256i b0 = _mm256_unpacklo_epi32(a0, a2), b1 = _mm256_unpackhi_epi32(a0, a2);
    const __m256i b2 = _mm256_unpacklo_epi32(a1, a3), b3 = _mm256_unpackhi_epi32(a1, a3);
    const __m256i b4 = _mm256_unpacklo_epi32(a4, a6), b5 = _mm256_unpackhi_epi32(a4, a6);
    const __m256i b6 = _mm256_unpacklo_epi32(a5, a7), b7 = _mm256_unpackhi_epi32(a5, a7);
    const __m256i c[8] = {_mm256_unpacklo_epi64(b0, b4), _mm256_unpackhi_epi64(b0, b4),
                          _mm256_unpacklo_epi64(b1, b5), _mm256_unpackhi_epi64(b1, b5),
                          _mm256_unpacklo_epi64(b2, b6), _mm256_unpackhi_epi64(b2, b6),
                          _mm256_unpacklo_epi64(b3, b7), _mm256_unpackhi_epi64(b3, b7)};
#pragma GCC unroll 8
    for (int j = 0; j < 8; j++) {
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(dst + size_t(first + j) * 16), c[j]);
    }
  }
}

}  // namespace
}  // namespace scholia
