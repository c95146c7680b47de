// Vectors of 4 floats in plain C++: what every compiler understands. See simd.h.
#pragma once

#include <stdint.h>
#include <string.h>

#include "engine/kv/f16.h"

namespace scholia {
namespace {

constexpr int kLanes = 4;
// Rows of the register-blocked kernels: 6 x 2 accumulators of the 16 registers of SSE2 (NEON: 32).
constexpr int kPanelRows = 6;

#if defined(__GNUC__)
using F32 = float __attribute__((vector_size(16)));
#else
struct F32 {
  float lane[kLanes];
  float& operator[](int i) { return lane[i]; }
  float operator[](int i) const { return lane[i]; }
};
inline F32 operator+(F32 a, F32 b) {
  for (int i = 0; i < kLanes; i++) a[i] += b[i];
  return a;
}
inline F32 operator-(F32 a, F32 b) {
  for (int i = 0; i < kLanes; i++) a[i] -= b[i];
  return a;
}
inline F32 operator*(F32 a, F32 b) {
  for (int i = 0; i < kLanes; i++) a[i] *= b[i];
  return a;
}
#endif

inline F32 load(const float* x) {
  F32 v;
  memcpy(&v, x, sizeof(v));
  return v;
}
inline void store(float* x, F32 v) { memcpy(x, &v, sizeof(v)); }
inline F32 splat(float x) { return F32{x, x, x, x}; }
inline F32 add(F32 a, F32 b) { return a + b; }
inline F32 sub(F32 a, F32 b) { return a - b; }
inline F32 mul(F32 a, F32 b) { return a * b; }
inline F32 mul_add(F32 a, F32 b, F32 c) { return a * b + c; }
inline F32 max(F32 a, F32 b) {
  for (int i = 0; i < kLanes; i++) a[i] = a[i] > b[i] ? a[i] : b[i];
  return a;
}
inline F32 min(F32 a, F32 b) {
  for (int i = 0; i < kLanes; i++) a[i] = a[i] < b[i] ? a[i] : b[i];
  return a;
}
// To the nearest integer, ties to even, for |a| < 2^22: the sum has no bits left for a fraction.
inline F32 round(F32 a) {
  const F32 shift = splat(12582912.0F);  // 1.5 * 2^23
  return (a + shift) - shift;
}
// n holds integers in [-252, 254]. In two steps, because 2^n itself may not be a float.
inline F32 times_power_of_two(F32 a, F32 n) {
  for (int i = 0; i < kLanes; i++) {
    const int whole = n[i] == n[i] ? int(n[i]) : 0;
    const int half = whole >> 1;
    const uint32_t bits[2] = {uint32_t(half + 127) << 23, uint32_t(whole - half + 127) << 23};
    float power[2];
    memcpy(power, bits, sizeof(power));
    a[i] = a[i] * power[0] * power[1];
  }
  return a;
}

inline F32 load_first(const float* x, int n, float fill) {
  F32 v = splat(fill);
  for (int i = 0; i < kLanes && i < n; i++) v[i] = x[i];
  return v;
}
inline void store_first(float* x, F32 v, int n) {
  for (int i = 0; i < kLanes && i < n; i++) x[i] = v[i];
}

inline float sum_lanes(F32 v) { return (v[0] + v[2]) + (v[1] + v[3]); }
inline float max_lane(F32 v) {
  const float a = v[0] > v[2] ? v[0] : v[2];
  const float b = v[1] > v[3] ? v[1] : v[3];
  return a > b ? a : b;
}

inline F32 load_f16(const uint16_t* x) {
  return F32{f32_from_f16(x[0]), f32_from_f16(x[1]), f32_from_f16(x[2]), f32_from_f16(x[3])};
}
inline void store_f16(uint16_t* x, F32 v) {
  for (int i = 0; i < kLanes; i++) x[i] = f16_from_f32(v[i]);
}
inline F32 load_nibble(const uint16_t* x, int shift) {
  auto nibble = [&](int i) { return float((x[i] >> shift) & 15); };
  return F32{nibble(0), nibble(1), nibble(2), nibble(3)};
}

// dst[column][16] = src[16][column] for columns [0, n_columns); rows of src are row_stride apart.
inline void transpose_16_rows(const uint16_t* src, size_t row_stride, int n_columns,
                              uint16_t* dst) {
  for (int row = 0; row < 16; row++) {
    for (int c = 0; c < n_columns; c++) dst[size_t(c) * 16 + row] = src[row * row_stride + c];
  }
}

}  // namespace
}  // namespace scholia
