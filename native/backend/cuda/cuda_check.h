// CUDA's errors as values. Only memory that is short can be tried again: after any other error of
// the device the process must be started anew, which engine_lost says.
#pragma once

#include <cuda_runtime.h>

#include <string>

#include "engine/status.h"

namespace scholia::cuda {

inline Status check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return {};
  cudaGetLastError();  // of an error that is reported here nothing must stay behind
  if (error == cudaErrorMemoryAllocation) {
    return Error{ErrorCode::kOutOfMemory, std::string("The GPU has not enough memory for ") + what +
                                              ". Close other programs that use it, choose a "
                                              "smaller model, or use --device cpu."};
  }
  return Error{ErrorCode::kEngineLost, std::string("The GPU failed (") + what + ": " +
                                           cudaGetErrorString(error) +
                                           "). The engine must be started again."};
}

}  // namespace scholia::cuda
