#include <algorithm>

#include "backend/cuda/kernels/digests.cuh"
#include "backend/cuda/kernels/launch.cuh"

namespace scholia::cuda {
namespace {

constexpr int kPageTokens = 16;
constexpr int kGroupTokens = 2048;
constexpr int kLevels = 15;

// As the processor rounds: every NaN becomes the one quiet NaN.
__device__ __half rounded(float x) {
  if (x != x) return __ushort_as_half((__float_as_uint(x) >> 16 & 0x8000U) | 0x7e00U);
  return __float2half_rn(x);
}

// One channel of one head's stored keys.
struct Channel {
  const __half* k;  // of page 0
  const uint32_t* pages;
  size_t page_elements;
  int head_dim;

  __device__ float at(int token) const {
    const size_t page = pages[token / kPageTokens];
    return __half2float(k[page * page_elements + size_t(token % kPageTokens) * head_dim]);
  }
};

// c and r of a block's channel. No fused multiply-add: the processor has none here.
__device__ float2 digest(int kind, const Channel& k, int first_token, int n_tokens) {
  const float inverse = 1.0F / float(n_tokens);
  float c = 0, r = 0;
  if (kind == 0) {  // mean and standard deviation
    for (int t = 0; t < n_tokens; ++t) c = __fadd_rn(c, k.at(first_token + t));
    c = __fmul_rn(c, inverse);
    for (int t = 0; t < n_tokens; ++t) {
      const float x = __fsub_rn(k.at(first_token + t), c);
      r = __fadd_rn(r, __fmul_rn(x, x));
    }
    return {c, __fsqrt_rn(__fmul_rn(r, inverse))};
  }
  c = r = k.at(first_token);
  for (int t = 1; t < n_tokens; ++t) {
    const float x = k.at(first_token + t);
    c = x < c ? x : c;
    r = x > r ? x : r;
  }
  const float least = c, most = r;
  c = __fmul_rn(__fadd_rn(most, least), 0.5F);
  r = __fmul_rn(__fsub_rn(most, least), 0.5F);
  if (kind == 1) return {c, r};
  r = 0;  // mean distance from the middle
  for (int t = 0; t < n_tokens; ++t) {
    r = __fadd_rn(r, fabsf(__fsub_rn(k.at(first_token + t), c)));
  }
  return {c, __fmul_rn(r, inverse)};
}

__device__ Channel channel_of(const DigestParams& p, int head, int d) {
  const int layer = head / p.n_kv_heads, kv_head = head % p.n_kv_heads;
  const size_t page_elements = size_t(p.n_kv_heads) * kPageTokens * p.head_dim;
  return {p.pool + size_t(layer) * 2 * p.layer_elements +
              size_t(kv_head) * kPageTokens * p.head_dim + d,
          p.pages, page_elements, p.head_dim};
}

struct Range {
  float least, most;
  __device__ void widen(float x) {
    least = x < least ? x : least;
    most = x > most ? x : most;
  }
};

// Scale and zero as stored, and the level of a value with them.
struct Quantiser {
  __half scale, zero;
  float s, z;

  __device__ static Quantiser of(const Range& range) {
    Quantiser q;
    q.scale = rounded(__fdiv_rn(__fsub_rn(range.most, range.least), float(kLevels)));
    q.zero = rounded(range.least);
    q.s = __half2float(q.scale);
    q.z = __half2float(q.zero);
    return q;
  }
  __device__ unsigned level(float value) const {
    const float x = __fadd_rn(__fdiv_rn(__fsub_rn(value, z), s), 0.5F);
    const float level = s > 0 && x > 0 ? x : 0;
    return unsigned(int(level < kLevels + 0.5F ? level : float(kLevels)));
  }
};

// One closed group of one head: thread i owns channels i and i + D / 2, so it packs whole bytes.
// The digests are computed twice, first for their range. grid: (groups, heads); block: D / 2.
__global__ void close_groups_kernel(DigestParams p, int first_group) {
  const int head = int(blockIdx.y), group = first_group + int(blockIdx.x), i = int(threadIdx.x);
  const int D = p.head_dim, half = D / 2, block_tokens = p.block_tokens[head];
  const int n_blocks = kGroupTokens / block_tokens;
  const DigestPlanes planes = p.planes[head];
  const Channel channels[2] = {channel_of(p, head, i), channel_of(p, head, i + half)};
  const int first_token = group * kGroupTokens;

  Range ranges[2][2];  // [channel][c, r]
  for (int block = 0; block < n_blocks; ++block) {
    for (int j = 0; j < 2; ++j) {
      const float2 x = digest(p.kind, channels[j], first_token + block * block_tokens, block_tokens);
      if (block == 0) ranges[j][0] = {x.x, x.x}, ranges[j][1] = {x.y, x.y};
      ranges[j][0].widen(x.x);
      ranges[j][1].widen(x.y);
    }
  }
  const Quantiser quantisers[2][2] = {
      {Quantiser::of(ranges[0][0]), Quantiser::of(ranges[0][1])},
      {Quantiser::of(ranges[1][0]), Quantiser::of(ranges[1][1])}};
  __half* scales = planes.scales + size_t(group) * 4 * D;
  for (int j = 0; j < 2; ++j) {
    for (int vector = 0; vector < 2; ++vector) {
      scales[(2 * vector) * D + i + j * half] = quantisers[j][vector].scale;
      scales[(2 * vector + 1) * D + i + j * half] = quantisers[j][vector].zero;
    }
  }
  for (int block = 0; block < n_blocks; ++block) {
    unsigned bytes[2] = {0, 0};
    for (int j = 0; j < 2; ++j) {
      const float2 x = digest(p.kind, channels[j], first_token + block * block_tokens, block_tokens);
      bytes[0] |= quantisers[j][0].level(x.x) << (4 * j);
      bytes[1] |= quantisers[j][1].level(x.y) << (4 * j);
    }
    uint8_t* record = planes.records + (size_t(group) * n_blocks + block) * D;
    record[i] = uint8_t(bytes[0]);
    record[half + i] = uint8_t(bytes[1]);
  }
}

// One block of one head's open group, a thread for each channel. grid: (blocks of the smallest size,
// heads); block: D.
__global__ void open_blocks_kernel(DigestParams p, int first_token) {
  const int head = int(blockIdx.y), d = int(threadIdx.x), D = p.head_dim;
  const int block_tokens = p.block_tokens[head];
  const int block = first_token / block_tokens + int(blockIdx.x);
  if ((block + 1) * block_tokens > p.to_tokens) return;
  const float2 x = digest(p.kind, channel_of(p, head, d), block * block_tokens, block_tokens);
  const int in_group = block % (kGroupTokens / block_tokens);
  __half* record = p.planes[head].open + size_t(in_group) * 2 * D;
  record[d] = rounded(x.x);
  record[D + d] = rounded(x.y);
}

}  // namespace

cudaError_t launch_build_digests(const DigestParams& p, cudaStream_t stream) {
  const int n_heads = p.n_layers * p.n_kv_heads;
  const int first_group = p.from_tokens / kGroupTokens, end_group = p.to_tokens / kGroupTokens;
  if (end_group > first_group) {
    const dim3 grid(unsigned(end_group - first_group), unsigned(n_heads));
    const cudaError_t error =
        launch(close_groups_kernel, {grid, unsigned(p.head_dim / 2)}, stream, p, first_group);
    if (error != cudaSuccess) return error;
  }
  const int first_token = std::max(p.from_tokens, end_group * kGroupTokens);
  // A block that was begun before from_tokens may have closed since.
  const int n_blocks = p.to_tokens / kPageTokens - first_token / kPageTokens;
  if (n_blocks <= 0) return cudaSuccess;
  const LaunchShape shape{dim3(unsigned(n_blocks), unsigned(n_heads)), dim3(unsigned(p.head_dim))};
  return launch(open_blocks_kernel, shape, stream, p, first_token);
}

}  // namespace scholia::cuda
