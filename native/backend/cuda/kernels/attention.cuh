// Attention of one new token, all stages of a layer in one kernel: queries and keys are normalised
// and rotated, K and V appended, kv_blocks scored and selected, then K and V attended and the
// partial states merged. A team of CTAs (a thread block cluster; below Hopper a single CTA) serves
// one KV head with its G query heads.
//
// Dense is the same without scoring: the list of KV pages to read is then all of them. A step in
// which no head selects is launched as single CTAs, one for each multiprocessor, which merge through
// global memory. Everything is in a fixed order, so repeated runs give the same bits.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

#include "backend/cuda/kernels/product_input.cuh"

namespace scholia::cuda {

inline constexpr int kMaxGroup = 8;  // query heads per KV head

// One head's digests (engine/kv/digests.h says what they mean), all groups of the context.
struct DigestPlanes {
  uint8_t* records = nullptr;  // closed: [groups * blocks of a group][D]
  __half* scales = nullptr;    // closed: [groups][4][D]
  __half* open = nullptr;      // [blocks of a group][2][D]
};

// Of one (layer, KV head) and step: the plan's HeadPlan.
struct HeadStep {
  int block_tokens, sink_blocks, first_local_block, n_selected;
};

// What the trace wants to know of a step, for all heads of all layers. Head h, place p in its list.
struct AttentionTrace {
  float2* page_state = nullptr;  // [heads][max_pages][G] maximum and sum, base 2, of a KV page
  float* lse = nullptr;          // [heads][G] base 2
  uint32_t* pages = nullptr;     // [heads][max_pages] which page of the context was read
  int max_pages = 0;
};

struct AttentionParams {
  int head_dim = 0, n_kv_heads = 0, group = 0;
  int first_head = 0;             // layer * n_kv_heads
  const float* qkv = nullptr;     // [Hq * D + 2 * Hkv * D], biases added
  const float* q_norm = nullptr;  // [D] or null, and the same for k
  const float* k_norm = nullptr;
  float norm_eps = 0;
  bool is_neox = false;
  int n_rotary_dims = 0;
  const float2* angles = nullptr;   // [n_rotary_dims / 2] of the token's position
  __half* k = nullptr;              // the layer's pages [page][kv_head][16][D]
  __half* v = nullptr;
  const uint32_t* pages = nullptr;  // page table
  const int* n_tokens = nullptr;    // context length, the new token included
  const HeadStep* heads = nullptr;  // [all heads]
  bool reads_all = false;           // whatever the heads' plans say
  const DigestPlanes* digests = nullptr;  // [all heads]; null: no head selects
  float* out = nullptr;             // [Hq * D], or null
  ProductInput next;                // the same for the product after it, or empty
  float* part_states = nullptr;     // parts: [Hkv][parts][G * D + 2 G], scratch
  int* parts_done = nullptr;        // parts: [Hkv], 0 before and after
  AttentionTrace trace;
};

// How the kernel is launched on this device for contexts of up to max_tokens.
struct AttentionLaunch {
  int team = 0;             // CTAs that select together
  int parts = 1;            // teams for each KV head
  unsigned team_inverse = 0;  // Team::inverse
  size_t shared_bytes = 0, scores_offset = 0, scales_offset = 0, table_offset = 0;
  int max_pages_per_cta = 0, max_blocks_per_cta = 0;
  bool holds_digests = false;  // brought to shared memory before the wait
};

// One launch for steps in which heads select, one for those in which none does. False: the context
// is too long for the device's shared memory, or D is not 64 or 128, or G > 8.
bool choose_attention(int head_dim, int n_kv_heads, int group, int max_tokens, int n_sms,
                      AttentionLaunch* selecting, AttentionLaunch* dense, int max_team = 16);
cudaError_t launch_attention(const AttentionParams& params, const AttentionLaunch& how, bool early,
                             cudaStream_t stream);

// Mean over the group of the share of attention of each page in the list: [heads][max_pages]. No list is
// longer than `longest`.
cudaError_t launch_trace_masses(const AttentionTrace& trace, const int* list_pages, int longest,
                                int n_heads, int group, float* masses, cudaStream_t stream);

// Where a CTA has come: the ends of the kernel's parts.
enum AttentionMark {
  kMarkStart, kMarkPrepared, kMarkWaited, kMarkQueries, kMarkTeam, kMarkScored, kMarkReduced,
  kMarkThreshold, kMarkList, kMarkAttended, kMarkEnd, kMarks
};
struct AttentionMarks {
  unsigned long long ns[kMarks];  // of the device's clock; 0: it has not come there
};
inline constexpr int kMarkedCtas = 256;
// [kMarkedCtas] of the last launch; in builds with SCHOLIA_ATTENTION_CLOCK.
cudaError_t read_attention_marks(AttentionMarks* to);

}  // namespace scholia::cuda
