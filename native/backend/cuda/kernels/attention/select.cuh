// The best kv_blocks by their scores: ties to the lower index.
//
// Three exchanges of the team: statistics for the softmax, counts of scores, selected pages. Counting
// 9 bits of the scores leaves a few candidates for the last places, whose whole scores all CTAs get with
// the pages; only where there are too many of them, more bits are counted.
#pragma once

#include "backend/cuda/kernels/attention/page_list.cuh"
#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/team.cuh"

namespace scholia::cuda::attention {

// The CTA's blocks that may be selected, [begin, end) of those it scored; a thread has a few in a row.
struct BlockShare {
  int begin, end, mine, mine_end;

  __device__ BlockShare(int begin, int end) : begin(begin), end(end) {
    const int per_thread = (end - begin + kThreads - 1) / kThreads;
    mine = min(begin + int(threadIdx.x) * per_thread, end);
    mine_end = min(mine + per_thread, end);
  }
};

// (maximum, sum of exp(score - maximum)) of 16 parts, one in each lane of a half warp, together.
__device__ inline float2 merge_sixteen(float2 part) {
  float top = part.x;
#pragma unroll
  for (int lanes = 8; lanes > 0; lanes /= 2) top = fmaxf(top, __shfl_xor_sync(~0U, top, lanes));
  float sum = part.y == 0 ? 0.0F : part.y * __expf(part.x - top);  // without scores nothing; NaN stays
#pragma unroll
  for (int lanes = 8; lanes > 0; lanes /= 2) sum += __shfl_xor_sync(~0U, sum, lanes);
  return {top, sum};
}
static_assert(kWarps == 16 && kMaxTeam == 16);

// Softmax over all free blocks for each query head, then the mean over the group, as keys whose
// order is the scores': 0 for NaN. In place of the first query head's scores, each by its thread.
template <int D>
__device__ void reduce_scores(const Team& team, Shared<D>& shared, float* scores, int stride,
                              const BlockShare& blocks, int group) {
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 16);
  __syncthreads();
  if (warp < group) {
    const float2 mine = merge_sixteen(shared.warp_scores[warp][lane]);
    if (threadIdx.x % 32 < unsigned(team.size)) {
      team.send(&shared.score_stats[warp][team.rank], mine, lane, shared.of_scores);
    }
  }
  team.receive(shared.of_scores, team.size * group * int(sizeof(float2)));
  if (warp < group) {
    const float2 all =
        merge_sixteen(lane < team.size ? shared.score_stats[warp][lane] : float2{kNone, 0});
    if (lane == 0) shared.softmax[warp] = {all.x, 1.0F / (all.y * float(group))};
  }
  __syncthreads();
#pragma unroll 1
  for (int i = blocks.mine; i < blocks.mine_end; ++i) {
    float mean = 0;
#pragma unroll 4
    for (int g = 0; g < group; ++g) {
      mean += __expf(scores[g * stride + i] - shared.softmax[g].x) * shared.softmax[g].y;
    }
    // A mean is at most 1, and a little for rounding: its two highest bits say nothing.
    const unsigned key = mean == mean ? __float_as_uint(mean) * 4 + 1 : 0;
    scores[i] = __uint_as_float(key);
  }
}

// Sum over the threads before this one, and (through total) over all.
__device__ inline int2 scan_before(int2 x, int (*warp_sums)[kWarps], int2& total) {
  const int warp = int(threadIdx.x / 32), lane = int(threadIdx.x % 32);
  int2 sum = x;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int a = __shfl_up_sync(~0U, sum.x, lanes), b = __shfl_up_sync(~0U, sum.y, lanes);
    if (lane >= lanes) sum.x += a, sum.y += b;
  }
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

// The keys selected are those whose bits from `shift` on are more than `threshold`, and n_wanted of
// the n_equal equal ones.
struct Selection {
  unsigned threshold = 0;
  int shift = 32;
  int n_above = 0, n_equal = 0, n_wanted = 0;
  int above_before = 0, equal_before = 0;  // in the CTAs before this one
  bool has_candidates = false;             // else the first of the equal ones by index are selected

  __device__ int compare(unsigned key) const {
    key >>= shift;
    return key > threshold ? 1 : key == threshold ? 0 : -1;
  }
};

// The CTA's counts to all CTAs, and theirs here.
template <int D>
__device__ void send_bins(const Team& team, Shared<D>& shared, int round) {
  constexpr int kBytes = int(sizeof shared.bins[0]);
  team.publish();
  __syncthreads();
  if (team.size == 1) return;
  const int other = int(threadIdx.x);
  if (other < team.size) {
    team.send_bytes(shared.bins_of(team, round, team.rank), shared.bins[round], kBytes, other,
                    shared.of_bins[round]);
  }
  team.receive(shared.of_bins[round], team.size * kBytes);
}

// Where the n best keys of the whole team end: counted kBinBits at a time, in bins that all CTAs get,
// until the equal ones are all wanted, or few (candidate_words for each), or equal in all bits.
template <int D>
__device__ Selection find_threshold(const Team& team, Shared<D>& shared, const float* keys,
                                    const BlockShare& blocks, int n, int candidate_words) {
  const int thread = int(threadIdx.x), word = kThreads - 1 - thread;  // thread 0 has the highest bins
  Selection found;
  found.n_wanted = n;
#pragma unroll 1
  for (int round = 0; round < kRounds; ++round) {
    const int shift = max(32 - kBinBits * (round + 1), 0), n_bins = 1 << (found.shift - shift);
#pragma unroll 1
    for (int i = blocks.mine; i < blocks.mine_end; ++i) {
      const unsigned key = __float_as_uint(keys[i]);
      if (round > 0 && found.compare(key) != 0) continue;
      const int bin = int((key >> shift) % unsigned(n_bins));
      atomicAdd(&shared.bins[round][bin / 2], bin % 2 == 0 ? 1U : 0x10000U);
    }
    send_bins(team, shared, round);
    int2 low{0, 0}, high{0, 0};  // of both bins: in all CTAs, in those before
#pragma unroll 4
    for (int other = 0; other < team.size; ++other) {
      const unsigned counts = shared.bins_of(team, round, other)[word];
      const int a = int(counts % 0x10000U), b = int(counts / 0x10000U);
      low.x += a, high.x += b;
      if (other < team.rank) low.y += a, high.y += b;
    }
    int2 total;
    const int2 above_high =
        scan_before({low.x + high.x, low.y + high.y}, shared.warp_sums[round], total);
    const int2 above_low{above_high.x + high.x, above_high.y + high.y};
    const auto take_if_last = [&](const int2& above, const int2& count, int bin) {
      if (above.x >= found.n_wanted || above.x + count.x < found.n_wanted) return;
      shared.found[round] = {bin, above.x, count.x, above.y, count.y};
    };
    take_if_last(above_high, high, 2 * word + 1);
    take_if_last(above_low, low, 2 * word);
    __syncthreads();
    const BinFound& bin = shared.found[round];
    found.threshold = found.threshold << (found.shift - shift) | unsigned(bin.bin);
    found.shift = shift;
    found.n_above += bin.n_above;
    found.n_wanted -= bin.n_above;
    found.n_equal = bin.n_equal;
    found.above_before += bin.above_before;
    found.equal_before = bin.equal_before;
    if (found.n_equal == found.n_wanted || shift == 0) break;
    found.has_candidates = found.n_equal * candidate_words <= kCandidateWords;
    if (found.has_candidates) break;
  }
  return found;
}

// Brings the selected blocks' pages to the CTAs that will read them.
template <int D>
class SelectedPages {
 public:
  // table: pages of the CTA's blocks from first_block on; my_list: of the places from first_page to
  // end_page.
  __device__ SelectedPages(const AttentionParams& p, const Team& team, Shared<D>& shared,
                           const PageList& list, const Shares& shares, int per_block,
                           uint32_t* my_list, int first_page, int end_page, int head_idx)
      : p_(p), team_(team), shared_(shared), list_(list), shares_(shares), per_block_(per_block), my_list_(my_list),
        first_page_(first_page), end_page_(end_page), head_idx_(head_idx) {}

  __device__ int candidate_words() const { return (2 + per_block_ + 3) / 4 * 4; }

  // What is selected whatever the candidates' scores, to its readers; candidates to all CTAs. And the
  // same from them.
  __device__ void exchange(const Selection& selection, const float* keys, const BlockShare& blocks,
                           const uint32_t* table, int first_block) {
    int2 counts{0, 0}, total;
#pragma unroll 1
    for (int i = blocks.mine; i < blocks.mine_end; ++i) {
      const int c = selection.compare(__float_as_uint(keys[i]));
      counts.x += c > 0;
      counts.y += c == 0;
    }
    int2 before = scan_before(counts, shared_.warp_sums[kRounds], total);
    before.x += selection.above_before;
    before.y += selection.equal_before;
#pragma unroll 1
    for (int i = blocks.mine; i < blocks.mine_end; ++i) {
      const unsigned key = __float_as_uint(keys[i]);
      const int c = selection.compare(key), block = first_block + i;
      const uint32_t* pages = table + i * per_block_;
      if (c > 0) {
        send_block(before.x++, block, pages);
      } else if (c == 0 && selection.has_candidates) {
        send_candidate(before.y++, key, block, pages);
      } else if (c == 0) {
        const int rank = before.y++;
        if (rank < selection.n_wanted) send_block(selection.n_above + rank, block, pages);
      }
    }
    const int n_sure = selection.n_above + (selection.has_candidates ? 0 : selection.n_wanted);
    const int n_pages = max(min(end_page_, place_of(n_sure)) - max(first_page_, place_of(0)), 0);
    const int n_candidates = selection.has_candidates ? selection.n_equal : 0;
    team_.receive(shared_.of_pages, 4 * (n_pages + n_candidates * candidate_words()));
  }

  // The best candidates, of which each CTA keeps what it will read.
  __device__ void decide(const Selection& selection) {
    if (!selection.has_candidates) return;
    const int n_words = candidate_words();
    constexpr int kLanes = 4;  // for each candidate
    const int lane = int(threadIdx.x % kLanes);
#pragma unroll 1
    for (int first = 0; first < selection.n_equal; first += kThreads / kLanes) {
      const int c = min(first + int(threadIdx.x / kLanes), selection.n_equal - 1);
      const unsigned* mine = shared_.candidates + c * n_words;
      int n_better = 0;
#pragma unroll 4
      for (int other = lane; other < selection.n_equal; other += kLanes) {
        const unsigned key = shared_.candidates[other * n_words];
        n_better += key > mine[0] || (key == mine[0] && other < c);
      }
      n_better += __shfl_xor_sync(~0U, n_better, 1);
      n_better += __shfl_xor_sync(~0U, n_better, 2);
      const bool is_beyond = first + int(threadIdx.x / kLanes) >= selection.n_equal;
      if (lane > 0 || is_beyond || n_better >= selection.n_wanted) continue;
      const int first_place = place_of(selection.n_above + n_better);
#pragma unroll 1
      for (int j = 0; j < per_block_; ++j) {
        const int place = first_place + j;
        if (place < first_page_ || place >= end_page_) continue;
        my_list_[place - first_page_] = mine[2 + j];
        trace(place, int(mine[1]) * per_block_ + j);
      }
    }
    __syncthreads();
  }

 private:
  __device__ int place_of(int rank) const { return list_.n_sink + rank * per_block_; }

  __device__ void send_block(int rank, int block, const uint32_t* pages) {
    int owner = shares_.owner(place_of(rank));
#pragma unroll 1
    for (int j = 0; j < per_block_; ++j) {
      const int place = place_of(rank) + j;
      if (place == shares_.first(owner + 1)) ++owner;
      team_.send(my_list_ + place - shares_.first(owner), pages[j], owner, shared_.of_pages);
      trace(place, block * per_block_ + j);
    }
  }

  __device__ void send_candidate(int slot, unsigned key, int block, const uint32_t* pages) {
    uint4* to = reinterpret_cast<uint4*>(shared_.candidates + slot * candidate_words());
    const auto page = [&](int j) { return j < per_block_ ? pages[j] : 0U; };
    uint4 words{key, unsigned(block), page(0), page(1)};
#pragma unroll 1
    for (int j = 2;; j += 4) {
#pragma unroll 1
      for (int other = 0; other < team_.size; ++other) team_.send(to, words, other, shared_.of_pages);
      if (j >= per_block_) break;
      ++to;
      words = {page(j), page(j + 1), page(j + 2), page(j + 3)};
    }
  }

  __device__ void trace(int place, int page) const {
    if (p_.trace.pages == nullptr) return;
    p_.trace.pages[size_t(head_idx_) * p_.trace.max_pages + place] = uint32_t(page);
  }

  const AttentionParams& p_;
  const Team& team_;
  Shared<D>& shared_;
  const PageList& list_;
  const Shares& shares_;
  int per_block_;
  uint32_t* my_list_;
  int first_page_, end_page_, head_idx_;
};

}  // namespace scholia::cuda::attention
