// What a decode step and a prefill step both need on the device: the stream, the weights, the
// page table and the logits.
#pragma once

#include <cuda_fp16.h>

#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_device.h"
#include "backend/cuda/cuda_handles.h"
#include "backend/cuda/cuda_weights.h"
#include "backend/cuda/input_buffer.h"
#include "backend/cuda/kernels/matvec.cuh"
#include "backend/cuda/kernels/rotary.cuh"

namespace scholia::cuda {

inline __half* as_half(f16* p) { return reinterpret_cast<__half*>(p); }

class CudaContext {
 public:
  CudaContext(const Hyperparameters& hp, CudaDevice device, const CudaTuning& tuning,
              int max_context)
      : hp_(hp), device_(std::move(device)), tuning_(tuning), max_context_(max_context) {}

  Status open_stream();
  // The weights, and room for what is kept here.
  Status load(const GgufModel& model);

  const Hyperparameters& hp() const { return hp_; }
  const CudaDevice& device() const { return device_; }
  const CudaTuning& tuning() const { return tuning_; }
  const CudaWeights& weights() const { return weights_; }
  const RotaryParams& rotary() const { return rotary_; }
  cudaStream_t stream() const { return stream_.get(); }
  int max_context() const { return max_context_; }
  int max_pages() const { return (max_context_ + kKvPageTokens - 1) / kKvPageTokens; }
  int n_heads() const { return hp_.n_layers * hp_.n_kv_heads; }
  int n_q() const { return hp_.n_q_heads * hp_.head_dim; }
  int n_kv() const { return hp_.n_kv_heads * hp_.head_dim; }
  int n_qkv() const { return n_q() + 2 * n_kv(); }
  bool is_neox() const { return hp_.rope.mode == GGML_ROPE_TYPE_NEOX; }
  uint64_t workspace_bytes() const {
    return logits_.bytes() + page_table_.bytes() + hidden_input_.bytes();
  }

  // Waits for all that was enqueued.
  Status finish(const char* what) const { return check(cudaStreamSynchronize(stream()), what); }

  // Brings the page table up to n_tokens; only what changed travels.
  Status upload_pages(const KvView& view, int n_tokens);
  const uint32_t* page_table() const { return page_table_.as<uint32_t>(); }

  // A product of the input; its parts are for the caller to add.
  MatvecParams product(const ProductInput& x, MatvecOut out) const;
  cudaError_t multiply(const MatvecParams& params) const;

  // The hidden row as the products after it read it: those of a layer or the logits. Whoever writes
  // the row leaves it, normalised by the readers' norm.
  const InputBuffer& hidden_input() const { return hidden_input_; }
  // Leaves a row that was written otherwise.
  cudaError_t leave_hidden(const float* hidden, const float* norm, const ProductInput& to) const;
  ProductInput logits_input() const { return hidden_input_.of({&weights_.output}); }
  // Logits of what was left last: computed, then fetched; host_logits() has them after finish().
  cudaError_t enqueue_logits() const;
  cudaError_t fetch_logits() const;
  const float* logits() const { return logits_.as<float>(); }  // on the device
  std::span<const float> host_logits() const {
    return {host_logits_.as<float>(), size_t(hp_.n_vocab)};
  }

 private:
  const Hyperparameters& hp_;
  CudaDevice device_;
  CudaTuning tuning_;
  int max_context_;  // tokens
  Stream stream_;
  CudaWeights weights_;
  RotaryParams rotary_;
  DeviceBuffer logits_, page_table_;
  InputBuffer hidden_input_;
  PinnedBuffer host_logits_;
  std::vector<PageId> uploaded_pages_;  // what page_table_ holds
};

}  // namespace scholia::cuda
