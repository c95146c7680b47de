// Scores of kv_blocks from their digests.
#pragma once

#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace scholia::cuda::attention {

inline constexpr int kGroupTokens = 2048;  // of a digest group
inline constexpr int kTileBlocks = 16;     // kv_blocks that a warp scores at once

// Scores of a tile of 16 kv_blocks: rows of A are blocks, columns of B queries. Queries are split
// in two halves whose sum has the accuracy of f32, since selection must not depend on rounding:
// with G <= 4 the remainders take columns 4 to 7, else a product of their own (kWide).
template <int D, bool kWide>
struct ScoreTile {
  static constexpr int kLane = D / 8;  // channels of each half of a vector that a lane owns
  static constexpr int kParts = kWide ? 2 : 1;

  float sums[kParts][4] = {};
  float constant = 0;  // of query column g: what the zeros of the scales add

  __device__ static int column_head(int column) { return kWide ? column : column % 4; }

  // B's registers for two channels of this lane's query column.
  __device__ static void split(float x, float y, unsigned b[kParts]) {
    const int column = int(threadIdx.x) % 32 / 4;
    if constexpr (kWide) {
      b[0] = pack_halves(x, y);
      b[1] = pack_remainders(x, y);
    } else {
      b[0] = column < 4 ? pack_halves(x, y) : pack_remainders(x, y);
    }
  }

  __device__ void multiply(const unsigned a[4], float x0, float y0, float x1, float y1) {
    unsigned b0[kParts], b1[kParts];
    split(x0, y0, b0);
    split(x1, y1, b1);
#pragma unroll
    for (int part = 0; part < kParts; ++part) mma_16x8x16(sums[part], a, b0[part], b1[part]);
  }

  // Two levels 0 to 15, in bits 0 to 3 and 16 to 19, as f16.
  __device__ static unsigned levels(unsigned x) {
    const unsigned biased = (x & 0x000f000fU) | 0x64006400U;  // 1024 + level
    const __half2 h = __hsub2(reinterpret_cast<const __half2&>(biased), __half2half2(1024.0F));
    return reinterpret_cast<const unsigned&>(h);
  }

  // One of a digest's two vectors, closed: what a lane reads of it. All of a tile is fetched before
  // any of it is used.
  struct ClosedVector {
    unsigned words[2][kLane / 4];  // levels of this lane's two records
    unsigned scale[2][kLane / 2], zero[2][kLane / 2];  // [half of the head][pairs of channels]

    template <int kWords>
    __device__ static void fetch_words(const void* from, unsigned* to) {
#pragma unroll
      for (int i = 0; i < kWords; i += 2) {
        const uint2 x = __ldg(reinterpret_cast<const uint2*>(from) + i / 2);
        to[i] = x.x, to[i + 1] = x.y;
      }
    }
    __device__ void fetch(const uint8_t* record, const __half* scales) {
      fetch_words<kLane / 4>(record, words[0]);
      fetch_words<kLane / 4>(record + size_t(8) * D, words[1]);
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        fetch_words<kLane / 2>(scales + half * (D / 2), scale[half]);
        fetch_words<kLane / 2>(scales + D + half * (D / 2), zero[half]);
      }
    }
  };

  // q: this lane's channels of the query (of |q| for the spread), first half of the head.
  __device__ void add_closed(const ClosedVector& v, const float* q, bool is_spread) {
#pragma unroll
    for (int w = 0; w < kLane / 4; ++w) {
      float scaled[2][4];  // [half of the head][channel 4 w + i]
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const float2 s01 = unpack_halves(v.scale[half][2 * w]);
        const float2 s23 = unpack_halves(v.scale[half][2 * w + 1]);
        const float2 z01 = unpack_halves(v.zero[half][2 * w]);
        const float2 z23 = unpack_halves(v.zero[half][2 * w + 1]);
        float4 x = *reinterpret_cast<const float4*>(q + half * (D / 2) + 4 * w);
        if (is_spread) x = {fabsf(x.x), fabsf(x.y), fabsf(x.z), fabsf(x.w)};
        scaled[half][0] = x.x * s01.x, scaled[half][1] = x.y * s01.y;
        scaled[half][2] = x.z * s23.x, scaled[half][3] = x.w * s23.y;
        constant += x.x * z01.x + x.y * z01.y + x.z * z23.x + x.w * z23.y;
      }
      // Nibbles of a word: channels 0, 2 and 1, 3 of the first half, and of the second.
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        const unsigned a[4] = {levels(v.words[0][w] >> (8 * odd)),
                               levels(v.words[1][w] >> (8 * odd)),
                               levels(v.words[0][w] >> (8 * odd + 4)),
                               levels(v.words[1][w] >> (8 * odd + 4))};
        multiply(a, scaled[0][odd], scaled[0][odd + 2], scaled[1][odd], scaled[1][odd + 2]);
      }
    }
  }

  // The same of open records, f16. rows: this lane's channels of the first half.
  __device__ void add_open(const __half* const rows[2], const float* q, bool is_spread) {
#pragma unroll
    for (int i = 0; i < kLane; i += 2) {
      const auto pair = [&](int r, int half) {
        return *reinterpret_cast<const unsigned*>(rows[r] + half * (D / 2) + i);
      };
      const unsigned a[4] = {pair(0, 0), pair(1, 0), pair(0, 1), pair(1, 1)};
      float2 x = *reinterpret_cast<const float2*>(q + i);
      float2 y = *reinterpret_cast<const float2*>(q + D / 2 + i);
      if (is_spread) x = {fabsf(x.x), fabsf(x.y)}, y = {fabsf(y.x), fabsf(y.y)};
      multiply(a, x.x, x.y, y.x, y.y);
    }
  }

  // Calls write(row of the tile, query head, score) for what this lane holds.
  template <typename Write>
  __device__ void write(const Write& write) {
    const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
    constant += __shfl_xor_sync(~0U, constant, 1);
    constant += __shfl_xor_sync(~0U, constant, 2);
    const int head = kWide ? 2 * t : 2 * (t % 2);
    const float constants[2] = {__shfl_sync(~0U, constant, 4 * head),
                                __shfl_sync(~0U, constant, 4 * head + 4)};
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float rest = kWide ? sums[kParts - 1][i] : __shfl_xor_sync(~0U, sums[0][i], 2);
      const float score = sums[0][i] + rest + constants[i % 2];
      if (kWide || t < 2) write(g + 8 * (i / 2), head + i % 2, score);
    }
  }
};

template <int D, bool kWide>
__device__ void score_tile(const DigestPlanes& digests, const HeadStep& head, int n_closed_groups,
                           const Shared<D>& shared, int tile, float* scores, int stride,
                           int first_block, int group) {
  using Tile = ScoreTile<D, kWide>;
  const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int blocks_per_group = kGroupTokens / head.block_tokens;
  const int block = tile * kTileBlocks;
  const int digest_group = block / blocks_per_group;
  const float* q = shared.q[Tile::column_head(g)] + t * Tile::kLane;
  Tile sums;
  if (digest_group < n_closed_groups) {
    const __half* scales = digests.scales + size_t(digest_group) * 4 * D + t * Tile::kLane;
    const uint8_t* record = digests.records + size_t(block + g) * D + t * Tile::kLane;
    typename Tile::ClosedVector centroid, spread;
    centroid.fetch(record, scales);
    spread.fetch(record + D / 2, scales + 2 * D);
    sums.add_closed(centroid, q, false);
    sums.add_closed(spread, q, true);
  } else {
    const int in_open = block - n_closed_groups * blocks_per_group;
#pragma unroll
    for (int vector = 0; vector < 2; ++vector) {
      const __half* first =
          digests.open + (size_t(in_open + g) * 2 + vector) * D + t * Tile::kLane;
      const __half* const rows[2] = {first, first + size_t(8) * 2 * D};
      sums.add_open(rows, q, vector == 1);
    }
  }
  sums.write([&](int row, int query, float score) {
    if (query < group) scores[query * stride + block + row - first_block] = score;
  });
}

}  // namespace scholia::cuda::attention
