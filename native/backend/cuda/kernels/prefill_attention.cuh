// Causal attention of a chunk of a prompt over the pages of K and V.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace scholia::cuda {

// Query i is at position first_position + i and attends positions up to its own.
struct PrefillAttentionParams {
  int n = 0, head_dim = 0, n_q_heads = 0, n_kv_heads = 0;
  int first_position = 0;
  const __half* q = nullptr;  // [n][Hq][D], rotated
  const __half* k = nullptr;  // the layer's pages, [n_pages][Hkv][16][D]
  const __half* v = nullptr;
  int n_pages = 0;
  const uint32_t* pages = nullptr;  // of the tokens before and of the chunk
  __half* out = nullptr;            // [n][Hq][D]
};

enum class PrefillKernel {
  kAnyGpu,  // products of a warp: `prefill_attention.cu`
  kHopper,  // products of a warp group, copies by the copy engine: `prefill_attention_hopper.cu`
};

// What is fastest of what the current device runs.
PrefillKernel choose_prefill_kernel();

// An invalid value for a head_dim that is not 64 or 128.
cudaError_t launch_prefill_attention(const PrefillAttentionParams& params, PrefillKernel kernel,
                                     cudaStream_t stream);

// The two kernels, for D of 64 and 128.
cudaError_t launch_any_prefill_attention(const PrefillAttentionParams& params, cudaStream_t stream);
cudaError_t launch_hopper_prefill_attention(const PrefillAttentionParams& params,
                                            cudaStream_t stream);

}  // namespace scholia::cuda
