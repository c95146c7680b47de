#include <cooperative_groups.h>

#include <algorithm>

#include "backend/cuda/kernels/attention.cuh"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/rotary.cuh"

namespace scholia::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kMaxTeam = 16;
constexpr int kPageTokens = 16;
constexpr int kGroupTokens = 2048;  // of a digest group
constexpr int kTileBlocks = 16;     // kv_blocks that a warp scores at once
constexpr int kBins = 256;          // 8 bits of a key
constexpr int kRounds = 4;
constexpr int kPagesForPart = 16;   // that a CTA of a dense step reads at least, if there are so many
constexpr float kLog2e = 1.4426950408889634F;
constexpr float kNone = -INFINITY;
static_assert(kBins == kThreads);

// Slots of a warp's ring: each holds K or V of one page. In all 64 KB of the CTA; with 96 KB dense
// attention was no faster, and selection, of which two CTAs then share the memory, slower.
template <int D>
constexpr int kSlots = 256 / D;

// --- the team -------------------------------------------------------------------------------

struct Team {
  int rank, size;

  __device__ static Team here(int team_size) {
#if __CUDA_ARCH__ >= 900
    return {int(cooperative_groups::this_cluster().block_rank()), team_size};
#else
    return {0, team_size};
#endif
  }
  // All threads of all CTAs; what they wrote before is seen after.
  __device__ void sync() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      cooperative_groups::this_cluster().sync();
      return;
    }
#endif
    __syncthreads();
  }
  // sync in two halves, with work between: all CTAs have started when wait() returns.
  __device__ void arrive() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
  }
  __device__ void wait() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
  }
  // The same place in another CTA's shared memory.
  template <typename T>
  __device__ T* at(T* mine, int other) const {
#if __CUDA_ARCH__ >= 900
    return cooperative_groups::this_cluster().map_shared_rank(mine, other);
#else
    (void)other;
    return mine;
#endif
  }
  // What is at the same place in the shared memory of all CTAs, 0 for those that are not there.
  // Without a branch, so that all reads are on the way at once.
  __device__ void read_all(const void* mine, unsigned values[kMaxTeam]) const {
#if __CUDA_ARCH__ >= 900
    const unsigned address = shared_address(mine);
#pragma unroll
    for (int other = 0; other < kMaxTeam; ++other) {
      unsigned far;
      asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(far) : "r"(address), "r"(min(other, size - 1)));
      asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(values[other]) : "r"(far) : "memory");
    }
#pragma unroll
    for (int other = 0; other < kMaxTeam; ++other) {
      if (other >= size) values[other] = 0;
    }
#else
    values[0] = *static_cast<const unsigned*>(mine);
#pragma unroll
    for (int other = 1; other < kMaxTeam; ++other) values[other] = 0;
#endif
  }
};

// --- shared memory --------------------------------------------------------------------------

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
  int found[4];                  // by the thread that found the bin
};

// After it comes the page list. The scores, which are done with before the ring is needed, lie in the
// ring where they fit, else after the list: two CTAs to a multiprocessor are worth the trouble, since
// not every part of the GPU has room for a whole team with one.
template <int D>
size_t scores_offset(int pages_per_cta, int blocks_per_cta, int group) {
  const size_t n_bytes = sizeof(float) * size_t(group) * blocks_per_cta;
  return n_bytes <= sizeof(Shared<D>::ring) ? 0
                                            : sizeof(Shared<D>) + sizeof(uint32_t) * pages_per_cta;
}
template <int D>
size_t shared_bytes(int pages_per_cta, int blocks_per_cta, int group) {
  const size_t scores = scores_offset<D>(pages_per_cta, blocks_per_cta, group);
  return scores == 0 ? sizeof(Shared<D>) + sizeof(uint32_t) * pages_per_cta
                     : scores + sizeof(float) * size_t(group) * blocks_per_cta;
}

// --- queries, the new key and value ---------------------------------------------------------

// A head as it comes out of the product: normalised if asked for, rotated, passed to write(d, x).
// One warp; `room` holds D floats. What does not depend on anything else is fetched at once.
template <int D, typename Write>
__device__ void fetch_rotated(const AttentionParams& p, const float* from, const float* norm,
                              float* room, const Write& write) {
  constexpr int kLane = D / 32;
  const int lane = int(threadIdx.x) % 32;
  float x[kLane];
  float2 angles[kLane];
#pragma unroll
  for (int i = 0; i < kLane; ++i) {
    const int d = lane + 32 * i;
    x[i] = __ldcg(from + d);
    angles[i] = rotation_of(d, p.is_neox, p.n_rotary_dims, p.angles);
  }
  if (norm != nullptr) {
    float squares = 0;
#pragma unroll
    for (int i = 0; i < kLane; ++i) squares += x[i] * x[i];
    const float factor = 1.0F / sqrtf(warp_sum(squares) / float(D) + p.norm_eps);
#pragma unroll
    for (int i = 0; i < kLane; ++i) x[i] *= factor * norm[lane + 32 * i];
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

// Warp w prepares query head w.
template <int D>
__device__ void prepare_queries(const AttentionParams& p, int kv_head, Shared<D>& shared) {
  const int g = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  if (g >= p.group) {
    for (int d = lane; d < D; d += 32) shared.q[g][d] = 0;
    return;
  }
  const float scale = rsqrtf(float(D));
  const float* from = p.qkv + (size_t(kv_head) * p.group + g) * D;
  fetch_rotated<D>(p, from, p.q_norm, shared.raw[g],
                   [&](int d, float x) { shared.q[g][d] = scale * x; });
}

// Writes the new token's K and V to their page. One warp; `room` holds D floats.
template <int D>
__device__ void append_token(const AttentionParams& p, int kv_head, int position, size_t page,
                             float* room) {
  const int lane = int(threadIdx.x) % 32;
  const size_t n_q = size_t(p.group) * p.n_kv_heads * D, n_kv = size_t(p.n_kv_heads) * D;
  const float* k = p.qkv + n_q + size_t(kv_head) * D;
  const float* v = k + n_kv;
  const size_t row = ((page * p.n_kv_heads + kv_head) * kPageTokens + position % kPageTokens) * D;
#pragma unroll
  for (int i = 0; i < D / 32; ++i) {
    p.v[row + lane + 32 * i] = __float2half_rn(__ldcg(v + lane + 32 * i));
  }
  fetch_rotated<D>(p, k, p.k_norm, room,
                   [&](int d, float x) { p.k[row + d] = __float2half_rn(x); });
  __threadfence();  // before other threads' asynchronous copies of the page
}

// --- score ----------------------------------------------------------------------------------

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

// --- select ---------------------------------------------------------------------------------

// Softmax over all free blocks for each query head, then the mean over the group, as keys whose
// order is the scores': 0 for NaN. In place of the first query head's scores.
template <int D>
__device__ void reduce_scores(const Team& team, Shared<D>& shared, float* scores, int stride,
                              int begin, int end, int group) {
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  if (warp < group) {
    const float* mine = scores + warp * stride;
    float top = kNone, sum = 0;
    for (int i = begin + lane; i < end; i += 32) top = fmaxf(top, mine[i]);
    top = warp_max(top);
    for (int i = begin + lane; i < end; i += 32) sum += expf(mine[i] - top);
    sum = warp_sum(sum);
    if (lane < team.size) {
      *team.at(&shared.stats[team.rank][warp], lane) = {top, begin < end ? sum : 0.0F};
    }
  }
  team.sync();
  if (warp < group) {
    const float2 part = lane < team.size ? shared.stats[lane][warp] : float2{kNone, 0};
    const float top = warp_max(part.x);
    const float sum = warp_sum(part.y > 0 ? part.y * expf(part.x - top) : part.y);
    if (lane == 0) shared.softmax[warp] = {top, 1.0F / (sum * float(group))};
  }
  __syncthreads();
  for (int i = begin + int(threadIdx.x); i < end; i += kThreads) {
    float mean = 0;
    for (int g = 0; g < group; ++g) {
      mean += expf(scores[g * stride + i] - shared.softmax[g].x) * shared.softmax[g].y;
    }
    const unsigned key = mean == mean ? __float_as_uint(mean) + 1 : 0;
    scores[i] = __uint_as_float(key);
  }
  __syncthreads();
}

// Sum over the threads before this one, and (through total) over all.
__device__ int2 scan_before(int2 x, int (*warp_sums)[kWarps], int2& total) {
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  int2 sum = x;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int a = __shfl_up_sync(~0U, sum.x, lanes), b = __shfl_up_sync(~0U, sum.y, lanes);
    if (lane >= lanes) sum.x += a, sum.y += b;
  }
  __syncthreads();
  if (lane == 31) warp_sums[0][warp] = sum.x, warp_sums[1][warp] = sum.y;
  __syncthreads();
  int2 before{sum.x - x.x, sum.y - x.y};
  total = {0, 0};
#pragma unroll
  for (int w = 0; w < kWarps; ++w) {
    if (w < warp) before.x += warp_sums[0][w], before.y += warp_sums[1][w];
    total.x += warp_sums[0][w], total.y += warp_sums[1][w];
  }
  return before;
}

// The keys selected are those whose bits from `shift` on are more than `threshold`, and of the equal
// ones the first n_equal by index.
struct Selection {
  unsigned threshold = 0;
  int shift = 0;
  int n_equal = 0;
  int above_before = 0, equal_before = 0;  // in the CTAs before this one
};

// The n-th largest key of the whole team, found 8 bits at a time from histograms that all CTAs read.
template <int D>
__device__ Selection find_threshold(const Team& team, Shared<D>& shared, const float* keys,
                                    int begin, int end, int n) {
  const int thread = int(threadIdx.x), bin = kBins - 1 - thread;  // thread 0 has the highest bin
  Selection found;
  for (int round = 0; round < kRounds; ++round) {
    const int shift = 24 - 8 * round;
    for (int i = begin + thread; i < end; i += kThreads) {
      const unsigned key = __float_as_uint(keys[i]);
      if (round == 0 || key >> (shift + 8) == found.threshold) {
        atomicAdd(&shared.bins[round][(key >> shift) % kBins], 1);
      }
    }
    team.sync();
    int2 counts{0, 0};  // of this bin: in all CTAs, in those before
    unsigned of_ctas[kMaxTeam];
    team.read_all(&shared.bins[round][bin], of_ctas);
#pragma unroll
    for (int other = 0; other < kMaxTeam; ++other) {
      counts.x += int(of_ctas[other]);
      if (other < team.rank) counts.y += int(of_ctas[other]);
    }
    int2 total;
    const int2 above = scan_before(counts, shared.warp_sums, total);
    if (above.x < n && above.x + counts.x >= n) {
      shared.found[0] = bin;
      shared.found[1] = n - above.x;
      shared.found[2] = above.y;
      shared.found[3] = counts.x == n - above.x ? -1 - counts.y : counts.y;
    }
    __syncthreads();
    found.threshold = found.threshold << 8 | unsigned(shared.found[0]);
    found.shift = shift;
    n = shared.found[1];
    found.above_before += shared.found[2];
    const int equal = shared.found[3];
    found.equal_before = equal < 0 ? -1 - equal : equal;
    __syncthreads();
    if (equal < 0) break;  // all of the bin are wanted
  }
  found.n_equal = n;
  return found;
}

// Where place p of a list of n_places, shared out over the team, belongs.
__device__ int first_place(int n_places, int rank, int size) {
  return int(int64_t(n_places) * rank / size);
}
__device__ int owner_of(int place, int n_places, int size) {
  return int((int64_t(place + 1) * size - 1) / n_places);
}

// The list of a head: sink pages, selected blocks' pages, local pages.
struct PageList {
  int n_pages, n_sink, n_selected;  // pages of each kind; the rest is local
  int local_shift;                  // page of the context less place in the list, of local ones

  __device__ PageList(const HeadStep& head, int n_tokens) {
    const int per_block = head.block_tokens / kPageTokens;
    const int all = (n_tokens + kPageTokens - 1) / kPageTokens;
    n_sink = head.sink_blocks * per_block;
    n_selected = head.n_selected * per_block;
    local_shift = (head.first_local_block - head.sink_blocks - head.n_selected) * per_block;
    n_pages = all - local_shift;
  }
};

// Sends the selected blocks' pages to the CTAs that will read them.
template <int D>
__device__ void send_selected(const AttentionParams& p, const Team& team, Shared<D>& shared,
                              const Selection& selection, const float* keys, int begin, int end,
                              int first_block, const HeadStep& head, const PageList& list,
                              uint32_t* my_list, int head_idx) {
  const int per_thread = (end - begin + kThreads - 1) / kThreads;
  const int mine = begin + int(threadIdx.x) * per_thread, mine_end = min(mine + per_thread, end);
  const auto compare = [&](int i) {
    const unsigned key = __float_as_uint(keys[i]) >> selection.shift;
    return key > selection.threshold ? 1 : key == selection.threshold ? 0 : -1;
  };
  int2 counts{0, 0}, total;
  for (int i = mine; i < mine_end; ++i) {
    const int c = compare(i);
    counts.x += c > 0;
    counts.y += c == 0;
  }
  int2 before = scan_before(counts, shared.warp_sums, total);
  const int equal_left = max(0, selection.n_equal - selection.equal_before);
  const int first_rank =
      selection.above_before + min(selection.equal_before, selection.n_equal);
  const int per_block = head.block_tokens / kPageTokens;
  for (int i = mine; i < mine_end; ++i) {
    const int c = compare(i);
    if (c > 0 || (c == 0 && before.y < equal_left)) {
      const int rank = first_rank + before.x + min(before.y, equal_left);
      for (int j = 0; j < per_block; ++j) {
        const int place = list.n_sink + rank * per_block + j;
        const int page = (first_block + i) * per_block + j;
        const int owner = owner_of(place, list.n_pages, team.size);
        team.at(my_list, owner)[place - first_place(list.n_pages, owner, team.size)] =
            p.pages[page];
        if (p.trace.pages != nullptr) {
          p.trace.pages[size_t(head_idx) * p.trace.max_pages + place] = uint32_t(page);
        }
      }
    }
    before.x += c > 0;
    before.y += c == 0;
  }
}

// --- attend ---------------------------------------------------------------------------------

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

// --- merge ----------------------------------------------------------------------------------

// A state's weight against the maximum of all; an empty one has none.
__device__ float state_weight(float2 state, float top) {
  return state.y > 0 ? exp2f(state.x - top) : 0.0F;
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
  const int begin = first_place(n_out, team.rank, team.size);
  const int end = first_place(n_out, team.rank + 1, team.size);
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
    p.out[size_t(kv_head) * n_out + i] = o / sum;
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
    shared.found[0] = atomicAdd(p.parts_done + kv_head, 1);
    __threadfence();
  }
  __syncthreads();
  if (shared.found[0] != parts - 1) return;
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
    p.out[size_t(kv_head) * n_out + i] = o / sum;
    if (p.trace.lse != nullptr && i % D == 0) {
      p.trace.lse[size_t(p.first_head + kv_head) * p.group + g] = top + log2f(sum);
    }
  }
}

// --- the kernel -----------------------------------------------------------------------------

// grid: how.parts teams of how.team CTAs for each KV head. With more than one part no head selects.
template <int D, bool kWide>
__global__ void __launch_bounds__(kThreads, 2)
    attention_kernel(const __grid_constant__ AttentionParams p, const AttentionLaunch how) {
  extern __shared__ __align__(16) uint8_t memory[];
  Shared<D>& shared = *reinterpret_cast<Shared<D>*>(memory);
  uint32_t* list = reinterpret_cast<uint32_t*>(memory + sizeof(Shared<D>));
  float* scores = reinterpret_cast<float*>(memory + how.scores_offset);
  const Team team = Team::here(how.team);
  team.arrive();
  const int team_idx = int(blockIdx.x) / how.team;
  const int kv_head = team_idx / how.parts, part = team_idx % how.parts;
  const int head_idx = p.first_head + kv_head;
  const int thread = int(threadIdx.x), warp = thread / 32;

  // What the step's beginning wrote is there already: other kernels have waited for it.
  const int n_tokens = *p.n_tokens;
  const HeadStep head = p.heads[head_idx];
  const PageList pages(head, n_tokens);
  // Of a short context fewer parts have enough to do; the others leave.
  const int parts = min(how.parts, max(1, pages.n_pages / kPagesForPart));
  if (part >= parts) return;
  const bool selects = head.n_selected < head.first_local_block - head.sink_blocks;
  const int n_tiles = (head.first_local_block + kTileBlocks - 1) / kTileBlocks;
  const int first_tile = first_place(n_tiles, team.rank, team.size);
  const int end_tile = first_place(n_tiles, team.rank + 1, team.size);
  const int n_closed_groups = (n_tokens - 1) / kGroupTokens;
  if (selects && warp == 0) {
    const size_t first = size_t(first_tile) * kTileBlocks * D;
    const size_t n_bytes = size_t(end_tile - first_tile) * kTileBlocks * D;
    const size_t piece = (n_bytes + 31) / 32;
    const size_t at = piece * (thread % 32);
    if (at < n_bytes) {
      prefetch_l2(p.digests[head_idx].records + first + at, min(piece, n_bytes - at));
    }
  }
  for (int round = 0; round < kRounds; ++round) shared.bins[round][thread] = 0;
  const int cta = part * team.size + team.rank, n_ctas = parts * team.size;  // of the head
  const int first_page = first_place(pages.n_pages, cta, n_ctas);
  const int end_page = first_place(pages.n_pages, cta + 1, n_ctas);
  const auto page_of = [&](int place) {
    return place < pages.n_sink || !selects ? place : place + pages.local_shift;
  };
  for (int place = first_page + thread; place < end_page; place += kThreads) {
    const bool is_selected =
        selects && place >= pages.n_sink && place < pages.n_sink + pages.n_selected;
    if (is_selected) continue;
    list[place - first_page] = p.pages[page_of(place)];
    if (p.trace.pages != nullptr) {
      p.trace.pages[size_t(head_idx) * p.trace.max_pages + place] = uint32_t(page_of(place));
    }
  }
  const size_t new_page = p.pages[(n_tokens - 1) / kPageTokens];
  wait_for_previous();

  prepare_queries(p, kv_head, shared);
  // The last CTA reads the last page.
  if (cta == n_ctas - 1 && warp == kWarps - 1) {
    append_token<D>(p, kv_head, n_tokens - 1, new_page,
                    reinterpret_cast<float*>(shared.ring[warp]));
  }
  __syncthreads();
  team.wait();  // from here on others' shared memory is there

  if (selects) {
    const DigestPlanes digests = p.digests[head_idx];
    const int first_block = first_tile * kTileBlocks, stride = how.max_blocks_per_cta;
    for (int tile = first_tile + warp; tile < end_tile; tile += kWarps) {
      score_tile<D, kWide>(digests, head, n_closed_groups, shared, tile, scores, stride,
                           first_block, p.group);
    }
    __syncthreads();
    // Of the CTA's blocks, those that may be selected.
    const int begin = max(head.sink_blocks - first_block, 0);
    const int end = max(min(head.first_local_block, end_tile * kTileBlocks) - first_block, begin);
    reduce_scores(team, shared, scores, stride, begin, end, p.group);
    if (head.n_selected > 0) {
      const Selection selection =
          find_threshold(team, shared, scores, begin, end, head.n_selected);
      send_selected(p, team, shared, selection, scores, begin, end, first_block, head, pages, list,
                    head_idx);
    }
    team.sync();
  }

  const int n_last = (n_tokens - 1) % kPageTokens + 1;
  float2* trace_state =
      p.trace.page_state == nullptr
          ? nullptr
          : p.trace.page_state +
                (size_t(head_idx) * p.trace.max_pages + first_page) * size_t(p.group);
  attend_pages<D, kWide>(p, kv_head, shared, list, end_page - first_page,
                         pages.n_pages - 1 - first_page, n_last, trace_state);
  let_next_start();
  merge_warps(team, shared, p.group);
  if (parts > 1) {
    merge_parts(p, parts, how.parts, shared, kv_head, part);
    return;
  }
  team.sync();
  merge_team(p, team, shared, kv_head);
  team.sync();  // nobody leaves while others read what it holds
}

using Kernel = void (*)(AttentionParams, AttentionLaunch);

Kernel find_kernel(int head_dim, int group) {
  if (head_dim == 64) return group > 4 ? attention_kernel<64, true> : attention_kernel<64, false>;
  if (head_dim == 128) {
    return group > 4 ? attention_kernel<128, true> : attention_kernel<128, false>;
  }
  return nullptr;
}

int units(int n, int per_unit) { return (n + per_unit - 1) / per_unit; }

// Whether the device takes a team of this size.
bool fits(Kernel kernel, int n_kv_heads, const AttentionLaunch& how, int device) {
  int shared_limit = 0, major = 0;
  cudaDeviceGetAttribute(&shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (how.shared_bytes > size_t(shared_limit) || (how.team > 1 && major < 9)) return false;
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           int(how.shared_bytes)) != cudaSuccess) {
    return false;
  }
  if (how.team == 1) return true;
  if (how.team > 8 && cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed,
                                           1) != cudaSuccess) {
    return false;
  }
  cudaLaunchConfig_t config{};
  config.gridDim = unsigned(n_kv_heads * how.team);
  config.blockDim = kThreads;
  config.dynamicSmemBytes = how.shared_bytes;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {unsigned(how.team), 1, 1};
  config.attrs = &attribute;
  config.numAttrs = 1;
  int n_teams = 0;
  return cudaOccupancyMaxActiveClusters(&n_teams, kernel, &config) == cudaSuccess && n_teams >= 1;
}

// --- trace ----------------------------------------------------------------------------------

// grid: (pages / threads, heads).
__global__ void trace_masses_kernel(AttentionTrace trace, const int* list_pages, int group,
                                    float* masses) {
  const int place = int(blockIdx.x) * kThreads + int(threadIdx.x), head = int(blockIdx.y);
  if (place >= list_pages[head]) return;
  const size_t at = size_t(head) * trace.max_pages + place;
  float mass = 0;
  for (int g = 0; g < group; ++g) {
    const float2 state = trace.page_state[at * group + g];
    mass += state.y * exp2f(state.x - trace.lse[size_t(head) * group + g]);
  }
  masses[at] = mass / float(group);
}

}  // namespace

namespace {

AttentionLaunch launch_for(int team, int parts, int head_dim, int group, int max_tokens,
                           bool selects) {
  AttentionLaunch how;
  how.team = team;
  how.parts = parts;
  // With fewer parts a CTA has less than twice what it has at least.
  const int longest = std::max(units(units(max_tokens, kPageTokens), team * parts) + 1,
                               2 * kPagesForPart);
  how.max_pages_per_cta = (longest + 3) & ~3;
  how.max_blocks_per_cta =
      selects ? (units(units(max_tokens, kPageTokens * kTileBlocks), team) + 1) * kTileBlocks : 0;
  const auto offset = head_dim == 64 ? scores_offset<64> : scores_offset<128>;
  how.scores_offset = offset(how.max_pages_per_cta, how.max_blocks_per_cta, group);
  const auto bytes = head_dim == 64 ? shared_bytes<64> : shared_bytes<128>;
  how.shared_bytes = bytes(how.max_pages_per_cta, how.max_blocks_per_cta, group);
  return how;
}

}  // namespace

bool choose_attention(int head_dim, int n_kv_heads, int group, int max_tokens, int n_sms,
                      AttentionLaunch* selecting, AttentionLaunch* dense) {
  const Kernel kernel = find_kernel(head_dim, group);
  if (kernel == nullptr || group > kMaxGroup) return false;
  int device = 0;
  cudaGetDevice(&device);
  // Two to a multiprocessor: more bytes on the way.
  const int parts = std::max(1, 2 * n_sms / n_kv_heads);
  *dense = launch_for(1, parts, head_dim, group, max_tokens, false);
  for (const int team : {16, 8, 4, 2, 1}) {
    *selecting = launch_for(team, 1, head_dim, group, max_tokens, true);
    const bool is_taken = fits(kernel, n_kv_heads, *selecting, device);
    cudaGetLastError();
    if (!is_taken) continue;
    // What the larger of both asks for holds for both.
    const size_t most = std::max(selecting->shared_bytes, dense->shared_bytes);
    return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(most)) ==
           cudaSuccess;
  }
  return false;
}

cudaError_t launch_attention(const AttentionParams& p, const AttentionLaunch& how, bool early,
                             cudaStream_t stream) {
  return launch(find_kernel(p.head_dim, p.group),
                {unsigned(p.n_kv_heads * how.parts * how.team), kThreads, how.shared_bytes, how.team, early},
                stream, p, how);
}

cudaError_t launch_trace_masses(const AttentionTrace& trace, const int* list_pages, int n_heads,
                                int group, float* masses, cudaStream_t stream) {
  const dim3 grid(unsigned(units(trace.max_pages, kThreads)), unsigned(n_heads));
  return launch(trace_masses_kernel, {grid, kThreads}, stream, trace, list_pages, group, masses);
}

}  // namespace scholia::cuda
