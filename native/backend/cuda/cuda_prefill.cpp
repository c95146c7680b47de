#include "backend/cuda/cuda_prefill.h"

#include <algorithm>

#include "backend/cuda/kernels/prefill.cuh"
#include "backend/cuda/kernels/weights.cuh"

namespace scholia::cuda {
namespace {

// Tokens of a step if nobody says (docs/benchmarks_cuda.md), and the share of the memory beside the
// weights that their rows may take.
constexpr int kMostTokens = 4096, kFewestTokens = 512;
constexpr uint64_t kRoomShare = 16;

}  // namespace

int suitable_step_tokens(uint64_t memory_bytes, uint64_t row_bytes, int max_context) {
  int n = kMostTokens;
  while (n > kFewestTokens &&
         (uint64_t(n) * row_bytes > memory_bytes / kRoomShare || n / 2 >= max_context)) {
    n /= 2;
  }
  return n;
}

Status CudaPrefill::open_cublas() {
  auto cublas = CublasLt::open();
  if (!cublas.ok()) return cublas.error();
  cublas_ = std::move(cublas.value());
  return {};
}

Status CudaPrefill::reserve(int step_tokens) {
  const size_t n_bytes = context_.weights().largest_layer_matrix() * sizeof(__half);
  if (Status status = matrix_.allocate(n_bytes, "the workspace"); !status.ok()) return status;
  for (Event& event : layer_done_) {
    auto made = make_event();
    if (!made.ok()) return made.error();
    event = std::move(made.value());
  }
  attention_kernel_ = choose_prefill_kernel();
  step_tokens_ = step_tokens != 0 ? step_tokens : suitable_step();
  return reserve_rows(step_tokens_);
}

std::array<CudaPrefill::Rows, 9> CudaPrefill::rows() {
  const Hyperparameters& hp = context_.hp();
  const size_t half = sizeof(__half), n_q = size_t(context_.n_q()), n_ff = size_t(hp.n_ff);
  return {{{&tokens_, sizeof(int)},
           {&hidden_, size_t(hp.n_embd) * 4},
           {&x_, size_t(hp.n_embd) * half},
           {&qkv_, size_t(context_.n_qkv()) * 4},
           {&q_, n_q * half},
           {&attended_, n_q * half},
           {&ff_, 2 * n_ff * half},
           {&gated_, n_ff * half},
           {&angles_, size_t(hp.rope.n_dims) * 4}}};
}

// From the device's whole memory, not from what is free of it now, so that the same device always takes
// the same steps.
int CudaPrefill::suitable_step() {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return kFewestTokens;
  const uint64_t weights = context_.weights().bytes();
  uint64_t row_bytes = 0;
  for (const Rows& r : rows()) row_bytes += r.row_bytes;
  return suitable_step_tokens(total > weights ? total - weights : 0, row_bytes,
                              context_.max_context());
}

Status CudaPrefill::reserve_rows(int n) {
  if (n <= room_) return {};
  for (const Rows& r : rows()) {
    Status status = r.buffer->allocate(size_t(n) * r.row_bytes, "a prompt's workspace");
    if (!status.ok()) return status;
  }
  room_ = n;
  return {};
}

uint64_t CudaPrefill::workspace_bytes() const {
  uint64_t n = cublas_->workspace_bytes();
  for (const DeviceBuffer* buffer :
       {&tokens_, &hidden_, &x_, &qkv_, &q_, &attended_, &ff_, &gated_, &angles_, &matrix_}) {
    n += buffer->bytes();
  }
  return n;
}

// --- what a layer is made of ----------------------------------------------------------------

Status CudaPrefill::norm_rows(const float* x, const float* weight, int n) {
  const Hyperparameters& hp = context_.hp();
  const NormRowsParams p{x, weight, hp.rms_eps, n, hp.n_embd, x_.as<__half>()};
  return check(launch_norm_rows(p, context_.stream()), "a norm");
}

// y [n][y_stride] (+)= x W^T; weights that are not f16 are unpacked first.
Status CudaPrefill::multiply_rows(const DeviceMatrix& w, const __half* x, void* y, bool y_is_f32,
                                  bool adds, int n, int y_stride) {
  const auto* weights = reinterpret_cast<const __half*>(w.codes);
  if (w.format != WeightFormat::kF16) {
    const DequantiseParams p{w, 0, w.n_rows, matrix_.as<__half>()};
    if (Status status = check(launch_dequantise(p, context_.stream()), "unpacking weights");
        !status.ok()) {
      return status;
    }
    weights = matrix_.as<__half>();
  }
  return cublas_->multiply({weights, x, y, y_is_f32, adds, n, w.n_cols, w.n_rows, y_stride},
                           context_.stream());
}

Status CudaPrefill::hand_out_queries(int layer, const PrefillStep& step) {
  const size_t n = step.tokens.size(), row = size_t(context_.n_q()) * 4;
  queries_.resize(n * size_t(context_.n_q()));
  Status status = check(cudaMemcpy2DAsync(queries_.data(), row, qkv_.as<float>(),
                                          size_t(context_.n_qkv()) * 4, row, n,
                                          cudaMemcpyDeviceToHost, context_.stream()),
                        "the queries");
  if (status.ok()) status = context_.finish("the queries");
  if (status.ok()) step.on_queries(layer, queries_.data());
  return status;
}

Status CudaPrefill::attention_in(int layer, const PrefillStep& step, KvPages& pages) {
  const Hyperparameters& hp = context_.hp();
  const CudaLayer& w = context_.weights().layers[size_t(layer)];
  const int n = int(step.tokens.size());
  if (Status status = norm_rows(hidden_row(0), w.attn_norm, n); !status.ok()) return status;
  int at = 0;
  for (const DeviceMatrix* matrix : {&w.wq, &w.wk, &w.wv}) {
    if (Status status = multiply_rows(*matrix, x_.as<__half>(), qkv_.as<float>() + at, true, false,
                                      n, context_.n_qkv());
        !status.ok()) {
      return status;
    }
    at += matrix->n_rows;
  }
  PrefillHeadsParams p;
  p.n = n;
  p.head_dim = hp.head_dim;
  p.n_q_heads = hp.n_q_heads;
  p.n_kv_heads = hp.n_kv_heads;
  p.qkv = qkv_.as<float>();
  p.q_bias = w.bq;
  p.k_bias = w.bk;
  p.v_bias = w.bv;
  p.q_norm = w.q_norm;
  p.k_norm = w.k_norm;
  p.norm_eps = hp.rms_eps;
  p.is_neox = context_.is_neox();
  p.n_rotary_dims = hp.rope.n_dims;
  p.angles = angles_.as<float2>();
  p.first_position = step.view.n_tokens;
  p.pages = context_.page_table();
  p.k = as_half(pages.k(layer));
  p.v = as_half(pages.v(layer));
  p.q = q_.as<__half>();
  if (Status status = check(launch_prefill_heads(p, context_.stream()), "storing K and V");
      !status.ok()) {
    return status;
  }
  return step.on_queries ? hand_out_queries(layer, step) : Status();
}

Status CudaPrefill::attend(int layer, const PrefillStep& step, KvPages& pages) {
  const Hyperparameters& hp = context_.hp();
  PrefillAttentionParams p;
  p.n = int(step.tokens.size());
  p.head_dim = hp.head_dim;
  p.n_q_heads = hp.n_q_heads;
  p.n_kv_heads = hp.n_kv_heads;
  p.first_position = step.view.n_tokens;
  p.q = q_.as<__half>();
  p.k = as_half(pages.k(layer));
  p.v = as_half(pages.v(layer));
  p.pages = context_.page_table();
  p.n_pages = int(pages.n_pages());
  p.out = attended_.as<__half>();
  return check(launch_prefill_attention(p, attention_kernel_, context_.stream()), "attention");
}

// Rows [first, first + n) of the step, as in feed_forward.
Status CudaPrefill::attention_out(const CudaLayer& w, int first, int n) {
  const int n_embd = context_.hp().n_embd;
  const __half* attended = attended_.as<__half>() + size_t(first) * size_t(context_.n_q());
  float* hidden = hidden_row(first);
  Status status = multiply_rows(w.wo, attended, hidden, true, true, n, n_embd);
  if (!status.ok() || w.bo == nullptr) return status;
  return check(launch_add_bias(hidden, w.bo, n, n_embd, context_.stream()), "a bias");
}

Status CudaPrefill::feed_forward(const CudaLayer& w, int first, int n) {
  const Hyperparameters& hp = context_.hp();
  float* hidden = hidden_row(first);
  auto* x = x_.as<__half>();
  auto* ff = ff_.as<__half>();
  auto* gated = gated_.as<__half>();
  if (Status status = norm_rows(hidden, w.ffn_norm, n); !status.ok()) return status;
  __half* up = ff + size_t(n) * size_t(hp.n_ff);
  Status status;
  if (w.has_pairs()) {
    status = multiply_rows(w.gate_up, x, ff, false, false, n, 2 * hp.n_ff);
  } else {
    status = multiply_rows(w.gate, x, ff, false, false, n, hp.n_ff);
    if (status.ok()) status = multiply_rows(w.up, x, up, false, false, n, hp.n_ff);
  }
  if (!status.ok()) return status;
  const GateParams gate{ff, w.has_pairs() ? nullptr : up, n, hp.n_ff, gated};
  if (status = check(launch_gate(gate, context_.stream()), "the gate"); !status.ok()) return status;
  return multiply_rows(w.down, gated, hidden, true, true, n, hp.n_embd);
}

Status CudaPrefill::layer(int layer, const PrefillStep& step, KvPages& pages) {
  const CudaLayer& w = context_.weights().layers[size_t(layer)];
  const bool last = layer + 1 == context_.hp().n_layers;
  const int n = int(step.tokens.size());
  if (Status status = attention_in(layer, step, pages); !status.ok()) return status;
  // A step that nobody wants logits of needs no more than the last layer's K and V.
  if (last && step.logits == LogitRows::kNone) return {};
  if (Status status = attend(layer, step, pages); !status.ok()) return status;
  // After it each row goes its own way.
  const int first = last && step.logits == LogitRows::kLast ? n - 1 : 0;
  if (Status status = attention_out(w, first, n - first); !status.ok()) return status;
  return feed_forward(w, first, n - first);
}

// --- logits ---------------------------------------------------------------------------------

// Logits of all rows, a part of the vocabulary at a time.
Result<std::span<const float>> CudaPrefill::all_logits(int n) {
  const DeviceMatrix& w = context_.weights().output;
  const size_t n_vocab = size_t(context_.hp().n_vocab);
  if (Status status = norm_rows(hidden_row(0), context_.weights().output_norm, n); !status.ok()) {
    return status.error();
  }
  all_logits_.resize(size_t(n) * n_vocab);
  // Both the unpacked weights and the products go into room that is there.
  const int part = int(std::min<size_t>({matrix_.bytes() / sizeof(__half) / size_t(w.n_cols),
                                         ff_.bytes() / sizeof(float) / size_t(n),
                                         size_t(w.n_rows)}));
  for (int row = 0; row < w.n_rows; row += part) {
    const int n_rows = std::min(part, w.n_rows - row);
    const DequantiseParams unpack{w, row, n_rows, matrix_.as<__half>()};
    Status status = check(launch_dequantise(unpack, context_.stream()), "unpacking weights");
    if (status.ok()) {
      status = cublas_->multiply({matrix_.as<__half>(), x_.as<__half>(), ff_.as<void>(), true, false,
                                  n, w.n_cols, n_rows, n_rows},
                                 context_.stream());
    }
    if (status.ok()) {
      status = check(cudaMemcpy2DAsync(all_logits_.data() + row, n_vocab * 4, ff_.as<void>(),
                                       size_t(n_rows) * 4, size_t(n_rows) * 4, size_t(n),
                                       cudaMemcpyDeviceToHost, context_.stream()),
                     "logits");
    }
    if (status.ok()) status = context_.finish("logits");
    if (!status.ok()) return status.error();
  }
  return std::span<const float>(all_logits_);
}

Result<std::span<const float>> CudaPrefill::last_logits(int n) {
  Status status = check(context_.leave_hidden(hidden_row(n - 1), context_.weights().output_norm,
                                              context_.logits_input()),
                        "logits");
  if (status.ok()) status = check(context_.enqueue_logits(), "logits");
  if (status.ok()) status = check(context_.fetch_logits(), "logits");
  if (status.ok()) status = context_.finish("prefill");
  if (!status.ok()) return status.error();
  return context_.host_logits();
}

// --- a step ---------------------------------------------------------------------------------

Status CudaPrefill::begin(const PrefillStep& step) {
  const int n = int(step.tokens.size());
  Status status = reserve_rows(n);
  if (status.ok()) status = context_.upload_pages(step.view, step.view.n_tokens + n);
  if (status.ok()) {
    status = check(cudaMemcpyAsync(tokens_.as<void>(), step.tokens.data(),
                                   step.tokens.size_bytes(), cudaMemcpyHostToDevice,
                                   context_.stream()),
                   "a prompt's tokens");
  }
  if (status.ok()) {
    const EmbedParams embed{context_.weights().token_embedding, tokens_.as<int>(), n,
                            hidden_row(0)};
    status = check(launch_embed(embed, context_.stream()), "embedding");
  }
  if (status.ok()) {
    status = check(launch_rotary_angles(context_.rotary(), nullptr, step.view.n_tokens, n,
                                        angles_.as<float2>(), context_.stream()),
                   "rotary angles");
  }
  return status;
}

Status CudaPrefill::run_layers(const PrefillStep& step, KvPages& pages, const CancelFlag* cancel) {
  Status status;
  for (int i = 0; i < context_.hp().n_layers && status.ok(); ++i) {
    // A few layers ahead of the GPU, no more, or the flag would be seen only when all is enqueued.
    cudaEvent_t done = layer_done_[i % kLayersAhead].get();
    if (i >= kLayersAhead) status = check(cudaEventSynchronize(done), "prefill");
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      if (status.ok()) status = context_.finish("prefill");
      return status.ok() ? Error{ErrorCode::kCancelled, "The prefill was cancelled."} : status;
    }
    if (status.ok()) status = layer(i, step, pages);
    if (status.ok()) status = check(cudaEventRecord(done, context_.stream()), "prefill");
  }
  return status;
}

Result<std::span<const float>> CudaPrefill::prefill(const PrefillStep& step, KvPages& pages,
                                                    const CancelFlag* cancel) {
  const int n = int(step.tokens.size());
  Status status = begin(step);
  if (status.ok()) status = run_layers(step, pages, cancel);
  if (!status.ok()) return status.error();
  if (step.logits == LogitRows::kAll) return all_logits(n);
  if (step.logits == LogitRows::kLast) return last_logits(n);
  if (status = context_.finish("prefill"); !status.ok()) return status.error();
  return std::span<const float>{};
}

}  // namespace scholia::cuda
