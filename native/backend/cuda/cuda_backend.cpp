#include "backend/cuda/cuda_backend.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/cuda_weights.h"
#include "backend/cuda/device_buffer.h"
#include "backend/cuda/kernels/attention.cuh"
#include "backend/cuda/kernels/digests.cuh"
#include "backend/cuda/kernels/matvec.cuh"
#include "backend/cuda/kernels/prefill.cuh"
#include "backend/cuda/kernels/rotary.cuh"
#include "backend/cuda/kernels/weights.cuh"

namespace scholia {
namespace {

using namespace cuda;

// Left free on the device for the driver, graphs and other programs.
constexpr uint64_t kReservedBytes = 768 << 20;
constexpr int kLayersAhead = 2;  // enqueued while the flag to cancel is looked at

static_assert(sizeof(HeadStep) == sizeof(HeadPlan), "plans are uploaded as they are");

struct StreamCloser {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
struct GraphCloser {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
struct EventCloser {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Stream = std::unique_ptr<CUstream_st, StreamCloser>;
using Graph = std::unique_ptr<CUgraphExec_st, GraphCloser>;
using Event = std::unique_ptr<CUevent_st, EventCloser>;

Result<Event> make_event() {
  cudaEvent_t event = nullptr;
  if (Status status = check(cudaEventCreate(&event), "an event"); !status.ok()) {
    return status.error();
  }
  return Event(event);
}

// KV pages on the device, in the plain order.
class DeviceKvMemory final : public KvMemory {
 public:
  DeviceKvMemory(DeviceBuffer buffer, cudaStream_t stream)
      : buffer_(std::move(buffer)), stream_(stream) {}

  f16* base() override { return buffer_.as<f16>(); }
  bool is_on_host() const override { return false; }
  bool read(const f16* from, size_t n, f16* to_host) const override {
    return copy(to_host, from, n, cudaMemcpyDeviceToHost);
  }
  bool write(f16* to, size_t n, const f16* from_host) override {
    return copy(to, from_host, n, cudaMemcpyHostToDevice);
  }
  bool copy(const f16* from, f16* to, size_t n) override {
    return copy(to, from, n, cudaMemcpyDeviceToDevice);
  }

 private:
  bool copy(f16* to, const f16* from, size_t n, cudaMemcpyKind kind) const {
    return cudaMemcpyAsync(to, from, n * sizeof(f16), kind, stream_) == cudaSuccess &&
           cudaStreamSynchronize(stream_) == cudaSuccess;
  }

  DeviceBuffer buffer_;
  cudaStream_t stream_;
};

RotaryParams rotary_params(const RopeParams& rope, const float* factors) {
  RotaryParams p;
  p.is_neox = rope.mode == GGML_ROPE_TYPE_NEOX;
  p.n_dims = rope.n_dims;
  p.theta_scale = std::pow(rope.freq_base, -2.0F / float(rope.n_dims));
  p.freq_scale = rope.freq_scale;
  p.ext_factor = rope.ext_factor;
  p.attn_factor = rope.attn_factor;
  float corr[2];
  ggml_rope_yarn_corr_dims(rope.n_dims, rope.original_context, rope.freq_base, rope.beta_fast,
                           rope.beta_slow, corr);
  p.corr_low = corr[0];
  p.corr_high = corr[1];
  p.factors = factors;
  return p;
}

__half* as_half(f16* p) { return reinterpret_cast<__half*>(p); }

// What a step is told, in one upload: then come the heads' plans and their lists' lengths.
struct StepHeader {
  int token;
  int n_tokens;  // the new one included
  int padding[2];
};

class Cuda final : public CudaBackend {
 public:
  Cuda(const GgufModel& model, CudaDevice device, const CudaTuning& tuning)
      : hp_(model.hyperparameters()), device_(std::move(device)), tuning_(tuning) {}

  Status open(const GgufModel& model, int max_context, int chunk_tokens);

  std::string device_name() const override { return "cuda (" + device_.name + ")"; }
  uint64_t weights_bytes() const override { return weights_.bytes(); }
  uint64_t workspace_bytes() const override;
  uint64_t free_bytes() const override;
  uint64_t pool_limit_bytes() const override;
  Result<KvPages> reserve_pages(const KvShape& shape, size_t n_pages) override;
  Status set_digest_layout(const DigestLayout& layout) override;
  bool keeps_digests() const override { return true; }
  uint64_t digest_bytes() const override { return digests_.bytes(); }

  Result<std::span<const float>> prefill(const PrefillChunk& chunk, KvPages& pages,
                                         const CancelFlag* cancel) override;
  Result<std::span<const float>> decode(const DecodeStep& step, KvPages& pages) override;
  Result<double> time_stages(unsigned stages, int n_repeats, KvPages& pages) override;

 private:
  int n_heads() const { return hp_.n_layers * hp_.n_kv_heads; }
  int n_q() const { return hp_.n_q_heads * hp_.head_dim; }
  int n_kv() const { return hp_.n_kv_heads * hp_.head_dim; }
  int n_qkv() const { return n_q() + 2 * n_kv(); }
  bool is_neox() const { return hp_.rope.mode == GGML_ROPE_TYPE_NEOX; }
  cudaStream_t stream() const { return stream_.get(); }
  void forget_graphs() {
    for (auto& pair : graphs_) {
      for (Graph& graph : pair) graph.reset();
    }
  }
  Status finish(const char* what) { return check(cudaStreamSynchronize(stream()), what); }

  Status upload_pages(const KvView& view, int n_tokens);
  // decode
  Status upload_step(const DecodeStep& step);
  Status update_digests(const DecodeStep& step, KvPages& pages);
  Result<Graph> capture(unsigned stages, const AttentionTrace& trace, KvPages& pages);
  cudaError_t enqueue_step(unsigned stages, const AttentionTrace& trace, KvPages& pages);
  cudaError_t enqueue_layer(int layer, unsigned stages, const AttentionTrace& trace,
                            KvPages& pages);
  MatvecParams product(const float* x, const float* norm, MatvecOut out) const;
  cudaError_t multiply(const MatvecParams& params) {
    return launch_matvec(params, tuning_.ctas_per_sm * device_.n_sms, tuning_.early, stream());
  }
  cudaError_t enqueue_logits(const float* hidden);
  Result<AttentionTrace> reserve_trace();
  Status read_trace(const AttentionTrace& trace, const DecodeStep& step);
  // prefill
  Status reserve_chunk(int n);
  Status prefill_layer(int layer, const PrefillChunk& chunk, KvPages& pages);
  Status prefill_attention_in(int layer, const PrefillChunk& chunk, KvPages& pages);
  Status prefill_feed_forward(const CudaLayer& layer, int first, int n);
  Status multiply_rows(const DeviceMatrix& w, const __half* x, void* y, bool y_is_f32, bool adds,
                       int n, int y_stride);
  Result<std::span<const float>> all_logits(int n);
  Status hand_out_queries(int layer, const PrefillChunk& chunk);

  const Hyperparameters& hp_;
  CudaDevice device_;
  CudaTuning tuning_;
  Stream stream_;
  CudaWeights weights_;
  std::unique_ptr<CublasLt> cublas_;
  RotaryParams rotary_;
  AttentionLaunch attention_[2];  // of steps in which heads select, and in which none does
  int max_context_ = 0;  // tokens
  int max_pages_ = 0;    // of a sequence

  // decode
  DeviceBuffer hidden_, qkv_, attended_, gated_, logits_, angles_;
  DeviceBuffer step_, page_table_;
  PinnedBuffer host_step_, host_logits_;
  std::vector<PageId> uploaded_pages_;  // what page_table_ holds
  // By whether all is read, and whether there is a trace.
  Graph graphs_[2][2];
  const f16* graph_pages_ = nullptr;    // the pool that they were made for
  bool last_read_all_ = true;
  DeviceBuffer part_states_, parts_done_;

  // digests of one sequence: of the lineage last decoded
  DeviceBuffer digests_, digest_planes_, digest_blocks_;
  DigestKind digest_kind_ = DigestKind::kMeanStd;
  uint64_t digest_lineage_ = 0;
  int digest_tokens_ = 0;

  // trace
  DeviceBuffer trace_;
  float* trace_masses_ = nullptr;
  std::vector<float> masses_;
  std::vector<uint32_t> read_pages_;

  // prefill
  int chunk_room_ = 0;  // tokens
  DeviceBuffer chunk_tokens_, chunk_hidden_, chunk_x_, chunk_qkv_, chunk_q_, chunk_attended_,
      chunk_ff_, chunk_gated_, chunk_angles_, matrix_;
  Event layer_done_[kLayersAhead];
  std::vector<float> all_logits_, queries_;
};

// --- opening --------------------------------------------------------------------------------

Status Cuda::open(const GgufModel& model, int max_context, int chunk_tokens) {
  max_context_ = max_context;
  max_pages_ = (max_context + kKvPageTokens - 1) / kKvPageTokens;
  cudaStream_t stream = nullptr;
  if (Status status = check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
      !status.ok()) {
    return status;
  }
  stream_.reset(stream);
  if (!choose_attention(hp_.head_dim, hp_.n_kv_heads, hp_.group(), max_context, device_.n_sms,
                        &attention_[0], &attention_[1])) {
    return Error{ErrorCode::kModelUnsupported,
                 "The GPU's attention takes heads of 64 or 128, up to " +
                     std::to_string(kMaxGroup) + " query heads for each KV head and a context that " +
                     "its shared memory holds; this model has heads of " +
                     std::to_string(hp_.head_dim) + ", " + std::to_string(hp_.group()) +
                     " query heads for each and a context of " + std::to_string(max_context) + "."};
  }
  auto cublas = CublasLt::open();
  if (!cublas.ok()) return cublas.error();
  cublas_ = std::move(cublas.value());
  auto weights = CudaWeights::load(model, stream);
  if (!weights.ok()) return weights.error();
  weights_ = std::move(weights.value());
  rotary_ = rotary_params(hp_.rope, weights_.rope_factors);

  const size_t step_bytes = sizeof(StepHeader) + size_t(n_heads()) * (sizeof(HeadStep) + sizeof(int));
  const char* what = "the workspace";
  for (const auto& [buffer, n_bytes] : std::initializer_list<std::pair<DeviceBuffer*, size_t>>{
           {&hidden_, size_t(hp_.n_embd) * 4},
           {&qkv_, size_t(n_qkv()) * 4},
           {&attended_, size_t(n_q()) * 4},
           {&gated_, size_t(hp_.n_ff) * 4},
           {&logits_, size_t(hp_.n_vocab) * 4},
           {&angles_, size_t(hp_.rope.n_dims) * 4},
           {&part_states_, size_t(attention_[1].parts) * (size_t(n_q()) + 2 * hp_.n_q_heads) * 4},
           {&parts_done_, size_t(hp_.n_kv_heads) * sizeof(int)},
           {&step_, step_bytes},
           {&page_table_, size_t(max_pages_) * sizeof(PageId)},
           {&matrix_, weights_.largest_layer_matrix() * sizeof(__half)}}) {
    if (Status status = buffer->allocate(n_bytes, what); !status.ok()) return status;
  }
  if (Status status = host_step_.allocate(step_bytes, what); !status.ok()) return status;
  if (Status status = host_logits_.allocate(size_t(hp_.n_vocab) * 4, what); !status.ok()) {
    return status;
  }
  if (Status status = check(cudaMemsetAsync(parts_done_.as<void>(), 0, parts_done_.bytes(), stream),
                            what);
      !status.ok()) {
    return status;
  }
  for (Event& event : layer_done_) {
    auto made = make_event();
    if (!made.ok()) return made.error();
    event = std::move(made.value());
  }
  return reserve_chunk(chunk_tokens);
}

uint64_t Cuda::workspace_bytes() const {
  uint64_t n = cublas_->workspace_bytes();
  for (const DeviceBuffer* buffer :
       {&hidden_, &qkv_, &attended_, &gated_, &logits_, &angles_, &part_states_, &step_, &page_table_, &trace_,
        &chunk_tokens_, &chunk_hidden_, &chunk_x_, &chunk_qkv_, &chunk_q_, &chunk_attended_,
        &chunk_ff_, &chunk_gated_, &chunk_angles_, &matrix_}) {
    n += buffer->bytes();
  }
  return n;
}

uint64_t Cuda::free_bytes() const {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
  return free;
}

// Digests take a sixtieth of the KV that they summarise, at the smallest blocks.
uint64_t Cuda::pool_limit_bytes() const {
  const uint64_t free = free_bytes();
  return free > kReservedBytes ? (free - kReservedBytes) / 20 * 19 : 1;
}

Result<KvPages> Cuda::reserve_pages(const KvShape& shape, size_t n_pages) {
  DeviceBuffer buffer;
  const size_t n_bytes = shape.page_bytes() * n_pages;
  if (Status status = buffer.allocate(n_bytes, "the KV pool"); !status.ok()) return status.error();
  if (Status status = check(cudaMemsetAsync(buffer.as<void>(), 0, n_bytes, stream()), "the KV pool");
      !status.ok()) {
    return status.error();
  }
  if (Status status = finish("the KV pool"); !status.ok()) return status.error();
  return KvPages::over(shape, n_pages, std::make_unique<DeviceKvMemory>(std::move(buffer), stream()));
}

Status Cuda::set_digest_layout(const DigestLayout& layout) {
  const size_t n_groups = size_t(max_context_ + kDigestGroupTokens - 1) / kDigestGroupTokens;
  std::vector<size_t> offsets;
  size_t total = 0;
  const auto place = [&](size_t n_bytes) {
    offsets.push_back(total);
    total += (n_bytes + 15) / 16 * 16;
  };
  for (int head = 0; head < n_heads(); ++head) {
    const size_t n_blocks = size_t(layout.blocks_per_group(head));
    place(n_groups * n_blocks * layout.closed_record_bytes());
    place(n_groups * layout.scale_bytes());
    place(n_blocks * layout.open_record_bytes());
  }
  digest_lineage_ = 0;
  digest_tokens_ = 0;
  digest_kind_ = layout.kind;
  forget_graphs();
  if (Status status = digests_.grow(total, "the digests"); !status.ok()) return status;
  std::vector<DigestPlanes> planes;
  for (int head = 0; head < n_heads(); ++head) {
    const size_t* at = &offsets[size_t(head) * 3];
    uint8_t* base = digests_.as<uint8_t>();
    planes.push_back({base + at[0], reinterpret_cast<__half*>(base + at[1]),
                      reinterpret_cast<__half*>(base + at[2])});
  }
  const auto upload = [&](DeviceBuffer& to, const auto& from) {
    const size_t n_bytes = from.size() * sizeof(from[0]);
    if (Status status = to.grow(n_bytes, "the digests"); !status.ok()) return status;
    if (Status status = check(cudaMemcpyAsync(to.as<void>(), from.data(), n_bytes,
                                              cudaMemcpyHostToDevice, stream()),
                              "the digests");
        !status.ok()) {
      return status;
    }
    return finish("the digests");
  };
  if (Status status = upload(digest_planes_, planes); !status.ok()) return status;
  return upload(digest_blocks_, layout.block_tokens);
}

// --- what both verbs need -------------------------------------------------------------------

// Brings the page table up to n_tokens; only what changed travels.
Status Cuda::upload_pages(const KvView& view, int n_tokens) {
  const size_t n_pages = size_t(n_tokens + kKvPageTokens - 1) / kKvPageTokens;
  const size_t known = std::min(n_pages, uploaded_pages_.size());
  const size_t first = size_t(
      std::mismatch(view.pages, view.pages + known, uploaded_pages_.begin()).first - view.pages);
  if (first == n_pages) return {};
  uploaded_pages_.assign(view.pages, view.pages + n_pages);
  return check(cudaMemcpyAsync(page_table_.as<PageId>() + first, view.pages + first,
                               (n_pages - first) * sizeof(PageId), cudaMemcpyHostToDevice,
                               stream()),
               "the page table");
}

// --- decode ---------------------------------------------------------------------------------

Status Cuda::upload_step(const DecodeStep& step) {
  const auto& heads = step.plan->heads;
  auto* to = host_step_.as<uint8_t>();
  const StepHeader header{step.token, step.plan->n_tokens, {}};
  std::memcpy(to, &header, sizeof header);
  std::memcpy(to + sizeof header, heads.data(), heads.size() * sizeof(HeadPlan));
  auto* lengths = reinterpret_cast<int*>(to + sizeof header + heads.size() * sizeof(HeadPlan));
  for (size_t h = 0; h < heads.size(); ++h) {
    const int tokens = heads[h].tokens_read(step.plan->n_tokens);
    lengths[h] = (tokens + kKvPageTokens - 1) / kKvPageTokens;
  }
  return check(cudaMemcpyAsync(step_.as<void>(), to, step_.bytes(), cudaMemcpyHostToDevice,
                               stream()),
               "a step");
}

Status Cuda::update_digests(const DecodeStep& step, KvPages& pages) {
  if (step.plan->reads_all) return {};
  const int n = step.view.n_tokens;
  if (step.lineage != digest_lineage_ || n < digest_tokens_) digest_tokens_ = 0;
  digest_lineage_ = step.lineage;
  DigestParams p;
  p.kind = int(digest_kind_);
  p.head_dim = hp_.head_dim;
  p.n_layers = hp_.n_layers;
  p.n_kv_heads = hp_.n_kv_heads;
  p.pool = as_half(pages.k(0));
  p.layer_elements = size_t(pages.v(0) - pages.k(0));
  p.pages = page_table_.as<uint32_t>();
  p.block_tokens = digest_blocks_.as<uint16_t>();
  p.planes = digest_planes_.as<DigestPlanes>();
  p.from_tokens = digest_tokens_;
  p.to_tokens = n;
  digest_tokens_ = n;
  return check(launch_build_digests(p, stream()), "the digests");
}

MatvecParams Cuda::product(const float* x, const float* norm, MatvecOut out) const {
  MatvecParams p;
  p.x = x;
  p.norm_weight = norm;
  p.norm_eps = hp_.rms_eps;
  p.out = out;
  return p;
}

cudaError_t Cuda::enqueue_layer(int layer, unsigned stages, const AttentionTrace& trace,
                                KvPages& pages) {
  const CudaLayer& w = weights_.layers[size_t(layer)];
  float* hidden = hidden_.as<float>();
  float* qkv = qkv_.as<float>();
  float* attended = attended_.as<float>();
  float* gated = gated_.as<float>();
  cudaError_t error = cudaSuccess;
  const auto run = [&](const MatvecParams& p) {
    if (error == cudaSuccess) error = multiply(p);
  };

  if (stages & kStageQkv) {
    MatvecParams p = product(hidden, w.attn_norm, MatvecOut::kStore);
    p.parts[p.n_parts++] = {w.wq, w.bq, qkv};
    p.parts[p.n_parts++] = {w.wk, w.bk, qkv + n_q()};
    p.parts[p.n_parts++] = {w.wv, w.bv, qkv + n_q() + n_kv()};
    run(p);
  }
  if ((stages & kStageAttention) && error == cudaSuccess) {
    AttentionParams p;
    p.head_dim = hp_.head_dim;
    p.n_kv_heads = hp_.n_kv_heads;
    p.group = hp_.group();
    p.first_head = layer * hp_.n_kv_heads;
    p.qkv = qkv;
    p.q_norm = w.q_norm;
    p.k_norm = w.k_norm;
    p.norm_eps = hp_.rms_eps;
    p.is_neox = is_neox();
    p.n_rotary_dims = hp_.rope.n_dims;
    p.angles = angles_.as<float2>();
    p.k = as_half(pages.k(layer));
    p.v = as_half(pages.v(layer));
    p.pages = page_table_.as<uint32_t>();
    p.n_tokens = &step_.as<StepHeader>()->n_tokens;
    p.heads = reinterpret_cast<const HeadStep*>(step_.as<StepHeader>() + 1);
    p.digests = digest_planes_.as<DigestPlanes>();
    p.out = attended;
    p.trace = trace;
    p.part_states = part_states_.as<float>();
    p.parts_done = parts_done_.as<int>();
    error = launch_attention(p, attention_[last_read_all_], tuning_.early, stream());
  }
  if (stages & kStageAttentionOut) {
    MatvecParams p = product(attended, nullptr, MatvecOut::kAdd);
    p.parts[p.n_parts++] = {w.wo, w.bo, hidden};
    run(p);
  }
  if (stages & kStageGateUp) {
    MatvecParams p = product(hidden, w.ffn_norm, MatvecOut::kStore);
    if (w.has_pairs()) {
      p.out = MatvecOut::kGatePairs;
      p.parts[p.n_parts++] = {w.gate_up, nullptr, gated};
      run(p);
    } else {
      p.parts[p.n_parts++] = {w.gate, nullptr, gated};
      run(p);
      p.out = MatvecOut::kGateWith;
      p.parts[0] = {w.up, nullptr, gated};
      run(p);
    }
  }
  if (stages & kStageDown) {
    MatvecParams p = product(gated, nullptr, MatvecOut::kAdd);
    p.parts[p.n_parts++] = {w.down, nullptr, hidden};
    run(p);
  }
  return error;
}

cudaError_t Cuda::enqueue_logits(const float* hidden) {
  MatvecParams p = product(hidden, weights_.output_norm, MatvecOut::kStore);
  p.parts[p.n_parts++] = {weights_.output, nullptr, logits_.as<float>()};
  return multiply(p);
}

cudaError_t Cuda::enqueue_step(unsigned stages, const AttentionTrace& trace, KvPages& pages) {
  const auto* header = step_.as<StepHeader>();
  const EmbedParams embed{weights_.token_embedding, &header->token, 1, hidden_.as<float>()};
  cudaError_t error = launch_embed(embed, stream());
  // The new token is at the position before the context's end.
  if (error == cudaSuccess) {
    error = launch_rotary_angles(rotary_, &header->n_tokens, -1, 1, angles_.as<float2>(), stream());
  }
  for (int layer = 0; layer < hp_.n_layers && error == cudaSuccess; ++layer) {
    error = enqueue_layer(layer, stages, trace, pages);
  }
  if (error == cudaSuccess && (stages & kStageLogits)) error = enqueue_logits(hidden_.as<float>());
  return error;
}

Result<Graph> Cuda::capture(unsigned stages, const AttentionTrace& trace, KvPages& pages) {
  const char* what = "making the graph of a step";
  Status status = check(cudaStreamBeginCapture(stream(), cudaStreamCaptureModeThreadLocal), what);
  if (!status.ok()) return status.error();
  status = check(enqueue_step(stages, trace, pages), what);
  cudaGraph_t captured = nullptr;
  const Status ended = check(cudaStreamEndCapture(stream(), &captured), what);
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

Result<std::span<const float>> Cuda::decode(const DecodeStep& step, KvPages& pages) {
  if (step.plan->n_tokens > max_context_) {
    return Error{ErrorCode::kContextExceeded, "The step is beyond the model's context."};
  }
  if (pages.k(0) != graph_pages_) {
    forget_graphs();
    graph_pages_ = pages.k(0);
  }
  AttentionTrace trace;
  if (step.trace_mass) {
    auto reserved = reserve_trace();
    if (!reserved.ok()) return reserved.error();
    trace = reserved.value();
  }
  last_read_all_ = step.plan->reads_all;
  Graph& graph = graphs_[last_read_all_][step.trace_mass];
  if (!graph) {
    auto captured = capture(kAllStages, trace, pages);
    if (!captured.ok()) return captured.error();
    graph = std::move(captured.value());
  }
  if (Status status = upload_pages(step.view, step.plan->n_tokens); !status.ok()) {
    return status.error();
  }
  if (Status status = upload_step(step); !status.ok()) return status.error();
  if (Status status = update_digests(step, pages); !status.ok()) return status.error();
  const size_t n_bytes = size_t(hp_.n_vocab) * sizeof(float);
  Status status = check(cudaGraphLaunch(graph.get(), stream()), "a decode step");
  if (status.ok()) {
    status = check(cudaMemcpyAsync(host_logits_.as<void>(), logits_.as<void>(), n_bytes,
                                   cudaMemcpyDeviceToHost, stream()),
                   "a decode step");
  }
  if (status.ok() && step.trace_mass) status = read_trace(trace, step);
  if (status.ok()) status = finish("a decode step");
  if (!status.ok()) return status.error();
  return std::span<const float>(host_logits_.as<float>(), size_t(hp_.n_vocab));
}

Result<double> Cuda::time_stages(unsigned stages, int n_repeats, KvPages& pages) {
  auto graph = capture(stages, {}, pages);
  if (!graph.ok()) return graph.error();
  auto begin = make_event(), end = make_event();
  if (!begin.ok()) return begin.error();
  if (!end.ok()) return end.error();
  std::vector<double> times;
  for (int i = 0; i < n_repeats; ++i) {
    cudaEventRecord(begin.value().get(), stream());
    cudaGraphLaunch(graph.value().get(), stream());
    cudaEventRecord(end.value().get(), stream());
    if (Status status = finish("a benchmark"); !status.ok()) return status.error();
    float ms = 0;
    cudaEventElapsedTime(&ms, begin.value().get(), end.value().get());
    times.push_back(double(ms) * 1000);
  }
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

// --- trace ----------------------------------------------------------------------------------

// Room for the traces of all heads, made with the first traced step.
Result<AttentionTrace> Cuda::reserve_trace() {
  const size_t heads = size_t(n_heads()), places = heads * size_t(max_pages_);
  const size_t group = size_t(hp_.group());
  const size_t states = places * group * sizeof(float2), lse = heads * group * sizeof(float);
  if (Status status = trace_.grow(states + lse + places * 8, "the trace"); !status.ok()) {
    return status.error();
  }
  uint8_t* base = trace_.as<uint8_t>();
  AttentionTrace trace;
  trace.page_state = reinterpret_cast<float2*>(base);
  trace.lse = reinterpret_cast<float*>(base + states);
  trace.pages = reinterpret_cast<uint32_t*>(base + states + lse);
  trace.max_pages = max_pages_;
  trace_masses_ = reinterpret_cast<float*>(trace.pages + places);
  return trace;
}

// The attention mass of every block read, of pages summed up to blocks.
Status Cuda::read_trace(const AttentionTrace& trace, const DecodeStep& step) {
  const auto& heads = step.plan->heads;
  const auto* lengths = reinterpret_cast<const int*>(
      reinterpret_cast<const HeadStep*>(step_.as<StepHeader>() + 1) + heads.size());
  Status status = check(
      launch_trace_masses(trace, lengths, n_heads(), hp_.group(), trace_masses_, stream()),
      "the trace");
  if (!status.ok()) return status;
  int longest = 0;
  for (const HeadPlan& head : heads) {
    longest = std::max(longest, head.tokens_read(step.plan->n_tokens) / kKvPageTokens + 1);
  }
  const size_t width = size_t(std::min(longest, max_pages_));
  masses_.resize(heads.size() * width);
  read_pages_.resize(heads.size() * width);
  const auto fetch = [&](void* to, const void* from) {
    return check(cudaMemcpy2DAsync(to, width * 4, from, size_t(max_pages_) * 4, width * 4,
                                   heads.size(), cudaMemcpyDeviceToHost, stream()),
                 "the trace");
  };
  if (status = fetch(masses_.data(), trace_masses_); !status.ok()) return status;
  if (status = fetch(read_pages_.data(), trace.pages); !status.ok()) return status;
  if (status = finish("the trace"); !status.ok()) return status;

  StepTrace& out = *step.trace;
  out.block_offset.assign(1, 0);
  out.block_idx.clear();
  out.mass.clear();
  for (size_t h = 0; h < heads.size(); ++h) {
    const int tokens = heads[h].tokens_read(step.plan->n_tokens);
    const size_t n_pages = size_t(tokens + kKvPageTokens - 1) / kKvPageTokens;
    const size_t first = out.block_idx.size();
    for (size_t i = 0; i < n_pages; ++i) {
      const uint32_t block = read_pages_[h * width + i] /
                             uint32_t(heads[h].block_tokens / kKvPageTokens);
      if (out.block_idx.size() == first || out.block_idx.back() != block) {
        out.block_idx.push_back(block);
        out.mass.push_back(0);
      }
      out.mass.back() += masses_[h * width + i];
    }
    out.block_offset.push_back(uint32_t(out.block_idx.size()));
  }
  return {};
}

// --- prefill --------------------------------------------------------------------------------

Status Cuda::reserve_chunk(int n) {
  if (n <= chunk_room_) return {};
  const size_t rows = size_t(n), half = sizeof(__half);
  const size_t ff = rows * size_t(hp_.n_ff) * half;
  for (const auto& [buffer, n_bytes] : std::initializer_list<std::pair<DeviceBuffer*, size_t>>{
           {&chunk_tokens_, rows * sizeof(int)},
           {&chunk_hidden_, rows * size_t(hp_.n_embd) * 4},
           {&chunk_x_, rows * size_t(hp_.n_embd) * half},
           {&chunk_qkv_, rows * size_t(n_qkv()) * 4},
           {&chunk_q_, rows * size_t(n_q()) * half},
           {&chunk_attended_, rows * size_t(n_q()) * half},
           {&chunk_ff_, 2 * ff},
           {&chunk_gated_, ff},
           {&chunk_angles_, rows * size_t(hp_.rope.n_dims) * 4}}) {
    if (Status status = buffer->allocate(n_bytes, "a chunk's workspace"); !status.ok()) {
      return status;
    }
  }
  chunk_room_ = n;
  return {};
}

// y [n][y_stride] (+)= x W^T; weights that are not f16 are unpacked first.
Status Cuda::multiply_rows(const DeviceMatrix& w, const __half* x, void* y, bool y_is_f32, bool adds,
                           int n, int y_stride) {
  const auto* weights = reinterpret_cast<const __half*>(w.codes);
  if (w.format != WeightFormat::kF16) {
    const DequantiseParams p{w, 0, w.n_rows, matrix_.as<__half>()};
    if (Status status = check(launch_dequantise(p, stream()), "unpacking weights"); !status.ok()) {
      return status;
    }
    weights = matrix_.as<__half>();
  }
  return cublas_->multiply({weights, x, y, y_is_f32, adds, n, w.n_cols, w.n_rows, y_stride},
                           stream());
}

Status Cuda::hand_out_queries(int layer, const PrefillChunk& chunk) {
  const size_t n = chunk.tokens.size(), row = size_t(n_q()) * 4;
  queries_.resize(n * size_t(n_q()));
  Status status = check(cudaMemcpy2DAsync(queries_.data(), row, chunk_qkv_.as<float>(),
                                          size_t(n_qkv()) * 4, row, n, cudaMemcpyDeviceToHost,
                                          stream()),
                        "the queries");
  if (status.ok()) status = finish("the queries");
  if (status.ok()) chunk.on_queries(layer, queries_.data());
  return status;
}

Status Cuda::prefill_attention_in(int layer, const PrefillChunk& chunk, KvPages& pages) {
  const CudaLayer& w = weights_.layers[size_t(layer)];
  const int n = int(chunk.tokens.size());
  const NormRowsParams norm{chunk_hidden_.as<float>(), w.attn_norm, hp_.rms_eps, n, hp_.n_embd,
                            chunk_x_.as<__half>()};
  if (Status status = check(launch_norm_rows(norm, stream()), "a norm"); !status.ok()) {
    return status;
  }
  int at = 0;
  for (const DeviceMatrix* matrix : {&w.wq, &w.wk, &w.wv}) {
    if (Status status = multiply_rows(*matrix, chunk_x_.as<__half>(), chunk_qkv_.as<float>() + at,
                                      true, false, n, n_qkv());
        !status.ok()) {
      return status;
    }
    at += matrix->n_rows;
  }
  PrefillHeadsParams p;
  p.n = n;
  p.head_dim = hp_.head_dim;
  p.n_q_heads = hp_.n_q_heads;
  p.n_kv_heads = hp_.n_kv_heads;
  p.qkv = chunk_qkv_.as<float>();
  p.q_bias = w.bq;
  p.k_bias = w.bk;
  p.v_bias = w.bv;
  p.q_norm = w.q_norm;
  p.k_norm = w.k_norm;
  p.norm_eps = hp_.rms_eps;
  p.is_neox = is_neox();
  p.n_rotary_dims = hp_.rope.n_dims;
  p.angles = chunk_angles_.as<float2>();
  p.first_position = chunk.view.n_tokens;
  p.pages = page_table_.as<uint32_t>();
  p.k = as_half(pages.k(layer));
  p.v = as_half(pages.v(layer));
  p.q = chunk_q_.as<__half>();
  if (Status status = check(launch_prefill_heads(p, stream()), "storing K and V"); !status.ok()) {
    return status;
  }
  return chunk.on_queries ? hand_out_queries(layer, chunk) : Status();
}

// Rows [first, first + n) of the chunk.
Status Cuda::prefill_feed_forward(const CudaLayer& w, int first, int n) {
  float* hidden = chunk_hidden_.as<float>() + size_t(first) * hp_.n_embd;
  auto* x = chunk_x_.as<__half>();
  auto* ff = chunk_ff_.as<__half>();
  auto* gated = chunk_gated_.as<__half>();
  const NormRowsParams norm{hidden, w.ffn_norm, hp_.rms_eps, n, hp_.n_embd, x};
  if (Status status = check(launch_norm_rows(norm, stream()), "a norm"); !status.ok()) {
    return status;
  }
  __half* up = ff + size_t(n) * hp_.n_ff;
  Status status;
  if (w.has_pairs()) {
    status = multiply_rows(w.gate_up, x, ff, false, false, n, 2 * hp_.n_ff);
  } else {
    status = multiply_rows(w.gate, x, ff, false, false, n, hp_.n_ff);
    if (status.ok()) status = multiply_rows(w.up, x, up, false, false, n, hp_.n_ff);
  }
  if (!status.ok()) return status;
  const GateParams gate{ff, w.has_pairs() ? nullptr : up, n, hp_.n_ff, gated};
  if (status = check(launch_gate(gate, stream()), "the gate"); !status.ok()) return status;
  return multiply_rows(w.down, gated, hidden, true, true, n, hp_.n_embd);
}

Status Cuda::prefill_layer(int layer, const PrefillChunk& chunk, KvPages& pages) {
  const CudaLayer& w = weights_.layers[size_t(layer)];
  const bool last = layer + 1 == hp_.n_layers;
  const int n = int(chunk.tokens.size());
  if (Status status = prefill_attention_in(layer, chunk, pages); !status.ok()) return status;
  // A chunk that nobody wants logits of needs no more than the last layer's K and V.
  if (last && chunk.logits == LogitRows::kNone) return {};
  PrefillAttentionParams p;
  p.n = n;
  p.head_dim = hp_.head_dim;
  p.n_q_heads = hp_.n_q_heads;
  p.n_kv_heads = hp_.n_kv_heads;
  p.first_position = chunk.view.n_tokens;
  p.q = chunk_q_.as<__half>();
  p.k = as_half(pages.k(layer));
  p.v = as_half(pages.v(layer));
  p.pages = page_table_.as<uint32_t>();
  p.out = chunk_attended_.as<__half>();
  if (Status status = check(launch_prefill_attention(p, stream()), "attention"); !status.ok()) {
    return status;
  }
  // After it each row goes its own way.
  const int first = last && chunk.logits == LogitRows::kLast ? n - 1 : 0;
  float* hidden = chunk_hidden_.as<float>() + size_t(first) * hp_.n_embd;
  const __half* attended = chunk_attended_.as<__half>() + size_t(first) * n_q();
  if (Status status = multiply_rows(w.wo, attended, hidden, true, true, n - first, hp_.n_embd);
      !status.ok()) {
    return status;
  }
  if (w.bo != nullptr) {
    if (Status status = check(launch_add_bias(hidden, w.bo, n - first, hp_.n_embd, stream()),
                              "a bias");
        !status.ok()) {
      return status;
    }
  }
  return prefill_feed_forward(w, first, n - first);
}

// Logits of all rows, a part of the vocabulary at a time.
Result<std::span<const float>> Cuda::all_logits(int n) {
  const DeviceMatrix& w = weights_.output;
  auto* x = chunk_x_.as<__half>();
  const NormRowsParams norm{chunk_hidden_.as<float>(), weights_.output_norm, hp_.rms_eps, n,
                            hp_.n_embd, x};
  if (Status status = check(launch_norm_rows(norm, stream()), "a norm"); !status.ok()) {
    return status.error();
  }
  all_logits_.resize(size_t(n) * size_t(hp_.n_vocab));
  // Both the unpacked weights and the products go into room that is there.
  const int part = int(std::min<size_t>({matrix_.bytes() / sizeof(__half) / size_t(w.n_cols),
                                         chunk_ff_.bytes() / sizeof(float) / size_t(n),
                                         size_t(w.n_rows)}));
  for (int row = 0; row < w.n_rows; row += part) {
    const int n_rows = std::min(part, w.n_rows - row);
    const DequantiseParams unpack{w, row, n_rows, matrix_.as<__half>()};
    Status status = check(launch_dequantise(unpack, stream()), "unpacking weights");
    if (status.ok()) {
      status = cublas_->multiply({matrix_.as<__half>(), x, chunk_ff_.as<void>(), true, false, n,
                                  w.n_cols, n_rows, n_rows},
                                 stream());
    }
    if (status.ok()) {
      status = check(cudaMemcpy2DAsync(all_logits_.data() + row, size_t(hp_.n_vocab) * 4,
                                       chunk_ff_.as<void>(), size_t(n_rows) * 4, size_t(n_rows) * 4,
                                       size_t(n), cudaMemcpyDeviceToHost, stream()),
                     "logits");
    }
    if (status.ok()) status = finish("logits");
    if (!status.ok()) return status.error();
  }
  return std::span<const float>(all_logits_);
}

Result<std::span<const float>> Cuda::prefill(const PrefillChunk& chunk, KvPages& pages,
                                             const CancelFlag* cancel) {
  const int n = int(chunk.tokens.size());
  Status status = reserve_chunk(n);
  if (status.ok()) status = upload_pages(chunk.view, chunk.view.n_tokens + n);
  if (status.ok()) {
    status = check(cudaMemcpyAsync(chunk_tokens_.as<void>(), chunk.tokens.data(),
                                   chunk.tokens.size_bytes(), cudaMemcpyHostToDevice, stream()),
                   "a chunk's tokens");
  }
  if (status.ok()) {
    status = check(launch_embed({weights_.token_embedding, chunk_tokens_.as<int>(), n,
                                 chunk_hidden_.as<float>()},
                                stream()),
                   "embedding");
  }
  if (status.ok()) {
    status = check(launch_rotary_angles(rotary_, nullptr, chunk.view.n_tokens, n,
                                        chunk_angles_.as<float2>(), stream()),
                   "rotary angles");
  }
  for (int layer = 0; layer < hp_.n_layers && status.ok(); ++layer) {
    // A few layers ahead of the GPU, no more, or the flag would be seen only when all is enqueued.
    cudaEvent_t done = layer_done_[layer % kLayersAhead].get();
    if (layer >= kLayersAhead) status = check(cudaEventSynchronize(done), "prefill");
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      if (status.ok()) status = finish("prefill");
      return status.ok() ? Error{ErrorCode::kCancelled, "The prefill was cancelled."}
                         : status.error();
    }
    if (status.ok()) status = prefill_layer(layer, chunk, pages);
    if (status.ok()) status = check(cudaEventRecord(done, stream()), "prefill");
  }
  if (!status.ok()) return status.error();
  if (chunk.logits == LogitRows::kAll) return all_logits(n);
  if (chunk.logits == LogitRows::kNone) {
    if (status = finish("prefill"); !status.ok()) return status.error();
    return std::span<const float>{};
  }
  const float* hidden = chunk_hidden_.as<float>() + size_t(n - 1) * hp_.n_embd;
  status = check(enqueue_logits(hidden), "logits");
  if (status.ok()) {
    status = check(cudaMemcpyAsync(host_logits_.as<void>(), logits_.as<void>(),
                                   size_t(hp_.n_vocab) * 4, cudaMemcpyDeviceToHost, stream()),
                   "logits");
  }
  if (status.ok()) status = finish("prefill");
  if (!status.ok()) return status.error();
  return std::span<const float>(host_logits_.as<float>(), size_t(hp_.n_vocab));
}

}  // namespace

Result<std::unique_ptr<CudaBackend>> open_cuda_backend(const GgufModel& model, int max_context,
                                                       int chunk_tokens,
                                                       const CudaTuning& tuning) {
  auto device = find_cuda_device();
  if (!device.ok()) return device.error();
  auto backend = std::make_unique<Cuda>(model, std::move(device.value()), tuning);
  if (Status status = backend->open(model, max_context, chunk_tokens); !status.ok()) {
    return status.error();
  }
  return std::unique_ptr<CudaBackend>(std::move(backend));
}

}  // namespace scholia
