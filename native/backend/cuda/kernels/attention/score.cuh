// Scores of kv_blocks from their digests.
#pragma once

#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/mma.cuh"

namespace scholia::cuda::attention {

inline constexpr int kGroupTokens = 2048;  // of a digest group
inline constexpr int kTileBlocks = 16;     // kv_blocks that a warp scores at once

// Queries as B of the products with digests: columns are query heads. They are split in two halves
// whose sum has the accuracy of f32, since selection must not depend on rounding: with G <= 4 the
// remainders take columns 4 to 7, else a product of their own (kWide).
template <bool kWide>
struct SplitQueries {
  static constexpr int kParts = kWide ? 2 : 1;
  unsigned b[kParts];  // two channels of this lane's column

  __device__ static int head() { return int(threadIdx.x) % 32 / 4 % (kWide ? 8 : 4); }

  __device__ void set(float x, float y) {
    const int column = int(threadIdx.x) % 32 / 4;
    if constexpr (kWide) {
      b[0] = pack_halves(x, y);
      b[1] = pack_remainders(x, y);
    } else {
      b[0] = column < 4 ? pack_halves(x, y) : pack_remainders(x, y);
    }
  }
};

// Queries times the scales of one digest group's centroids or spreads: the same for all its tiles.
template <int D, bool kWide>
struct ScaledQueries {
  static constexpr int kLane = D / 8;  // channels of each half of a vector that a lane owns
  SplitQueries<kWide> b[kLane / 4][2][2];  // [word of levels][odd channels][half of the head]

  // q: this lane's channels of the query (of |q| for the spread), first half of the head. Returns
  // what the zeros of the scales add.
  __device__ float set(const __half* scales, const float* q, bool is_spread) {
    float constant = 0;
#pragma unroll
    for (int w = 0; w < kLane / 4; ++w) {
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        const int first = half * (D / 2) + 4 * w;
        const uint2 scale = *reinterpret_cast<const uint2*>(scales + first);
        const uint2 zero = *reinterpret_cast<const uint2*>(scales + D + first);
        const float2 s01 = unpack_halves(scale.x), s23 = unpack_halves(scale.y);
        const float2 z01 = unpack_halves(zero.x), z23 = unpack_halves(zero.y);
        float4 x = *reinterpret_cast<const float4*>(q + first);
        if (is_spread) x = {fabsf(x.x), fabsf(x.y), fabsf(x.z), fabsf(x.w)};
        constant += x.x * z01.x + x.y * z01.y + x.z * z23.x + x.w * z23.y;
        // Nibbles of a word: channels 0, 2 and 1, 3 of the first half, and of the second.
        b[w][0][half].set(x.x * s01.x, x.z * s23.x);
        b[w][1][half].set(x.y * s01.y, x.w * s23.y);
      }
    }
    return constant;
  }
};

// Scores of a tile of 16 kv_blocks: rows of A are blocks, columns of B queries.
template <int D, bool kWide>
struct ScoreTile {
  static constexpr int kLane = D / 8;
  static constexpr int kParts = SplitQueries<kWide>::kParts;

  float sums[kParts][4] = {};

  __device__ void multiply(const unsigned a[4], const SplitQueries<kWide>& b0,
                           const SplitQueries<kWide>& b1) {
#pragma unroll
    for (int part = 0; part < kParts; ++part) mma_16x8x16(sums[part], a, b0.b[part], b1.b[part]);
  }

  // Two levels 0 to 15, in bits 0 to 3 and 16 to 19, as f16.
  __device__ static unsigned levels(unsigned x) {
    const unsigned biased = (x & 0x000f000fU) | 0x64006400U;  // 1024 + level
    const __half2 h = __hsub2(reinterpret_cast<const __half2&>(biased), __half2half2(1024.0F));
    return reinterpret_cast<const unsigned&>(h);
  }

  // Closed records' levels. record: this lane's of the tile's row g.
  __device__ void add_closed(const uint8_t* record, const ScaledQueries<D, kWide>& q) {
    unsigned words[2][kLane / 4];
#pragma unroll
    for (int i = 0; i < kLane / 4; i += 2) {
      const uint2 x = *reinterpret_cast<const uint2*>(record + 4 * i);
      const uint2 y = *reinterpret_cast<const uint2*>(record + 8 * D + 4 * i);
      words[0][i] = x.x, words[0][i + 1] = x.y;
      words[1][i] = y.x, words[1][i + 1] = y.y;
    }
#pragma unroll
    for (int w = 0; w < kLane / 4; ++w) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        const unsigned a[4] = {levels(words[0][w] >> (8 * odd)), levels(words[1][w] >> (8 * odd)),
                               levels(words[0][w] >> (8 * odd + 4)),
                               levels(words[1][w] >> (8 * odd + 4))};
        multiply(a, q.b[w][odd][0], q.b[w][odd][1]);
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
      SplitQueries<kWide> b[2];
      b[0].set(x.x, x.y);
      b[1].set(y.x, y.y);
      multiply(a, b[0], b[1]);
    }
  }

  // Calls write(row of the tile, query head, score) for what this lane holds. constant: what is added
  // for this lane's query and channels.
  template <typename Write>
  __device__ void write(float constant, const Write& write) {
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

// A warp's share of its CTA's tiles. What fits is brought to shared memory before the kernel ahead has
// ended, since digests are of the tokens before.
template <int D>
class DigestTiles {
 public:
  // scales: room for those of the CTA's groups; null: nothing is held.
  __device__ DigestTiles(const DigestPlanes& planes, const HeadStep& head, int n_closed_groups,
                         int first_tile, int end_tile, Shared<D>& shared, __half* scales)
      : planes_(planes), tiles_per_group_(kGroupTokens / head.block_tokens / kTileBlocks),
        n_closed_tiles_(n_closed_groups * tiles_per_group_), first_of_cta_(first_tile),
        end_of_cta_(end_tile), records_(reinterpret_cast<uint8_t*>(shared.ring[threadIdx.x / 32])),
        scales_(scales) {
    const int warp = int(threadIdx.x) / 32, n = end_tile - first_tile;
    first_ = first_tile + n * warp / kWarps;
    end_ = first_tile + n * (warp + 1) / kWarps;
  }

  __device__ int first() const { return first_; }
  __device__ int end() const { return end_; }

  __device__ void fetch() {
    if (scales_ == nullptr || first_of_cta_ == end_of_cta_) return;
    const int held = (min(min(end_, n_closed_tiles_) - first_, kHeldTiles<D>)) * kTileBytes;
    const uint8_t* from = planes_.records + size_t(first_) * kTileBytes;
    for (int at = int(threadIdx.x) % 32 * 16; at < held; at += 32 * 16) {
      copy_16_async(shared_address(records_ + at), from + at, true);
    }
    const int first = first_of_cta_ / tiles_per_group_;
    const int end =
        (min(end_of_cta_, n_closed_tiles_) + tiles_per_group_ - 1) / tiles_per_group_;
    for (int i = int(threadIdx.x); i < (end - first) * (D / 2); i += kThreads) {
      copy_16_async(shared_address(scales_ + 8 * i), planes_.scales + size_t(first) * 4 * D + 8 * i,
                    true);
    }
    commit_copies();
  }

  // Closed tiles from this one on that share their scales, and are this warp's.
  __device__ int n_alike(int tile) const {
    const int end_of_group = (tile / tiles_per_group_ + 1) * tiles_per_group_;
    return min(min(end_, n_closed_tiles_), end_of_group) - tile;
  }
  __device__ const uint8_t* records(int tile) const {
    const int i = tile - first_;
    return scales_ != nullptr && i < kHeldTiles<D> ? records_ + i * kTileBytes
                             : planes_.records + size_t(tile) * kTileBytes;
  }
  __device__ const __half* scales(int tile) const {
    const int group = tile / tiles_per_group_;
    return scales_ == nullptr ? planes_.scales + size_t(group) * 4 * D
                              : scales_ + (group - first_of_cta_ / tiles_per_group_) * 4 * D;
  }
  __device__ const __half* open(int tile) const {
    return planes_.open + size_t(tile - n_closed_tiles_) * kTileBlocks * 2 * D;
  }

 private:
  static constexpr int kTileBytes = kTileBlocks * D;

  DigestPlanes planes_;
  int tiles_per_group_, n_closed_tiles_, first_of_cta_, end_of_cta_, first_, end_;
  uint8_t* records_;
  __half* scales_;
};

// Scores of the warp's tiles. scores: [query heads][stride], from the CTA's first block on.
template <int D, bool kWide>
__device__ void score_tiles(const DigestTiles<D>& tiles, const Shared<D>& shared, float* scores,
                            int stride, int first_block, int group) {
  using Tile = ScoreTile<D, kWide>;
  constexpr int kAtOnce = kWide ? 2 : 4;
  const int lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const float* q = shared.q[SplitQueries<kWide>::head()] + t * Tile::kLane;
  const auto write = [&](Tile& sums, int tile, float constant) {
    const int block = tile * kTileBlocks - first_block;
    sums.write(constant, [&](int row, int query, float score) {
      if (query < group) scores[query * stride + block + row] = score;
    });
  };
  for (int tile = tiles.first(); tile < tiles.end();) {
    const int n = min(tiles.n_alike(tile), kAtOnce);
    if (n <= 0) {
      Tile sums;
#pragma unroll
      for (int vector = 0; vector < 2; ++vector) {
        const __half* first = tiles.open(tile) + (g * 2 + vector) * D + t * Tile::kLane;
        const __half* const rows[2] = {first, first + size_t(8) * 2 * D};
        sums.add_open(rows, q, vector == 1);
      }
      write(sums, tile++, 0);
      continue;
    }
    Tile sums[kAtOnce];
    float constant = 0;
#pragma unroll
    for (int vector = 0; vector < 2; ++vector) {
      ScaledQueries<D, kWide> scaled;
      constant += scaled.set(tiles.scales(tile) + vector * 2 * D + t * Tile::kLane, q, vector == 1);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (i >= n) break;
        const uint8_t* record = tiles.records(tile + i) + g * D + vector * (D / 2) + t * Tile::kLane;
        sums[i].add_closed(record, scaled);
      }
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (i < n) write(sums[i], tile + i, constant);
    }
    tile += n;
  }
}

}  // namespace scholia::cuda::attention
