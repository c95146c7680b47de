// The model's weights on the device, in planes (kernels/device_matrix.h).
#pragma once

#include <cuda_runtime.h>

#include <string>
#include <vector>

#include "backend/cuda/device_buffer.h"
#include "backend/cuda/kernels/device_matrix.h"
#include "engine/engine.h"
#include "engine/model/gguf_model.h"

namespace scholia::cuda {

// Vectors are f32 and null when the model has none.
struct CudaLayer {
  const float *attn_norm, *bq, *bk, *bv, *q_norm, *k_norm, *bo, *ffn_norm;
  DeviceMatrix wq, wk, wv, wo, down;
  // Rows of gate and up in turn, so that one warp has both of a pair; where their formats differ,
  // gate and up apart and no pairs.
  DeviceMatrix gate_up, gate, up;
  bool has_pairs() const { return gate_up.codes != nullptr; }
};

class CudaWeights {
 public:
  // model_broken, model_unsupported (with the tensor's name and type), out_of_memory, engine_lost.
  static Result<CudaWeights> load(const GgufModel& model, cudaStream_t stream);

  DeviceMatrix token_embedding;           // [n_vocab][n_embd]
  DeviceMatrix output;                    // [n_vocab][n_embd]; of tied models the embedding
  const float* output_norm = nullptr;     // [n_embd]
  const float* rope_factors = nullptr;    // [n_dims / 2] or null
  std::vector<CudaLayer> layers;

  uint64_t bytes() const;
  // What a stage of a decode step reads of them.
  uint64_t stage_bytes(DecodeStage stage, int layer) const;
  // The most f16 that a layer's matrix takes, for prefill's products.
  size_t largest_layer_matrix() const;

 private:
  class Loader;
  std::vector<DeviceBuffer> buffers_;
};

}  // namespace scholia::cuda
