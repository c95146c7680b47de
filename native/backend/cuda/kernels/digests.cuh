// Builds digests from the stored keys: bit for bit what engine/kv/digests.cpp builds, since they
// decide which blocks are read.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include "backend/cuda/kernels/attention.cuh"

namespace scholia::cuda {

struct DigestParams {
  int kind = 0;  // DigestKind
  int head_dim = 0, n_layers = 0, n_kv_heads = 0;
  const __half* pool = nullptr;  // K and V of all layers: [layer][K, V][page][kv_head][16][D]
  size_t layer_elements = 0;     // of K, or of V, of a layer
  const uint32_t* pages = nullptr;         // page table
  const uint16_t* block_tokens = nullptr;  // [heads]
  const DigestPlanes* planes = nullptr;    // [heads]
  int from_tokens = 0;  // what is built already
  int to_tokens = 0;    // what is stored, and to be built
};

// The groups that closed since, and the blocks of the open group.
cudaError_t launch_build_digests(const DigestParams& params, cudaStream_t stream);

}  // namespace scholia::cuda
