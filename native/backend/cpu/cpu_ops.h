// The CPU's attention: what ggml does not do. Vectorised (AVX-512, AVX2, portable; chosen once at
// run time), called from ggml's threads, so every function takes its own part of the work and needs
// no lock. reference_ops.h holds the scalar truth for each.
//
// Letters: D head_dim, G query heads per KV head, NB kv_blocks. f32 accumulation throughout.
// Every function is deterministic and independent of the number of threads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/kv/digests.h"
#include "engine/kv/kv_pages.h"

namespace scholia {

// What the functions take at most; a backend refuses models beyond it. D is a multiple of 16.
inline constexpr int kMaxHeadDim = 256;
inline constexpr int kMaxQueryHeadsPerKv = 32;

// K and V of one head's layer as pages: token t of head h at
// k[(pages[t / 16] * n_kv_heads + kv_head) * 16 * D + (t % 16) * D].
struct KvLayer {
  const f16* k;  // [n_pages][n_kv_heads][16][D]
  const f16* v;
  const PageId* pages;  // page table of the sequence
  int n_kv_heads;
  int head_dim;
};

// Writes n_tokens rows of one KV head: src k, v f32 with row strides in floats, to positions from
// first_position on, rounded to nearest f16.
void append_kv(f16* k, f16* v, const PageId* pages, int n_kv_heads, int head_dim, int kv_head,
               int first_position, int n_tokens, const float* src_k, size_t k_stride,
               const float* src_v, size_t v_stride);

// --- decode ---------------------------------------------------------------------------------

// A run of tokens to attend: [first_token, first_token + n_tokens). first_token is a multiple
// of 16.
struct TokenRun {
  int first_token;
  int n_tokens;
};

// Tokens of one partial state. A head's ordered runs are cut into pieces of this many tokens, so
// the bits depend on the list of tokens alone: not on threads, and not on whether the list came
// from selection or from "all". (Fetching ahead starts anew with each piece, so they should be
// long.)
inline constexpr int kPieceTokens = 1024;

// Ordered runs cut into pieces: piece p owns runs [first_run[p], first_run[p + 1]). Adjacent runs
// need not be joined first: the same tokens in the same order make the same bits. Only the last run
// may end inside a KV page. The vectors keep their room, so a reused object does not allocate.
struct Pieces {
  std::vector<TokenRun> runs;
  std::vector<int> first_run;

  int count() const { return first_run.empty() ? 0 : int(first_run.size()) - 1; }
  void cut(const TokenRun* ordered, int n_runs);
};

// Scores of the kv_blocks [first_block, first_block + n_blocks) of one head against its G queries:
// scores[g * score_stride + b - first_block] = (c_b . q_g + r_b . |q_g|) / sqrt(D), or what else the
// digest's kind says (head_profile.h).
// head_idx = layer * n_kv_heads + kv_head. q: [G][D] f32, after rotary.
void score_kv_blocks(const DigestLayout& layout, const Digests& digests, int head_idx,
                     const float* q, int n_q_heads_per_kv, int first_block, int n_blocks,
                     float* scores, size_t score_stride);

// Softmax over the NB blocks per query head, then the mean over the G query heads.
// scores [G][score_stride], out [NB].
void reduce_scores(const float* scores, size_t score_stride, int n_q_heads_per_kv, int n_blocks,
                   float* out);

// The n_selected blocks of the highest reduced score, ascending indices; ties go to the lower
// index. NaN ranks lowest. 0 <= n_selected <= n_blocks. scratch: [n_blocks] ints.
void select_kv_blocks(const float* reduced, int n_blocks, int n_selected, int* selected,
                      int* scratch);

// The partial softmax state of a piece, for G query heads: m (maximum), l (sum), o [G][D]
// unnormalised. An empty piece has m = -inf, l = 0, o = 0.
struct PartialState {
  float* m;  // [G]
  float* l;  // [G]
  float* o;  // [G][D]
};

// Attends n_runs runs (at most kPieceTokens tokens in total). page_mass, when not null, receives
// for each 16-token KV page touched, in order, G pairs (maximum, sum of e^(score - maximum)) for
// the trace: [pages][G][2]; the page's share of the attention is sum * e^(maximum - lse).
void attend_piece(const KvLayer& kv, int kv_head, const float* q, int n_q_heads_per_kv,
                  const TokenRun* runs, int n_runs, const PartialState& out, float* page_mass);

// Merges n_pieces states in order into out [G][D] (normalised). lse [G] natural log-sum-exp, may be
// null. States are laid out consecutively: m [n][G], l [n][G], o [n][G][D]. Where all states are
// empty (or there are none), out is 0 and lse -inf.
void merge_states(const float* m, const float* l, const float* o, int n_pieces,
                  int n_q_heads_per_kv, int head_dim, float* out, float* lse);

// --- prefill --------------------------------------------------------------------------------

// Query rows per unit of work.
inline constexpr int kPrefillTileTokens = 32;

// Causal attention of the query rows [row_begin, row_end) of a chunk, for one KV head and its G
// query heads. Row i is at position first_position + i and attends positions <= its own.
// q: [rows of the chunk][n_q_heads][D] f32 (row stride q_stride floats; this head's group starts at
// q + kv_head * G * D), out: same layout with out_stride. workspace: prefill_workspace_floats().
// Reads no slot of the pages beyond the position row_end - 1. A row's bits depend on its query and
// the K and V up to its position alone: not on the chunk, and not on row_begin and row_end.
void prefill_attend(const KvLayer& kv, int kv_head, const float* q, size_t q_stride,
                    int n_q_heads_per_kv, int first_position, int row_begin, int row_end,
                    float* out, size_t out_stride, float* workspace);
size_t prefill_workspace_floats(int n_q_heads_per_kv, int head_dim);

// Which instruction set was chosen: "avx512", "avx2" or "portable".
const char* cpu_ops_variant();
// For tests: force a variant; false when this machine does not have it.
bool force_cpu_ops_variant(const char* name);
// For tests: y[i] = e^x[i] as the softmax computes it, within 2 units in the last place.
void exp_f32(const float* x, float* y, int n);

}  // namespace scholia
