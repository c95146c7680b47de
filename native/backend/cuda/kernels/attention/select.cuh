// The best kv_blocks by their scores: ties to the lower index.
#pragma once

#include "backend/cuda/kernels/attention/page_list.cuh"
#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/team.cuh"

namespace scholia::cuda::attention {

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
    // A mean is at most 1, and a little for rounding: its two highest bits say nothing.
    const unsigned key = mean == mean ? __float_as_uint(mean) * 4 + 1 : 0;
    scores[i] = __uint_as_float(key);
  }
  __syncthreads();
}

// Sum over the threads before this one, and (through total) over all.
__device__ inline int2 scan_before(int2 x, int (*warp_sums)[kWarps], int2& total) {
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
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
      shared.found[round][0] = bin;
      shared.found[round][1] = n - above.x;
      shared.found[round][2] = above.y;
      shared.found[round][3] = counts.x == n - above.x ? -1 - counts.y : counts.y;
    }
    __syncthreads();
    found.threshold = found.threshold << 8 | unsigned(shared.found[round][0]);
    found.shift = shift;
    n = shared.found[round][1];
    found.above_before += shared.found[round][2];
    const int equal = shared.found[round][3];
    found.equal_before = equal < 0 ? -1 - equal : equal;
    if (equal < 0) break;  // all of the bin are wanted
  }
  found.n_equal = n;
  return found;
}

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

}  // namespace scholia::cuda::attention
