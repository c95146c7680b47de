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

// The CTA's warps: calls take(output i, query head, sum, its state) for each of the head's outputs, by all
// lanes of a warp together.
template <int D, typename Take>
__device__ void merge_warps(const Shared<D>& shared, int group, const Take& take) {
  __syncthreads();
#pragma unroll 1
  for (int i = int(threadIdx.x); i < group * D; i += kThreads) {
    const int g = i / D;
    float top = kNone, sum = 0, o = 0;
#pragma unroll
    for (int w = 0; w < kWarps; ++w) top = fmaxf(top, shared.warp_state[w][g].x);
#pragma unroll 4
    for (int w = 0; w < kWarps; ++w) {
      const float2 state = shared.warp_state[w][g];
      const float weight = state_weight(state, top);
      sum += weight * state.y;
      o += weight * reinterpret_cast<const float*>(shared.ring[w])[i];
    }
    take(i, g, o, float2{top, sum});
  }
}

// Output i of a head from its unnormalised sum and its state. The 16 lanes of a half warp call it together,
// for the 16 values of a scale.
template <int D>
__device__ void write_output(const AttentionParams& p, int kv_head, int i, float o, float2 state) {
  const int place = kv_head * p.group * D + i;
  o /= state.y;
  if (p.out != nullptr) p.out[place] = o;
  if (p.next.n_units > 0) leave_value(p.next, place, o, o);
  if (p.trace.lse != nullptr && i % D == 0) {
    p.trace.lse[size_t(p.first_head + kv_head) * p.group + i / D] = state.x + log2f(state.y);
  }
}

// Of a head that a team reads: each CTA sends its sums to those that write the outputs, 16 at a time. A
// lane of a half warp weighs one CTA, and has one output.
template <int D>
__device__ void merge_team(const AttentionParams& p, const Team& team, Shared<D>& shared,
                           int kv_head) {
  constexpr int kLanes = kMaxTeam;
  const int n_out = p.group * D;
  const Shares shares(n_out / kLanes, team);
  merge_warps(shared, p.group, [&](int i, int g, float o, float2 state) {
    if (i % D < team.size) team.send(&shared.stats[g][team.rank], state, i % D, shared.of_sums);
    uint4 four{__float_as_uint(o), 0, 0, 0};
    four.y = __shfl_down_sync(~0U, four.x, 1);
    four.z = __shfl_down_sync(~0U, four.x, 2);
    four.w = __shfl_down_sync(~0U, four.x, 3);
    if (i % 4 != 0) return;
    const int owner = shares.owner(i / kLanes), unit = i / kLanes - shares.first(owner);
    float* to = shared.gathered + (unit * team.size + team.rank) * kLanes + i % kLanes;
    team.send(reinterpret_cast<uint4*>(to), four, owner, shared.of_sums);
  });
  const int first = shares.first(team.rank), n_units = shares.first(team.rank + 1) - first;
  team.receive(shared.of_sums,
               team.size * int(n_units * kLanes * sizeof(float) + p.group * sizeof(float2)));
  const int lane = int(threadIdx.x % kLanes), half_warp = int(threadIdx.x / kLanes);
#pragma unroll 1
  for (int at = 0; at + half_warp / 2 * 2 < n_units; at += kThreads / kLanes) {
    const int unit = min(at + half_warp, n_units - 1), i = (first + unit) * kLanes + lane;
    const float2 state = lane < team.size ? shared.stats[i / D][lane] : float2{kNone, 0};
    float top = state.x;
#pragma unroll
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) {
      top = fmaxf(top, __shfl_xor_sync(~0U, top, lanes));
    }
    const float weight = state_weight(state, top);
    float sum = weight * state.y;
#pragma unroll
    for (int lanes = kLanes / 2; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0U, sum, lanes);
    float o = 0;
#pragma unroll 4
    for (int other = 0; other < team.size; ++other) {
      o += __shfl_sync(~0U, weight, other, kLanes) *
           shared.gathered[(unit * team.size + other) * kLanes + lane];
    }
    if (at + half_warp < n_units) write_output<D>(p, kv_head, i, o, {top, sum});
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
  merge_warps(shared, p.group, [&](int i, int g, float o, float2 state) {
    mine[i] = o;
    if (i % D == 0) mine[n_out + 2 * g] = state.x, mine[n_out + 2 * g + 1] = state.y;
  });
  __threadfence();
  __syncthreads();
  if (thread == 0) {
    shared.found[0].bin = atomicAdd(p.parts_done + kv_head, 1);
    __threadfence();
  }
  __syncthreads();
  if (shared.found[0].bin != parts - 1) return;
  if (thread == 0) p.parts_done[kv_head] = 0;  // for the next layer
#pragma unroll 1
  for (int i = thread; i < n_out; i += kThreads) {
    const int g = i / D;
    float top = kNone, sum = 0, o = 0;
    const auto state_of = [&](int other) {
      return __ldcg(reinterpret_cast<const float2*>(states + other * stride + n_out) + g);
    };
#pragma unroll 4
    for (int other = 0; other < parts; ++other) top = fmaxf(top, state_of(other).x);
#pragma unroll 4
    for (int other = 0; other < parts; ++other) {
      const float2 state = state_of(other);
      const float weight = state_weight(state, top);
      sum += weight * state.y;
      o += weight * __ldcg(states + other * stride + i);
    }
    write_output<D>(p, kv_head, i, o, {top, sum});
  }
}

}  // namespace scholia::cuda::attention
