#include "backend/cuda/cuda_context.h"

#include <algorithm>
#include <cmath>

namespace scholia::cuda {
namespace {

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

}  // namespace

Status CudaContext::open_stream() {
  cudaStream_t stream = nullptr;
  if (Status status = check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
      !status.ok()) {
    return status;
  }
  stream_.reset(stream);
  return {};
}

Status CudaContext::load(const GgufModel& model) {
  auto weights = CudaWeights::load(model, stream());
  if (!weights.ok()) return weights.error();
  weights_ = std::move(weights.value());
  rotary_ = rotary_params(hp_.rope, weights_.rope_factors);
  const char* what = "the workspace";
  const size_t logits = size_t(hp_.n_vocab) * sizeof(float);
  Status status = logits_.allocate(logits, what);
  if (status.ok()) status = host_logits_.allocate(logits, what);
  if (status.ok()) status = hidden_input_.allocate(hp_.n_embd, true, stream(), what);
  if (status.ok()) status = page_table_.allocate(size_t(max_pages()) * sizeof(PageId), what);
  return status;
}

Status CudaContext::upload_pages(const KvView& view, int n_tokens) {
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

MatvecParams CudaContext::product(const ProductInput& x, MatvecOut out) const {
  MatvecParams p;
  p.x = x;
  p.norm_eps = hp_.rms_eps;
  p.out = out;
  return p;
}

cudaError_t CudaContext::multiply(const MatvecParams& params) const {
  return launch_matvec(params, tuning_.ctas_per_sm * device_.n_sms, tuning_.early, stream());
}

cudaError_t CudaContext::leave_hidden(const float* hidden, const float* norm,
                                      const ProductInput& to) const {
  return launch_leave_input(hidden, norm, hp_.n_embd, to, tuning_.early, stream());
}

cudaError_t CudaContext::enqueue_logits() const {
  MatvecParams p = product(logits_input(), MatvecOut::kStore);
  p.parts[p.n_parts++] = {weights_.output, nullptr, logits_.as<float>()};
  return multiply(p);
}

cudaError_t CudaContext::fetch_logits() const {
  return cudaMemcpyAsync(host_logits_.as<void>(), logits_.as<void>(), logits_.bytes(),
                         cudaMemcpyDeviceToHost, stream());
}

}  // namespace scholia::cuda
