// Queries are rotated, the new token's K and V appended.
#pragma once

#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/rotary.cuh"

namespace scholia::cuda::attention {

// A head as it comes out of the product: normalised if asked for, rotated, passed to write(d, x).
// One warp; `room` holds D floats. What does not depend on anything else is fetched at once.
template <int D, typename Write>
__device__ void fetch_rotated(const AttentionParams& p, const float* from, const float* norm,
                              float* room, const Write& write) {
  constexpr int kLane = D / 32;
  const int lane = int(threadIdx.x) % 32;
  float x[kLane];
  float2 angles[kLane];
#pragma unroll
  for (int i = 0; i < kLane; ++i) {
    const int d = lane + 32 * i;
    x[i] = __ldcg(from + d);
    angles[i] = rotation_of(d, p.is_neox, p.n_rotary_dims, p.angles);
  }
  if (norm != nullptr) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kLane; ++i) squares += x[i] * x[i];
    const float factor = 1.0F / sqrtf(warp_sum(squares) / float(D) + p.norm_eps);
#pragma unroll
    for (int i = 0; i < kLane; ++i) x[i] *= factor * norm[lane + 32 * i];
  }
#pragma unroll
  for (int i = 0; i < kLane; ++i) room[lane + 32 * i] = x[i];
  __syncwarp();
#pragma unroll
  for (int i = 0; i < kLane; ++i) {
    const int d = lane + 32 * i;
    write(d, rotated(room, d, p.is_neox, p.n_rotary_dims, angles[i]));
  }
}

// Warp w prepares query head w.
template <int D>
__device__ void prepare_queries(const AttentionParams& p, int kv_head, Shared<D>& shared) {
  const int g = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  if (g >= p.group) {
    for (int d = lane; d < D; d += 32) shared.q[g][d] = 0;
    return;
  }
  const float scale = rsqrtf(float(D));
  const float* from = p.qkv + (size_t(kv_head) * p.group + g) * D;
  fetch_rotated<D>(p, from, p.q_norm, shared.raw[g],
                   [&](int d, float x) { shared.q[g][d] = scale * x; });
}

// Writes the new token's K and V to their page. One warp; `room` holds D floats.
template <int D>
__device__ void append_token(const AttentionParams& p, int kv_head, int position, size_t page,
                             float* room) {
  const int lane = int(threadIdx.x) % 32;
  const size_t n_q = size_t(p.group) * p.n_kv_heads * D, n_kv = size_t(p.n_kv_heads) * D;
  const float* k = p.qkv + n_q + size_t(kv_head) * D;
  const float* v = k + n_kv;
  const size_t row = ((page * p.n_kv_heads + kv_head) * kPageTokens + position % kPageTokens) * D;
#pragma unroll
  for (int i = 0; i < D / 32; ++i) {
    p.v[row + lane + 32 * i] = __float2half_rn(__ldcg(v + lane + 32 * i));
  }
  fetch_rotated<D>(p, k, p.k_norm, room,
                   [&](int d, float x) { p.k[row + d] = __float2half_rn(x); });
  __threadfence();  // before other threads' asynchronous copies of the page
}

}  // namespace scholia::cuda::attention
