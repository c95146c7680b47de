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
    const int lane = int(threadIdx.x % 32), g = lane >> 2, t = lane & 3;
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
    const int lane = int(threadIdx.x % 32), g = lane >> 2;
    c[0] = c[1] = c[2] = c[3] = 0;
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      unsigned a[4];
      load_matrices(a, shared_address(k + tile_offset<D>(lane & 15, 2 * step + (lane >> 4))));
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
    const int lane = int(threadIdx.x % 32), t = lane & 3;
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
    const int lane = int(threadIdx.x % 32), matrix = lane >> 3;
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      unsigned a[4];
      const int token = (lane & 7) + (matrix >= 2 ? 8 : 0);
      load_matrices_transposed(a, shared_address(v + tile_offset<D>(token, 2 * step + (matrix & 1))));
      mma_16x8x16(o[step], a, p[0], p[1]);
    }
  }

  // The warp's state to shared memory: [query heads][D], unnormalised.
  __device__ void finish(float2* state, float* out, int group) {
    const int lane = int(threadIdx.x % 32), g = lane >> 2, t = lane & 3;
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

// Every 8th of the CTA's pages, from this warp's first, on their way through its ring: K, V, K, V, …
// The last page of the context has n_last tokens; last_place is its place in the CTA's list.
template <int D>
class PageRing {
 public:
  static constexpr int kRing = kSlots<D>;

  __device__ PageRing(const AttentionParams& p, int kv_head, Shared<D>& shared, const uint32_t* list,
                      int n_pages, int last_place, int n_last)
      : p_(p), kv_head_(kv_head), ring_(shared.ring[threadIdx.x / 32]), list_(list),
        warp_(int(threadIdx.x / 32)), last_place_(last_place), n_last_(n_last),
        n_mine_(n_pages > warp_ ? (n_pages - warp_ + kWarps - 1) / kWarps : 0) {}

  __device__ int n_mine() const { return n_mine_; }
  __device__ int place(int i) const { return warp_ + i * kWarps; }
  __device__ int valid(int place) const { return place == last_place_ ? n_last_ : kPageTokens; }
  __device__ const __half* slot(int item) const { return ring_[item % kRing]; }
  // Whether none of what comes first is the page that the new token is written to.
  __device__ bool starts_with_old() const {
    return n_mine_ <= kRing / 2 ? place(n_mine_ - 1) != last_place_ : true;
  }
  __device__ void start() {
    for (int item = 0; item < kRing; ++item) fetch(item);
  }
  __device__ void fetch(int item) {  // item 2 i: K of page i; 2 i + 1: V
    constexpr unsigned kChunks = D / 8;
    const unsigned lane = threadIdx.x % 32;
    if (item < 2 * n_mine_) {
      const int at = place(item / 2);
      const size_t first = (size_t(list_[at]) * p_.n_kv_heads + kv_head_) * kPageTokens * D;
      const __half* from = (item % 2 == 0 ? p_.k : p_.v) + first;
      __half* to = ring_[item % kRing];
      const int n_valid = valid(at);
#pragma unroll
      for (int i = 0; i < kPageTokens * kChunks / 32; ++i) {
        const int row = int((unsigned(i) * 32 + lane) / kChunks), chunk = int(lane % kChunks);
        copy_16_async(shared_address(to + tile_offset<D>(row, chunk)), from + row * D + chunk * 8,
                      row < n_valid);
      }
    }
    commit_copies();
  }

 private:
  const AttentionParams& p_;
  int kv_head_;
  __half (*ring_)[kPageTokens * D];
  const uint32_t* list_;
  int warp_, last_place_, n_last_, n_mine_;
};

// Attends to the pages of the ring, which has been started.
template <int D, bool kWide>
__device__ void attend_pages(PageRing<D>& ring, Shared<D>& shared, int group, float2* trace_state) {
  constexpr int kRing = PageRing<D>::kRing;
  const int warp = int(threadIdx.x / 32);
  WarpAttention<D, kWide> state(shared);
  for (int i = 0; i < ring.n_mine(); ++i) {
    const int place = ring.place(i);
    float c[4];
    unsigned weights[2];
    wait_copies<kRing - 1>();
    __syncwarp();
    state.score(ring.slot(2 * i), ring.valid(place), c);
    __syncwarp();
    ring.fetch(2 * i + kRing);
    state.weigh(c, weights, trace_state == nullptr ? nullptr : trace_state + size_t(place) * group,
                group);
    wait_copies<kRing - 1>();
    __syncwarp();
    state.add_values(ring.slot(2 * i + 1), weights);
    __syncwarp();
    ring.fetch(2 * i + 1 + kRing);
  }
  wait_copies<0>();
  __syncwarp();
  // The ring is done with and now holds the warp's sums.
  state.finish(shared.warp_state[warp], reinterpret_cast<float*>(shared.ring[warp]), group);
}

}  // namespace scholia::cuda::attention
