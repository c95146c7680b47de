// Rotary position embedding: the angles of a position once per token, their use wherever queries
// and keys are.
#pragma once

#include <cuda_runtime.h>

namespace scholia::cuda {

struct RotaryParams {
  bool is_neox = false;  // pairs (i, i + n_dims / 2); else (2 i, 2 i + 1)
  int n_dims = 0;        // rotated ones of a head; the others stay
  float theta_scale = 1;           // of one pair's angle from the one before
  float freq_scale = 1;            // linear scaling, and YaRN's interpolation
  float ext_factor = 0;            // YaRN: 0 off
  float attn_factor = 1;           // of cosine and sine, YaRN's magnitude not yet included
  float corr_low = 0, corr_high = 0;  // YaRN: pairs between which it blends
  const float* factors = nullptr;  // [n_dims / 2] divisors of the angles (Llama 3.1), or null
};

// angles [n][n_dims / 2] (cosine, sine) of the positions from base + offset on; base is a number on
// the device, null: 0.
cudaError_t launch_rotary_angles(const RotaryParams& params, const int* base, int offset, int n,
                                 float2* angles, cudaStream_t stream);

#ifdef __CUDACC__
// Cosine and sine for element d of a head. From L2: a kernel that started early may share its SM
// with the one that wrote them.
__device__ __forceinline__ float2 rotation_of(int d, bool is_neox, int n_dims,
                                              const float2* angles) {
  if (d >= n_dims) return {1, 0};
  const int half = n_dims / 2;
  return __ldcg(angles + (!is_neox ? d / 2 : d < half ? d : d - half));
}

// Element d of a rotated head x, all D of which are readable.
__device__ __forceinline__ float rotated(const float* x, int d, bool is_neox, int n_dims,
                                         float2 rotation) {
  if (d >= n_dims) return x[d];
  const int half = n_dims / 2;
  const bool is_first = is_neox ? d < half : d % 2 == 0;
  const int other = is_neox ? (is_first ? d + half : d - half) : d ^ 1;
  return is_first ? x[d] * rotation.x - x[other] * rotation.y
                  : x[other] * rotation.y + x[d] * rotation.x;
}
#endif

}  // namespace scholia::cuda
