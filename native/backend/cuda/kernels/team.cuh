// The CTAs that work on one thing together: a thread block cluster, below Hopper a single CTA.
#pragma once

#include <cooperative_groups.h>

#include <cstdint>

#include "backend/cuda/kernels/mma.cuh"

namespace scholia::cuda {

inline constexpr int kMaxTeam = 16;

// Counts the bytes that others send to this CTA: for one receive().
struct Mailbox {
  uint64_t barrier;
};

struct Team {
  int rank, size;
  unsigned inverse;  // inverse_of(size), where divided() is called

  __host__ __device__ static unsigned inverse_of(int size) { return (1U << 28) / unsigned(size) + 1; }
  // n / size, for n below 2^24.
  __device__ unsigned divided(unsigned n) const { return unsigned(uint64_t(n) * inverse >> 28); }

  __device__ static Team here(int team_size, unsigned inverse = 0) {
#if __CUDA_ARCH__ >= 900
    return {int(cooperative_groups::this_cluster().block_rank()), team_size, inverse};
#else
    return {0, team_size, inverse};
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

  // --- messages: to the same place in another CTA's shared memory, counted by its mailbox. Cheaper than
  // sync(), which waits until all that the CTA ever wrote can be seen by the whole device.

  // One thread, before arrive().
  __device__ void open(Mailbox& box) const {
#if __CUDA_ARCH__ >= 900
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(shared_address(&box)) : "memory");
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
#else
    (void)box;
#endif
  }
  __device__ void send(unsigned* place, unsigned value, int other, Mailbox& box) const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      asm volatile(
          "st.async.shared::cluster.mbarrier::complete_tx::bytes.b32 [%0], %1, [%2];" ::"r"(
              address_of(place, other)),
          "r"(value), "r"(address_of(&box, other))
          : "memory");
      return;
    }
#endif
    *place = value;
  }
  __device__ void send(float2* place, float2 value, int other, Mailbox& box) const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      asm volatile(
          "st.async.shared::cluster.mbarrier::complete_tx::bytes.v2.f32 [%0], {%1, %2}, [%3];" ::"r"(
              address_of(place, other)),
          "f"(value.x), "f"(value.y), "r"(address_of(&box, other))
          : "memory");
      return;
    }
#endif
    *place = value;
  }
  __device__ void send(uint4* place, uint4 value, int other, Mailbox& box) const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      asm volatile(
          "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.b32 [%0], {%1, %2, %3, %4}, "
          "[%5];" ::"r"(address_of(place, other)),
          "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w), "r"(address_of(&box, other))
          : "memory");
      return;
    }
#endif
    *place = value;
  }
  // A block of bytes, a multiple of 16, that publish() was called for. Of a team of more than one.
  __device__ void send_bytes(void* place, const void* from, int n_bytes, int other,
                             Mailbox& box) const {
#if __CUDA_ARCH__ >= 900
    asm volatile(
        "cp.async.bulk.shared::cluster.shared::cta.mbarrier::complete_tx::bytes [%0], [%1], %2, "
        "[%3];" ::"r"(address_of(place, other)),
        "r"(shared_address(from)), "r"(n_bytes), "r"(address_of(&box, other))
        : "memory");
#else
    (void)place, (void)from, (void)n_bytes, (void)other, (void)box;
#endif
  }
  // What this thread wrote to shared memory may be sent by send_bytes, after a barrier.
  __device__ void publish() const {
#if __CUDA_ARCH__ >= 900
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
#endif
  }
  // All threads of the CTA: until so many bytes have come.
  __device__ void receive(Mailbox& box, int n_bytes) const {
#if __CUDA_ARCH__ >= 900
    if (size > 1) {
      const unsigned address = shared_address(&box);
      if (threadIdx.x == 0) {
        asm volatile("mbarrier.arrive.expect_tx.relaxed.cta.shared::cta.b64 _, [%0], %1;" ::"r"(address),
                     "r"(n_bytes)
                     : "memory");
      }
      unsigned done;
      do {
        asm volatile(
            "{\n.reg .pred p;\n"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], 0;\n"
            "selp.b32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(address)
            : "memory");
      } while (done == 0);
      return;
    }
#endif
    (void)box, (void)n_bytes;
    __syncthreads();
  }

 private:
  __device__ static unsigned address_of(const void* mine, int other) {
    unsigned far = 0;
#if __CUDA_ARCH__ >= 900
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(far) : "r"(shared_address(mine)), "r"(other));
#else
    (void)mine, (void)other;
#endif
    return far;
  }
};

}  // namespace scholia::cuda
