#include "backend/cuda/kernels/attention.cuh"

#include <algorithm>

#include "backend/cuda/kernels/attention/append.cuh"
#include "backend/cuda/kernels/attention/attend.cuh"
#include "backend/cuda/kernels/attention/clock.cuh"
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

// grid: (a team of how.team CTAs, or how.parts CTAs; KV heads). With more than one part no head selects.
template <int D, bool kWide>
__global__ void __launch_bounds__(kThreads, 1)
    attention_kernel(const __grid_constant__ AttentionParams p, const AttentionLaunch how) {
  extern __shared__ __align__(16) uint8_t memory[];
  mark(kMarkStart);
  Shared<D>& shared = *reinterpret_cast<Shared<D>*>(memory);
  uint32_t* list = reinterpret_cast<uint32_t*>(memory + sizeof(Shared<D>));
  float* scores = reinterpret_cast<float*>(memory + how.scores_offset);
  const Team team = Team::here(how.team, how.team_inverse);
  const int thread = int(threadIdx.x), warp = int(threadIdx.x / 32);
  if (thread == 0) {
    team.open(shared.of_scores);
    for (Mailbox& box : shared.of_bins) team.open(box);
    team.open(shared.of_pages);
    team.open(shared.of_sums);
  }
  team.arrive();
  const int kv_head = int(blockIdx.y), part = how.parts > 1 ? int(blockIdx.x) : 0;
  const int head_idx = p.first_head + kv_head;

  // What the step's beginning wrote is there already: other kernels have waited for it.
  const int n_tokens = *p.n_tokens;
  HeadStep head = p.heads[head_idx];
  const DigestPlanes planes = p.digests != nullptr ? p.digests[head_idx] : DigestPlanes{};
  Rotation<D> rotation;
  rotation.fetch(p, warp < p.group ? p.q_norm : p.k_norm);
  if (p.reads_all) head.n_selected = head.first_local_block - head.sink_blocks;
  const PageList pages(head, n_tokens);
  // Of a short context fewer parts have enough to do; the others leave.
  const int parts = min(how.parts, max(1, pages.n_pages / kPagesForPart));
  if (part >= parts) return;
  const bool selects = head.n_selected < head.first_local_block - head.sink_blocks;
  const int per_block = head.block_tokens / kPageTokens;
  const int log2_tiles_per_group = __ffs(kGroupTokens / kPageTokens / kTileBlocks) - __ffs(per_block);
  const int n_tiles = (head.first_local_block + kTileBlocks - 1) / kTileBlocks;
  const int n_closed = min(n_tiles, (n_tokens - 1) / kGroupTokens << log2_tiles_per_group);
  const TileShares shares(n_tiles, n_closed, team);
  const int first_block = shares.first_of_cta * kTileBlocks;
  const uint32_t* table = p.pages + first_block * per_block;
  __half* scales =
      how.holds_digests ? reinterpret_cast<__half*>(memory + how.scales_offset) : nullptr;
  const DigestTiles<D> tiles(planes, log2_tiles_per_group, n_closed, shares, shared, scales);
  if (selects) {
    tiles.fetch();
    if (how.holds_digests) {
      uint32_t* held = reinterpret_cast<uint32_t*>(memory + how.table_offset);
      const int n = min((shares.end_of_cta - shares.first_of_cta) * kTileBlocks * per_block,
                        (n_tokens + kPageTokens - 1) / kPageTokens - first_block * per_block);
#pragma unroll 1
      for (int i = 4 * thread; i < n; i += 4 * kThreads) {
        copy_async(shared_address(held + i), table + i, 4 * min(n - i, 4));
      }
      table = held;
    }
    for (int round = 0; round < kRounds; ++round) shared.bins[round][thread] = 0;
  }
  const int cta = part * team.size + team.rank, n_ctas = parts * team.size;  // of the head
  const Shares page_shares =
      selects ? Shares(pages.n_pages, team) : Shares(pages.n_pages, n_ctas);
  const int first_page = page_shares.first(cta), end_page = page_shares.first(cta + 1);
#pragma unroll 1
  for (int place = first_page + thread; place < end_page; place += kThreads) {
    const bool is_local = selects && place >= pages.n_sink + pages.n_selected;
    if (selects && place >= pages.n_sink && !is_local) continue;
    const int page = is_local ? place + pages.local_shift : place;
    copy_4_async(shared_address(list + place - first_page), p.pages + page);
    if (p.trace.pages != nullptr) {
      p.trace.pages[size_t(head_idx) * p.trace.max_pages + place] = uint32_t(page);
    }
  }
  commit_copies();
  const int n_last = (n_tokens - 1) % kPageTokens + 1;
  PageRing<D> ring(p, kv_head, shared, list, end_page - first_page, pages.n_pages - 1 - first_page,
                   n_last);
  // Old pages are nobody's output; where heads select, the ring is not free yet.
  const bool starts_early = !selects && ring.starts_with_old();
  // The last CTA reads the last page; its last warp has no query.
  const bool appends = cta == n_ctas - 1 && warp == kWarps - 1;
  const size_t new_page = appends ? p.pages[(n_tokens - 1) / kPageTokens] : 0;
  if (!selects) {  // the ring needs the list
    wait_copies<0>();
    __syncthreads();
  }
  if (starts_early) ring.start();
  mark(kMarkPrepared);
  let_next_start();  // beside teams there are multiprocessors free, for its weights
  wait_for_previous();
  mark(kMarkWaited);

  prepare_heads(p, rotation, kv_head, appends, n_tokens - 1, new_page, shared);
  // Before other threads' asynchronous copies of the page. Where heads select, that is later.
  if (appends && !selects) __threadfence();
  if (selects) wait_copies<0>();
  __syncthreads();
  mark(kMarkQueries);
  team.wait();  // from here on others' shared memory is there
  mark(kMarkTeam);

  if (selects) {
    const int stride = how.max_blocks_per_cta;
    // Of the CTA's blocks, those that may be selected.
    const int begin = max(head.sink_blocks - first_block, 0);
    const int end =
        max(min(head.first_local_block, shares.end_of_cta * kTileBlocks) - first_block, begin);
    const BlockShare blocks(begin, end);
    score_tiles<D, kWide>(tiles, shared, scores, stride, first_block, begin, end, p.group);
    if (appends) __threadfence();
    mark(kMarkScored);
    if (head.n_selected > 0) {
      reduce_scores(team, shared, scores, stride, blocks, p.group);
      mark(kMarkReduced);
      SelectedPages<D> selected(p, team, shared, pages, page_shares, per_block, list, first_page,
                                end_page, head_idx);
      const Selection selection =
          find_threshold(team, shared, scores, blocks, head.n_selected, selected.candidate_words());
      mark(kMarkThreshold);
      selected.exchange(selection, scores, blocks, table, first_block);
      selected.decide(selection);
    }
    __syncthreads();  // the ring's memory is free
    mark(kMarkList);
  }

  if (!starts_early) ring.start();
  float2* trace_state =
      p.trace.page_state == nullptr
          ? nullptr
          : p.trace.page_state +
                (size_t(head_idx) * p.trace.max_pages + first_page) * size_t(p.group);
  attend_pages<D, kWide>(ring, shared, p.group, trace_state);
  mark(kMarkAttended);
  if (parts > 1) {
    merge_parts(p, parts, how.parts, shared, kv_head, part);
  } else {
    merge_team(p, team, shared, kv_head);
  }
  mark(kMarkEnd);
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

// How many teams the device runs at once; 0 if none of this size.
int teams_at_once(Kernel kernel, int n_kv_heads, const AttentionLaunch& how, int device) {
  int shared_limit = 0, major = 0;
  cudaDeviceGetAttribute(&shared_limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  if (how.shared_bytes > size_t(shared_limit) || (how.team > 1 && major < 9)) return 0;
  if (cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                           int(how.shared_bytes)) != cudaSuccess) {
    return 0;
  }
  if (how.team > 8 && cudaFuncSetAttribute(kernel, cudaFuncAttributeNonPortableClusterSizeAllowed,
                                           1) != cudaSuccess) {
    return 0;
  }
  if (how.team == 1) return n_kv_heads;  // they need not run at once
  cudaLaunchConfig_t config{};
  config.gridDim = dim3(unsigned(how.team), unsigned(n_kv_heads));
  config.blockDim = kThreads;
  config.dynamicSmemBytes = how.shared_bytes;
  cudaLaunchAttribute attribute;
  attribute.id = cudaLaunchAttributeClusterDimension;
  attribute.val.clusterDim = {unsigned(how.team), 1, 1};
  config.attrs = &attribute;
  config.numAttrs = 1;
  int n_teams = 0;
  return cudaOccupancyMaxActiveClusters(&n_teams, kernel, &config) == cudaSuccess ? n_teams : 0;
}

AttentionLaunch launch_for(int team, int parts, int head_dim, int group, int max_tokens,
                           bool selects) {
  AttentionLaunch how;
  how.team = team;
  how.parts = parts;
  how.team_inverse = Team::inverse_of(team);
  // With fewer parts a CTA has less than twice what it has at least.
  const int longest = std::max(units(units(max_tokens, kPageTokens), team * parts) + 1,
                               2 * kPagesForPart);
  how.max_pages_per_cta = (longest + 3) & ~3;
  // Tiles of the open group, at most 8, count three times.
  const int max_tiles = units(units(max_tokens, kPageTokens * kTileBlocks) + 16, team);
  how.max_blocks_per_cta = selects ? max_tiles * kTileBlocks : 0;
  // A CTA alone has too many for its shared memory.
  how.holds_digests = selects && team > 1;
  const int groups_per_cta = how.holds_digests ? units(max_tokens, kGroupTokens * team) + 3 : 0;
  constexpr int kGroupPages = kGroupTokens / kPageTokens;
  const int table_pages =
      how.holds_digests
          ? units(units(max_tokens, kPageTokens) + 3 * kGroupPages, team) + kGroupPages
          : 0;
  const auto place = [&](const auto& after) {
    how.scores_offset = after.scores;
    how.scales_offset = after.scales;
    how.table_offset = after.table;
    how.shared_bytes = after.end;
  };
  if (head_dim == 64) {
    place(After<64>(how.max_pages_per_cta, how.max_blocks_per_cta, groups_per_cta, table_pages,
                    group));
  } else {
    place(After<128>(how.max_pages_per_cta, how.max_blocks_per_cta, groups_per_cta, table_pages,
                     group));
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
  *dense = launch_for(1, std::max(1, n_sms / n_kv_heads), head_dim, group, max_tokens, false);
  // The largest team of which the device runs one for each KV head at once, else the largest.
  for (const int at_once : {n_kv_heads, 1}) {
    for (int team = max_team; team >= 1; --team) {
      *selecting = launch_for(team, 1, head_dim, group, max_tokens, true);
      const bool is_taken = teams_at_once(kernel, n_kv_heads, *selecting, device) >= at_once;
      cudaGetLastError();
      if (!is_taken) continue;
      // What the larger of both asks for holds for both.
      const size_t most = std::max(selecting->shared_bytes, dense->shared_bytes);
      return cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(most)) ==
             cudaSuccess;
    }
  }
  return false;
}

cudaError_t launch_attention(const AttentionParams& p, const AttentionLaunch& how, bool early,
                             cudaStream_t stream) {
  return launch(find_kernel(p.head_dim, p.group),
                {dim3(unsigned(how.parts * how.team), unsigned(p.n_kv_heads)), kThreads,
                 how.shared_bytes, how.team, early},
                stream, p, how);
}

cudaError_t launch_trace_masses(const AttentionTrace& trace, const int* list_pages, int longest,
                                int n_heads, int group, float* masses, cudaStream_t stream) {
  const dim3 grid(unsigned(units(longest, kThreads)), unsigned(n_heads));
  return launch(trace_masses_kernel, {grid, kThreads}, stream, trace, list_pages, group, masses);
}

#ifdef SCHOLIA_ATTENTION_CLOCK
cudaError_t read_attention_marks(AttentionMarks* to) {
  return cudaMemcpyFromSymbol(to, attention_marks, sizeof attention_marks);
}
#endif

}  // namespace scholia::cuda
