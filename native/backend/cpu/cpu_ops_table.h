// The functions that one instruction set provides. cpu_ops.cpp chooses a table once; the three
// cpu_ops_<variant>.cpp compile the one text of cpu_ops_kernels.h into one table each.
//
// Only raw pointers cross this border: a template of the standard library that was instantiated
// with AVX-512 could be the copy that the linker keeps for the whole program.
#pragma once

#include "backend/cpu/cpu_ops.h"

namespace scholia {

// Keys that one step of the online softmax takes.
inline constexpr int kTileTokens = 64;

struct CpuOpsTable {
  const char* name;
  void (*append_kv)(f16* k, f16* v, const PageId* pages, int n_kv_heads, int head_dim, int kv_head,
                    int first_position, int n_tokens, const float* src_k, size_t k_stride,
                    const float* src_v, size_t v_stride);
  // Of two vectors and a spread, in INT4: scale [4][D] f16, records [n_blocks][D] bytes; see digests.h.
  void (*score_closed_blocks)(const f16* scale, const uint8_t* records, int n_blocks, int head_dim,
                              const float* q, int n_q_heads_per_kv, float* scores,
                              size_t score_stride);
  // The same in f16: records [n_blocks][2][D].
  void (*score_open_blocks)(const f16* records, int n_blocks, int head_dim, const float* q,
                            int n_q_heads_per_kv, float* scores, size_t score_stride);
  // Of any format, block by block. scale: [n_vectors][2][D] f16; null where the records are f16.
  void (*score_any_blocks)(DigestFormat format, const f16* scale, const uint8_t* records,
                           int n_blocks, int head_dim, const float* q, int n_q_heads_per_kv,
                           float* scores, size_t score_stride);
  void (*reduce_scores)(const float* scores, size_t score_stride, int n_q_heads_per_kv,
                        int n_blocks, float* out);
  void (*select_kv_blocks)(const float* reduced, int n_blocks, int n_selected, int* selected,
                           int* scratch);
  void (*attend_piece)(const KvLayer& kv, int kv_head, const float* q, int n_q_heads_per_kv,
                       const TokenRun* runs, int n_runs, const PartialState& out, float* page_mass);
  void (*merge_states)(const float* m, const float* l, const float* o, int n_pieces,
                       int n_q_heads_per_kv, int head_dim, float* out, float* lse);
  void (*prefill_attend)(const KvLayer& kv, int kv_head, const float* q, size_t q_stride,
                         int n_q_heads_per_kv, int first_position, int row_begin, int row_end,
                         float* out, size_t out_stride, float* workspace);
  void (*exp)(const float* x, float* y, int n);  // for tests
};

// Null where the compiler or the processor's family lacks the instruction set. Whether this very
// processor has it is cpu_ops.cpp's question.
const CpuOpsTable* portable_cpu_ops();
const CpuOpsTable* avx2_cpu_ops();
const CpuOpsTable* avx512_cpu_ops();

}  // namespace scholia
