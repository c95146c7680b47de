// Chooses the instruction set once, and walks what is ragged: digest groups and pieces.
#include "backend/cpu/cpu_ops.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_ops_table.h"
#include "backend/cpu/processor.h"

namespace scholia {
namespace {

// Best first.
const CpuOpsTable* find_table(const char* name) {
  const CpuOpsTable* const candidates[] = {
      processor_has_avx512() ? avx512_cpu_ops() : nullptr,
      processor_has_avx2() ? avx2_cpu_ops() : nullptr,
      portable_cpu_ops(),
  };
  for (const CpuOpsTable* table : candidates) {
    if (table && (!name || std::strcmp(table->name, name) == 0)) return table;
  }
  return nullptr;
}

const CpuOpsTable*& ops() {
  static const CpuOpsTable* table = find_table(nullptr);
  return table;
}

}  // namespace

const char* cpu_ops_variant() { return ops()->name; }

bool force_cpu_ops_variant(const char* name) {
  const CpuOpsTable* table = find_table(name);
  if (table) ops() = table;
  return table != nullptr;
}

void exp_f32(const float* x, float* y, int n) { ops()->exp(x, y, n); }

void append_kv(f16* k, f16* v, const PageId* pages, int n_kv_heads, int head_dim, int kv_head,
               int first_position, int n_tokens, const float* src_k, size_t k_stride,
               const float* src_v, size_t v_stride) {
  ops()->append_kv(k, v, pages, n_kv_heads, head_dim, kv_head, first_position, n_tokens, src_k,
                   k_stride, src_v, v_stride);
}

void Pieces::cut(const TokenRun* ordered, int n_runs) {
  runs.clear();
  first_run.clear();
  int room = 0;  // tokens that the last piece still takes
  for (int i = 0; i < n_runs; i++) {
    TokenRun rest = ordered[i];
    while (rest.n_tokens > 0) {
      if (room == 0) {
        first_run.push_back(int(runs.size()));
        room = kPieceTokens;
      }
      const int n = std::min(rest.n_tokens, room);
      runs.push_back({rest.first_token, n});
      rest = {rest.first_token + n, rest.n_tokens - n};
      room -= n;
    }
  }
  first_run.push_back(int(runs.size()));
}

void score_kv_blocks(const DigestLayout& layout, const Digests& digests, int head_idx,
                     const float* q, int n_q_heads_per_kv, int first_block, int n_blocks,
                     float* scores, size_t score_stride) {
  const int head_dim = layout.shape.head_dim;
  const int per_group = layout.blocks_per_group(head_idx);
  const int end = first_block + n_blocks;
  for (int block = first_block; block < end;) {
    const size_t group = block / per_group;
    const int in_group = block % per_group;
    const int n = std::min(per_group - in_group, end - block);
    float* const out = scores + (block - first_block);
    const bool is_closed = group < digests.closed().size();
    const uint8_t* base = is_closed
                              ? digests.closed()[group]->data() + layout.closed_offset[head_idx]
                              : digests.open().data() + layout.open_offset[head_idx];
    const bool has_scale = is_closed && layout.scale_bytes() > 0;
    const f16* scale = has_scale ? reinterpret_cast<const f16*>(base) : nullptr;
    const uint8_t* records =
        has_scale ? base + layout.scale_bytes() + in_group * layout.closed_record_bytes()
                  : base + in_group * layout.open_record_bytes();
    if (layout.digest.kind > DigestKind::kArkVale || (has_scale && layout.digest.bits != 4)) {
      ops()->score_any_blocks(layout.digest, scale, records, n, head_dim, q, n_q_heads_per_kv, out,
                              score_stride);
    } else if (has_scale) {
      ops()->score_closed_blocks(scale, records, n, head_dim, q, n_q_heads_per_kv, out,
                                 score_stride);
    } else {
      ops()->score_open_blocks(reinterpret_cast<const f16*>(records), n, head_dim, q,
                               n_q_heads_per_kv, out, score_stride);
    }
    block += n;
  }
}

void reduce_scores(const float* scores, size_t score_stride, int n_q_heads_per_kv, int n_blocks,
                   float* out) {
  ops()->reduce_scores(scores, score_stride, n_q_heads_per_kv, n_blocks, out);
}

void select_kv_blocks(const float* reduced, int n_blocks, int n_selected, int* selected,
                      int* scratch) {
  ops()->select_kv_blocks(reduced, n_blocks, n_selected, selected, scratch);
}

void attend_piece(const KvLayer& kv, int kv_head, const float* q, int n_q_heads_per_kv,
                  const TokenRun* runs, int n_runs, const PartialState& out, float* page_mass) {
  ops()->attend_piece(kv, kv_head, q, n_q_heads_per_kv, runs, n_runs, out, page_mass);
}

void merge_states(const float* m, const float* l, const float* o, int n_pieces,
                  int n_q_heads_per_kv, int head_dim, float* out, float* lse) {
  ops()->merge_states(m, l, o, n_pieces, n_q_heads_per_kv, head_dim, out, lse);
}

void prefill_attend(const KvLayer& kv, int kv_head, const float* q, size_t q_stride,
                    int n_q_heads_per_kv, int first_position, int row_begin, int row_end,
                    float* out, size_t out_stride, float* workspace) {
  ops()->prefill_attend(kv, kv_head, q, q_stride, n_q_heads_per_kv, first_position, row_begin,
                        row_end, out, out_stride, workspace);
}

size_t prefill_workspace_floats(int n_q_heads_per_kv, int head_dim) {
  const size_t n_rows = size_t(kPrefillTileTokens) * n_q_heads_per_kv;
  return 2 * size_t(kTileTokens) * head_dim +  // K and V of a tile
         2 * n_rows * head_dim +               // queries, output
         2 * n_rows;                           // m, l
}

}  // namespace scholia
