// One head's output from the states of warps, then of CTAs.
#pragma once

#include "backend/cuda/kernels/attention/page_list.cuh"
#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/team.cuh"

namespace scholia::cuda::attention {

// A state's weight against the maximum of all; an empty one has none.
__device__ inline float state_weight(float2 state, float top) {
  return state.y > 0 ? exp2f(state.x - top) : 0.0F;
}

// Output i of the layer. The 16 lanes of a half warp call it together, for the 16 values of a scale.
__device__ inline void write_output(const AttentionParams& p, int i, float o) {
  if (p.out != nullptr) p.out[i] = o;
  if (p.next.n_units > 0) leave_value(p.next, i, o, o);
}

// The CTA's warps, into shared.raw and its place in stats of all CTAs.
template <int D>
__device__ void merge_warps(const Team& team, Shared<D>& shared, int group) {
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  __syncthreads();
  if (warp < group) {
    float top = kNone, sum = 0;
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, shared.warp_state[w][warp].x);
    float weights[kWarps];
#pragma unroll
    for (int w = 0; w < kWarps; ++w) {
      const float2 state = shared.warp_state[w][warp];
      weights[w] = state_weight(state, top);
      sum += weights[w] * state.y;
    }
    for (int d = lane; d < D; d += 32) {
      float o = 0;
#pragma unroll
      for (int w = 0; w < kWarps; ++w) {
        o += weights[w] * reinterpret_cast<const float*>(shared.ring[w])[warp * D + d];
      }
      shared.raw[warp][d] = o;
    }
    if (lane < team.size) *team.at(&shared.stats[team.rank][warp], lane) = {top, sum};
  }
}

// The team's CTAs; each writes its share of the head's outputs.
template <int D>
__device__ void merge_team(const AttentionParams& p, const Team& team, Shared<D>& shared,
                           int kv_head) {
  const int n_out = p.group * D;
  const int begin = first_place(n_out / kSixteen, team.rank, team.size) * kSixteen;
  const int end = first_place(n_out / kSixteen, team.rank + 1, team.size) * kSixteen;
  for (int i = begin + int(threadIdx.x); i < end; i += kThreads) {
    const int g = i / D;
    unsigned parts[kMaxTeam];
    team.read_all(&shared.raw[g][i % D], parts);
    float top = kNone, sum = 0, o = 0;
    for (int other = 0; other < team.size; ++other) top = fmaxf(top, shared.stats[other][g].x);
#pragma unroll
    for (int other = 0; other < kMaxTeam; ++other) {
      if (other >= team.size) break;
      const float2 state = shared.stats[other][g];
      const float weight = state_weight(state, top);
      sum += weight * state.y;
      o += weight * __uint_as_float(parts[other]);
    }
    write_output(p, kv_head * n_out + i, o / sum);
    if (p.trace.lse != nullptr && i % D == 0) {
      p.trace.lse[size_t(p.first_head + kv_head) * p.group + g] = top + log2f(sum);
    }
  }
}

// The CTAs of a head without a team to merge in: each leaves its state in global memory, and the one
// that comes last merges them all, in order.
template <int D>
__device__ void merge_parts(const AttentionParams& p, int parts, int max_parts, Shared<D>& shared,
                            int kv_head, int part) {
  const int n_out = p.group * D, thread = int(threadIdx.x);
  const size_t stride = size_t(n_out) + 2 * p.group;
  float* states = p.part_states + size_t(kv_head) * max_parts * stride;
  float* mine = states + part * stride;
  __syncthreads();
  for (int i = thread; i < n_out; i += kThreads) mine[i] = shared.raw[i / D][i % D];
  if (thread < p.group) {
    mine[n_out + 2 * thread] = shared.stats[0][thread].x;
    mine[n_out + 2 * thread + 1] = shared.stats[0][thread].y;
  }
  __threadfence();
  __syncthreads();
  if (thread == 0) {
    shared.found[0][0] = atomicAdd(p.parts_done + kv_head, 1);
    __threadfence();
  }
  __syncthreads();
  if (shared.found[0][0] != parts - 1) return;
  if (thread == 0) p.parts_done[kv_head] = 0;  // for the next layer
  for (int i = thread; i < n_out; i += kThreads) {
    const int g = i / D;
    float top = kNone, sum = 0, o = 0;
    const auto state_of = [&](int other) {
      return __ldcg(reinterpret_cast<const float2*>(states + other * stride + n_out) + g);
    };
#pragma unroll 8
    for (int other = 0; other < parts; ++other) top = fmaxf(top, state_of(other).x);
#pragma unroll 8
    for (int other = 0; other < parts; ++other) {
      const float2 state = state_of(other);
      const float weight = state_weight(state, top);
      sum += weight * state.y;
      o += weight * __ldcg(states + other * stride + i);
    }
    write_output(p, kv_head * n_out + i, o / sum);
    if (p.trace.lse != nullptr && i % D == 0) {
      p.trace.lse[size_t(p.first_head + kv_head) * p.group + g] = top + log2f(sum);
    }
  }
}

}  // namespace scholia::cuda::attention
