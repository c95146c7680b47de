// A thin face over the vector instructions, so that cpu_ops_kernels.h is one text. Each
// cpu_ops_<variant>.cpp defines which one it wants; everything lives in an unnamed namespace,
// because three different sets of these functions are linked into one program.
//
// F32 is a vector of kLanes floats (16, 8 or 4). max(a, b) and min(a, b) return b when either is
// NaN. "first" in a name: only the first n lanes are read or written.
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(SCHOLIA_SIMD_AVX512)
#include "backend/cpu/simd_avx512.h"
#elif defined(SCHOLIA_SIMD_AVX2)
#include "backend/cpu/simd_avx2.h"
#else
#include "backend/cpu/simd_portable.h"
#endif

namespace scholia {
namespace {

inline F32 load_f32(const float* x) { return load(x); }
inline F32 load_f32(const uint16_t* x) { return load_f16(x); }

inline void prefetch(const void* at) {
#if defined(__GNUC__)
  __builtin_prefetch(at);
#else
  (void)at;
#endif
}

// e^x within 2 units in the last place; 0 for -inf, inf where it overflows, NaN for NaN.
// x = n ln 2 + r with |r| <= ln 2 / 2; e^r by a polynomial of degree 6 (Remez, relative error
// 3e-9). ln 2 is split so that n times its first part is exact without FMA too.
inline F32 exp(F32 x) {
  x = min(splat(89.0F), max(splat(-104.0F), x));
  const F32 n = round(mul(x, splat(1.44269504F)));
  F32 r = mul_add(n, splat(-0.693359375F), x);
  r = mul_add(n, splat(2.12194440e-4F), r);
  F32 p = splat(1.38145410565e-3F);
  p = mul_add(p, r, splat(8.36874510461e-3F));
  p = mul_add(p, r, splat(4.16683907697e-2F));
  p = mul_add(p, r, splat(1.66665203991e-1F));
  p = mul_add(p, r, splat(4.99999934322e-1F));
  p = mul_add(p, r, splat(1.0F));
  p = mul_add(p, r, splat(1.0F));
  return times_power_of_two(p, n);
}

}  // namespace
}  // namespace scholia
