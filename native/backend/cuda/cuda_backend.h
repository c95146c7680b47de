// The CUDA backend: a decode step is one CUDA graph of our kernels, a prefill step a row of
// cuBLASLt products and our kernels. Weights, KV pages and digests lie on the device.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "engine/model/gguf_model.h"

namespace scholia {

// What a benchmark may vary; the defaults are what was measured best (docs/benchmarks_cuda.md).
struct CudaTuning {
  int ctas_per_sm = 2;  // of the matrix-vector products
  bool early = true;    // kernels start before the one ahead has ended
};

// Stages of a decode step, for a benchmark of one or some of them.
enum CudaStage : unsigned {
  kStageQkv = 1,
  kStageAttention = 2,
  kStageAttentionOut = 4,
  kStageGateUp = 8,
  kStageDown = 16,
  kStageLogits = 32,
  kAllStages = 63,
};

class CudaBackend : public Backend {
 public:
  // Microseconds of a run of the given stages of all layers, as one graph: median of n_repeats, with
  // the token, depth and plan of the last decode. Logits are not to be used after it.
  virtual Result<double> time_stages(unsigned stages, int n_repeats, KvPages& pages) = 0;
};

// max_context bounds a sequence's length; prefill_step_tokens is how much of a prompt is computed at
// once, 0: as much as suits the device. They size the workspace.
// device_unavailable, model_unsupported, out_of_memory, engine_lost.
Result<std::unique_ptr<CudaBackend>> open_cuda_backend(const GgufModel& model, int max_context,
                                                       int prefill_step_tokens,
                                                       const CudaTuning& tuning = {});

}  // namespace scholia
