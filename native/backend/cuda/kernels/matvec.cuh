// Products of quantised matrices with one vector: what a decoded token's time goes into.
//
// y = W x for up to three matrices of the same input (Q, K and V), as one kernel. Before, the input
// is normalised if asked for, and its 32s are rounded to 8 bits each with a scale of its own, as
// ggml does; F32, F16 and BF16 matrices take it in f32. Every CTA prepares the input for itself: it
// is small, and a kernel less is worth more. After, the bias is added and the result stored, added
// to what is there, or gated. Deterministic: a row is one warp's, summed in a fixed order.
#pragma once

#include <cuda_runtime.h>

#include "backend/cuda/kernels/device_matrix.h"

namespace scholia::cuda {

enum class MatvecOut : uint8_t {
  kStore,      // out[row] = y
  kAdd,        // out[row] += y
  kGatePairs,  // out[row / 2] = silu(y of an even row) * (y of the odd row after it)
  kGateWith,   // out[row] = silu(out[row]) * y
};

struct MatvecPart {
  DeviceMatrix matrix;
  const float* bias = nullptr;  // [n_rows] or null
  float* out = nullptr;         // [n_rows]; kGatePairs: [n_rows / 2]
};

struct MatvecParams {
  static constexpr int kMaxParts = 3;
  MatvecPart parts[kMaxParts];
  int n_parts = 0;
  const float* x = nullptr;            // [n_cols]
  const float* norm_weight = nullptr;  // [n_cols]: x is RMS-normalised first; null: it is not
  float norm_eps = 0;
  MatvecOut out = MatvecOut::kStore;
};

// One kernel where the parts' formats allow it, else one for each run of parts that go together.
// n_ctas: of the grid. early: may start before the kernel ahead has ended. An invalid value where
// the input takes more shared memory than the device has.
cudaError_t launch_matvec(const MatvecParams& params, int n_ctas, bool early, cudaStream_t stream);

}  // namespace scholia::cuda
