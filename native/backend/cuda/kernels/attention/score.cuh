// Scores of kv_blocks from their digests.
#pragma once

#include "backend/cuda/kernels/attention/page_list.cuh"
#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/team.cuh"

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

  __device__ static int head() { return int(threadIdx.x % 32 / 4 % (kWide ? 8U : 4U)); }

  __device__ void set(float x, float y) {
    const int column = int(threadIdx.x % 32 / 4);
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

// Rows of a tile: as they lie in global memory, or in shared memory, where the chunks of 16 bytes of each
// 128 are exchanged by their row, so that eight rows are in different banks.
struct TileRows {
  const uint8_t* first;
  bool is_exchanged;

  template <int kRowBytes>
  __device__ static int exchanged(int at) {
    constexpr int kBytes = kRowBytes < 128 ? 128 : kRowBytes;  // that are exchanged alike
    return at ^ (((at / kBytes) & 7) * 16);
  }
  template <typename T, int kRowBytes>
  __device__ T get(int row, int byte) const {
    const int at = row * kRowBytes + byte;
    return *reinterpret_cast<const T*>(first + (is_exchanged ? exchanged<kRowBytes>(at) : at));
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

  // Two levels 0 to 15 as f16, of a word's bits 0 to 3 and 16 to 19, or 4 to 7 and 20 to 23.
  __device__ static unsigned low_levels(unsigned x) {
    const unsigned biased = (x & 0x000f000fU) | 0x64006400U;  // 1024 + level
    const __half2 h = __hsub2(reinterpret_cast<const __half2&>(biased), __half2half2(1024.0F));
    return reinterpret_cast<const unsigned&>(h);
  }
  __device__ static unsigned high_levels(unsigned x) {
    const unsigned biased = (x & 0x00f000f0U) | 0x64006400U;  // 1024 + 16 level
    const __half2 h = __hfma2(reinterpret_cast<const __half2&>(biased), __half2half2(0.0625F),
                              __half2half2(-64.0F));
    return reinterpret_cast<const unsigned&>(h);
  }

  // Closed records' levels, of the centroid or the spread.
  __device__ void add_closed(const TileRows& rows, int vector, const ScaledQueries<D, kWide>& q) {
    const int g = int(threadIdx.x % 32) >> 2, t = int(threadIdx.x & 3);
    union Levels {
      uint4 four;
      uint2 two;
      unsigned words[4];
    } levels[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      const int byte = vector * (D / 2) + t * kLane;
      if constexpr (kLane == 16) {
        levels[r].four = rows.get<uint4, D>(g + 8 * r, byte);
      } else {
        levels[r].two = rows.get<uint2, D>(g + 8 * r, byte);
      }
    }
#pragma unroll
    for (int w = 0; w < kLane / 4; ++w) {
#pragma unroll
      for (int odd = 0; odd < 2; ++odd) {
        const unsigned x = levels[0].words[w] >> (8 * odd), y = levels[1].words[w] >> (8 * odd);
        const unsigned a[4] = {low_levels(x), low_levels(y), high_levels(x), high_levels(y)};
        multiply(a, q.b[w][odd][0], q.b[w][odd][1]);
      }
    }
  }

  // The same of open records, f16. q: this lane's channels of the query, first half of the head.
  __device__ void add_open(const TileRows& rows, int vector, const float* q) {
    const int g = int(threadIdx.x % 32) >> 2, t = int(threadIdx.x & 3);
    union Channels {
      uint4 eight;
      unsigned pairs[4];
    };
#pragma unroll
    for (int first = 0; first < kLane; first += 8) {
      Channels of[2][2];  // [row g or g + 8][half of the head]
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int channel = vector * D + i % 2 * (D / 2) + t * kLane + first;
        of[i / 2][i % 2].eight = rows.get<uint4, 4 * D>(g + 8 * (i / 2), 2 * channel);
      }
#pragma unroll
      for (int pair = 0; pair < 4; ++pair) {
        const unsigned a[4] = {of[0][0].pairs[pair], of[1][0].pairs[pair], of[0][1].pairs[pair],
                               of[1][1].pairs[pair]};
        float2 x = *reinterpret_cast<const float2*>(q + first + 2 * pair);
        float2 y = *reinterpret_cast<const float2*>(q + D / 2 + first + 2 * pair);
        if (vector == 1) x = {fabsf(x.x), fabsf(x.y)}, y = {fabsf(y.x), fabsf(y.y)};
        SplitQueries<kWide> b[2];
        b[0].set(x.x, x.y);
        b[1].set(y.x, y.y);
        multiply(a, b[0], b[1]);
      }
    }
  }

  // The scores that this lane holds: rows g, g, g + 8, g + 8 of heads 2 t and 2 t + 1 (2 (t % 2) and the
  // next), [row][head]. constants: what is added for the heads.
  __device__ void finish(const float constants[2], float scores[4]) const {
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const float rest = kWide ? sums[kParts - 1][i] : __shfl_xor_sync(~0U, sums[0][i], 2);
      scores[i] = sums[0][i] + rest + constants[i % 2];
    }
  }
};

// Maximum of scores, and the sum of exp(score - maximum).
struct ScoreStats {
  float top = kNone, sum = 0;

  // Scores of the same head, two columns apart; -inf: none.
  template <int kScores>
  __device__ void add(const float (&scores)[kScores], int column) {
    float new_top = top;
#pragma unroll
    for (int i = column; i < kScores; i += 2) new_top = fmaxf(new_top, scores[i]);
    if (new_top == kNone) return;
    sum *= __expf(top - new_top);
#pragma unroll
    for (int i = column; i < kScores; i += 2) sum += __expf(scores[i] - new_top);
    top = new_top;
  }
  // Over the lanes that differ in these bits.
  __device__ void merge_lanes(int lanes) {
    const ScoreStats other{__shfl_xor_sync(~0U, top, lanes), __shfl_xor_sync(~0U, sum, lanes)};
    const float new_top = fmaxf(top, other.top);
    sum = weighted(new_top) + other.weighted(new_top);
    top = new_top;
  }
  // The sum against another maximum; without scores nothing. NaN stays.
  __device__ float weighted(float new_top) const {
    return sum == 0 ? 0.0F : sum * __expf(top - new_top);
  }
};

// How a head's tiles are shared out: first over CTAs, then over a CTA's warps. A tile of the open group
// costs as much as some closed ones.
class TileShares {
 public:
  int first_of_cta, end_of_cta, first_of_warp, end_of_warp;

  __device__ TileShares(int n_tiles, int n_closed, const Team& team) : n_closed_(n_closed) {
    const Shares ctas(n_closed + kOpenCost * (n_tiles - n_closed), team);
    const int first = ctas.first(team.rank), end = ctas.first(team.rank + 1);
    const Shares warps(end - first, kWarps);
    const int warp = int(threadIdx.x / 32);
    first_of_cta = tile(first);
    end_of_cta = tile(end);
    first_of_warp = tile(first + warps.first(warp));
    end_of_warp = tile(first + warps.first(warp + 1));
  }

 private:
  static constexpr int kOpenCost = 3;
  // The first tile that begins there or later.
  __device__ int tile(int at) const {
    return at < n_closed_ ? at : n_closed_ + (at - n_closed_ + kOpenCost - 1) / kOpenCost;
  }

  int n_closed_;
};

// A warp's tiles. What fits is brought to shared memory before the kernel ahead has ended,
// since digests are of the tokens before.
template <int D>
class DigestTiles {
 public:
  // scales: room for those of the CTA's groups; null: nothing is held.
  __device__ DigestTiles(const DigestPlanes& planes, int log2_tiles_per_group, int n_closed_tiles,
                         const TileShares& shares, Shared<D>& shared, __half* scales)
      : planes_(planes), log2_per_group_(log2_tiles_per_group), n_closed_tiles_(n_closed_tiles),
        first_(shares.first_of_warp), end_(shares.end_of_warp), first_of_cta_(shares.first_of_cta),
        end_of_cta_(shares.end_of_cta),
        room_(reinterpret_cast<uint8_t*>(shared.ring[threadIdx.x / 32])), scales_(scales) {
    holds_open_ = scales_ != nullptr && first_ < end_ && end_ > n_closed_tiles_;
    held_end_ = scales_ == nullptr || holds_open_
                    ? first_
                    : min(min(end_, n_closed_tiles_), first_ + kHeldTiles<D>);
  }

  __device__ int first() const { return first_; }
  __device__ int end() const { return end_; }

  __device__ void fetch() const {
    if (scales_ == nullptr || first_of_cta_ >= end_of_cta_) return;
    // Of the open group the first tile, which is the longest way.
    const auto* from = holds_open_ ? reinterpret_cast<const uint8_t*>(global_open(first_open()))
                                   : planes_.records + size_t(first_) * kTileBytes;
    const int n_bytes = holds_open_ ? kOpenTileBytes : (held_end_ - first_) * kTileBytes;
#pragma unroll 4
    for (int at = int(threadIdx.x % 32) * 16; at < n_bytes; at += 32 * 16) {
      const int to = holds_open_ ? TileRows::exchanged<4 * D>(at) : TileRows::exchanged<D>(at);
      copy_16_async(shared_address(room_ + to), from + at, true);
    }
    const int first = first_of_cta_ >> log2_per_group_;
    const int end = ((min(end_of_cta_, n_closed_tiles_) - 1) >> log2_per_group_) + 1;
#pragma unroll 1
    for (int i = int(threadIdx.x); i < (end - first) * (D / 2); i += kThreads) {
      copy_16_async(shared_address(scales_ + 8 * i), planes_.scales + size_t(first) * 4 * D + 8 * i,
                    true);
    }
  }

  // Closed tiles from this one on that share their scales, and are this warp's.
  __device__ int n_alike(int tile) const {
    const int end_of_group = ((tile >> log2_per_group_) + 1) << log2_per_group_;
    return min(min(end_, n_closed_tiles_), end_of_group) - tile;
  }
  __device__ TileRows closed(int tile) const {
    if (tile < held_end_) return {room_ + (tile - first_) * kTileBytes, true};
    return {planes_.records + size_t(tile) * kTileBytes, false};
  }
  __device__ TileRows open(int tile) const {
    if (holds_open_ && tile == first_open()) return {room_, true};
    return {reinterpret_cast<const uint8_t*>(global_open(tile)), false};
  }
  __device__ const __half* scales(int tile) const {
    const int group = tile >> log2_per_group_;
    return scales_ == nullptr ? planes_.scales + size_t(group) * 4 * D
                              : scales_ + (group - (first_of_cta_ >> log2_per_group_)) * 4 * D;
  }

 private:
  static constexpr int kTileBytes = kTileBlocks * D, kOpenTileBytes = 4 * kTileBytes;
  static_assert(kOpenTileBytes <= int(sizeof(Shared<D>::ring[0])));

  __device__ int first_open() const { return max(first_, n_closed_tiles_); }
  __device__ const __half* global_open(int tile) const {
    return planes_.open + size_t(tile - n_closed_tiles_) * kTileBlocks * 2 * D;
  }

  DigestPlanes planes_;
  int log2_per_group_, n_closed_tiles_, first_, end_, first_of_cta_, end_of_cta_;
  uint8_t* room_;
  __half* scales_;
  bool holds_open_;
  int held_end_;
};

// Scores of the warp's tiles. scores: [query heads][stride], from the CTA's first block on; and the
// warp's statistics of the blocks [begin, end) of those.
template <int D, bool kWide>
__device__ void score_tiles(const DigestTiles<D>& tiles, Shared<D>& shared, float* scores,
                            int stride, int first_block, int begin, int end, int group) {
  using Tile = ScoreTile<D, kWide>;
  constexpr int kAtOnce = kWide ? 2 : 4;
  const int lane = int(threadIdx.x % 32), g = lane >> 2, t = lane & 3;
  const int first_query = kWide ? 2 * t : 2 * (t % 2);
  const bool writes = kWide || t < 2;
  const float* q = shared.q[SplitQueries<kWide>::head()] + t * Tile::kLane;
  ScoreStats stats[2];  // of query heads first_query and the next
#pragma unroll 1
  for (int tile = tiles.first(); tile < tiles.end();) {
    const int n_closed = min(tiles.n_alike(tile), kAtOnce), n = max(n_closed, 1);
    Tile sums[kAtOnce];
    float constant = 0;
#pragma unroll 1
    for (int vector = 0; vector < 2; ++vector) {
      if (n_closed <= 0) {
        sums[0].add_open(tiles.open(tile), vector, q);
        continue;
      }
      ScaledQueries<D, kWide> scaled;
      constant += scaled.set(tiles.scales(tile) + vector * 2 * D + t * Tile::kLane, q, vector == 1);
#pragma unroll
      for (int i = 0; i < kAtOnce; ++i) {
        if (i >= n_closed) break;
        sums[i].add_closed(tiles.closed(tile + i), vector, scaled);
      }
    }
    constant += __shfl_xor_sync(~0U, constant, 1);
    constant += __shfl_xor_sync(~0U, constant, 2);
    const float constants[2] = {__shfl_sync(~0U, constant, 4 * first_query),
                                __shfl_sync(~0U, constant, 4 * first_query + 4)};
    float scored[4 * kAtOnce];
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      float* mine = scored + 4 * i;
      mine[0] = mine[1] = mine[2] = mine[3] = kNone;
      if (i >= n) continue;
      sums[i].finish(constants, mine);
      const int block = (tile + i) * kTileBlocks - first_block + g;
      float* to = scores + first_query * stride + block;
      if (writes && first_query < group) to[0] = mine[0], to[8] = mine[2];
      if (writes && first_query + 1 < group) to[stride] = mine[1], to[stride + 8] = mine[3];
      if (block < begin || block >= end) mine[0] = mine[1] = kNone;
      if (block + 8 < begin || block + 8 >= end) mine[2] = mine[3] = kNone;
    }
    stats[0].add(scored, 0);
    stats[1].add(scored, 1);
    tile += n;
  }
#pragma unroll 1
  for (int lanes = 4; lanes < 32; lanes *= 2) {
    stats[0].merge_lanes(lanes);
    stats[1].merge_lanes(lanes);
  }
  if (g > 0 || !writes) return;
  const int warp = int(threadIdx.x / 32);
  shared.warp_scores[first_query][warp] = {stats[0].top, stats[0].sum};
  shared.warp_scores[first_query + 1][warp] = {stats[1].top, stats[1].sum};
}

}  // namespace scholia::cuda::attention
