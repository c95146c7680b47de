// Attention to the pages of a list.
#pragma once

#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace scholia::cuda::attention {

inline constexpr float kLog2e = 1.4426950408889634F;

// The state of one warp over the pages it has read: columns are query heads; with G <= 4, columns
// 4 to 7 hold what rounding to f16 lost of queries and weights.
template <int D, bool kWide>
struct WarpAttention {
  unsigned q[D / 16][2];     // B: [channels][queries]
  float o[D / 16][4] = {};   // C: [channels][queries]
  float top[2] = {kNone, kNone}, sum[2] = {0, 0};  // of columns 2 t, 2 t + 1

  __device__ explicit WarpAttention(const Shared<D>& shared) {
    const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
    const float* mine = shared.q[kWide ? g : g % 4];
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const float x = mine[16 * step + 8 * i + 2 * t] * kLog2e;
        const float y = mine[16 * step + 8 * i + 2 * t + 1] * kLog2e;
        q[step][i] = kWide || g < 4 ? pack_halves(x, y) : pack_remainders(x, y);
      }
    }
  }

  // Scores of a page's 16 tokens, base 2: c[0..1] token g, c[2..3] token g + 8.
  __device__ void score(const __half* k, int n_valid, float c[4]) const {
    const int lane = int(threadIdx.x) % 32, g = lane / 4;
    c[0] = c[1] = c[2] = c[3] = 0;
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      unsigned a[4];
      load_matrices(a, shared_address(k + tile_offset<D>(lane % 16, 2 * step + lane / 16)));
      mma_16x8x16(c, a, q[step][0], q[step][1]);
    }
    if constexpr (!kWide) {
#pragma unroll
      for (int i = 0; i < 4; ++i) c[i] += __shfl_xor_sync(~0U, c[i], 2);
    }
    if (g >= n_valid) c[0] = c[1] = kNone;
    if (g + 8 >= n_valid) c[2] = c[3] = kNone;
  }

  // Turns scores into weights, B of the product with V: p[0] tokens 0 to 7, p[1] 8 to 15.
  // state: where the trace wants (maximum, sum) of each query head; null: nowhere.
  __device__ void weigh(float c[4], unsigned p[2], float2* state, int group) {
    const int lane = int(threadIdx.x) % 32, t = lane % 4;
    float page_top[2] = {fmaxf(c[0], c[2]), fmaxf(c[1], c[3])};
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) {
      page_top[0] = fmaxf(page_top[0], __shfl_xor_sync(~0U, page_top[0], lanes));
      page_top[1] = fmaxf(page_top[1], __shfl_xor_sync(~0U, page_top[1], lanes));
    }
    float factor[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float new_top = fmaxf(top[i], page_top[i]);
      factor[i] = exp2f(top[i] - new_top);  // 0 the first time; a page always has a token
      top[i] = new_top;
    }
    const float w[4] = {exp2f(c[0] - top[0]), exp2f(c[1] - top[1]), exp2f(c[2] - top[0]),
                        exp2f(c[3] - top[1])};
    sum[0] = sum[0] * factor[0] + w[0] + w[2];
    sum[1] = sum[1] * factor[1] + w[1] + w[3];
    if (__any_sync(~0U, factor[0] != 1 || factor[1] != 1)) {
#pragma unroll
      for (int step = 0; step < D / 16; ++step) {
        o[step][0] *= factor[0], o[step][1] *= factor[1];
        o[step][2] *= factor[0], o[step][3] *= factor[1];
      }
    }
    const bool remainders = !kWide && t >= 2;
    p[0] = transposed(remainders ? pack_remainders(w[0], w[1]) : pack_halves(w[0], w[1]));
    p[1] = transposed(remainders ? pack_remainders(w[2], w[3]) : pack_halves(w[2], w[3]));
    if (state == nullptr) return;
    float page_sum[2] = {w[0] + w[2], w[1] + w[3]};
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) {
      page_sum[0] += __shfl_xor_sync(~0U, page_sum[0], lanes);
      page_sum[1] += __shfl_xor_sync(~0U, page_sum[1], lanes);
    }
    if (lane < (kWide ? 4 : 2)) {
      if (2 * t < group) state[2 * t] = {top[0], page_sum[0]};
      if (2 * t + 1 < group) state[2 * t + 1] = {top[1], page_sum[1]};
    }
  }

  __device__ void add_values(const __half* v, const unsigned p[2]) {
    const int lane = int(threadIdx.x) % 32, matrix = lane / 8;
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      unsigned a[4];
      const int token = lane % 8 + (matrix >= 2 ? 8 : 0);
      load_matrices_transposed(a, shared_address(v + tile_offset<D>(token, 2 * step + matrix % 2)));
      mma_16x8x16(o[step], a, p[0], p[1]);
    }
  }

  // The warp's state to shared memory: [query heads][D], unnormalised.
  __device__ void finish(float2* state, float* out, int group) {
    const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
#pragma unroll
    for (int lanes = 4; lanes < 32; lanes *= 2) {
      sum[0] += __shfl_xor_sync(~0U, sum[0], lanes);
      sum[1] += __shfl_xor_sync(~0U, sum[1], lanes);
    }
    if (lane < (kWide ? 4 : 2)) {
      if (2 * t < group) state[2 * t] = {top[0], sum[0]};
      if (2 * t + 1 < group) state[2 * t + 1] = {top[1], sum[1]};
    }
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float x = o[step][i];
        if constexpr (!kWide) x += __shfl_xor_sync(~0U, x, 2);
        const int query = (kWide ? 2 * t : 2 * (t % 2)) + i % 2;
        if ((kWide || t < 2) && query < group) out[query * D + 16 * step + g + 8 * (i / 2)] = x;
      }
    }
  }
};

// Reads every 8th of the CTA's pages, from this warp's first, through its ring: K, V, K, V, …
// The last page of the context has n_last tokens; last_place is its place in the CTA's list.
template <int D, bool kWide>
__device__ void attend_pages(const AttentionParams& p, int kv_head, Shared<D>& shared,
                             const uint32_t* list, int n_pages, int last_place, int n_last,
                             float2* trace_state) {
  constexpr int kRing = kSlots<D>, kChunks = D / 8;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  const int n_mine = n_pages > warp ? (n_pages - warp + kWarps - 1) / kWarps : 0;
  WarpAttention<D, kWide> state(shared);

  const auto valid = [&](int place) { return place == last_place ? n_last : kPageTokens; };
  const auto fetch = [&](int item) {  // item 2 i: K of page i; 2 i + 1: V
    if (item < 2 * n_mine) {
      const int place = warp + item / 2 * kWarps;
      const size_t first = (size_t(list[place]) * p.n_kv_heads + kv_head) * kPageTokens * D;
      const __half* from = (item % 2 == 0 ? p.k : p.v) + first;
      __half* to = shared.ring[warp][item % kRing];
      const int n_valid = valid(place);
#pragma unroll
      for (int i = 0; i < kPageTokens * kChunks / 32; ++i) {
        const int row = (i * 32 + lane) / kChunks, chunk = lane % kChunks;
        copy_16_async(shared_address(to + tile_offset<D>(row, chunk)), from + row * D + chunk * 8,
                      row < n_valid);
      }
    }
    commit_copies();
  };
  for (int item = 0; item < kRing; ++item) fetch(item);
  for (int i = 0; i < n_mine; ++i) {
    const int place = warp + i * kWarps;
    float c[4];
    unsigned weights[2];
    wait_copies<kRing - 1>();
    __syncwarp();
    state.score(shared.ring[warp][2 * i % kRing], valid(place), c);
    __syncwarp();
    fetch(2 * i + kRing);
    state.weigh(c, weights,
                trace_state == nullptr ? nullptr : trace_state + size_t(place) * p.group, p.group);
    wait_copies<kRing - 1>();
    __syncwarp();
    state.add_values(shared.ring[warp][(2 * i + 1) % kRing], weights);
    __syncwarp();
    fetch(2 * i + 1 + kRing);
  }
  wait_copies<0>();
  __syncwarp();
  // The ring is done with and now holds the warp's sums.
  state.finish(shared.warp_state[warp], reinterpret_cast<float*>(shared.ring[warp]), p.group);
}

}  // namespace scholia::cuda::attention
