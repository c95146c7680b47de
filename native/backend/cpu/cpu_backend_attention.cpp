#include "backend/cpu/cpu_backend_attention.h"

#include <algorithm>
#include <cmath>

namespace scholia {
namespace {

// kv_blocks scored as one unit of work: about 20 µs, so that two threads end together.
constexpr int kScoreBlocks = 256;

const float* data(const ggml_tensor* tensor) { return static_cast<const float*>(tensor->data); }

// Floats from one token's row to the next.
size_t row_stride(const ggml_tensor* tensor) { return tensor->nb[2] / sizeof(float); }

int units(int n, int per_unit) { return (n + per_unit - 1) / per_unit; }

}  // namespace

CpuAttention::CpuAttention(const Hyperparameters& hp, int n_threads, int max_context)
    : hp_(hp), n_threads_(n_threads) {
  const int group = hp.group();
  const int max_blocks = units(max_context, kBlockSizes[0]);
  const int max_pieces = units(max_context, kPieceTokens);
  for (int layer = 0; layer < hp.n_layers; ++layer) {
    layers_.push_back(std::make_unique<LayerWork>());
    layers_.back()->owner = this;
    layers_.back()->layer = layer;
  }
  for (int kv_head = 0; kv_head < hp.n_kv_heads; ++kv_head) {
    auto head = std::make_unique<HeadWork>();
    head->scores.resize(size_t(group) * max_blocks);
    head->reduced.resize(max_blocks);
    head->selected.resize(max_blocks);
    head->scratch.resize(max_blocks);
    head->m.resize(size_t(max_pieces) * group);
    head->l.resize(size_t(max_pieces) * group);
    head->o.resize(size_t(max_pieces) * group * hp.head_dim);
    head->lse.resize(group);
    heads_.push_back(std::move(head));
  }
  prefill_workspace_.assign(
      n_threads, std::vector<float>(prefill_workspace_floats(group, hp.head_dim)));
  traces_.resize(size_t(hp.n_layers) * hp.n_kv_heads);
}

uint64_t CpuAttention::workspace_bytes() const {
  const auto bytes_of = [](const auto&... arrays) {
    return ((arrays.capacity() * sizeof(arrays[0])) + ...);
  };
  uint64_t bytes = 0;
  for (const auto& floats : prefill_workspace_) bytes += bytes_of(floats);
  for (const auto& head : heads_) {
    bytes += bytes_of(head->scores, head->reduced, head->selected, head->scratch, head->runs,
                      head->m, head->l, head->o, head->lse, head->page_mass, head->first_page);
  }
  for (const HeadTrace& trace : traces_) bytes += bytes_of(trace.block_idx, trace.mass);
  return bytes;
}

KvLayer CpuAttention::kv_layer(int layer) const {
  const KvView& view = prefill_ != nullptr ? prefill_->view : decode_->view;
  return {pages_->k(layer), pages_->v(layer), view.pages, hp_.n_kv_heads, hp_.head_dim};
}

// --- graph nodes ----------------------------------------------------------------------------

ggml_tensor* CpuAttention::store(ggml_context* context, int layer, ggml_tensor* q, ggml_tensor* k,
                                 ggml_tensor* v) {
  ggml_tensor* args[] = {q, k, v};
  const auto run = [](ggml_tensor* dst, int ith, int nth, void* userdata) {
    auto* work = static_cast<LayerWork*>(userdata);
    work->owner->run_store(work->layer, dst->src[0], dst->src[1], dst->src[2], ith, nth);
  };
  return ggml_custom_4d(context, GGML_TYPE_F32, 1, 1, 1, 1, args, 3, run, GGML_N_TASKS_MAX,
                        layers_[layer].get());
}

ggml_tensor* CpuAttention::attend_prompt(ggml_context* context, int layer, ggml_tensor* q,
                                         ggml_tensor* stored) {
  ggml_tensor* args[] = {q, stored};
  const auto run = [](ggml_tensor* dst, int ith, int /*nth*/, void* userdata) {
    auto* work = static_cast<LayerWork*>(userdata);
    work->owner->run_attend_prompt(*work, data(dst->src[0]), static_cast<float*>(dst->data), ith);
  };
  return ggml_custom_4d(context, GGML_TYPE_F32, int64_t(hp_.head_dim) * hp_.n_q_heads, q->ne[2], 1,
                        1, args, 2, run, GGML_N_TASKS_MAX, layers_[layer].get());
}

ggml_tensor* CpuAttention::attend_token(ggml_context* context, int layer, ggml_tensor* q,
                                        ggml_tensor* k, ggml_tensor* v) {
  ggml_tensor* score_args[] = {q, k, v};
  const auto score = [](ggml_tensor* dst, int ith, int nth, void* userdata) {
    auto* work = static_cast<LayerWork*>(userdata);
    work->owner->run_score(*work, data(dst->src[0]), data(dst->src[1]), data(dst->src[2]), ith,
                           nth);
  };
  ggml_tensor* scored = ggml_custom_4d(context, GGML_TYPE_F32, 1, 1, 1, 1, score_args, 3, score,
                                       GGML_N_TASKS_MAX, layers_[layer].get());
  ggml_tensor* attend_args[] = {q, scored};
  const auto attend = [](ggml_tensor* dst, int /*ith*/, int /*nth*/, void* userdata) {
    auto* work = static_cast<LayerWork*>(userdata);
    work->owner->run_attend_token(*work, data(dst->src[0]), static_cast<float*>(dst->data));
  };
  return ggml_custom_4d(context, GGML_TYPE_F32, int64_t(hp_.head_dim) * hp_.n_q_heads, 1, 1, 1,
                        attend_args, 2, attend, GGML_N_TASKS_MAX, layers_[layer].get());
}

// --- prefill --------------------------------------------------------------------------------

void CpuAttention::begin_prefill(const PrefillStep& step, KvPages& pages,
                                 const CancelFlag* cancel) {
  prefill_ = &step;
  decode_ = nullptr;
  pages_ = &pages;
  cancel_ = cancel;
  for (auto& layer : layers_) layer->next_attend.store(0, std::memory_order_relaxed);
}

void CpuAttention::run_store(int layer, const ggml_tensor* q, const ggml_tensor* k,
                             const ggml_tensor* v, int ith, int nth) {
  const int n = static_cast<int>(prefill_->tokens.size());
  const int begin = n * ith / nth, end = n * (ith + 1) / nth;
  const size_t k_stride = row_stride(k), v_stride = row_stride(v);
  for (int kv_head = 0; kv_head < hp_.n_kv_heads; ++kv_head) {
    const size_t head = size_t(kv_head) * hp_.head_dim;
    append_kv(pages_->k(layer), pages_->v(layer), prefill_->view.pages, hp_.n_kv_heads, hp_.head_dim,
              kv_head, prefill_->view.n_tokens + begin, end - begin, data(k) + begin * k_stride + head,
              k_stride, data(v) + begin * v_stride + head, v_stride);
  }
  if (ith == 0 && prefill_->on_queries) prefill_->on_queries(layer, data(q));
}

void CpuAttention::run_attend_prompt(LayerWork& work, const float* q, float* out, int ith) {
  const int n = static_cast<int>(prefill_->tokens.size());
  const int n_tiles = units(n, kPrefillTileTokens);
  const size_t stride = size_t(hp_.n_q_heads) * hp_.head_dim;
  const KvLayer kv = kv_layer(work.layer);
  for (;;) {
    // The last tiles see the most keys, so they are handed out first.
    const int unit = work.next_attend.fetch_add(1, std::memory_order_relaxed);
    if (unit >= n_tiles * hp_.n_kv_heads) return;
    if (cancel_ != nullptr && cancel_->load(std::memory_order_relaxed)) return;
    const int tile = n_tiles - 1 - unit / hp_.n_kv_heads;
    const int begin = tile * kPrefillTileTokens;
    prefill_attend(kv, unit % hp_.n_kv_heads, q, stride, hp_.group(), prefill_->view.n_tokens, begin,
                   std::min(begin + kPrefillTileTokens, n), out, stride,
                   prefill_workspace_[ith].data());
  }
}

// --- decode ---------------------------------------------------------------------------------

void CpuAttention::begin_decode(const DecodeStep& step, KvPages& pages) {
  prefill_ = nullptr;
  decode_ = &step;
  pages_ = &pages;
  for (auto& layer : layers_) {
    layer->next_score.store(0, std::memory_order_relaxed);
    layer->next_attend.store(0, std::memory_order_relaxed);
  }
}

void CpuAttention::run_score(LayerWork& work, const float* q, const float* k, const float* v,
                             int ith, int nth) {
  const int D = hp_.head_dim, group = hp_.group();
  // First the token's K and V (its own block is never scored), and heads that read everything.
  for (int kv_head = ith; kv_head < hp_.n_kv_heads; kv_head += nth) {
    append_kv(pages_->k(work.layer), pages_->v(work.layer), decode_->view.pages, hp_.n_kv_heads, D,
              kv_head, decode_->view.n_tokens, 1, k + size_t(kv_head) * D, 0, v + size_t(kv_head) * D, 0);
    const HeadPlan& plan = decode_->plan->heads[head_idx(work.layer, kv_head)];
    if (plan.n_selected == plan.n_free()) read_blocks(work.layer, kv_head, nullptr);
  }
  for (;;) {
    int unit = work.next_score.fetch_add(1, std::memory_order_relaxed);
    int kv_head = 0, n_units = 0;
    for (; kv_head < hp_.n_kv_heads; ++kv_head) {
      const HeadPlan& plan = decode_->plan->heads[head_idx(work.layer, kv_head)];
      n_units = plan.n_selected == plan.n_free() ? 0 : units(plan.n_free(), kScoreBlocks);
      if (unit < n_units) break;
      unit -= n_units;
    }
    if (kv_head == hp_.n_kv_heads) return;
    const HeadPlan& plan = decode_->plan->heads[head_idx(work.layer, kv_head)];
    HeadWork& head = *heads_[kv_head];
    const int begin = unit * kScoreBlocks;
    const int n_blocks = std::min(kScoreBlocks, plan.n_free() - begin);
    score_kv_blocks(*decode_->digest_layout, *decode_->digests, head_idx(work.layer, kv_head),
                    q + size_t(kv_head) * group * D, group, plan.sink_blocks + begin, n_blocks,
                    head.scores.data() + begin, size_t(plan.n_free()));
    // scores_left counts up to n_units and is put back to zero by the one that completes it.
    if (head.scores_left.fetch_add(1, std::memory_order_acq_rel) == n_units - 1) {
      head.scores_left.store(0, std::memory_order_relaxed);
      select(work.layer, kv_head);
    }
  }
}

void CpuAttention::select(int layer, int kv_head) {
  const HeadPlan& plan = decode_->plan->heads[head_idx(layer, kv_head)];
  HeadWork& head = *heads_[kv_head];
  reduce_scores(head.scores.data(), size_t(plan.n_free()), hp_.group(), plan.n_free(),
                head.reduced.data());
  select_kv_blocks(head.reduced.data(), plan.n_free(), plan.n_selected, head.selected.data(),
                   head.scratch.data());
  read_blocks(layer, kv_head, head.selected.data());
}

// Lists what the head reads, ascending, cut into pieces. selected: indices among the free blocks;
// null reads everything.
void CpuAttention::read_blocks(int layer, int kv_head, const int* selected) {
  const HeadPlan& plan = decode_->plan->heads[head_idx(layer, kv_head)];
  HeadWork& head = *heads_[kv_head];
  const int n_tokens = decode_->plan->n_tokens, block = plan.block_tokens;
  head.runs.clear();
  if (selected == nullptr) {
    head.runs.push_back({0, n_tokens});
  } else {
    head.runs.push_back({0, plan.sink_blocks * block});
    for (int i = 0; i < plan.n_selected; ++i) {
      head.runs.push_back({(plan.sink_blocks + selected[i]) * block, block});
    }
    const int first_local = plan.first_local_block * block;
    head.runs.push_back({first_local, n_tokens - first_local});
  }
  head.pieces.cut(head.runs.data(), static_cast<int>(head.runs.size()));
  if (!decode_->trace_mass) return;
  // Where each piece's pages begin in page_mass.
  head.first_page.assign(1, 0);
  size_t n_pages = 0;
  for (int piece = 0; piece < head.pieces.count(); ++piece) {
    for (int run = head.pieces.first_run[piece]; run < head.pieces.first_run[piece + 1]; ++run) {
      n_pages += units(head.pieces.runs[run].n_tokens, kKvPageTokens);
    }
    head.first_page.push_back(n_pages);
  }
  head.page_mass.resize(n_pages * hp_.group() * 2);
}

void CpuAttention::run_attend_token(LayerWork& work, const float* q, float* out) {
  const int D = hp_.head_dim, group = hp_.group();
  const KvLayer kv = kv_layer(work.layer);
  for (;;) {
    int piece = work.next_attend.fetch_add(1, std::memory_order_relaxed);
    int kv_head = 0, n_pieces = 0;
    for (; kv_head < hp_.n_kv_heads; ++kv_head) {
      n_pieces = heads_[kv_head]->pieces.count();
      if (piece < n_pieces) break;
      piece -= n_pieces;
    }
    if (kv_head == hp_.n_kv_heads) return;
    HeadWork& head = *heads_[kv_head];
    const int run = head.pieces.first_run[piece];
    const PartialState state{head.m.data() + size_t(piece) * group,
                             head.l.data() + size_t(piece) * group,
                             head.o.data() + size_t(piece) * group * D};
    float* page_mass = decode_->trace_mass
                           ? head.page_mass.data() + head.first_page[piece] * group * 2
                           : nullptr;
    attend_piece(kv, kv_head, q + size_t(kv_head) * group * D, group, head.pieces.runs.data() + run,
                 head.pieces.first_run[piece + 1] - run, state, page_mass);
    if (head.pieces_left.fetch_add(1, std::memory_order_acq_rel) == n_pieces - 1) {
      head.pieces_left.store(0, std::memory_order_relaxed);
      merge(work.layer, kv_head, q, out);
    }
  }
}

void CpuAttention::merge(int layer, int kv_head, const float* q, float* out) {
  HeadWork& head = *heads_[kv_head];
  merge_states(head.m.data(), head.l.data(), head.o.data(), head.pieces.count(), hp_.group(), hp_.head_dim,
               out + size_t(kv_head) * hp_.group() * hp_.head_dim, head.lse.data());
  if (decode_->trace_mass) trace_masses(layer, kv_head);
  if (decode_->trace_kept) {
    traces_[head_idx(layer, kv_head)].mass_kept = mass_kept(layer, kv_head, q);
  }
}

// --- trace ----------------------------------------------------------------------------------

// Attention mass of each kv_block read: the mean over the group's query heads.
void CpuAttention::trace_masses(int layer, int kv_head) {
  const HeadWork& head = *heads_[kv_head];
  const int group = hp_.group();
  const int block = decode_->plan->heads[head_idx(layer, kv_head)].block_tokens;
  HeadTrace& trace = traces_[head_idx(layer, kv_head)];
  trace.block_idx.clear();
  trace.mass.clear();
  const float* page_mass = head.page_mass.data();
  for (const TokenRun& run : head.pieces.runs) {
    for (int token = run.first_token; token < run.first_token + run.n_tokens;
         token += kKvPageTokens, page_mass += group * 2) {
      float mass = 0;
      for (int g = 0; g < group; ++g) {
        mass += page_mass[2 * g + 1] * std::exp(page_mass[2 * g] - head.lse[g]);
      }
      const auto idx = static_cast<uint32_t>(token / block);
      if (trace.block_idx.empty() || trace.block_idx.back() != idx) {
        trace.block_idx.push_back(idx);
        trace.mass.push_back(0);
      }
      trace.mass.back() += mass / static_cast<float>(group);
    }
  }
}

// The share of dense attention that falls on what was read, mean over the group's query heads.
// Attends to the whole context beside what the step read, for nothing but its normalisers.
float CpuAttention::mass_kept(int layer, int kv_head, const float* q) const {
  const HeadPlan& plan = decode_->plan->heads[head_idx(layer, kv_head)];
  if (plan.n_selected == plan.n_free()) return 1;
  const int D = hp_.head_dim, group = hp_.group();
  const TokenRun context{0, decode_->plan->n_tokens};
  Pieces pieces;
  pieces.cut(&context, 1);
  std::vector<float> m(size_t(pieces.count()) * group), l(m.size()), o(m.size() * D);
  for (int piece = 0; piece < pieces.count(); ++piece) {
    const size_t at = size_t(piece) * group;
    const int run = pieces.first_run[piece];
    attend_piece(kv_layer(layer), kv_head, q + size_t(kv_head) * group * D, group,
                 pieces.runs.data() + run, pieces.first_run[piece + 1] - run,
                 {m.data() + at, l.data() + at, o.data() + at * D}, nullptr);
  }
  std::vector<float> out(size_t(group) * D), lse(group);
  merge_states(m.data(), l.data(), o.data(), pieces.count(), group, D, out.data(), lse.data());
  float kept = 0;
  for (int g = 0; g < group; ++g) kept += std::exp(heads_[kv_head]->lse[g] - lse[g]);
  return std::min(1.0F, kept / static_cast<float>(group));  // 1 but for rounding
}

void CpuAttention::finish_decode(const DecodeStep& step) {
  if (step.trace == nullptr) return;
  StepTrace& trace = *step.trace;
  if (step.trace_kept) {
    trace.mass_kept.clear();
    for (const HeadTrace& head : traces_) trace.mass_kept.push_back(head.mass_kept);
  }
  if (!step.trace_mass) return;
  trace.block_offset.assign(1, 0);
  trace.block_idx.clear();
  trace.mass.clear();
  for (const HeadTrace& head : traces_) {
    trace.block_idx.insert(trace.block_idx.end(), head.block_idx.begin(), head.block_idx.end());
    trace.mass.insert(trace.mass.end(), head.mass.begin(), head.mass.end());
    trace.block_offset.push_back(static_cast<uint32_t>(trace.block_idx.size()));
  }
}

}  // namespace scholia
