// The CTAs that work on one thing together: a thread block cluster, below Hopper a single CTA.
#pragma once

#include <cooperative_groups.h>

#include "backend/cuda/kernels/mma.cuh"

namespace scholia::cuda {

inline constexpr int kMaxTeam = 16;

struct Team {
  int rank, size;

  __device__ static Team here(int team_size) {
#if __CUDA_ARCH__ >= 900
    return {int(cooperative_groups::this_cluster().block_rank()), team_size};
#else
    return {0, team_size};
#endif
  }
  // All threads of all CTAs; what they wrote before is seen after.
  __device__ void sync() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      cooperative_groups::this_cluster().sync();
      return;
    }
#endif
    __syncthreads();
  }
  // sync in two halves, with work between: all CTAs have started when wait() returns.
  __device__ void arrive() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) asm volatile("barrier.cluster.arrive.release;" ::: "memory");
#endif
  }
  __device__ void wait() const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) asm volatile("barrier.cluster.wait.acquire;" ::: "memory");
#endif
  }
  // The same place in another CTA's shared memory.
  template <typename T>
  __device__ T* at(T* mine, int other) const {
#if __CUDA_ARCH__ >= 900
    return cooperative_groups::this_cluster().map_shared_rank(mine, other);
#else
    (void)other;
    return mine;
#endif
  }
  // What is at the same place in the shared memory of all CTAs, 0 for those that are not there.
  // Without a branch, so that all reads are on the way at once.
  __device__ void read_all(const void* mine, unsigned values[kMaxTeam]) const {
#if __CUDA_ARCH__ >= 900
    const unsigned address = shared_address(mine);
#pragma unroll
    for (int other = 0; other < kMaxTeam; ++other) {
      unsigned far;
      asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(far) : "r"(address), "r"(min(other, size - 1)));
      asm volatile("ld.shared::cluster.u32 %0, [%1];" : "=r"(values[other]) : "r"(far) : "memory");
    }
#pragma unroll
    for (int other = 0; other < kMaxTeam; ++other) {
      if (other >= size) values[other] = 0;
    }
#else
    values[0] = *static_cast<const unsigned*>(mine);
#pragma unroll
    for (int other = 1; other < kMaxTeam; ++other) values[other] = 0;
#endif
  }
};

}  // namespace scholia::cuda
