// Queries are rotated, the new token's K and V appended.
#pragma once

#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/rotary.cuh"

namespace scholia::cuda::attention {

// What turns a head as it comes out of the product into a query or key, but for the head itself: there
// before the kernel ahead has ended. One warp; a lane has the channels lane, lane + 32, …
template <int D>
struct Rotation {
  static constexpr int kLane = D / 32;
  float2 angles[kLane];
  float weights[kLane];
  bool has_norm;

  __device__ void fetch(const AttentionParams& p, const float* norm) {
    has_norm = norm != nullptr;
#pragma unroll
    for (int i = 0; i < kLane; ++i) {
      const int d = int(threadIdx.x % 32) + 32 * i;
      angles[i] = rotation_of(d, p.is_neox, p.n_rotary_dims, p.angles);
      weights[i] = has_norm ? norm[d] : 1;
    }
  }

  // The head normalised if asked for, rotated, passed to write(d, x). `room` holds D floats.
  template <typename Write>
  __device__ void apply(const AttentionParams& p, const float* from, float* room,
                        const Write& write) const {
    const int lane = int(threadIdx.x % 32);
    float x[kLane];
#pragma unroll
    for (int i = 0; i < kLane; ++i) x[i] = __ldcg(from + lane + 32 * i);
    if (has_norm) {
      float squares = 0;
#pragma unroll
      for (int i = 0; i < kLane; ++i) squares += x[i] * x[i];
      const float factor = 1.0F / sqrtf(warp_sum(squares) / float(D) + p.norm_eps);
#pragma unroll
      for (int i = 0; i < kLane; ++i) x[i] *= factor * weights[i];
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
};

// Warp w prepares query head w; the warp that appends writes the new token's K and V to their page.
template <int D>
__device__ void prepare_heads(const AttentionParams& p, const Rotation<D>& rotation, int kv_head,
                              bool appends, int position, size_t page, Shared<D>& shared) {
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 32);
  if (warp >= p.group && !appends) {
    if (warp >= kMaxGroup) return;
#pragma unroll
    for (int d = lane; d < D; d += 32) shared.q[warp][d] = 0;
    return;
  }
  const size_t n_q = size_t(p.group) * p.n_kv_heads * D, n_kv = size_t(p.n_kv_heads) * D;
  const float* k = p.qkv + n_q + size_t(kv_head) * D;
  const size_t row = ((page * p.n_kv_heads + kv_head) * kPageTokens + position % kPageTokens) * D;
  float v[D / 32];  // on its way while the key is rotated
#pragma unroll
  for (int i = 0; i < D / 32; ++i) v[i] = appends ? __ldcg(k + n_kv + lane + 32 * i) : 0;
  const float scale = rsqrtf(float(D));
  const float* from = appends ? k : p.qkv + (size_t(kv_head) * p.group + warp) * D;
  float* room = shared.raw[appends ? kMaxGroup : warp];
  rotation.apply(p, from, room, [&](int d, float x) {
    if (appends) {
      p.k[row + d] = __float2half_rn(x);
    } else {
      shared.q[warp][d] = scale * x;
    }
  });
  if (!appends) return;
#pragma unroll
  for (int i = 0; i < D / 32; ++i) p.v[row + lane + 32 * i] = __float2half_rn(v[i]);
}

}  // namespace scholia::cuda::attention
