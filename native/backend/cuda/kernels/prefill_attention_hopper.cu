// A prompt's causal attention on Hopper. Three warp groups: one brings tiles of keys and values to a
// ring in shared memory, two multiply 64 query rows each. Each of these has the next tile's scores under
// way while it weighs this tile's, and the two take turns: while one weighs, the other multiplies.
#include <cuda.h>

#include "backend/cuda/kernels/hopper.cuh"
#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/prefill_attention.cuh"
#include "backend/cuda/kernels/prefill_rows.cuh"

namespace scholia::cuda {
namespace {

constexpr int kPageTokens = 16;
constexpr int kGroupThreads = 128;
constexpr int kThreads = 3 * kGroupThreads;
constexpr int kGroupRows = 64, kTileRows = 2 * kGroupRows;
constexpr int kTileKeys = 128, kTilePages = kTileKeys / kPageTokens;
constexpr int kStages = 2;
constexpr int kPanel = 64;  // columns of a row of 128 bytes

// Rows of 128 bytes with chunks exchanged, as hopper.cuh has them. Keys in panels of 64 columns of the
// whole tile, since they are read along a row; values page by page, since they are read down a column,
// 16 of them at a time.
template <int D>
struct Shared {
  static constexpr int kPanels = D / kPanel;
  __half q[2][kPanels][kGroupRows][kPanel];
  __half k[kStages][kPanels][kTileKeys][kPanel];
  __half v[kStages][kTilePages][kPanels][kPageTokens][kPanel];
  uint64_t k_full[kStages], k_free[kStages], v_full[kStages], v_free[kStages];
};
constexpr size_t kAlignment = 1024;

// Barriers by number, each for the first group of rows; the second's is the next.
enum { kTurnBarrier = 1, kQueryBarrier = 3 };

struct HopperParams {
  PrefillAttentionParams p;
  CUtensorMap k, v;  // [panels][rows of all pages][64]
};

// Where a tile lies, and the parity of its turn there.
struct Place {
  int stage;
  unsigned parity;
  __device__ explicit Place(int tile) : stage(tile % kStages), parity((tile / kStages) & 1) {}
};

// --- bringing tiles -------------------------------------------------------------------------

// The values of a page that ends beyond the last token, by one warp; zeros from there on, since a
// weight of 0 does not undo what is not a number.
template <int D>
__device__ void copy_last_values(const PrefillAttentionParams& p, const __half* page, int n_valid,
                                 __half (&to)[D / kPanel][kPageTokens][kPanel]) {
  constexpr int kChunks = D / 8;
#pragma unroll 1
  for (int i = int(threadIdx.x) % 32; i < kPageTokens * kChunks; i += 32) {
    const int row = i / kChunks, chunk = i % kChunks;
    uint4 value = {0, 0, 0, 0};
    if (row < n_valid) value = *reinterpret_cast<const uint4*>(page + row * D + chunk * 8);
    auto* chunks = reinterpret_cast<uint4*>(to[chunk / 8][row]);
    chunks[(chunk % 8) ^ (row % 8)] = value;
  }
}

// One warp for all tiles. Lane i knows page i of the tile.
template <int D>
__device__ void bring_tiles(const HopperParams& h, Shared<D>& shared, int kv_head, int n_tiles) {
  constexpr int kPanels = D / kPanel;
  constexpr unsigned kPageBytes = kPageTokens * D * sizeof(__half);
  const PrefillAttentionParams& p = h.p;
  const int lane = int(threadIdx.x) % 32;
  const int n_known = p.first_position + p.n, last_page = (n_known - 1) / kPageTokens;
  const auto row_of_page = [&](int tile) {
    const int at = min(tile * kTilePages + lane % kTilePages, last_page);
    return int((p.pages[at] * p.n_kv_heads + kv_head) * kPageTokens);
  };
  int next_row = row_of_page(0);
  for (int tile = 0; tile < n_tiles; ++tile) {
    const Place at(tile);
    const int row = next_row;
    if (tile + 1 < n_tiles) next_row = row_of_page(tile + 1);

    wait_barrier(&shared.k_free[at.stage], at.parity ^ 1);
    if (lane == 0) arrive_expecting(&shared.k_full[at.stage], kTilePages * kPageBytes);
    __syncwarp();
    if (lane < kTilePages * kPanels) {
      const int page = lane % kTilePages, panel = lane / kTilePages;
      copy_box(shared.k[at.stage][panel][page * kPageTokens], &h.k, 0, row, panel,
               &shared.k_full[at.stage]);
    }

    wait_barrier(&shared.v_free[at.stage], at.parity ^ 1);
    const int first = tile * kTileKeys;
    const int n_whole = min(kTilePages, (n_known - first) / kPageTokens);
    for (int page = n_whole; page < kTilePages; ++page) {
      const __half* from = p.v + int64_t(__shfl_sync(~0U, row, page)) * D;
      copy_last_values<D>(p, from, n_known - first - page * kPageTokens, shared.v[at.stage][page]);
    }
    if (n_whole < kTilePages) publish_to_async();
    __syncwarp();
    if (lane == 0) arrive_expecting(&shared.v_full[at.stage], n_whole * kPageBytes);
    __syncwarp();
    if (lane < n_whole) {
      copy_box(shared.v[at.stage][lane][0][0], &h.v, 0, row, 0, &shared.v_full[at.stage]);
    }
  }
}

// --- multiplying ----------------------------------------------------------------------------

// This group's query rows; rows from n_rows on are zeros.
template <int D>
__device__ void fetch_queries(const PrefillAttentionParams& p, int first_row, int n_rows, int q_head,
                              __half (&to)[D / kPanel][kGroupRows][kPanel]) {
  constexpr int kChunks = D / 8;
  const size_t stride = size_t(p.n_q_heads) * D;
  const __half* from = p.q + size_t(q_head) * D;
#pragma unroll
  for (int i = 0; i < kGroupRows * kChunks / kGroupThreads; ++i) {
    const int at = i * kGroupThreads + int(threadIdx.x) % kGroupThreads;
    const int row = at / kChunks, chunk = at % kChunks;
    const bool wanted = row < n_rows;
    copy_16_async(
        shared_address(&to[chunk / 8][row][((chunk % 8) ^ (row % 8)) * 8]),
        from + (wanted ? size_t(first_row + row) * stride : 0) + chunk * 8, wanted);
  }
  commit_copies();
  wait_copies<0>();
  publish_to_async();
}

// Scores of this group's rows and a tile's keys.
template <int D>
__device__ __forceinline__ void multiply_keys(float (&s)[kTileKeys / 2], uint64_t q, uint64_t k) {
  constexpr unsigned kRowBytes = kPanel * sizeof(__half);
#pragma unroll
  for (int step = 0; step < D / 16; ++step) {
    const unsigned panel = unsigned(step) / 4, in_panel = unsigned(step) % 4 * 32;
    multiply_columns(s, moved(q, panel * kGroupRows * kRowBytes + in_panel),
                     moved(k, panel * kTileKeys * kRowBytes + in_panel), step > 0);
  }
  commit_products();
}

// Adds a tile's values by their weights.
template <int D>
__device__ __forceinline__ void multiply_values(float (&o)[D / 2],
                                                const unsigned (&weights)[kTilePages][4],
                                                uint64_t v) {
#pragma unroll
  for (int page = 0; page < kTilePages; ++page) {
    multiply_rows_add(o, weights[page], moved(v, unsigned(page) * kPageTokens * D * sizeof(__half)));
  }
  commit_products();
}

// 64 query rows over all tiles; `group`: 0 or 1.
template <int D>
__device__ void attend_rows(const PrefillAttentionParams& p, Shared<D>& shared, int group,
                            int q_head, int tile_row, int n_tiles) {
  constexpr unsigned kEightRows = 8 * kPanel * sizeof(__half);
  const int thread = int(threadIdx.x) % kGroupThreads, lane = thread % 32;
  const int first_row = tile_row + group * kGroupRows;
  const int first_position = p.first_position + first_row;
  const int my_position = first_position + thread / 32 * 16 + lane / 4;
  const float scale = score_scale(D);
  const auto matrix_k = [&](int stage) { return matrix_at(shared.k[stage], kEightRows, 0); };
  const auto matrix_v = [&](int stage) {
    return matrix_at(shared.v[stage], kEightRows, kPageTokens * kPanel * sizeof(__half));
  };
  const auto release = [&](uint64_t* barrier) {
    if (lane == 0) arrive(barrier);
  };

  fetch_queries<D>(p, first_row, p.n - first_row, q_head, shared.q[group]);
  sync_threads(kQueryBarrier + group, kGroupThreads);
  const uint64_t q = matrix_at(shared.q[group], kEightRows, 0);

  float s[kTileKeys / 2], o[D / 2] = {};
  unsigned weights[kTilePages][4];
  RowState rows;
  const auto mask = [&](int tile) {
    const int first_key = tile * kTileKeys;
    if (first_key + kTileKeys > first_position) mask_scores(s, first_key, my_position);
  };
  const auto pack = [&] {
#pragma unroll
    for (int page = 0; page < kTilePages; ++page) pack_weights(s, page, weights[page]);
  };

  // The first tile, whose values wait for the second's scores.
  wait_barrier(&shared.k_full[0], 0);
  hold(s);
  begin_products();
  multiply_keys<D>(s, q, matrix_k(0));
  wait_products<0>();
  hold(s);
  release(&shared.k_free[0]);
  mask(0);
  weigh(s, rows, scale);
  pack();
  if (group == 1) arrive_threads(kTurnBarrier, 2 * kGroupThreads);

  for (int tile = 1; tile < n_tiles; ++tile) {
    const Place at(tile), before(tile - 1);
    wait_barrier(&shared.k_full[at.stage], at.parity);
    sync_threads(kTurnBarrier + group, 2 * kGroupThreads);
    hold(s);
    hold(o);
    begin_products();
    multiply_keys<D>(s, q, matrix_k(at.stage));
    wait_barrier(&shared.v_full[before.stage], before.parity);
    begin_products();
    multiply_values<D>(o, weights, matrix_v(before.stage));
    arrive_threads(kTurnBarrier + 1 - group, 2 * kGroupThreads);
    wait_products<1>();
    hold(s);
    release(&shared.k_free[at.stage]);
    mask(tile);
    const float2 factor = weigh(s, rows, scale);
    wait_products<0>();
    hold(o);
    release(&shared.v_free[before.stage]);
    // Far into a text maxima hardly change.
    if (__any_sync(~0U, factor.x != 1 || factor.y != 1)) shrink(o, factor);
    pack();
  }
  const Place last(n_tiles - 1);
  wait_barrier(&shared.v_full[last.stage], last.parity);
  hold(o);
  begin_products();
  multiply_values<D>(o, weights, matrix_v(last.stage));
  wait_products<0>();
  hold(o);
  store_rows(p, o, rows, first_row + thread / 32 * 16, q_head);
}

// --- the kernel -----------------------------------------------------------------------------

// Tiles of one KV head after another, so that all CTAs read the same keys and values at about the same
// time, from the L2 cache; the last tiles first, since they see the most keys.
struct Work {
  int q_head, kv_head, tile_row;
  __device__ explicit Work(const PrefillAttentionParams& p) {
    const int group = p.n_q_heads / p.n_kv_heads, n_tiles = (p.n + kTileRows - 1) / kTileRows;
    const int in_head = int(blockIdx.x) % (group * n_tiles);
    kv_head = int(blockIdx.x) / (group * n_tiles);
    q_head = kv_head * group + in_head % group;
    tile_row = (n_tiles - 1 - in_head / group) * kTileRows;
  }
};

// A tile of 128 queries of one head over all keys up to the last query's. grid: tiles times heads.
template <int D>
__global__ void __launch_bounds__(kThreads, 1)
    prefill_attention_hopper_kernel(const __grid_constant__ HopperParams h) {
#ifdef __CUDA_ARCH_FEAT_SM90_ALL
  extern __shared__ uint8_t memory[];
  Shared<D>& shared = *reinterpret_cast<Shared<D>*>(
      memory + (kAlignment - shared_address(memory) % kAlignment) % kAlignment);
  const PrefillAttentionParams& p = h.p;
  const int warp_group = int(threadIdx.x) / kGroupThreads;
  const Work work(p);
  const int n_keys = p.first_position + min(work.tile_row + kTileRows, p.n);
  const int n_tiles = (n_keys + kTileKeys - 1) / kTileKeys;

  if (threadIdx.x == 0) {
    constexpr int kWarps = 2 * kGroupThreads / 32;
    for (int stage = 0; stage < kStages; ++stage) {
      init_barrier(&shared.k_full[stage], 1);
      init_barrier(&shared.v_full[stage], 1);
      init_barrier(&shared.k_free[stage], kWarps);
      init_barrier(&shared.v_free[stage], kWarps);
    }
    publish_barriers();
    prefetch_map(&h.k);
    prefetch_map(&h.v);
  }
  __syncthreads();
  if (warp_group == 0) {
    give_registers<40>();
    if (threadIdx.x < 32) bring_tiles<D>(h, shared, work.kv_head, n_tiles);
  } else {
    take_registers<232>();
    attend_rows<D>(p, shared, warp_group - 1, work.q_head, work.tile_row, n_tiles);
  }
#else
  __trap();
#endif
}

// --- launch ---------------------------------------------------------------------------------

using EncodeMap = decltype(&cuTensorMapEncodeTiled);

// The driver's function, which no library needs to be linked for. Null where the driver lacks it.
EncodeMap find_encode_map() {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result;
  constexpr unsigned kSince = 12000;
  if (cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, kSince, cudaEnableDefault,
                                       &result) != cudaSuccess ||
      result != cudaDriverEntryPointSuccess) {
    return nullptr;
  }
  return reinterpret_cast<EncodeMap>(found);
}

// A layer's keys or values, [n_rows][D], as panels of 64 columns; a box is a page's rows of n_panels.
bool make_map(CUtensorMap* map, const __half* layer, uint64_t n_rows, int head_dim, int n_panels) {
  static const EncodeMap encode = find_encode_map();
  if (encode == nullptr) return false;
  const cuuint64_t size[3] = {kPanel, n_rows, cuuint64_t(head_dim / kPanel)};
  const cuuint64_t stride_bytes[2] = {cuuint64_t(head_dim) * sizeof(__half), kPanel * sizeof(__half)};
  const cuuint32_t box[3] = {kPanel, kPageTokens, cuuint32_t(n_panels)}, every[3] = {1, 1, 1};
  return encode(map, CU_TENSOR_MAP_DATA_TYPE_FLOAT16, 3, const_cast<__half*>(layer), size,
                stride_bytes, box, every, CU_TENSOR_MAP_INTERLEAVE_NONE,
                CU_TENSOR_MAP_SWIZZLE_128B, CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE) == CUDA_SUCCESS;
}

template <int D>
cudaError_t launch_of(const PrefillAttentionParams& p, cudaStream_t stream) {
  HopperParams h{p, {}, {}};
  const uint64_t n_rows = uint64_t(p.n_pages) * p.n_kv_heads * kPageTokens;
  if (!make_map(&h.k, p.k, n_rows, D, 1) || !make_map(&h.v, p.v, n_rows, D, D / kPanel)) {
    return cudaErrorNotSupported;
  }
  const size_t shared = sizeof(Shared<D>) + kAlignment;
  const cudaError_t error = cudaFuncSetAttribute(
      prefill_attention_hopper_kernel<D>, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
  if (error != cudaSuccess) return error;
  const int grid = p.n_q_heads * ((p.n + kTileRows - 1) / kTileRows);
  return launch(prefill_attention_hopper_kernel<D>, {unsigned(grid), kThreads, shared}, stream, h);
}

}  // namespace

cudaError_t launch_hopper_prefill_attention(const PrefillAttentionParams& p, cudaStream_t stream) {
  return p.head_dim == 64 ? launch_of<64>(p, stream) : launch_of<128>(p, stream);
}

}  // namespace scholia::cuda
