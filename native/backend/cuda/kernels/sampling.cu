#include "backend/cuda/kernels/sampling.cuh"

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/team.cuh"

namespace scholia::cuda {
namespace {

using Weight = unsigned long long;

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr int kTeam = 8;  // CTAs of a cluster on Hopper and later, else one
constexpr int kBins = 256;
constexpr int kRounds = 4;
constexpr int kWalks = 3;  // top-k, top-p, draw

// How far below the best a logit is, in steps of 2^-26, so that 8 bits at a time spread over the bins.
// Beyond 64 it is too far to be chosen, whatever the temperature that anyone would set.
constexpr float kSteps = 67108864.0F;
constexpr unsigned kFar = ~0U;
// Weights are integers, whose sums do not depend on the order: 2^40 for the best.
constexpr float kBestWeight = 1099511627776.0F;

struct Shared {
  Weight bins[kWalks][kRounds][kBins];
  Weight sums[2];  // of this CTA: before top-p, before the draw
  float top;       // of this CTA
  int n_equal;     // of this CTA, at the place of the draw
  Weight warp_sums[kWarps];
  float warp_tops[kWarps];
  int bin;  // found in a round, -1: none
  Weight above;
};

// A share of the vocabulary, in order of ids, and what all CTAs know of it.
struct Candidates {
  const float* logits;
  int begin, end;  // of this CTA
  float top;       // of all

  __device__ unsigned distance(int i) const {
    const float steps = (top - __ldg(logits + i)) * kSteps;
    return steps < 4294967040.0F ? unsigned(steps) : kFar;  // the largest float below 2^32
  }
};

// What is left of the candidates: those nearer than `last`, and of the ones there the first n_equal.
struct Cut {
  unsigned last = kFar;
  int n_equal = 0;
};

struct One {
  __device__ Weight operator()(unsigned) const { return 1; }
};
struct Probability {
  float scale;  // 1 / temperature
  __device__ Weight operator()(unsigned distance) const {
    return Weight(kBestWeight * expf(-float(distance) / kSteps * scale));
  }
};

__device__ Weight warp_sum(Weight x) {
#pragma unroll
  for (int lanes = 16; lanes > 0; lanes /= 2) x += __shfl_xor_sync(~0U, x, lanes);
  return x;
}

__device__ float find_top(const Team& team, Shared& shared, const float* logits, int begin,
                          int end) {
  const int warp = int(threadIdx.x) / 32;
  float top = -INFINITY;
  for (int i = begin + int(threadIdx.x); i < end; i += kThreads) top = fmaxf(top, __ldg(logits + i));
  top = warp_max(top);
  if (threadIdx.x % 32 == 0) shared.warp_tops[warp] = top;
  __syncthreads();
  for (int w = 0; w < kWarps; ++w) top = fmaxf(top, shared.warp_tops[w]);
  if (threadIdx.x == 0) shared.top = top;
  team.sync();
  for (int other = 0; other < team.size; ++other) top = fmaxf(top, *team.at(&shared.top, other));
  return top;
}

// Sum of the weights of what is left, over the team. slot: of shared.sums.
__device__ Weight sum_up(const Team& team, Shared& shared, const Candidates& all, const Cut& kept,
                         const Probability& weight, int slot) {
  Weight sum = 0;
  for (int i = all.begin + int(threadIdx.x); i < all.end; i += kThreads) {
    const unsigned distance = all.distance(i);
    if (distance < kept.last) sum += weight(distance);
  }
  sum = warp_sum(sum);
  if (threadIdx.x % 32 == 0) shared.warp_sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) {
    sum = 0;
    for (int w = 0; w < kWarps; ++w) sum += shared.warp_sums[w];
    shared.sums[slot] = sum;
  }
  team.sync();
  sum = Weight(kept.n_equal) * weight(kept.last);
  for (int other = 0; other < team.size; ++other) sum += *team.at(&shared.sums[slot], other);
  return sum;
}

// Finds the first bin with which the sum from the nearest on reaches target: shared.bin, -1 where none
// does, and in shared.above the sum before it. Threads 0 to 255 have a bin each.
__device__ void find_bin(const Team& team, Shared& shared, const Weight* bins, Weight target) {
  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32;
  Weight mine = 0;
  if (thread < kBins) {
    for (int other = 0; other < team.size; ++other) mine += *team.at(bins + thread, other);
  }
  Weight sum = mine;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const Weight before = __shfl_up_sync(~0U, sum, lanes);
    if (lane >= lanes) sum += before;
  }
  if (lane == 31) shared.warp_sums[warp] = sum;
  if (thread == 0) shared.bin = -1;
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += shared.warp_sums[w];
  if (thread < kBins && sum >= target && sum - mine < target) {
    shared.bin = thread;
    shared.above = sum - mine;
  }
  if (thread == kBins - 1 && sum < target) shared.above = sum;
  __syncthreads();
}

// Walks from the best candidate down until the sum of weights reaches target, or all that is left is
// passed: the place reached, and what lies before it.
template <typename WeightOf>
__device__ Cut walk(const Team& team, Shared& shared, const Candidates& all, const Cut& kept,
                    const WeightOf& weight, Weight target, int walk_idx) {
  unsigned found = 0;
  Weight above = 0;
  for (int round = 0; round < kRounds; ++round) {
    const int shift = 24 - 8 * round;
    Weight* bins = shared.bins[walk_idx][round];
    for (int i = all.begin + int(threadIdx.x); i < all.end; i += kThreads) {
      const unsigned distance = all.distance(i);
      if (distance >= kept.last || (round > 0 && distance >> (shift + 8) != found)) continue;
      const Weight w = weight(distance);
      if (w > 0) atomicAdd(&bins[(distance >> shift) % kBins], w);
    }
    team.sync();
    find_bin(team, shared, bins, target - above);
    const int bin = shared.bin;
    above += shared.above;
    __syncthreads();
    if (bin < 0) {  // in the first round: those at the edge of what is left are needed
      found = kept.last;
      break;
    }
    found = found << 8 | unsigned(bin);
  }
  const Weight each = max(weight(found), Weight(1));
  const Weight n_equal = (target - above + each - 1) / each;
  return {found, found == kept.last ? int(min(n_equal, Weight(kept.n_equal))) : int(n_equal)};
}

// The id of the n-th candidate at this distance; one thread of one CTA writes it.
__device__ void write_token(const Team& team, Shared& shared, const Candidates& all, const Cut& at,
                            int* token) {
  const int thread = int(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int per_thread = (all.end - all.begin + kThreads - 1) / kThreads;
  const int begin = min(all.begin + thread * per_thread, all.end);
  const int end = min(begin + per_thread, all.end);
  int n = 0;
  for (int i = begin; i < end; ++i) n += all.distance(i) == at.last;
  int sum = n;
#pragma unroll
  for (int lanes = 1; lanes < 32; lanes *= 2) {
    const int before = __shfl_up_sync(~0U, sum, lanes);
    if (lane >= lanes) sum += before;
  }
  if (lane == 31) shared.warp_sums[warp] = Weight(sum);
  __syncthreads();
  for (int w = 0; w < warp; ++w) sum += int(shared.warp_sums[w]);
  if (thread == kThreads - 1) shared.n_equal = sum;
  team.sync();
  int rank = at.n_equal - 1 - (sum - n);  // of the one sought, among this thread's
  for (int other = 0; other < team.rank; ++other) rank -= *team.at(&shared.n_equal, other);
  if (rank < 0 || rank >= n) return;
  for (int i = begin; i < end; ++i) {
    if (all.distance(i) == at.last && rank-- == 0) *token = i;
  }
}

__device__ Weight share_of(Weight sum, double share) {
  return max(Weight(1), min(sum, Weight(ceil(double(sum) * share))));
}

// grid: one team, each CTA with its share of the vocabulary.
__global__ void __launch_bounds__(kThreads) sample_kernel(SampleParams p, int team_size) {
  __shared__ Shared shared;
  const Team team = Team::here(team_size);
  for (int i = int(threadIdx.x); i < kWalks * kRounds * kBins; i += kThreads) {
    (&shared.bins[0][0][0])[i] = 0;
  }
  wait_for_previous();
  const SamplingStep step = *p.step;
  Candidates all;
  all.logits = p.logits;
  all.begin = int(int64_t(p.n_vocab) * team.rank / team.size);
  all.end = int(int64_t(p.n_vocab) * (team.rank + 1) / team.size);
  all.top = find_top(team, shared, p.logits, all.begin, all.end);

  Cut kept;
  if (step.temperature <= 0) {
    kept = {0, 1};
  } else {
    if (step.top_k > 0 && step.top_k < p.n_vocab) {
      kept = walk(team, shared, all, kept, One{}, Weight(step.top_k), 0);
    }
    if (step.top_p < 1) {
      const Probability probability{1};
      const Weight sum = sum_up(team, shared, all, kept, probability, 0);
      const Cut cut = walk(team, shared, all, kept, probability, share_of(sum, step.top_p), 1);
      kept = cut;
    }
    if (step.min_p > 0) {
      const float steps = -logf(step.min_p) * kSteps;
      const unsigned first_out = steps < 4294967040.0F ? unsigned(fmaxf(steps, 0)) + 1 : kFar;
      if (first_out <= kept.last) kept = {first_out, 0};
    }
    const Probability probability{1.0F / step.temperature};
    const Weight sum = sum_up(team, shared, all, kept, probability, 1);
    kept = walk(team, shared, all, kept, probability, share_of(sum, step.random), 2);
  }
  write_token(team, shared, all, kept, p.token);
  team.sync();  // nobody leaves while others read what it holds
}

}  // namespace

cudaError_t launch_sample(const SampleParams& p, bool early, cudaStream_t stream) {
  int device = 0, major = 0;
  if (const cudaError_t error = cudaGetDevice(&device); error != cudaSuccess) return error;
  if (const cudaError_t error =
          cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
      error != cudaSuccess) {
    return error;
  }
  const int team = major >= 9 ? kTeam : 1;
  return launch(sample_kernel, {unsigned(team), kThreads, 0, team, early}, stream, p, team);
}

}  // namespace scholia::cuda
