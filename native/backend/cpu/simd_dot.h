// What cpu_matmul_kernels.h needs beside simd.h: vectors of bytes, and sums of products of four
// unsigned and four signed bytes in each 32-bit lane. SCHOLIA_SIMD_AVXVNNI comes with
// SCHOLIA_SIMD_AVX2.
#pragma once

#include "backend/cpu/simd.h"

namespace scholia {
namespace {

#if defined(SCHOLIA_SIMD_AVX512)

using Bytes = __m512i;
using I32 = __m512i;
// Columns multiplied at once: as many pairs of accumulators as 32 registers hold.
constexpr int kColumnsAtOnce = 12;
// Is u of 8 bits read as signed, u - 128?
constexpr bool kSigned8 = false;

inline Bytes load_bytes(const uint8_t* x) { return _mm512_loadu_si512(x); }
inline Bytes splat_byte(int x) { return _mm512_set1_epi8(char(x)); }
inline Bytes bits_and(Bytes a, Bytes b) { return _mm512_and_si512(a, b); }
template <int kBy>  // to the left where positive; bits cross bytes
inline Bytes shift(Bytes x) {
  if constexpr (kBy > 0) return _mm512_slli_epi16(x, kBy);
  if constexpr (kBy < 0) return _mm512_srli_epi16(x, -kBy);
  return x;
}
inline Bytes and_or(Bytes a, Bytes b, Bytes c) {
  return _mm512_ternarylogic_epi32(a, b, c, 0xEA);  // (a & b) | c
}

inline I32 splat_i32(int32_t x) { return _mm512_set1_epi32(x); }
template <int kBy>
inline I32 shift_i32(I32 x) {
  return _mm512_slli_epi32(x, kBy);
}
inline F32 to_f32(I32 x) { return _mm512_cvtepi32_ps(x); }

// acc + u0 . q0 + u1 . q1, four bytes of q to all lanes.
template <int kBits>
inline I32 dot_two(I32 acc, Bytes u0, int32_t q0, Bytes u1, int32_t q1) {
  acc = _mm512_dpbusd_epi32(acc, u0, _mm512_set1_epi32(q0));
  return _mm512_dpbusd_epi32(acc, u1, _mm512_set1_epi32(q1));
}

inline F32 load_i8(const int8_t* x) {
  const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x));
  return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(bytes));
}
// Whole numbers in [-127, 127].
inline void store_i8(int8_t* x, F32 v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(x), _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(v)));
}

#elif defined(SCHOLIA_SIMD_AVX2)

using Bytes = __m256i;
using I32 = __m256i;
constexpr int kColumnsAtOnce = 4;

inline Bytes load_bytes(const uint8_t* x) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
}
inline Bytes splat_byte(int x) { return _mm256_set1_epi8(char(x)); }
inline Bytes bits_and(Bytes a, Bytes b) { return _mm256_and_si256(a, b); }
template <int kBy>
inline Bytes shift(Bytes x) {
  if constexpr (kBy > 0) return _mm256_slli_epi16(x, kBy);
  if constexpr (kBy < 0) return _mm256_srli_epi16(x, -kBy);
  return x;
}
inline Bytes and_or(Bytes a, Bytes b, Bytes c) {
  return _mm256_or_si256(_mm256_and_si256(a, b), c);
}

inline I32 splat_i32(int32_t x) { return _mm256_set1_epi32(x); }
template <int kBy>
inline I32 shift_i32(I32 x) {
  return _mm256_slli_epi32(x, kBy);
}
inline F32 to_f32(I32 x) { return _mm256_cvtepi32_ps(x); }

#if defined(SCHOLIA_SIMD_AVXVNNI)
constexpr bool kSigned8 = false;
template <int kBits>
inline I32 dot_two(I32 acc, Bytes u0, int32_t q0, Bytes u1, int32_t q1) {
  acc = _mm256_dpbusd_avx_epi32(acc, u0, _mm256_set1_epi32(q0));
  return _mm256_dpbusd_avx_epi32(acc, u1, _mm256_set1_epi32(q1));
}
#else
constexpr bool kSigned8 = true;
template <int kBits>
inline I32 dot_two(I32 acc, Bytes u0, int32_t q0, Bytes u1, int32_t q1) {
  const __m256i ones = _mm256_set1_epi16(1);
  const __m256i a = _mm256_set1_epi32(q0), b = _mm256_set1_epi32(q1);
  if constexpr (kBits == 8) {
    // vpmaddubsw saturates at 2^15: two products of 255 * 127 would not fit, of 128 * 127 they do.
    const __m256i w0 = _mm256_xor_si256(u0, _mm256_set1_epi8(char(0x80)));
    const __m256i w1 = _mm256_xor_si256(u1, _mm256_set1_epi8(char(0x80)));
    const __m256i p0 = _mm256_maddubs_epi16(_mm256_abs_epi8(w0), _mm256_sign_epi8(a, w0));
    const __m256i p1 = _mm256_maddubs_epi16(_mm256_abs_epi8(w1), _mm256_sign_epi8(b, w1));
    acc = _mm256_add_epi32(acc, _mm256_madd_epi16(p0, ones));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(p1, ones));
  } else {
    // Four products of 63 * 127 stay below 2^15.
    const __m256i sums = _mm256_add_epi16(_mm256_maddubs_epi16(u0, a), _mm256_maddubs_epi16(u1, b));
    return _mm256_add_epi32(acc, _mm256_madd_epi16(sums, ones));
  }
}
#endif

inline F32 load_i8(const int8_t* x) {
  const __m128i bytes = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(x));
  return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(bytes));
}
inline void store_i8(int8_t* x, F32 v) {
  const __m256i wide = _mm256_cvtps_epi32(v);
  const __m128i half =
      _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(x), _mm_packs_epi16(half, half));
}

#endif

}  // namespace
}  // namespace scholia
