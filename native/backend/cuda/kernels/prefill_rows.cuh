// What a warp does with its 16 query rows between products, for both kernels of a prompt's attention.
// Scores and output lie as products leave them: lane 4 g + t has rows g and g + 8 and of every 8
// columns 2 t and 2 t + 1, so x[4 j] = (g, 8 j + 2 t), (g, + 1), (g + 8, 8 j + 2 t), (g + 8, + 1).
#pragma once

#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/prefill_attention.cuh"

namespace scholia::cuda {

// Scores to exponents of 2.
__device__ __forceinline__ float score_scale(int head_dim) {
  constexpr float kLog2e = 1.4426950408889634F;
  return kLog2e * rsqrtf(float(head_dim));
}

// One instruction. What is below 2^-126 becomes 0, far below what an f16 weight can say.
__device__ __forceinline__ float exp2_flushed(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// The running state of rows g and g + 8.
struct RowState {
  float top[2] = {-INFINITY, -INFINITY};
  float sum[2] = {0, 0};  // of this lane's columns
};

// Scores become weights. Returns by what everything before shrinks, rows g and g + 8.
template <int N>
__device__ __forceinline__ float2 weigh(float (&s)[N], RowState& rows, float scale) {
  float factor[2], minus[2];
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    float top = rows.top[r];
#pragma unroll
    for (int i = 2 * r; i < N; i += 4) top = fmaxf(top, fmaxf(s[i], s[i + 1]));
    top = fmaxf(top, __shfl_xor_sync(~0U, top, 1));
    top = fmaxf(top, __shfl_xor_sync(~0U, top, 2));
    // Key 0 is in the first tile and every row sees it, so the maximum is finite.
    factor[r] = exp2_flushed((rows.top[r] - top) * scale);
    minus[r] = -top * scale;
    rows.top[r] = top;
    rows.sum[r] *= factor[r];
  }
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int r = i % 4 / 2;
    s[i] = exp2_flushed(fmaf(s[i], scale, minus[r]));
    rows.sum[r] += s[i];
  }
  return {factor[0], factor[1]};
}

template <int N>
__device__ __forceinline__ void shrink(float (&o)[N], float2 factor) {
#pragma unroll
  for (int i = 0; i < N; ++i) o[i] *= i % 4 < 2 ? factor.x : factor.y;
}

// The weights of 16 keys as the left side of a product.
template <int N>
__device__ __forceinline__ void pack_weights(const float (&s)[N], int keys, unsigned (&weights)[4]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    weights[i] = pack_halves(s[8 * keys + 2 * i], s[8 * keys + 2 * i + 1]);
  }
}

// Row g, at `position`, sees no later keys; so row g + 8.
template <int N>
__device__ __forceinline__ void mask_scores(float (&s)[N], int first_key, int position) {
  const int t = int(threadIdx.x) % 4;
#pragma unroll
  for (int i = 0; i < N; ++i) {
    const int key = first_key + i / 4 * 8 + 2 * t + i % 2;
    if (key > position + i % 4 / 2 * 8) s[i] = -INFINITY;
  }
}

// Writes the 16 rows from first_row on, those that the chunk has.
template <int N>
__device__ __forceinline__ void store_rows(const PrefillAttentionParams& p, const float (&o)[N],
                                           RowState& rows, int first_row, int q_head) {
  const int lane = int(threadIdx.x) % 32;
#pragma unroll
  for (int r = 0; r < 2; ++r) {
    rows.sum[r] += __shfl_xor_sync(~0U, rows.sum[r], 1);
    rows.sum[r] += __shfl_xor_sync(~0U, rows.sum[r], 2);
    const int row = first_row + lane / 4 + 8 * r;
    if (row >= p.n) continue;
    const float factor = 1 / rows.sum[r];
    __half* out = p.out + (size_t(row) * p.n_q_heads + q_head) * p.head_dim + 2 * (lane % 4);
#pragma unroll
    for (int j = 0; j < N / 4; ++j) {
      *reinterpret_cast<unsigned*>(out + 8 * j) =
          pack_halves(o[4 * j + 2 * r] * factor, o[4 * j + 2 * r + 1] * factor);
    }
  }
}

}  // namespace scholia::cuda
