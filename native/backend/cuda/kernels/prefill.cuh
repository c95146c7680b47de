// What a chunk of a prompt needs besides matrix products and attention: norms, rotation and storing of K
// and V, and the gate.
#pragma once

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace scholia::cuda {

// RMS norm of each row: x [n][n_cols] f32 to f16; beyond f16 to ±65504.
struct NormRowsParams {
  const float* x = nullptr;
  const float* weight = nullptr;  // [n_cols]
  float eps = 0;
  int n = 0, n_cols = 0;
  __half* out = nullptr;
};
cudaError_t launch_norm_rows(const NormRowsParams& params, cudaStream_t stream);

// Adds biases, normalises (qwen3) and rotates q and k, stores K and V in their pages.
struct PrefillHeadsParams {
  int n = 0, head_dim = 0, n_q_heads = 0, n_kv_heads = 0;
  float* qkv = nullptr;  // [n][(Hq + 2 Hkv) * D]; q is rotated in place too
  const float* q_bias = nullptr;  // [Hq * D] or null, as k and v
  const float* k_bias = nullptr;
  const float* v_bias = nullptr;
  const float* q_norm = nullptr;  // [D] or null
  const float* k_norm = nullptr;
  float norm_eps = 0;
  bool is_neox = false;
  int n_rotary_dims = 0;
  const float2* angles = nullptr;  // [n][n_rotary_dims / 2]
  int first_position = 0;
  const uint32_t* pages = nullptr;
  __half* k = nullptr;  // the layer's pages
  __half* v = nullptr;
  __half* q = nullptr;  // out [n][Hq][D]
};
cudaError_t launch_prefill_heads(const PrefillHeadsParams& params, cudaStream_t stream);

// out [n][n_ff] = silu(gate) * up. Pairs: x [n][n_ff][gate, up]; else gate [n][n_ff] and up.
// n_ff is a multiple of 8, all aligned to 16 bytes.
struct GateParams {
  const __half* gate = nullptr;
  const __half* up = nullptr;  // null: pairs
  int n = 0, n_ff = 0;
  __half* out = nullptr;
};
cudaError_t launch_gate(const GateParams& params, cudaStream_t stream);

// x [n][n_cols] f32 += bias.
cudaError_t launch_add_bias(float* x, const float* bias, int n, int n_cols, cudaStream_t stream);

}  // namespace scholia::cuda
