#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/rotary.cuh"

namespace scholia::cuda {
namespace {

// A thread for each pair. grid: tokens; block: n_dims / 2 at most 1024.
__global__ void rotary_angles_kernel(RotaryParams p, const int* base, int offset,
                                     float2* angles) {
  const int pair = int(threadIdx.x);
  const int at = (base != nullptr ? *base : 0) + offset + int(blockIdx.x);
  // Multiplied step by step, because ggml's processor backend does, and at high positions the
  // rounding of the angle shows.
  float theta = float(at);
  for (int i = 0; i < pair; ++i) theta = __fmul_rn(theta, p.theta_scale);
  if (p.factors != nullptr) theta = theta / p.factors[pair];
  float magnitude = p.attn_factor;
  float angle = __fmul_rn(p.freq_scale, theta);
  if (p.ext_factor != 0) {
    const float y = (float(pair) - p.corr_low) / fmaxf(0.001F, p.corr_high - p.corr_low);
    const float mix = (1.0F - fminf(1.0F, fmaxf(0.0F, y))) * p.ext_factor;
    angle = angle * (1.0F - mix) + theta * mix;
    magnitude *= 1.0F + 0.1F * logf(1.0F / p.freq_scale);
  }
  angles[size_t(blockIdx.x) * (p.n_dims / 2) + pair] = {cosf(angle) * magnitude,
                                                        sinf(angle) * magnitude};
}

}  // namespace

cudaError_t launch_rotary_angles(const RotaryParams& p, const int* base, int offset, int n,
                                 float2* angles, cudaStream_t stream) {
  return launch(rotary_angles_kernel, {unsigned(n), unsigned(p.n_dims / 2)}, stream, p,
                base, offset, angles);
}

}  // namespace scholia::cuda
