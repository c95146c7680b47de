#include "backend/cpu/cpu_backend.h"

#include <ggml-alloc.h>

#include <chrono>
#include <cmath>
#include <cstring>
#include <deque>
#include <fstream>

#include "backend/cpu/cpu_backend_attention.h"
#include "backend/cpu/cpu_backend_bandwidth.h"
#include "backend/cpu/cpu_backend_ggml.h"
#include "backend/cpu/cpu_backend_products.h"
#include "backend/cpu/cpu_backend_weights.h"

namespace scholia {
namespace {

constexpr size_t kNodesPerLayer = 52;

struct ContextCloser {
  void operator()(ggml_context* context) const { ggml_free(context); }
};
struct AllocatorCloser {
  void operator()(ggml_gallocr_t allocator) const { ggml_gallocr_free(allocator); }
};

// When each stage of a step ended. Marks are nodes of the graph, seen by one thread after all have
// done what comes before.
class StageClock {
 public:
  using Clock = std::chrono::steady_clock;

  // x, and a look at the clock once x and what else is named here are there.
  ggml_tensor* mark(ggml_context* ctx, DecodeStage stage, int layer, ggml_tensor* x,
                    ggml_tensor* also = nullptr, ggml_tensor* also_that = nullptr) {
    Mark& mark = marks_.emplace_back(Mark{stage, layer, {}});
    if (also == nullptr) return ggml_map_custom1_inplace(ctx, x, look, 1, &mark);
    return ggml_map_custom3_inplace(ctx, x, also, also_that, look3, 1, &mark);
  }
  void start() { start_ = Clock::now(); }
  std::vector<StageTime> times() const {
    std::vector<StageTime> times;
    Clock::time_point begin = start_;
    for (const Mark& mark : marks_) {
      const double seconds = std::chrono::duration<double>(mark.end - begin).count();
      times.push_back({mark.stage, mark.layer, seconds, 0});
      begin = mark.end;
    }
    return times;
  }

 private:
  struct Mark {
    DecodeStage stage;
    int layer;
    Clock::time_point end;
  };
  static void look(ggml_tensor*, const ggml_tensor*, int, int, void* mark) {
    static_cast<Mark*>(mark)->end = Clock::now();
  }
  static void look3(ggml_tensor*, const ggml_tensor*, const ggml_tensor*, const ggml_tensor*, int,
                    int, void* mark) {
    static_cast<Mark*>(mark)->end = Clock::now();
  }

  std::deque<Mark> marks_;  // addresses stay
  Clock::time_point start_;
};

// A built graph with its inputs and its memory.
struct Graph {
  std::unique_ptr<ggml_context, ContextCloser> context;
  std::unique_ptr<ggml_gallocr, AllocatorCloser> allocator;
  ggml_cgraph* nodes = nullptr;
  ggml_tensor* tokens = nullptr;     // [n] i32
  ggml_tensor* positions = nullptr;  // [n] i32
  ggml_tensor* logits = nullptr;     // [n_vocab, rows]; null: none asked for
  CpuProducts products;              // packed products among the nodes
  StageClock* clock = nullptr;       // null: the stages are not timed
  int n_tokens = 0;
  LogitRows rows = LogitRows::kNone;
};

uint64_t available_memory_bytes() {
  std::ifstream meminfo("/proc/meminfo");
  std::string name, unit;
  uint64_t kib = 0;
  while (meminfo >> name >> kib >> unit) {
    if (name == "MemAvailable:") return kib * 1024;
  }
  return 0;
}

class CpuBackend final : public Backend {
 public:
  CpuBackend(const GgufModel& model, GgmlCpu cpu, CpuWeights weights, int max_context)
      : hp_(model.hyperparameters()),
        cpu_(std::move(cpu)),
        weights_(std::move(weights)),
        attention_(hp_, cpu_.n_threads(), max_context) {}

  std::string device_name() const override {
    return "cpu (" + cpu_.description() + ", " + std::to_string(cpu_.n_threads()) + " threads, " +
           cpu_ops_variant() + ")";
  }
  uint64_t weights_bytes() const override { return weights_.bytes(); }
  uint64_t workspace_bytes() const override {
    uint64_t bytes = attention_.workspace_bytes();
    for (const Graph* graph : {&prefill_, &decode_}) {
      if (graph->allocator) bytes += ggml_gallocr_get_buffer_size(graph->allocator.get(), 0);
    }
    return bytes;
  }

  uint64_t free_bytes() const override { return available_memory_bytes(); }
  uint64_t pool_limit_bytes() const override { return available_memory_bytes() / 2; }

  Result<std::span<const float>> prefill(const PrefillStep& step, KvPages& pages,
                                         const CancelFlag* cancel) override {
    const int n = static_cast<int>(step.tokens.size());
    if (prefill_.n_tokens != n || prefill_.rows != step.logits) {
      if (Status status = build_prefill(n, step.logits); !status.ok()) return status.error();
    }
    set_inputs(prefill_, step.tokens, step.view.n_tokens);
    attention_.begin_prefill(step, pages, cancel);
    return run(prefill_, cancel);
  }

  Result<Decoded> decode(const DecodeStep& step, KvPages& pages) override {
    if (decode_.n_tokens == 0) {
      if (Status status = build_decode(decode_); !status.ok()) return status.error();
    }
    set_inputs(decode_, {&step.token, 1}, step.view.n_tokens);
    attention_.begin_decode(step, pages);
    auto logits = run(decode_, nullptr);
    if (!logits.ok()) return logits.error();
    attention_.finish_decode(step);
    return Decoded{.logits = logits.value(), .next = {}};
  }

  // A graph of its own, so that the one that answers has no marks in it.
  Result<std::vector<StageTime>> time_decode(const DecodeStep& step, KvPages& pages) override {
    StageClock clock;
    Graph timed;
    timed.clock = &clock;
    if (Status status = build_decode(timed); !status.ok()) return status.error();
    set_inputs(timed, {&step.token, 1}, step.view.n_tokens);
    attention_.begin_decode(step, pages);
    clock.start();
    if (auto logits = run(timed, nullptr); !logits.ok()) return logits.error();
    attention_.finish_decode(step);
    std::vector<StageTime> times = clock.times();
    for (StageTime& time : times) time.bytes = weights_.stage_bytes(time.stage, time.layer);
    return times;
  }

  double bytes_per_second() const override { return read_bandwidth(cpu_.n_threads()); }

 private:
  // --- running ------------------------------------------------------------------------------

  static void set_inputs(Graph& graph, std::span<const Token> tokens, int first_position) {
    std::memcpy(graph.tokens->data, tokens.data(), tokens.size_bytes());
    auto* positions = static_cast<int32_t*>(graph.positions->data);
    for (size_t i = 0; i < tokens.size(); ++i) {
      positions[i] = first_position + static_cast<int32_t>(i);
    }
  }

  Result<std::span<const float>> run(Graph& graph, const CancelFlag* cancel) {
    graph.products.reset();
    if (Status status = cpu_.compute(graph.nodes, cancel); !status.ok()) return status.error();
    if (graph.logits == nullptr) return std::span<const float>{};
    return std::span<const float>(static_cast<const float*>(graph.logits->data),
                                  static_cast<size_t>(ggml_nelements(graph.logits)));
  }

  // --- building -----------------------------------------------------------------------------

  void start(Graph& graph, int n_tokens) const {
    const size_t n_nodes = kNodesPerLayer * hp_.n_layers + 64;
    graph.context.reset(ggml_init(
        {ggml_tensor_overhead() * n_nodes + ggml_graph_overhead_custom(n_nodes, false), nullptr,
         /*no_alloc=*/true}));
    graph.nodes = ggml_new_graph_custom(graph.context.get(), n_nodes, false);
    graph.tokens = ggml_new_tensor_1d(graph.context.get(), GGML_TYPE_I32, n_tokens);
    graph.positions = ggml_new_tensor_1d(graph.context.get(), GGML_TYPE_I32, n_tokens);
    graph.logits = nullptr;
    graph.products.clear();
    ggml_set_input(graph.tokens);
    ggml_set_input(graph.positions);
  }

  Status finish(Graph& graph) const {
    if (graph.logits != nullptr) {
      ggml_set_output(graph.logits);
      ggml_build_forward_expand(graph.nodes, graph.logits);
    }
    if (!graph.allocator) graph.allocator.reset(ggml_gallocr_new(cpu_.buffer_type()));
    if (!ggml_gallocr_alloc_graph(graph.allocator.get(), graph.nodes)) {
      graph.n_tokens = 0;
      return Error{ErrorCode::kOutOfMemory, "Not enough memory for the model's workspace."};
    }
    return {};
  }

  Status build_prefill(int n, LogitRows rows) {
    Graph& graph = prefill_;
    start(graph, n);
    graph.n_tokens = n;
    graph.rows = rows;
    ggml_context* ctx = graph.context.get();
    ggml_tensor* hidden = embed(ctx, graph.tokens);
    for (int layer = 0; layer < hp_.n_layers; ++layer) {
      const bool last = layer == hp_.n_layers - 1;
      const Qkv qkv = attention_in(graph, hidden, layer);
      ggml_tensor* stored = attention_.store(ctx, layer, qkv.q, qkv.k, qkv.v);
      ggml_build_forward_expand(graph.nodes, stored);
      // A step that nobody wants logits of needs no more than the last layer's K and V.
      if (last && rows == LogitRows::kNone) break;
      ggml_tensor* attended = attention_.attend_prompt(ctx, layer, qkv.q, stored);
      if (last && rows == LogitRows::kLast) {
        attended = last_column(ctx, attended);
        hidden = last_column(ctx, hidden);
      }
      hidden = attention_out(graph, hidden, attended, layer);
      hidden = feed_forward(graph, hidden, layer);
    }
    if (rows != LogitRows::kNone) graph.logits = logits(graph, hidden);
    return finish(graph);
  }

  Status build_decode(Graph& graph) {
    start(graph, 1);
    graph.n_tokens = 1;
    ggml_context* ctx = graph.context.get();
    const auto timed = [&](DecodeStage stage, int layer, ggml_tensor* x) {
      return graph.clock == nullptr ? x : graph.clock->mark(ctx, stage, layer, x);
    };
    ggml_tensor* hidden = timed(DecodeStage::kEmbed, 0, embed(ctx, graph.tokens));
    for (int layer = 0; layer < hp_.n_layers; ++layer) {
      Qkv qkv = attention_in(graph, hidden, layer);
      if (graph.clock != nullptr) {
        qkv.q = graph.clock->mark(ctx, DecodeStage::kAttentionIn, layer, qkv.q, qkv.k, qkv.v);
      }
      ggml_tensor* attended = timed(DecodeStage::kAttend, layer,
                                    attention_.attend_token(ctx, layer, qkv.q, qkv.k, qkv.v));
      hidden = timed(DecodeStage::kAttentionOut, layer,
                     attention_out(graph, hidden, attended, layer));
      hidden = timed(DecodeStage::kFeedForward, layer, feed_forward(graph, hidden, layer));
    }
    graph.logits = timed(DecodeStage::kLogits, 0, logits(graph, hidden));
    return finish(graph);
  }

  // --- stages -------------------------------------------------------------------------------

  struct Qkv {
    ggml_tensor *q, *k, *v;  // [D, Hq, n], [D, Hkv, n], [D, Hkv, n]; v's rows may lie apart
  };

  ggml_tensor* embed(ggml_context* ctx, ggml_tensor* tokens) const {
    return ggml_get_rows(ctx, weights_.token_embedding, tokens);
  }

  ggml_tensor* norm(ggml_context* ctx, ggml_tensor* x, ggml_tensor* weight) const {
    return ggml_mul(ctx, ggml_rms_norm(ctx, x, hp_.rms_eps), weight);
  }

  static ggml_tensor* linear(ggml_context* ctx, ggml_tensor* weight, ggml_tensor* bias,
                             ggml_tensor* x) {
    ggml_tensor* y = ggml_mul_mat(ctx, weight, x);
    return bias == nullptr ? y : ggml_add(ctx, y, bias);
  }

  ggml_tensor* rotary(ggml_context* ctx, ggml_tensor* x, ggml_tensor* positions) const {
    const RopeParams& rope = hp_.rope;
    return ggml_rope_ext(ctx, x, positions, weights_.rope_factors, rope.n_dims, rope.mode,
                         rope.original_context, rope.freq_base, rope.freq_scale, rope.ext_factor,
                         rope.attn_factor, rope.beta_fast, rope.beta_slow);
  }

  Qkv attention_in(Graph& graph, ggml_tensor* hidden, int layer) const {
    ggml_context* ctx = graph.context.get();
    const CpuLayer& w = weights_.layers[layer];
    const int64_t D = hp_.head_dim, n_q = hp_.n_q_heads, n_kv = hp_.n_kv_heads;
    const int64_t n = hidden->ne[1];
    ggml_tensor *q, *k, *v;
    if (weights_.is_packed()) {
      const PackedLayer& packed = weights_.packed_layers[layer];
      ggml_tensor* x = graph.products.norm_and_quantise(ctx, packed.wq.activations(), hidden,
                                                         w.attn_norm, hp_.rms_eps);
      ggml_tensor* qkv = graph.products.multiply(
          ctx, {{&packed.wq, w.bq}, {&packed.wk, w.bk}, {&packed.wv, w.bv}}, x);
      const auto part = [&](int64_t first_head, int64_t n_heads) {
        return ggml_view_3d(ctx, qkv, D, n_heads, n, D * sizeof(float), qkv->nb[1],
                            size_t(first_head) * D * sizeof(float));
      };
      q = part(0, n_q);
      k = part(n_q, n_kv);
      v = part(n_q + n_kv, n_kv);
    } else {
      ggml_tensor* x = norm(ctx, hidden, w.attn_norm);
      q = ggml_reshape_3d(ctx, linear(ctx, w.wq, w.bq, x), D, n_q, n);
      k = ggml_reshape_3d(ctx, linear(ctx, w.wk, w.bk, x), D, n_kv, n);
      v = ggml_reshape_3d(ctx, linear(ctx, w.wv, w.bv, x), D, n_kv, n);
    }
    if (w.q_norm != nullptr) {
      q = norm(ctx, q, w.q_norm);
      k = norm(ctx, k, w.k_norm);
    }
    return {rotary(ctx, q, graph.positions), rotary(ctx, k, graph.positions), v};
  }

  ggml_tensor* attention_out(Graph& graph, ggml_tensor* hidden, ggml_tensor* attended,
                             int layer) const {
    ggml_context* ctx = graph.context.get();
    const CpuLayer& w = weights_.layers[layer];
    if (weights_.is_packed()) {
      const PackedMatrix& wo = weights_.packed_layers[layer].wo;
      ggml_tensor* x = graph.products.quantise(ctx, wo.activations(), attended);
      return graph.products.multiply(ctx, {{&wo, w.bo}}, x, hidden);
    }
    return ggml_add(ctx, linear(ctx, w.wo, w.bo, attended), hidden);
  }

  ggml_tensor* feed_forward(Graph& graph, ggml_tensor* hidden, int layer) const {
    ggml_context* ctx = graph.context.get();
    const CpuLayer& w = weights_.layers[layer];
    if (weights_.is_packed()) {
      const PackedLayer& packed = weights_.packed_layers[layer];
      CpuProducts& products = graph.products;
      ggml_tensor* x = products.norm_and_quantise(ctx, packed.ffn_gate.activations(), hidden,
                                                  w.ffn_norm, hp_.rms_eps);
      ggml_tensor* gated = products.gated(ctx, packed.ffn_gate, packed.ffn_up, x);
      ggml_tensor* y = products.quantise(ctx, packed.ffn_down.activations(), gated);
      return products.multiply(ctx, {{&packed.ffn_down, nullptr}}, y, hidden);
    }
    ggml_tensor* x = norm(ctx, hidden, w.ffn_norm);
    ggml_tensor* gate = ggml_mul_mat(ctx, w.ffn_gate, x);
    ggml_tensor* up = ggml_mul_mat(ctx, w.ffn_up, x);
    return ggml_add(ctx, ggml_mul_mat(ctx, w.ffn_down, ggml_swiglu_split(ctx, gate, up)), hidden);
  }

  ggml_tensor* logits(Graph& graph, ggml_tensor* hidden) const {
    ggml_context* ctx = graph.context.get();
    if (weights_.is_packed()) {
      ggml_tensor* x =
          graph.products.norm_and_quantise(ctx, weights_.packed_output->activations(), hidden,
                                           weights_.output_norm, hp_.rms_eps);
      return graph.products.multiply(ctx, {{&*weights_.packed_output, nullptr}}, x);
    }
    return ggml_mul_mat(ctx, weights_.output, norm(ctx, hidden, weights_.output_norm));
  }

  static ggml_tensor* last_column(ggml_context* ctx, ggml_tensor* x) {
    return ggml_view_2d(ctx, x, x->ne[0], 1, x->nb[1], size_t(x->ne[1] - 1) * x->nb[1]);
  }

  const Hyperparameters& hp_;
  GgmlCpu cpu_;
  CpuWeights weights_;
  CpuAttention attention_;
  Graph prefill_, decode_;
};

}  // namespace

Result<std::unique_ptr<Backend>> open_cpu_backend(const GgufModel& model, int n_threads,
                                                  int max_context) {
  auto cpu = GgmlCpu::open(n_threads);
  if (!cpu.ok()) return cpu.error();
  auto weights = CpuWeights::load(model, cpu.value());
  if (!weights.ok()) return weights.error();
  return std::unique_ptr<Backend>(new CpuBackend(model, std::move(cpu.value()),
                                                 std::move(weights.value()), max_context));
}

}  // namespace scholia
