// Our attention as nodes of a ggml graph: append_kv → score → select → attend → merge. ggml runs a
// custom op on all its threads at once and puts a barrier between ops, so each op hands out its
// work through a counter; what only the last thread of a head may do is done by the one that
// finishes last, in a fixed order, so the bits do not depend on the threads.
#pragma once

#include <ggml.h>

#include <atomic>
#include <memory>
#include <vector>

#include "backend/backend.h"
#include "backend/cpu/cpu_ops.h"
#include "engine/model/gguf_model.h"

namespace scholia {

class CpuAttention {
 public:
  CpuAttention(const Hyperparameters& hp, int n_threads, int max_context);

  // Graph nodes. q [D, Hq, n], k and v [D, Hkv, n] f32, q and k after rotary; the rows of k and v
  // may lie apart.
  // store: writes K and V into the pages; every later node of the layer must depend on it.
  ggml_tensor* store(ggml_context* context, int layer, ggml_tensor* q, ggml_tensor* k,
                     ggml_tensor* v);
  // → [D * Hq, n]
  ggml_tensor* attend_prompt(ggml_context* context, int layer, ggml_tensor* q, ggml_tensor* stored);
  // One token: stores, scores and selects, then attends. → [D * Hq, 1]
  ggml_tensor* attend_token(ggml_context* context, int layer, ggml_tensor* q, ggml_tensor* k,
                            ggml_tensor* v);

  // Call before the graph runs; the arguments must live until it has run. ggml looks at a cancel
  // flag between nodes only, and a step's attention at a great depth takes longer than a user
  // waits: so it looks too, and leaves the rest of its output as it was.
  void begin_prefill(const PrefillStep& step, KvPages& pages, const CancelFlag* cancel);
  void begin_decode(const DecodeStep& step, KvPages& pages);
  // Call after a decode graph ran: fills step.trace.
  void finish_decode(const DecodeStep& step);

  uint64_t workspace_bytes() const;

 private:
  // What the threads of one layer's ops share.
  struct LayerWork {
    CpuAttention* owner = nullptr;
    int layer = 0;
    std::atomic<int> next_score{0}, next_attend{0};
  };
  // What one KV head reads in the current layer.
  struct HeadWork {
    std::vector<float> scores;      // [G][max_blocks]
    std::vector<float> reduced;     // [max_blocks]
    std::vector<int> selected, scratch;
    std::vector<TokenRun> runs;     // ascending
    Pieces pieces;                  // the same runs, cut
    std::vector<float> m, l, o;     // partial states [n_pieces][G], [n_pieces][G][D]
    std::vector<float> lse;         // [G]
    std::vector<float> page_mass;   // trace: [pages][G][2]
    std::vector<size_t> first_page; // trace: of each piece
    std::atomic<int> scores_left{0}, pieces_left{0};
  };
  struct HeadTrace {
    std::vector<uint32_t> block_idx;
    std::vector<float> mass;
    float mass_kept = 1;
  };

  void run_store(int layer, const ggml_tensor* q, const ggml_tensor* k, const ggml_tensor* v,
                 int ith, int nth);
  void run_attend_prompt(LayerWork& work, const float* q, float* out, int ith);
  void run_score(LayerWork& work, const float* q, const float* k, const float* v, int ith, int nth);
  void run_attend_token(LayerWork& work, const float* q, float* out);

  void select(int layer, int kv_head);
  void read_blocks(int layer, int kv_head, const int* selected);
  void merge(int layer, int kv_head, const float* q, float* out);
  void trace_masses(int layer, int kv_head);
  float mass_kept(int layer, int kv_head, const float* q) const;
  int head_idx(int layer, int kv_head) const { return layer * hp_.n_kv_heads + kv_head; }
  KvLayer kv_layer(int layer) const;

  const Hyperparameters& hp_;
  int n_threads_;
  std::vector<std::unique_ptr<LayerWork>> layers_;
  std::vector<std::unique_ptr<HeadWork>> heads_;   // [Hkv], reused by every layer
  std::vector<std::vector<float>> prefill_workspace_;  // [threads]
  std::vector<HeadTrace> traces_;                  // [heads]

  // The call in progress.
  const PrefillStep* prefill_ = nullptr;
  const DecodeStep* decode_ = nullptr;
  KvPages* pages_ = nullptr;
  const CancelFlag* cancel_ = nullptr;
};

}  // namespace scholia
