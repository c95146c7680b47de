// Weights on the way in and out of their planes: from the file, to f16 for prefill's products, and
// rows of the embedding.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backend/cuda/kernels/device_matrix.h"

namespace scholia::cuda {

// n_rows rows as the file has them to rows first_row, first_row + row_step, … of a matrix whose
// planes are written.
struct RepackParams {
  const uint8_t* file_rows = nullptr;
  DeviceMatrix to;
  int n_rows = 0, first_row = 0, row_step = 1;
};
cudaError_t launch_repack(const RepackParams& params, cudaStream_t stream);

// Rows [first_row, first_row + n_rows) as f16 [n_rows][n_cols]; beyond f16 to ±65504.
struct DequantiseParams {
  DeviceMatrix from;
  int first_row = 0, n_rows = 0;
  __half* to = nullptr;
};
cudaError_t launch_dequantise(const DequantiseParams& params, cudaStream_t stream);

// Rows tokens[i] of the embedding, f32 [n_tokens][n_cols].
struct EmbedParams {
  DeviceMatrix table;
  const int* tokens = nullptr;
  int n_tokens = 0;
  float* to = nullptr;
};
cudaError_t launch_embed(const EmbedParams& params, cudaStream_t stream);

}  // namespace scholia::cuda
