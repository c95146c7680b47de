#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/prefill.cuh"
#include "backend/cuda/kernels/rotary.cuh"

namespace scholia::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kPageTokens = 16;

__device__ __half saturated_half(float x) {
  return __float2half_rn(fminf(fmaxf(x, -65504.0F), 65504.0F));
}

// --- norm -----------------------------------------------------------------------------------

// A CTA for each row.
__global__ void norm_rows_kernel(NormRowsParams p) {
  __shared__ float parts[kWarps];
  const float* x = p.x + size_t(blockIdx.x) * p.n_cols;
  __half* out = p.out + size_t(blockIdx.x) * p.n_cols;
  float squares = 0;
  for (int i = int(threadIdx.x); i < p.n_cols; i += kThreads) squares += x[i] * x[i];
  squares = warp_sum(squares);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = squares;
  __syncthreads();
  squares = 0;
  for (int w = 0; w < kWarps; ++w) squares += parts[w];
  const float factor = 1.0F / sqrtf(squares / float(p.n_cols) + p.eps);
  for (int i = int(threadIdx.x); i < p.n_cols; i += kThreads) {
    out[i] = saturated_half(x[i] * factor * p.weight[i]);
  }
}

// --- heads ----------------------------------------------------------------------------------

// A warp for each head of each token: query heads, then K and V together. grid: (heads / 8, tokens).
__global__ void prefill_heads_kernel(PrefillHeadsParams p) {
  extern __shared__ float rooms[];
  const int D = p.head_dim, warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  const int head = int(blockIdx.x) * kWarps + warp, token = int(blockIdx.y);
  if (head >= p.n_q_heads + p.n_kv_heads) return;
  const bool is_query = head < p.n_q_heads;
  const int kv_head = head - p.n_q_heads;
  float* row = p.qkv + size_t(token) * (p.n_q_heads + 2 * p.n_kv_heads) * D;
  float* x = row + size_t(head) * D;
  const float* bias = is_query ? p.q_bias : p.k_bias;
  if (bias != nullptr) bias += size_t(is_query ? head : kv_head) * D;
  const float* norm = is_query ? p.q_norm : p.k_norm;
  float* room = rooms + size_t(warp) * D;
  float squares = 0;
  for (int d = lane; d < D; d += 32) {
    room[d] = x[d] + (bias != nullptr ? bias[d] : 0.0F);
    squares += room[d] * room[d];
  }
  if (norm != nullptr) {
    const float factor = 1.0F / sqrtf(warp_sum(squares) / float(D) + p.norm_eps);
    for (int d = lane; d < D; d += 32) room[d] *= factor * norm[d];
  }
  __syncwarp();
  const float2* angles = p.angles + size_t(token) * (p.n_rotary_dims / 2);
  if (is_query) {
    __half* q = p.q + (size_t(token) * p.n_q_heads + head) * D;
    for (int d = lane; d < D; d += 32) {
      const float y = rotated(room, d, p.is_neox, p.n_rotary_dims,
                              rotation_of(d, p.is_neox, p.n_rotary_dims, angles));
      x[d] = y;
      q[d] = saturated_half(y);
    }
    return;
  }
  const int position = p.first_position + token;
  const size_t page = p.pages[position / kPageTokens];
  const size_t at = ((page * p.n_kv_heads + kv_head) * kPageTokens + position % kPageTokens) * D;
  const float* v = x + size_t(p.n_kv_heads) * D;
  for (int d = lane; d < D; d += 32) {
    p.k[at + d] = __float2half_rn(rotated(room, d, p.is_neox, p.n_rotary_dims,
                                          rotation_of(d, p.is_neox, p.n_rotary_dims, angles)));
    p.v[at + d] =
        __float2half_rn(v[d] + (p.v_bias != nullptr ? p.v_bias[size_t(kv_head) * D + d] : 0.0F));
  }
}

// --- gate, bias -----------------------------------------------------------------------------

constexpr int kGated = 8;

__device__ float silu(float x) { return x / (1.0F + expf(-x)); }

// 8 values: 16 bytes of each operand.
__global__ void gate_kernel(GateParams p) {
  const size_t i = (size_t(blockIdx.x) * kThreads + threadIdx.x) * kGated;
  if (i >= size_t(p.n) * p.n_ff) return;
  const bool has_pairs = p.up == nullptr;
  const uint4 loaded[2] = {
      *reinterpret_cast<const uint4*>(has_pairs ? p.gate + 2 * i : p.gate + i),
      *reinterpret_cast<const uint4*>(has_pairs ? p.gate + 2 * i + kGated : p.up + i)};
  const auto* values = reinterpret_cast<const __half*>(loaded);
  uint4 packed;
  auto* out = reinterpret_cast<__half*>(&packed);
#pragma unroll
  for (int j = 0; j < kGated; ++j) {
    const float gate = __half2float(has_pairs ? values[2 * j] : values[j]);
    const float up = __half2float(has_pairs ? values[2 * j + 1] : values[kGated + j]);
    out[j] = saturated_half(silu(gate) * up);
  }
  *reinterpret_cast<uint4*>(p.out + i) = packed;
}

__global__ void add_bias_kernel(float* x, const float* bias, size_t n, int n_cols) {
  const size_t i = size_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i < n) x[i] += bias[i % n_cols];
}

unsigned blocks_for(size_t n) { return unsigned((n + kThreads - 1) / kThreads); }

}  // namespace

cudaError_t launch_norm_rows(const NormRowsParams& p, cudaStream_t stream) {
  return launch(norm_rows_kernel, {unsigned(p.n), kThreads}, stream, p);
}

cudaError_t launch_prefill_heads(const PrefillHeadsParams& p, cudaStream_t stream) {
  const unsigned n_heads = unsigned(p.n_q_heads + p.n_kv_heads);
  const dim3 grid((n_heads + kWarps - 1) / kWarps, unsigned(p.n));
  const size_t shared = size_t(kWarps) * p.head_dim * sizeof(float);
  return launch(prefill_heads_kernel, {grid, kThreads, shared}, stream, p);
}

cudaError_t launch_gate(const GateParams& p, cudaStream_t stream) {
  return launch(gate_kernel, {blocks_for(size_t(p.n) * p.n_ff / kGated), kThreads}, stream, p);
}

cudaError_t launch_add_bias(float* x, const float* bias, int n, int n_cols, cudaStream_t stream) {
  const size_t size = size_t(n) * n_cols;
  return launch(add_bias_kernel, {blocks_for(size), kThreads}, stream, x, bias, size, n_cols);
}

}  // namespace scholia::cuda
