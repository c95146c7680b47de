// A product's input, in the form that its kernel reads: whoever computes the values leaves them so,
// once, instead of every CTA of the product preparing all of them.
//
// For quantised matrices values are rounded to 8 bits, each 16 with a scale of their own (ggml takes
// 32; 16 is what one CTA of the kernel before has to leave, and the finer scale costs nothing).
// F32, F16 and BF16 matrices take them as f32. RMS normalisation is split: the values left are
// already multiplied by the norm's weights, with the squares beside them, and the product applies
// the factor that follows from these to its sums.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "backend/cuda/kernels/device_matrix.h"
#include "backend/cuda/kernels/launch.cuh"

namespace scholia::cuda {

inline constexpr int kSixteen = 16;  // values that share a scale

// Of n values, in units of 32, as many as 32 lanes read in whole steps; the rest is 0.
struct ProductInput {
  uint8_t* rounded = nullptr;  // planes, see below; null: no quantised matrix reads it
  float* floats = nullptr;     // planes; null: no other matrix reads it
  float* squares = nullptr;    // [2 * n_units] sums over 16 values; null: not normalised
  int n_units = 0;             // a multiple of 32

  static constexpr int padded_units(int n_values) { return (n_values + 1023) / 1024 * 32; }
  static constexpr size_t rounded_bytes(int n_units) { return size_t(n_units) * 48; }
  static constexpr size_t floats_bytes(int n_units) { return size_t(n_units) * 128; }
  static constexpr size_t squares_bytes(int n_units) { return size_t(n_units) * 8; }
};

// What `rounded` holds: the first and the second 16 integers of each unit, then of each 16 the scale
// and the scale times the sum of the integers. Lanes read side by side.
struct RoundedPlanes {
  int4 *low, *high;  // [n_units]
  float4* scales;    // [n_units] d and d * sum of the first 16, then of the second

  __device__ RoundedPlanes(uint8_t* at, int n_units)
      : low(reinterpret_cast<int4*>(at)), high(low + n_units),
        scales(reinterpret_cast<float4*>(high + n_units)) {}
};

// What `floats` holds: the first and the second 4 of each 8 values.
struct FloatPlanes {
  float4 *even, *odd;  // [4 * n_units]

  __device__ FloatPlanes(void* at, int n_units)
      : even(static_cast<float4*>(at)), odd(even + 4 * n_units) {}
};

#ifdef __CUDACC__
// Sum over 16 lanes that hold the 16 values of a scale, in all of them.
__device__ __forceinline__ float sum_of_16(float x, unsigned lanes) {
#pragma unroll
  for (int apart = 8; apart > 0; apart /= 2) x += __shfl_xor_sync(lanes, x, apart);
  return x;
}

// Leaves value i. The 16 lanes of a half warp call it together, for the 16 values of a scale.
// x: what is normalised, before the norm's weight; value: after it.
__device__ inline void leave_value(const ProductInput& to, int i, float x, float value) {
  const unsigned lanes = 0xffffU << (threadIdx.x & 16);
  const int sixteen = i / kSixteen;
  float squares = x * x, most = fabsf(value);
#pragma unroll
  for (int apart = 8; apart > 0; apart /= 2) {
    squares += __shfl_xor_sync(lanes, squares, apart);
    most = fmaxf(most, __shfl_xor_sync(lanes, most, apart));
  }
  if (to.squares != nullptr && i % kSixteen == 0) to.squares[sixteen] = squares;
  if (to.floats != nullptr) {
    const FloatPlanes planes(to.floats, to.n_units);
    reinterpret_cast<float*>(i / 4 % 2 == 0 ? planes.even : planes.odd)[i / 8 * 4 + i % 4] = value;
  }
  if (to.rounded == nullptr) return;
  const float d = most * (1 / 127.0F);
  const float q = rintf(value * (most > 0 ? __fdividef(127.0F, most) : 0.0F));
  const float sum = sum_of_16(q, lanes);
  const RoundedPlanes planes(to.rounded, to.n_units);
  reinterpret_cast<int8_t*>(sixteen % 2 == 0 ? planes.low : planes.high)[i / 32 * 16 + i % 16] =
      static_cast<int8_t>(q);
  if (i % kSixteen == 0) reinterpret_cast<float2*>(planes.scales)[sixteen] = {d, d * sum};
}
#endif

// Leaves x [n], multiplied by norm_weight [n] where that is not null. n: a multiple of 16.
cudaError_t launch_leave_input(const float* x, const float* norm_weight, int n,
                               const ProductInput& to, bool early, cudaStream_t stream);

}  // namespace scholia::cuda
