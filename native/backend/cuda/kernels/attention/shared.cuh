// The shared memory of each CTA of the team that serves a KV head.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "backend/cuda/kernels/attention.cuh"
#include "backend/cuda/kernels/team.cuh"

namespace scholia::cuda::attention {

inline constexpr int kThreads = 256;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kPageTokens = 16;
inline constexpr int kBins = 256;  // 8 bits of a score
inline constexpr int kRounds = 4;
inline constexpr float kNone = -INFINITY;
static_assert(kBins == kThreads);

// Slots of a warp's ring: each holds K or V of one page. In all 64 KB of the CTA; with 96 KB dense
// attention was no faster, and selection, of which two CTAs then share the memory, slower.
template <int D>
constexpr int kSlots = 256 / D;

template <int D>
struct Shared {
  static constexpr int kQStride = D + 4;  // floats; lanes of different heads in different banks

  alignas(16) __half ring[kWarps][kSlots<D>][kPageTokens * D];
  float q[kMaxGroup][kQStride];  // rotated, divided by sqrt(D)
  float raw[kMaxGroup][D];       // before rotation; later the CTA's attended sums
  float2 stats[kMaxTeam][kMaxGroup];  // (maximum, sum) of each CTA's scores; later of its attention
  float2 softmax[kMaxGroup];     // (maximum, 1 / (sum * G)) of all scores
  float2 warp_state[kWarps][kMaxGroup];
  int bins[kRounds][kBins];
  int warp_sums[2][kWarps];
  int found[kRounds][4];         // by the thread that found the bin
};

// Tiles of digests that a warp holds in its part of the ring before pages come there.
template <int D>
constexpr int kHeldTiles = kSlots<D> * 2;

// What follows it: the page list, the scores, the scales of the digests that the ring holds. Where it
// holds none (no groups), the scores lie in the ring if they fit.
template <int D>
struct After {
  size_t scores, scales, end;

  After(int pages_per_cta, int blocks_per_cta, int groups_per_cta, int group) {
    const size_t list_end = sizeof(Shared<D>) + sizeof(uint32_t) * pages_per_cta;
    const size_t n_bytes = sizeof(float) * size_t(group) * blocks_per_cta;
    const bool in_ring = groups_per_cta == 0 && n_bytes <= sizeof(Shared<D>::ring);
    scores = in_ring ? 0 : list_end;
    scales = in_ring ? list_end : (list_end + n_bytes + 15) / 16 * 16;
    end = scales + size_t(groups_per_cta) * 4 * D * sizeof(__half);
  }
};

}  // namespace scholia::cuda::attention
