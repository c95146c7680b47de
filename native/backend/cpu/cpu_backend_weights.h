// The model's weights as ggml tensors: read in place from the mapped file, or repacked where ggml
// has a faster order for this processor.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <memory>
#include <vector>

#include "backend/cpu/cpu_backend_ggml.h"
#include "engine/model/gguf_model.h"

namespace scholia {

// Weights of one layer. Matrices are [in, out] in ggml's order; vectors [n]. Null: the model has
// none (biases; q_norm and k_norm exist in qwen3 alone).
struct CpuLayer {
  ggml_tensor *attn_norm, *wq, *bq, *wk, *bk, *wv, *bv, *q_norm, *k_norm, *wo, *bo;
  ggml_tensor *ffn_norm, *ffn_gate, *ffn_up, *ffn_down;
};

class CpuWeights {
 public:
  static Result<CpuWeights> load(const GgufModel& model, const GgmlCpu& cpu);

  ggml_tensor* token_embedding = nullptr;  // [n_embd, n_vocab], for row look-up
  ggml_tensor* output_norm = nullptr;      // [n_embd]
  ggml_tensor* output = nullptr;           // [n_embd, n_vocab]
  ggml_tensor* rope_factors = nullptr;     // [n_dims / 2] or null (Llama 3.1)
  std::vector<CpuLayer> layers;

  uint64_t bytes() const { return bytes_; }

 private:
  struct ContextCloser {
    void operator()(ggml_context* context) const { ggml_free(context); }
  };
  struct BufferCloser {
    void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
  };
  using Buffer = std::unique_ptr<ggml_backend_buffer, BufferCloser>;

  Result<ggml_tensor*> vector(const GgufModel& model, const std::string& name, int64_t n);
  ggml_tensor* optional_vector(const GgufModel& model, const std::string& name, int64_t n);
  Result<ggml_tensor*> matrix(const GgufModel& model, const GgmlCpu& cpu, const std::string& name,
                              int64_t n_in, int64_t n_out);
  Result<ggml_tensor*> rows(const GgufModel& model, const std::string& name, int64_t n_in,
                            int64_t n_out);
  ggml_tensor* in_place(const WeightView& weight);

  std::unique_ptr<ggml_context, ContextCloser> context_;
  Buffer file_buffer_;
  std::vector<Buffer> repacked_buffers_;
  uint64_t bytes_ = 0;
};

}  // namespace scholia
