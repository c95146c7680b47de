// The next token from logits on the device, with the meaning of libllama's chain: top-k, top-p,
// min-p, temperature, then a draw. The random number comes from the host, so that a seed gives the
// same answer on both devices, unless the number falls between two tokens nearer than rounding: hardly
// ever among the 40 best, now and then in a flat distribution over a whole vocabulary, where libllama's
// own sums are off by more.
#pragma once

#include <cuda_runtime.h>

namespace scholia::cuda {

struct SamplingStep {
  double random = 0;      // in [0, 1)
  float temperature = 0;  // 0: greedy, the lowest id among equals
  int top_k = 0;          // 0: off
  float top_p = 1;
  float min_p = 0;
};

struct SampleParams {
  const float* logits = nullptr;  // [n_vocab]
  int n_vocab = 0;
  const SamplingStep* step = nullptr;  // on the device, so that a graph can hold the launch
  int* token = nullptr;
};

// early: see launch.cuh.
cudaError_t launch_sample(const SampleParams& params, bool early, cudaStream_t stream);

}  // namespace scholia::cuda
