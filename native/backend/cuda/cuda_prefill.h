// A step of a prompt: cuBLASLt products of unpacked weights, and our kernels between them.
#pragma once

#include <array>

#include "backend/cuda/cublas_lt.h"
#include "backend/cuda/cuda_context.h"
#include "backend/cuda/kernels/prefill_attention.cuh"

namespace scholia::cuda {

// How many of a prompt's tokens a step computes if nobody says. Every step unpacks all weights, so long
// ones are faster; but what their rows take the KV pool lacks. memory_bytes: of the device, beside the
// weights; row_bytes: of one token.
int suitable_step_tokens(uint64_t memory_bytes, uint64_t row_bytes, int max_context);

class CudaPrefill {
 public:
  explicit CudaPrefill(CudaContext& context) : context_(context) {}

  // device_unavailable: there is no cuBLASLt.
  Status open_cublas();
  // Room for steps of so many tokens; 0: of as many as suit the device.
  Status reserve(int step_tokens);
  int step_tokens() const { return step_tokens_; }

  Result<std::span<const float>> prefill(const PrefillStep& step, KvPages& pages,
                                         const CancelFlag* cancel);

  uint64_t workspace_bytes() const;

 private:
  static constexpr int kLayersAhead = 2;  // enqueued while the flag to cancel is looked at

  // What holds a row for each token of a step.
  struct Rows {
    DeviceBuffer* buffer;
    size_t row_bytes;
  };
  std::array<Rows, 9> rows();
  int suitable_step();
  Status reserve_rows(int n);
  Status begin(const PrefillStep& step);
  Status run_layers(const PrefillStep& step, KvPages& pages, const CancelFlag* cancel);
  Status layer(int layer, const PrefillStep& step, KvPages& pages);
  Status attention_in(int layer, const PrefillStep& step, KvPages& pages);
  Status attend(int layer, const PrefillStep& step, KvPages& pages);
  Status attention_out(const CudaLayer& w, int first, int n);
  Status feed_forward(const CudaLayer& w, int first, int n);
  Status norm_rows(const float* x, const float* weight, int n);
  Status multiply_rows(const DeviceMatrix& w, const __half* x, void* y, bool y_is_f32, bool adds,
                       int n, int y_stride);
  Status hand_out_queries(int layer, const PrefillStep& step);
  Result<std::span<const float>> last_logits(int n);
  Result<std::span<const float>> all_logits(int n);
  float* hidden_row(int row) const {
    return hidden_.as<float>() + size_t(row) * size_t(context_.hp().n_embd);
  }

  CudaContext& context_;
  std::unique_ptr<CublasLt> cublas_;
  PrefillKernel attention_kernel_ = PrefillKernel::kAnyGpu;
  int step_tokens_ = 0;
  int room_ = 0;  // tokens
  DeviceBuffer tokens_, hidden_, x_, qkv_, q_, attended_, ff_, gated_, angles_;
  DeviceBuffer matrix_;  // one of a layer's, unpacked to f16
  Event layer_done_[kLayersAhead];
  std::vector<float> all_logits_, queries_;
};

}  // namespace scholia::cuda
