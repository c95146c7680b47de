// The model's weights. Where this processor multiplies packed matrices (cpu_matmul.h) and all of
// the model's matrices fit, they are packed and only vectors and the embedding are ggml tensors,
// read in place from the mapped file. Otherwise the matrices are ggml tensors too, in place or in
// an order that ggml has for this processor.
#pragma once

#include <ggml-backend.h>
#include <ggml.h>

#include <memory>
#include <optional>
#include <vector>

#include "backend/cpu/cpu_backend_ggml.h"
#include "backend/cpu/cpu_matmul.h"
#include "engine/model/gguf_model.h"

namespace scholia {

// Weights of one layer as ggml tensors. Matrices are [in, out] in ggml's order, null when packed;
// vectors [n], null when the model has none (biases; q_norm and k_norm exist in qwen3 alone).
struct CpuLayer {
  ggml_tensor *attn_norm, *wq, *bq, *wk, *bk, *wv, *bv, *q_norm, *k_norm, *wo, *bo;
  ggml_tensor *ffn_norm, *ffn_gate, *ffn_up, *ffn_down;
};

struct PackedLayer {
  PackedMatrix wq, wk, wv, wo, ffn_gate, ffn_up, ffn_down;
};

class CpuWeights {
 public:
  static Result<CpuWeights> load(const GgufModel& model, const GgmlCpu& cpu);
  bool is_packed() const { return packed_output.has_value(); }

  ggml_tensor* token_embedding = nullptr;  // [n_embd, n_vocab], for row look-up
  ggml_tensor* output_norm = nullptr;      // [n_embd]
  ggml_tensor* output = nullptr;           // [n_embd, n_vocab], null when packed
  ggml_tensor* rope_factors = nullptr;     // [n_dims / 2] or null (Llama 3.1)
  std::vector<CpuLayer> layers;
  std::vector<PackedLayer> packed_layers;  // empty, or one for each layer
  std::optional<PackedMatrix> packed_output;

  uint64_t bytes() const { return bytes_; }
  // Of the matrices that a stage of a decode step reads.
  uint64_t stage_bytes(DecodeStage stage, int layer) const;

 private:
  struct ContextCloser {
    void operator()(ggml_context* context) const { ggml_free(context); }
  };
  struct BufferCloser {
    void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
  };
  using Buffer = std::unique_ptr<ggml_backend_buffer, BufferCloser>;

  static bool all_fit(const GgufModel& model);
  Status pack(const GgufModel& model, int n_threads);
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
