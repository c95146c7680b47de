#include "backend/cuda/kernels/attention.cuh"

#include <algorithm>

#include "backend/cuda/kernels/attention/append.cuh"
#include "backend/cuda/kernels/attention/attend.cuh"
#include "backend/cuda/kernels/attention/merge.cuh"
#include "backend/cuda/kernels/attention/page_list.cuh"
#include "backend/cuda/kernels/attention/score.cuh"
#include "backend/cuda/kernels/attention/select.cuh"
#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/launch.cuh"

namespace scholia::cuda {
namespace {

using namespace attention;

// Pages that a CTA of a dense step reads at least, if there are so many.
constexpr int kPagesForPart = 16;

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
  HeadStep head = p.heads[head_idx];
  if (p.reads_all) head.n_selected = head.first_local_block - head.sink_blocks;
  const PageList pages(head, n_tokens);
  // Of a short context fewer parts have enough to do; the others leave.
  const int parts = min(how.parts, max(1, pages.n_pages / kPagesForPart));
  if (part >= parts) return;
  const bool selects = head.n_selected < head.first_local_block - head.sink_blocks;
  const int n_tiles = (head.first_local_block + kTileBlocks - 1) / kTileBlocks;
  const int first_tile = first_place(n_tiles, team.rank, team.size);
  const int end_tile = first_place(n_tiles, team.rank + 1, team.size);
  const int n_closed_groups = (n_tokens - 1) / kGroupTokens;
  __half* scales =
      how.holds_digests ? reinterpret_cast<__half*>(memory + how.scales_offset) : nullptr;
  DigestTiles<D> tiles(selects ? p.digests[head_idx] : DigestPlanes{}, head, n_closed_groups,
                       first_tile, end_tile, shared, scales);
  if (selects) tiles.fetch();
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
  const int n_last = (n_tokens - 1) % kPageTokens + 1;
  PageRing<D> ring(p, kv_head, shared, list, end_page - first_page, pages.n_pages - 1 - first_page,
                   n_last);
  // Old pages are nobody's output; where heads select, the ring is not free yet.
  const bool starts_early = !selects && ring.starts_with_old();
  __syncthreads();
  if (starts_early) ring.start();
  wait_for_previous();

  prepare_queries(p, kv_head, shared);
  // The last CTA reads the last page.
  if (cta == n_ctas - 1 && warp == kWarps - 1) {
    __syncwarp();
    append_token<D>(p, kv_head, n_tokens - 1, new_page, shared.raw[warp]);
  }
  if (selects) wait_copies<0>();
  __syncthreads();
  team.wait();  // from here on others' shared memory is there

  if (selects) {
    const int first_block = first_tile * kTileBlocks, stride = how.max_blocks_per_cta;
    score_tiles<D, kWide>(tiles, shared, scores, stride, first_block, p.group);
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

  if (!starts_early) ring.start();
  float2* trace_state =
      p.trace.page_state == nullptr
          ? nullptr
          : p.trace.page_state +
                (size_t(head_idx) * p.trace.max_pages + first_page) * size_t(p.group);
  attend_pages<D, kWide>(ring, shared, p.group, trace_state);
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

// --- launch ---------------------------------------------------------------------------------

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
  // A CTA alone has too many for its shared memory.
  how.holds_digests = selects && team > 1;
  const int groups_per_cta = how.holds_digests ? units(max_tokens, kGroupTokens * team) + 2 : 0;
  const auto place = [&](const auto& after) {
    how.scores_offset = after.scores;
    how.scales_offset = after.scales;
    how.shared_bytes = after.end;
  };
  if (head_dim == 64) {
    place(After<64>(how.max_pages_per_cta, how.max_blocks_per_cta, groups_per_cta, group));
  } else {
    place(After<128>(how.max_pages_per_cta, how.max_blocks_per_cta, groups_per_cta, group));
  }
  return how;
}

}  // namespace

bool choose_attention(int head_dim, int n_kv_heads, int group, int max_tokens, int n_sms,
                      AttentionLaunch* selecting, AttentionLaunch* dense, int max_team) {
  const Kernel kernel = find_kernel(head_dim, group);
  if (kernel == nullptr || group > kMaxGroup) return false;
  int device = 0;
  cudaGetDevice(&device);
  // Two to a multiprocessor: more bytes on the way.
  const int parts = std::max(1, 2 * n_sms / n_kv_heads);
  *dense = launch_for(1, parts, head_dim, group, max_tokens, false);
  for (const int team : {16, 8, 4, 2, 1}) {
    if (team > max_team) continue;
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
                {unsigned(p.n_kv_heads * how.parts * how.team), kThreads, how.shared_bytes, how.team,
                 early},
                stream, p, how);
}

cudaError_t launch_trace_masses(const AttentionTrace& trace, const int* list_pages, int n_heads,
                                int group, float* masses, cudaStream_t stream) {
  const dim3 grid(unsigned(units(trace.max_pages, kThreads)), unsigned(n_heads));
  return launch(trace_masses_kernel, {grid, kThreads}, stream, trace, list_pages, group, masses);
}

}  // namespace scholia::cuda
