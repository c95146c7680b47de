#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/prefill.cuh"
#include "backend/cuda/kernels/rotary.cuh"

namespace scholia::cuda {
namespace {

constexpr int kThreads = 256;
constexpr int kWarps = kThreads / 32;
constexpr int kPageTokens = 16;
constexpr float kLog2e = 1.4426950408889634F;

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

// --- attention ------------------------------------------------------------------------------

constexpr int kTileRows = 64, kTileKeys = 64;
constexpr int kAttentionThreads = 128;

template <int D>
struct AttentionShared {
  __half q[kTileRows * D];
  __half k[2][kTileKeys * D];
  __half v[2][kTileKeys * D];
};

// The keys or values of a tile, page by page; rows from n_valid on are zeros.
template <int D>
__device__ void fetch_tile(const __half* layer, const uint32_t* pages, int first_token, int n_valid,
                           int n_kv_heads, int kv_head, __half* to) {
  constexpr int kChunks = D / 8;
#pragma unroll
  for (int i = 0; i < kTileKeys * kChunks / kAttentionThreads; ++i) {
    const int at = i * kAttentionThreads + int(threadIdx.x), row = at / kChunks, chunk = at % kChunks;
    const bool wanted = row < n_valid;
    const size_t page = wanted ? pages[(first_token + row) / kPageTokens] : 0;
    const __half* from =
        layer + ((page * n_kv_heads + kv_head) * kPageTokens + row % kPageTokens) * D + chunk * 8;
    copy_16_async(shared_address(to + tile_offset<D>(row, chunk)), from, wanted);
  }
}

// A tile of 64 queries of one head, 16 for each of 4 warps, over all keys up to the last query's.
// Online softmax in base 2; scores and output in registers. grid: (query heads, tiles), the last
// tiles first, since they see the most keys.
template <int D>
__global__ void __launch_bounds__(kAttentionThreads, 2)
    prefill_attention_kernel(const __grid_constant__ PrefillAttentionParams p) {
  extern __shared__ __align__(16) uint8_t memory[];
  AttentionShared<D>& shared = *reinterpret_cast<AttentionShared<D>*>(memory);
  constexpr int kSteps = D / 16, kKeyTiles = kTileKeys / 8, kChunks = D / 8;
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32, g = lane / 4, t = lane % 4;
  const int q_head = int(blockIdx.x), kv_head = q_head / (p.n_q_heads / p.n_kv_heads);
  const int first_row = (int(gridDim.y) - 1 - int(blockIdx.y)) * kTileRows;
  const int n_rows = min(kTileRows, p.n - first_row);
  const int n_keys = p.first_position + first_row + n_rows;
  const int n_tiles = (n_keys + kTileKeys - 1) / kTileKeys;

  const size_t q_stride = size_t(p.n_q_heads) * D;
  const __half* q_from = p.q + size_t(first_row) * q_stride + size_t(q_head) * D;
#pragma unroll
  for (int i = 0; i < kTileRows * kChunks / kAttentionThreads; ++i) {
    const int at = i * kAttentionThreads + int(threadIdx.x), row = at / kChunks, chunk = at % kChunks;
    const bool wanted = row < n_rows;
    copy_16_async(shared_address(shared.q + tile_offset<D>(row, chunk)),
                  q_from + (wanted ? row * q_stride : 0) + chunk * 8, wanted);
  }
  const auto fetch = [&](int tile) {
    if (tile < n_tiles) {
      const int first = tile * kTileKeys, n_valid = min(kTileKeys, n_keys - first);
      fetch_tile<D>(p.k, p.pages, first, n_valid, p.n_kv_heads, kv_head, shared.k[tile % 2]);
      fetch_tile<D>(p.v, p.pages, first, n_valid, p.n_kv_heads, kv_head, shared.v[tile % 2]);
    }
    commit_copies();
  };
  fetch(0);

  unsigned q[kSteps][4];
  float o[2 * kSteps][4] = {};
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};  // of rows g and g + 8
  const float scale = kLog2e * rsqrtf(float(D));
  const int my_position = p.first_position + first_row + warp * 16 + g;

  for (int tile = 0; tile < n_tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();
    fetch(tile + 1);
    if (tile == 0) {
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        const int row = warp * 16 + lane % 16;
        load_matrices(q[step],
                      shared_address(shared.q + tile_offset<D>(row, 2 * step + lane / 16)));
      }
    }
    const __half* k = shared.k[tile % 2];
    const __half* v = shared.v[tile % 2];
    float s[kKeyTiles][4] = {};
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int keys = 0; keys < kKeyTiles; keys += 2) {
        unsigned b[4];
        const int matrix = lane / 8;
        const int key = keys * 8 + lane % 8 + (matrix >= 2 ? 8 : 0);
        load_matrices(b, shared_address(k + tile_offset<D>(key, 2 * step + matrix % 2)));
        mma_16x8x16(s[keys], q[step], b[0], b[1]);
        mma_16x8x16(s[keys + 1], q[step], b[2], b[3]);
      }
    }
    // Only tiles that reach beyond a row's own position are masked.
    const int first_key = tile * kTileKeys;
    if (first_key + kTileKeys > p.first_position + first_row) {
#pragma unroll
      for (int keys = 0; keys < kKeyTiles; ++keys) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          const int key = first_key + keys * 8 + 2 * t + i % 2;
          if (key > my_position + 8 * (i / 2)) s[keys][i] = -INFINITY;
        }
      }
    }
    float new_top[2] = {top[0], top[1]};
#pragma unroll
    for (int keys = 0; keys < kKeyTiles; ++keys) {
#pragma unroll
      for (int i = 0; i < 4; ++i) new_top[i / 2] = fmaxf(new_top[i / 2], s[keys][i]);
    }
    float factor[2], minus[2];
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      new_top[r] = fmaxf(new_top[r], __shfl_xor_sync(~0U, new_top[r], 1));
      new_top[r] = fmaxf(new_top[r], __shfl_xor_sync(~0U, new_top[r], 2));
      // Key 0 is in the first tile and every row sees it, so the maximum is finite.
      factor[r] = exp2f((top[r] - new_top[r]) * scale);
      minus[r] = -new_top[r] * scale;
      top[r] = new_top[r];
      sum[r] *= factor[r];
    }
#pragma unroll
    for (int step = 0; step < 2 * kSteps; ++step) {
#pragma unroll
      for (int i = 0; i < 4; ++i) o[step][i] *= factor[i / 2];
    }
#pragma unroll
    for (int keys = 0; keys < kKeyTiles; keys += 2) {
      float w[2][4];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
#pragma unroll
        for (int i = 0; i < 4; ++i) {
          w[j][i] = exp2f(fmaf(s[keys + j][i], scale, minus[i / 2]));
          sum[i / 2] += w[j][i];
        }
      }
      const unsigned a[4] = {pack_halves(w[0][0], w[0][1]), pack_halves(w[0][2], w[0][3]),
                             pack_halves(w[1][0], w[1][1]), pack_halves(w[1][2], w[1][3])};
#pragma unroll
      for (int step = 0; step < kSteps; ++step) {
        unsigned b[4];
        load_matrices_transposed(b, shared_address(v + tile_offset<D>(keys * 8 + lane % 16,
                                                                      2 * step + lane / 16)));
        mma_16x8x16(o[2 * step], a, b[0], b[1]);
        mma_16x8x16(o[2 * step + 1], a, b[2], b[3]);
      }
    }
    __syncthreads();
  }
  wait_copies<0>();

#pragma unroll
  for (int r = 0; r < 2; ++r) {
    sum[r] += __shfl_xor_sync(~0U, sum[r], 1);
    sum[r] += __shfl_xor_sync(~0U, sum[r], 2);
    const int row = warp * 16 + g + 8 * r;
    if (row >= n_rows) continue;
    __half* out = p.out + size_t(first_row + row) * q_stride + size_t(q_head) * D;
#pragma unroll
    for (int step = 0; step < 2 * kSteps; ++step) {
      *reinterpret_cast<unsigned*>(out + step * 8 + 2 * t) =
          pack_halves(o[step][2 * r] / sum[r], o[step][2 * r + 1] / sum[r]);
    }
  }
}

template <int D>
cudaError_t launch_attention_of(const PrefillAttentionParams& p, cudaStream_t stream) {
  const size_t shared = sizeof(AttentionShared<D>);
  const cudaError_t error = cudaFuncSetAttribute(
      prefill_attention_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  if (error != cudaSuccess) return error;
  const dim3 grid(unsigned(p.n_q_heads), unsigned((p.n + kTileRows - 1) / kTileRows));
  return launch(prefill_attention_kernel<D>, {grid, kAttentionThreads, shared}, stream, p);
}

// --- gate, bias -----------------------------------------------------------------------------

__device__ float silu(float x) { return x / (1.0F + expf(-x)); }

__global__ void gate_kernel(GateParams p) {
  const size_t i = size_t(blockIdx.x) * kThreads + threadIdx.x;
  if (i >= size_t(p.n) * p.n_ff) return;
  const float gate = __half2float(p.up == nullptr ? p.gate[2 * i] : p.gate[i]);
  const float up = __half2float(p.up == nullptr ? p.gate[2 * i + 1] : p.up[i]);
  p.out[i] = saturated_half(silu(gate) * up);
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

cudaError_t launch_prefill_attention(const PrefillAttentionParams& p, cudaStream_t stream) {
  if (p.head_dim == 64) return launch_attention_of<64>(p, stream);
  if (p.head_dim == 128) return launch_attention_of<128>(p, stream);
  return cudaErrorInvalidValue;
}

cudaError_t launch_gate(const GateParams& p, cudaStream_t stream) {
  return launch(gate_kernel, {blocks_for(size_t(p.n) * p.n_ff), kThreads}, stream, p);
}

cudaError_t launch_add_bias(float* x, const float* bias, int n, int n_cols, cudaStream_t stream) {
  const size_t size = size_t(n) * n_cols;
  return launch(add_bias_kernel, {blocks_for(size), kThreads}, stream, x, bias, size, n_cols);
}

}  // namespace scholia::cuda
