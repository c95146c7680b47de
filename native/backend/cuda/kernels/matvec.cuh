// Products of matrices with one vector: what a decoded token's time goes into.
//
// y = W x for up to three matrices of the same input (Q, K and V), as one kernel. The input comes
// ready to be read (product_input.cuh); after the product the bias is added and the result stored,
// added to what is there, or gated, and left as the next product's input where that is asked for.
// Deterministic: a row is one warp's, summed in a fixed order, whatever the grid.
#pragma once

#include <cuda_runtime.h>

#include "backend/cuda/kernels/device_matrix.h"
#include "backend/cuda/kernels/product_input.cuh"

namespace scholia::cuda {

enum class MatvecOut : uint8_t {
  kStore,      // out[row] = y
  kAdd,        // out[row] += y
  kGatePairs,  // out[row / 2] = silu(y of an even row) * (y of the odd row after it)
  kGateWith,   // out[row] = silu(out[row]) * y
};

struct MatvecPart {
  DeviceMatrix matrix;
  const float* bias = nullptr;  // [n_rows] or null; not with kGatePairs
  float* out = nullptr;         // [n_rows]; kGatePairs: [n_rows / 2], or null
};

struct MatvecParams {
  static constexpr int kMaxParts = 3;
  MatvecPart parts[kMaxParts];
  int n_parts = 0;
  ProductInput x;      // [n_cols]
  float norm_eps = 0;  // of x, where it has squares
  MatvecOut out = MatvecOut::kStore;
  ProductInput next;                 // the results, a multiple of 16, of a single part; or empty
  const float* next_norm = nullptr;  // [results] or null: what they are multiplied by there
};

// One kernel where the parts' formats allow it, else one for each run of parts that go together.
// n_ctas: of the grid. early: may start before the kernel ahead has ended. An invalid value where
// the input takes more shared memory than the device has.
cudaError_t launch_matvec(const MatvecParams& params, int n_ctas, bool early, cudaStream_t stream);

}  // namespace scholia::cuda
