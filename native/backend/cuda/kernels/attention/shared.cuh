// The shared memory of each CTA of the team that serves a KV head.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

#include "backend/cuda/kernels/attention.cuh"
#include "backend/cuda/kernels/team.cuh"

namespace scholia::cuda::attention {

inline constexpr int kThreads = 512;
inline constexpr int kWarps = kThreads / 32;
inline constexpr int kPageTokens = 16;
inline constexpr int kBinBits = 10;  // of a score that a round of selection looks at
inline constexpr int kBins = 1 << kBinBits;
inline constexpr int kRounds = (32 + kBinBits - 1) / kBinBits;
// Room for the blocks that only their whole scores decide about; a block takes 2 words and its pages,
// rounded up to 4.
inline constexpr int kCandidateWords = 1024;
inline constexpr float kNone = -INFINITY;
static_assert(kWarps > kMaxGroup, "the warp that appends has no query");
static_assert(kBins == 2 * kThreads, "a thread counts two bins");

// Slots of a warp's ring: each holds K or V of one page. In all 128 KB, which leaves no room for a second
// CTA: where two fitted, teams came to share multiprocessors while others lay idle (H200: 84 of 132 used).
template <int D>
constexpr int kSlots = 256 / D;

// The bin that the last selected score falls into: numbers of scores in all CTAs and in those before.
struct BinFound {
  int bin, n_above, n_equal, above_before, equal_before;
};

template <int D>
struct Shared {
  static constexpr int kQStride = D + 4;  // floats; lanes of different heads in different banks

  alignas(16) __half ring[kWarps][kSlots<D>][kPageTokens * D];
  float q[kMaxGroup][kQStride];  // rotated, divided by sqrt(D)
  float raw[kMaxGroup + 1][D];  // queries and the key before rotation
  // (maximum, sum): of the scores of each warp and CTA, and of the attention of each CTA.
  float2 warp_scores[kMaxGroup][kWarps];
  float2 score_stats[kMaxGroup][kMaxTeam], stats[kMaxGroup][kMaxTeam];
  // Attended sums of all CTAs for this CTA's share of the outputs, [16 outputs][CTA][16].
  alignas(16) float gathered[(kMaxGroup * D / 16 + kMaxTeam) * 16];
  float2 softmax[kMaxGroup];     // (maximum, 1 / (sum * G)) of all scores
  float2 warp_state[kWarps][kMaxGroup];
  alignas(16) unsigned bins[kRounds][kBins / 2];  // counts of the CTA's blocks, two to a word
  alignas(16) unsigned candidates[kCandidateWords];
  int warp_sums[kRounds + 1][2][kWarps];
  BinFound found[kRounds];  // by the thread that found the bin
  Mailbox of_scores, of_bins[kRounds], of_pages, of_sums;

  // The counts of all CTAs. In the ring's memory: digests are done with, and pages not there yet.
  __device__ unsigned* bins_of(const Team& team, int round, int other) {
    if (team.size == 1) return bins[round];
    return reinterpret_cast<unsigned*>(ring) + (round * kMaxTeam + other) * (kBins / 2);
  }
  static_assert(kRounds * kMaxTeam * kBins * 2 <= int(sizeof ring));
};

// Tiles of digests that a warp holds in its part of the ring before pages come there.
template <int D>
constexpr int kHeldTiles = kSlots<D> * 2;

// What follows it: the page list, the scores, the scales of the digests that the ring holds, the pages
// of the blocks. Where it holds none (no groups), the scores lie in the ring if they fit.
template <int D>
struct After {
  size_t scores, scales, table, end;

  After(int pages_per_cta, int blocks_per_cta, int groups_per_cta, int table_pages, int group) {
    const size_t list_end = sizeof(Shared<D>) + sizeof(uint32_t) * pages_per_cta;
    const size_t n_bytes = sizeof(float) * size_t(group) * blocks_per_cta;
    const bool in_ring = groups_per_cta == 0 && n_bytes <= sizeof(Shared<D>::ring);
    scores = in_ring ? 0 : list_end;
    scales = in_ring ? list_end : (list_end + n_bytes + 15) / 16 * 16;
    table = scales + size_t(groups_per_cta) * 4 * D * sizeof(__half);
    end = table + size_t(table_pages) * sizeof(uint32_t);
  }
};

}  // namespace scholia::cuda::attention
