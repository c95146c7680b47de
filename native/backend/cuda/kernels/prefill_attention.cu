// A prompt's causal attention on any GPU: products of a warp, tiles of keys and values by asynchronous
// copies, the next on its way.
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/mma.cuh"
#include "backend/cuda/kernels/prefill_attention.cuh"
#include "backend/cuda/kernels/prefill_rows.cuh"

namespace scholia::cuda {
namespace {

constexpr int kPageTokens = 16;
constexpr int kThreads = 128, kWarps = kThreads / 32;
// A warp has 32 query rows, so that each matrix loaded from shared memory serves four products; with 32
// keys to a tile scores, output and addresses find room in registers.
constexpr int kRowTiles = 2, kWarpRows = kRowTiles * 16, kTileRows = kWarps * kWarpRows;
constexpr int kTileKeys = 32;

template <int D>
struct Shared {
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
  for (int i = 0; i < kTileKeys * kChunks / kThreads; ++i) {
    const int at = i * kThreads + int(threadIdx.x), row = at / kChunks, chunk = at % kChunks;
    const bool wanted = row < n_valid;
    const size_t page = wanted ? pages[(first_token + row) / kPageTokens] : 0;
    const __half* from =
        layer + ((page * n_kv_heads + kv_head) * kPageTokens + row % kPageTokens) * D + chunk * 8;
    copy_16_async(shared_address(to + tile_offset<D>(row, chunk)), from, wanted);
  }
}

// The query rows of a tile; rows from n_rows on are zeros.
template <int D>
__device__ void fetch_queries(const PrefillAttentionParams& p, int first_row, int q_head,
                              __half* to) {
  constexpr int kChunks = D / 8;
  const size_t stride = size_t(p.n_q_heads) * D;
  const __half* from = p.q + size_t(q_head) * D;
#pragma unroll
  for (int i = 0; i < kTileRows * kChunks / kThreads; ++i) {
    const int at = i * kThreads + int(threadIdx.x), row = at / kChunks, chunk = at % kChunks;
    const bool wanted = first_row + row < p.n;
    copy_16_async(shared_address(to + tile_offset<D>(row, chunk)),
                  from + (wanted ? size_t(first_row + row) * stride : 0) + chunk * 8, wanted);
  }
}

// Where a lane reads matrices of a tile: columns 16 i on are at `at` ^ 32 i, since chunks are exchanged
// by the row alone and rows begin at multiples of their length.
template <int D>
__device__ __forceinline__ unsigned lane_address(const __half* tile, int row, int chunk) {
  return shared_address(tile + tile_offset<D>(row, chunk));
}
template <int D>
constexpr unsigned kRowBytes = D * sizeof(__half);

// s [row tiles][keys] = q k^T.
template <int D>
__device__ __forceinline__ void multiply_keys(float (&s)[kRowTiles][kTileKeys / 2], unsigned q,
                                              unsigned k) {
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    unsigned a[kRowTiles][4];
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) {
      load_matrices(a[tile], (q ^ unsigned(32 * step)) + unsigned(tile) * 16 * kRowBytes<D>);
    }
#pragma unroll
    for (int keys = 0; keys < kTileKeys; keys += 16) {
      unsigned b[4];
      load_matrices(b, (k ^ unsigned(32 * step)) + unsigned(keys) * kRowBytes<D>);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        mma_16x8x16(&s[tile][keys / 2], a[tile], b[0], b[1]);
        mma_16x8x16(&s[tile][keys / 2 + 4], a[tile], b[2], b[3]);
      }
    }
  }
}

// o [row tiles][D] += weights v.
template <int D>
__device__ __forceinline__ void multiply_values(float (&o)[kRowTiles][D / 2],
                                                const float (&s)[kRowTiles][kTileKeys / 2],
                                                unsigned v) {
#pragma unroll
  for (int keys = 0; keys < kTileKeys / 16; ++keys) {
    unsigned weights[kRowTiles][4];
#pragma unroll
    for (int tile = 0; tile < kRowTiles; ++tile) pack_weights(s[tile], keys, weights[tile]);
#pragma unroll
    for (int step = 0; step < D / 16; ++step) {
      unsigned b[4];
      load_matrices_transposed(b, (v ^ unsigned(32 * step)) + unsigned(keys) * 16 * kRowBytes<D>);
#pragma unroll
      for (int tile = 0; tile < kRowTiles; ++tile) {
        mma_16x8x16(&o[tile][8 * step], weights[tile], b[0], b[1]);
        mma_16x8x16(&o[tile][8 * step + 4], weights[tile], b[2], b[3]);
      }
    }
  }
}

// A tile of queries of one head over all keys up to the last query's. Online softmax in base 2; scores
// and output in registers. grid: (query heads, tiles), the last tiles first, since they see the most keys.
template <int D>
__global__ void __launch_bounds__(kThreads, 2)
    prefill_attention_kernel(const __grid_constant__ PrefillAttentionParams p) {
  extern __shared__ __align__(256) uint8_t memory[];  // the longest row
  Shared<D>& shared = *reinterpret_cast<Shared<D>*>(memory);
  const int warp = int(threadIdx.x) / 32, lane = int(threadIdx.x) % 32;
  const int q_head = int(blockIdx.x), kv_head = q_head / (p.n_q_heads / p.n_kv_heads);
  const int tile_row = (int(gridDim.y) - 1 - int(blockIdx.y)) * kTileRows;
  const int first_row = tile_row + warp * kWarpRows;  // of this warp
  const int n_keys = p.first_position + min(tile_row + kTileRows, p.n);
  const int n_tiles = (n_keys + kTileKeys - 1) / kTileKeys;
  const auto fetch = [&](int tile) {
    if (tile < n_tiles) {
      const int first = tile * kTileKeys, n_valid = min(kTileKeys, n_keys - first);
      fetch_tile<D>(p.k, p.pages, first, n_valid, p.n_kv_heads, kv_head, shared.k[tile % 2]);
      fetch_tile<D>(p.v, p.pages, first, n_valid, p.n_kv_heads, kv_head, shared.v[tile % 2]);
    }
    commit_copies();
  };
  fetch_queries<D>(p, tile_row, q_head, shared.q);
  fetch(0);

  float o[kRowTiles][D / 2] = {};
  RowState rows[kRowTiles];
  const float scale = score_scale(D);
  const unsigned q = lane_address<D>(shared.q, warp * kWarpRows + lane % 16, lane / 16);
  for (int tile = 0; tile < n_tiles; ++tile) {
    wait_copies<0>();
    __syncthreads();  // the tile has arrived for all, and nobody reads the one before any more
    fetch(tile + 1);
    float s[kRowTiles][kTileKeys / 2] = {};
    multiply_keys<D>(
        s, q, lane_address<D>(shared.k[tile % 2], lane % 8 + lane / 16 * 8, lane / 8 % 2));
    const int first_key = tile * kTileKeys;
#pragma unroll
    for (int i = 0; i < kRowTiles; ++i) {
      const int position = p.first_position + first_row + i * 16;
      if (first_key + kTileKeys > position) mask_scores(s[i], first_key, position + lane / 4);
      shrink(o[i], weigh(s[i], rows[i], scale));
    }
    multiply_values<D>(
        o, s, lane_address<D>(shared.v[tile % 2], lane % 16, lane / 16));
  }
  wait_copies<0>();
#pragma unroll
  for (int i = 0; i < kRowTiles; ++i) store_rows(p, o[i], rows[i], first_row + i * 16, q_head);
}

template <int D>
cudaError_t launch_of(const PrefillAttentionParams& p, cudaStream_t stream) {
  const size_t shared = sizeof(Shared<D>);
  const cudaError_t error = cudaFuncSetAttribute(
      prefill_attention_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  if (error != cudaSuccess) return error;
  const dim3 grid(unsigned(p.n_q_heads), unsigned((p.n + kTileRows - 1) / kTileRows));
  return launch(prefill_attention_kernel<D>, {grid, kThreads, shared}, stream, p);
}

}  // namespace

PrefillKernel choose_prefill_kernel() {
  int device = 0, major = 0;
  cudaGetDevice(&device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  return major == 9 ? PrefillKernel::kHopper : PrefillKernel::kAnyGpu;
}

cudaError_t launch_any_prefill_attention(const PrefillAttentionParams& p, cudaStream_t stream) {
  return p.head_dim == 64 ? launch_of<64>(p, stream) : launch_of<128>(p, stream);
}

cudaError_t launch_prefill_attention(const PrefillAttentionParams& p, PrefillKernel kernel,
                                     cudaStream_t stream) {
  if (p.head_dim != 64 && p.head_dim != 128) return cudaErrorInvalidValue;
  return kernel == PrefillKernel::kHopper ? launch_hopper_prefill_attention(p, stream)
                                          : launch_any_prefill_attention(p, stream);
}

}  // namespace scholia::cuda
