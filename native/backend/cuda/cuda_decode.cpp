#include "backend/cuda/cuda_decode.h"

#include <algorithm>
#include <cstring>

#include "backend/cuda/kernels/sampling.cuh"
#include "backend/cuda/kernels/weights.cuh"

namespace scholia::cuda {
namespace {

static_assert(sizeof(HeadStep) == sizeof(HeadPlan), "plans are uploaded as they are");

// What a step is told, in one upload: then come the heads' plans and their lists' lengths.
struct StepHeader {
  int token;
  int n_tokens;  // the new one included
  SamplingStep sampling;
};
static_assert(sizeof(StepHeader) % alignof(HeadStep) == 0);

}  // namespace

Status CudaDecode::choose_attention() {
  const Hyperparameters& hp = context_.hp();
  const int max_context = context_.max_context();
  if (cuda::choose_attention(hp.head_dim, hp.n_kv_heads, hp.group(), max_context,
                             context_.device().n_sms, &attention_[0], &attention_[1])) {
    return {};
  }
  return Error{ErrorCode::kModelUnsupported,
               "The GPU's attention takes heads of 64 or 128, up to " + std::to_string(kMaxGroup) +
                   " query heads for each KV head and a context that its shared memory holds; this "
                   "model has heads of " +
                   std::to_string(hp.head_dim) + ", " + std::to_string(hp.group()) +
                   " query heads for each and a context of " + std::to_string(max_context) + "."};
}

Status CudaDecode::reserve() {
  const Hyperparameters& hp = context_.hp();
  const size_t n_q = size_t(context_.n_q());
  const size_t step_bytes =
      sizeof(StepHeader) + size_t(context_.n_heads()) * (sizeof(HeadStep) + sizeof(int));
  const char* what = "the workspace";
  for (const auto& [buffer, n_bytes] : std::initializer_list<std::pair<DeviceBuffer*, size_t>>{
           {&hidden_, size_t(hp.n_embd) * 4},
           {&qkv_, size_t(context_.n_qkv()) * 4},
           {&gated_, size_t(hp.n_ff) * 4},
           {&angles_, size_t(hp.rope.n_dims) * 4},
           {&part_states_, size_t(attention_[1].parts) * (n_q + 2 * hp.n_q_heads) * 4},
           {&parts_done_, size_t(hp.n_kv_heads) * sizeof(int)},
           {&step_, step_bytes},
           {&next_, sizeof(Token)}}) {
    if (Status status = buffer->allocate(n_bytes, what); !status.ok()) return status;
  }
  Status status = host_step_.allocate(step_bytes, what);
  if (status.ok()) status = attended_input_.allocate(context_.n_q(), false, context_.stream(), what);
  if (status.ok()) status = gated_input_.allocate(hp.n_ff, false, context_.stream(), what);
  if (status.ok()) status = host_next_.allocate(sizeof(Token), what);
  if (!status.ok()) return status;
  return check(cudaMemsetAsync(parts_done_.as<void>(), 0, parts_done_.bytes(), context_.stream()),
               what);
}

uint64_t CudaDecode::workspace_bytes() const {
  uint64_t n = trace_.workspace_bytes() + attended_input_.bytes() + gated_input_.bytes();
  for (const DeviceBuffer* buffer :
       {&hidden_, &qkv_, &gated_, &angles_, &part_states_, &parts_done_, &step_, &next_}) {
    n += buffer->bytes();
  }
  return n;
}

void CudaDecode::forget_graphs() {
  Graph* graphs = &graphs_[0][0][0][0];
  for (size_t i = 0; i < sizeof graphs_ / sizeof(Graph); ++i) graphs[i].reset();
}

// Graphs hold the digests' address.
Status CudaDecode::set_digest_layout(const DigestLayout& layout) {
  forget_graphs();
  return digests_.set_layout(layout);
}

// --- what a step is told --------------------------------------------------------------------

Status CudaDecode::upload_step(const DecodeStep& step) {
  const auto& heads = step.plan->heads;
  auto* to = host_step_.as<uint8_t>();
  StepHeader header{step.token, step.plan->n_tokens, {}};
  if (step.draw != nullptr) {
    const SamplingOptions& o = step.draw->options;
    header.sampling = {step.draw->random, o.temperature, o.top_k, o.top_p, o.min_p};
  }
  std::memcpy(to, &header, sizeof header);
  std::memcpy(to + sizeof header, heads.data(), heads.size() * sizeof(HeadPlan));
  auto* lengths = reinterpret_cast<int*>(to + sizeof header + heads.size() * sizeof(HeadPlan));
  for (size_t h = 0; h < heads.size(); ++h) {
    const int tokens = heads[h].tokens_read(step.plan->n_tokens);
    lengths[h] = (tokens + kKvPageTokens - 1) / kKvPageTokens;
  }
  return check(cudaMemcpyAsync(step_.as<void>(), to, step_.bytes(), cudaMemcpyHostToDevice,
                               context_.stream()),
               "a step");
}

const HeadStep* CudaDecode::device_heads() const {
  return reinterpret_cast<const HeadStep*>(step_.as<StepHeader>() + 1);
}

const int* CudaDecode::device_list_pages() const {
  return reinterpret_cast<const int*>(device_heads() + context_.n_heads());
}

// --- a step's kernels -----------------------------------------------------------------------

ProductInput CudaDecode::attention_in(const CudaLayer& w) const {
  return context_.hidden_input().of({&w.wq, &w.wk, &w.wv});
}

ProductInput CudaDecode::ffn_in(const CudaLayer& w) const {
  return context_.hidden_input().of({&w.gate_up, &w.gate, &w.up});
}

cudaError_t CudaDecode::enqueue_qkv(const CudaLayer& w) {
  float* qkv = qkv_.as<float>();
  MatvecParams p = context_.product(attention_in(w), MatvecOut::kStore);
  p.parts[p.n_parts++] = {w.wq, w.bq, qkv};
  p.parts[p.n_parts++] = {w.wk, w.bk, qkv + context_.n_q()};
  p.parts[p.n_parts++] = {w.wv, w.bv, qkv + context_.n_q() + context_.n_kv()};
  return context_.multiply(p);
}

cudaError_t CudaDecode::enqueue_attention(int layer, const StepWatch& watch, KvPages& pages) {
  const Hyperparameters& hp = context_.hp();
  const CudaLayer& w = context_.weights().layers[size_t(layer)];
  AttentionParams p;
  p.head_dim = hp.head_dim;
  p.n_kv_heads = hp.n_kv_heads;
  p.group = hp.group();
  p.first_head = layer * hp.n_kv_heads;
  p.qkv = qkv_.as<float>();
  p.q_norm = w.q_norm;
  p.k_norm = w.k_norm;
  p.norm_eps = hp.rms_eps;
  p.is_neox = context_.is_neox();
  p.n_rotary_dims = hp.rope.n_dims;
  p.angles = angles_.as<float2>();
  p.k = as_half(pages.k(layer));
  p.v = as_half(pages.v(layer));
  p.pages = context_.page_table();
  p.n_tokens = &step_.as<StepHeader>()->n_tokens;
  p.heads = device_heads();
  p.digests = digests_.planes();
  p.next = attended_input_.of({&w.wo});
  p.part_states = part_states_.as<float>();
  p.parts_done = parts_done_.as<int>();
  if (watch.dense_lse != nullptr) {  // its outputs are overwritten below; K and V are the same
    p.reads_all = true;
    p.trace.lse = watch.dense_lse;
    const cudaError_t error =
        launch_attention(p, attention_[true], context_.tuning().early, context_.stream());
    if (error != cudaSuccess) return error;
    p.reads_all = false;
  }
  p.trace = watch.trace;
  return launch_attention(p, attention_[last_read_all_], context_.tuning().early,
                          context_.stream());
}

cudaError_t CudaDecode::enqueue_attention_out(const CudaLayer& w) {
  MatvecParams p = context_.product(attended_input_.of({&w.wo}), MatvecOut::kAdd);
  p.parts[p.n_parts++] = {w.wo, w.bo, hidden_.as<float>()};
  p.next = ffn_in(w);
  p.next_norm = w.ffn_norm;
  return context_.multiply(p);
}

cudaError_t CudaDecode::enqueue_gate_up(const CudaLayer& w) {
  float* gated = gated_.as<float>();
  MatvecParams p = context_.product(ffn_in(w), MatvecOut::kStore);
  if (w.has_pairs()) {
    p.out = MatvecOut::kGatePairs;
    p.parts[p.n_parts++] = {w.gate_up, nullptr, nullptr};
    p.next = gated_input_.of({&w.down});
    return context_.multiply(p);
  }
  p.parts[p.n_parts++] = {w.gate, nullptr, gated};
  if (const cudaError_t error = context_.multiply(p); error != cudaSuccess) return error;
  p.out = MatvecOut::kGateWith;
  p.next = gated_input_.of({&w.down});
  p.parts[0] = {w.up, nullptr, gated};
  return context_.multiply(p);
}

cudaError_t CudaDecode::enqueue_down(int layer) {
  const CudaWeights& weights = context_.weights();
  const CudaLayer& w = weights.layers[size_t(layer)];
  MatvecParams p = context_.product(gated_input_.of({&w.down}), MatvecOut::kAdd);
  p.parts[p.n_parts++] = {w.down, nullptr, hidden_.as<float>()};
  const bool is_last = size_t(layer) + 1 == weights.layers.size();
  p.next = is_last ? context_.logits_input() : attention_in(weights.layers[size_t(layer) + 1]);
  p.next_norm = is_last ? weights.output_norm : weights.layers[size_t(layer) + 1].attn_norm;
  return context_.multiply(p);
}

cudaError_t CudaDecode::enqueue_layer(int layer, unsigned stages, const StepWatch& watch,
                                      KvPages& pages) {
  const CudaLayer& w = context_.weights().layers[size_t(layer)];
  cudaError_t error = cudaSuccess;
  const auto run = [&](CudaStage stage, const auto& enqueue) {
    if ((stages & stage) && error == cudaSuccess) error = enqueue();
  };
  const auto mark = [&](DecodeStage stage) {
    if (watch.clock == nullptr || error != cudaSuccess) return;
    error = watch.clock->mark(stage, layer, context_.stream());
  };
  run(kStageQkv, [&] { return enqueue_qkv(w); });
  mark(DecodeStage::kAttentionIn);
  run(kStageAttention, [&] { return enqueue_attention(layer, watch, pages); });
  mark(DecodeStage::kAttend);
  run(kStageAttentionOut, [&] { return enqueue_attention_out(w); });
  mark(DecodeStage::kAttentionOut);
  run(kStageGateUp, [&] { return enqueue_gate_up(w); });
  run(kStageDown, [&] { return enqueue_down(layer); });
  mark(DecodeStage::kFeedForward);
  return error;
}

cudaError_t CudaDecode::enqueue_step(unsigned stages, const StepWatch& watch, KvPages& pages) {
  const auto* header = step_.as<StepHeader>();
  const EmbedParams embed{context_.weights().token_embedding, &header->token, 1,
                          hidden_.as<float>()};
  cudaError_t error = cudaSuccess;
  if (watch.clock != nullptr) error = watch.clock->start(context_.stream());
  if (error == cudaSuccess) error = launch_embed(embed, context_.stream());
  // The new token is at the position before the context's end.
  if (error == cudaSuccess) {
    error = launch_rotary_angles(context_.rotary(), &header->n_tokens, -1, 1, angles_.as<float2>(),
                                 context_.stream());
  }
  if (error == cudaSuccess && watch.clock != nullptr) {
    error = watch.clock->mark(DecodeStage::kEmbed, 0, context_.stream());
  }
  const CudaLayer& first = context_.weights().layers[0];
  if (error == cudaSuccess) {
    error = context_.leave_hidden(hidden_.as<float>(), first.attn_norm, attention_in(first));
  }
  for (int layer = 0; layer < context_.hp().n_layers && error == cudaSuccess; ++layer) {
    error = enqueue_layer(layer, stages, watch, pages);
  }
  if (error == cudaSuccess && (stages & kStageLogits)) {
    error = context_.enqueue_logits();
  }
  if (error == cudaSuccess && watch.clock != nullptr) {
    error = watch.clock->mark(DecodeStage::kLogits, 0, context_.stream());
  }
  if (error == cudaSuccess && watch.draws) {
    error = launch_sample({context_.logits(), context_.hp().n_vocab, &header->sampling,
                           next_.as<Token>()},
                          context_.tuning().early, context_.stream());
  }
  return error;
}

Result<Graph> CudaDecode::capture(unsigned stages, const StepWatch& watch, KvPages& pages) {
  const char* what = "making the graph of a step";
  Status status =
      check(cudaStreamBeginCapture(context_.stream(), cudaStreamCaptureModeThreadLocal), what);
  if (!status.ok()) return status.error();
  status = check(enqueue_step(stages, watch, pages), what);
  cudaGraph_t captured = nullptr;
  const Status ended = check(cudaStreamEndCapture(context_.stream(), &captured), what);
  if (!status.ok() || !ended.ok()) {
    if (captured != nullptr) cudaGraphDestroy(captured);
    return status.ok() ? ended.error() : status.error();
  }
  cudaGraphExec_t graph = nullptr;
  status = check(cudaGraphInstantiate(&graph, captured, 0), what);
  cudaGraphDestroy(captured);
  if (!status.ok()) return status.error();
  return Graph(graph);
}

// --- a step ---------------------------------------------------------------------------------

void CudaDecode::choose_pool(KvPages& pages) {
  if (pages.k(0) == graph_pages_) return;
  forget_graphs();
  graph_pages_ = pages.k(0);
}

Status CudaDecode::upload(const DecodeStep& step, KvPages& pages) {
  if (step.plan->n_tokens > context_.max_context()) {
    return Error{ErrorCode::kContextExceeded, "The step is beyond the model's context."};
  }
  last_read_all_ = step.plan->reads_all;
  Status status = context_.upload_pages(step.view, step.plan->n_tokens);
  if (status.ok()) status = upload_step(step);
  if (status.ok()) status = digests_.update(step, pages);
  return status;
}

Result<Decoded> CudaDecode::decode(const DecodeStep& step, KvPages& pages) {
  choose_pool(pages);
  const bool reads_all = step.plan->reads_all;
  const bool measures_kept = step.trace_kept && !reads_all;
  StepWatch watch;
  watch.draws = step.draw != nullptr;
  if (step.trace_mass || measures_kept) {
    auto reserved = trace_.reserve(step.trace_mass);
    if (!reserved.ok()) return reserved.error();
    watch.trace = reserved.value();
    if (measures_kept) watch.dense_lse = trace_.dense_lse();
  }
  const char* what = "a decode step";
  Status status = upload(step, pages);
  if (!status.ok()) return status.error();
  Graph& graph = graphs_[reads_all][step.trace_mass][measures_kept][watch.draws];
  if (!graph) {
    auto captured = capture(kAllStages, watch, pages);
    if (!captured.ok()) return captured.error();
    graph = std::move(captured.value());
  }
  status = check(cudaGraphLaunch(graph.get(), context_.stream()), what);
  if (status.ok()) status = check(watch.draws ? fetch_next() : context_.fetch_logits(), what);
  if (status.ok() && step.trace_mass) {
    status = trace_.read_masses(watch.trace, device_list_pages(), step);
  }
  if (status.ok() && measures_kept) status = trace_.read_kept(step);
  if (status.ok()) status = context_.finish(what);
  if (!status.ok()) return status.error();
  if (step.trace_kept && reads_all) step.trace->mass_kept.assign(step.plan->heads.size(), 1);
  if (watch.draws) return Decoded{.logits = {}, .next = *host_next_.as<Token>()};
  return Decoded{.logits = context_.host_logits(), .next = {}};
}

cudaError_t CudaDecode::fetch_next() const {
  return cudaMemcpyAsync(host_next_.as<void>(), next_.as<void>(), sizeof(Token),
                         cudaMemcpyDeviceToHost, context_.stream());
}

Result<std::vector<StageTime>> CudaDecode::time_decode(const DecodeStep& step, KvPages& pages) {
  const char* what = "timing a step";
  if (Status status = upload(step, pages); !status.ok()) return status.error();
  CudaClock clock;
  StepWatch watch;
  watch.clock = &clock;
  auto graph = capture(kAllStages, watch, pages);
  if (!graph.ok()) return graph.error();
  Status status = check(cudaGraphLaunch(graph.value().get(), context_.stream()), what);
  if (status.ok()) status = context_.finish(what);
  if (!status.ok()) return status.error();
  auto times = clock.times();
  if (!times.ok()) return times.error();
  for (StageTime& time : times.value()) {
    time.bytes = context_.weights().stage_bytes(time.stage, time.layer);
  }
  return times;
}

Result<double> CudaDecode::time_stages(unsigned stages, int n_repeats, KvPages& pages) {
  auto graph = capture(stages, {}, pages);
  if (!graph.ok()) return graph.error();
  auto begin = make_event(), end = make_event();
  if (!begin.ok()) return begin.error();
  if (!end.ok()) return end.error();
  std::vector<double> times;
  for (int i = 0; i < n_repeats; ++i) {
    cudaEventRecord(begin.value().get(), context_.stream());
    cudaGraphLaunch(graph.value().get(), context_.stream());
    cudaEventRecord(end.value().get(), context_.stream());
    if (Status status = context_.finish("a benchmark"); !status.ok()) return status.error();
    float ms = 0;
    cudaEventElapsedTime(&ms, begin.value().get(), end.value().get());
    times.push_back(double(ms) * 1000);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

}  // namespace scholia::cuda
