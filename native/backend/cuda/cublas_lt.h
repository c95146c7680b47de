// Matrix products by cuBLASLt, opened at run time: nothing of CUDA is linked as a shared object, so
// the addon loads where there is no GPU, and says what is missing only where it is wanted.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <memory>
#include <string>

#include "backend/cuda/device_buffer.h"
#include "engine/status.h"

namespace scholia::cuda {

// y [n][n_out] (+)= x [n][n_in] W^T, W [n_out][n_in]; x and W f16, sums in f32.
struct Product {
  const __half* w = nullptr;
  const __half* x = nullptr;
  void* y = nullptr;
  bool y_is_f32 = true;  // else f16
  bool adds = false;     // to what y holds
  int n = 0, n_in = 0, n_out = 0;
  int y_stride = 0;      // elements from row to row
};

class CublasLt {
 public:
  // Looked for where the loader looks, in the folders of SCHOLIA_CUBLASLT (a file or a folder),
  // CUDA_HOME and the usual places of a toolkit. device_unavailable with what was tried.
  static Result<std::unique_ptr<CublasLt>> open();
  ~CublasLt();
  CublasLt(const CublasLt&) = delete;
  CublasLt& operator=(const CublasLt&) = delete;

  // Enqueues the product; plans are kept for each shape. engine_lost.
  Status multiply(const Product& product, cudaStream_t stream);
  size_t workspace_bytes() const;

 private:
  struct State;
  explicit CublasLt(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace scholia::cuda
