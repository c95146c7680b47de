// When each CTA of the attention kernel has come where, for cuda_bench --clock. Only in builds with
// SCHOLIA_ATTENTION_CLOCK, where a mark costs about 0.17 us; in others it is nothing.
#pragma once

#include "backend/cuda/kernels/attention.cuh"

namespace scholia::cuda::attention {

#ifdef SCHOLIA_ATTENTION_CLOCK
__device__ AttentionMarks attention_marks[kMarkedCtas];

__device__ inline void mark(AttentionMark at) {
  const unsigned cta = blockIdx.y * gridDim.x + blockIdx.x;
  if (threadIdx.x != 0 || cta >= kMarkedCtas) return;
  unsigned long long ns;
  asm volatile("mov.u64 %0, %globaltimer;" : "=l"(ns)::"memory");
  AttentionMarks& marks = attention_marks[cta];
  if (at == kMarkStart) {
    for (unsigned long long& mark : marks.ns) mark = 0;
  }
  marks.ns[at] = ns;
}
#else
__device__ inline void mark(AttentionMark) {}
#endif

}  // namespace scholia::cuda::attention
