// Hopper's own instructions, one each: products of a warp group (four warps) with tiles in shared
// memory, copies by the copy engine, and barriers that count bytes. Only in code for sm_90a.
#pragma once

#include "backend/cuda/kernels/mma.cuh"

namespace scholia::cuda {

// --- barriers in shared memory --------------------------------------------------------------

__device__ __forceinline__ void init_barrier(uint64_t* barrier, int n_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)),
               "r"(n_arrivals)
               : "memory");
}
// The copy engine sees barriers that were made before.
__device__ __forceinline__ void publish_barriers() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}
__device__ __forceinline__ void arrive(uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}
// Arrives and says how many bytes the copy engine will bring.
__device__ __forceinline__ void arrive_expecting(uint64_t* barrier, unsigned n_bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(
                   shared_address(barrier)),
               "r"(n_bytes)
               : "memory");
}
// Until the barrier's phase of this parity has ended.
__device__ __forceinline__ void wait_barrier(uint64_t* barrier, unsigned parity) {
  unsigned done;
  do {
    asm volatile(
        "{\n.reg .pred p;\n"
        "mbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\n"
        "selp.b32 %0, 1, 0, p;\n}"
        : "=r"(done)
        : "r"(shared_address(barrier)), "r"(parity)
        : "memory");
  } while (done == 0);
}

// A barrier of the CTA's threads by number (0 is __syncthreads'); one half of it waits, the other does not.
__device__ __forceinline__ void sync_threads(int barrier, int n_threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(n_threads) : "memory");
}
__device__ __forceinline__ void arrive_threads(int barrier, int n_threads) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "r"(n_threads) : "memory");
}

// --- copies ---------------------------------------------------------------------------------

// What this thread wrote to shared memory is seen by products and by the copy engine.
__device__ __forceinline__ void publish_to_async() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// A box of a tensor map at coordinates x, y, z to shared memory; the barrier counts its bytes.
__device__ __forceinline__ void copy_box(void* to, const void* map, int x, int y, int z,
                                         uint64_t* barrier) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes "
      "[%0], [%1, {%2, %3, %4}], [%5];" ::"r"(shared_address(to)),
      "l"(map), "r"(x), "r"(y), "r"(z), "r"(shared_address(barrier))
      : "memory");
}
__device__ __forceinline__ void prefetch_map(const void* map) {
  asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

// --- registers ------------------------------------------------------------------------------

// A warp group's registers per thread, from now on.
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

// --- products -------------------------------------------------------------------------------
//
// Rows of 64 f16 (128 bytes), chunks of 16 bytes exchanged within 8 rows: chunk c of row r lies at
// c ^ (r % 8). Eight rows are 1,024 bytes and begin at a multiple of that.
// C [64][N]: lane 4 g + t of warp w has rows 16 w + g and + 8, columns 8 j + 2 t and + 1, in the order
// c[4 j] = (g, 2 t), (g, 2 t + 1), (g + 8, 2 t), (g + 8, 2 t + 1).

// Where a matrix begins. `next_rows`: bytes from 8 rows to the next 8; `next_columns`: from 64 columns
// to the next 64, where the columns lie side by side in memory (a B that is read along its columns).
__device__ __forceinline__ uint64_t matrix_at(const void* begin, unsigned next_rows,
                                              unsigned next_columns) {
  constexpr uint64_t kExchanged128 = uint64_t(1) << 62;
  return kExchanged128 | uint64_t(next_rows >> 4) << 32 | uint64_t(next_columns >> 4) << 16 |
         uint64_t((shared_address(begin) & 0x3FFFF) >> 4);
}
// The same matrix n_bytes on.
__device__ __forceinline__ uint64_t moved(uint64_t matrix, unsigned n_bytes) {
  return matrix + (n_bytes >> 4);
}

// Registers written before are seen by the products that follow.
__device__ __forceinline__ void begin_products() {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ __forceinline__ void commit_products() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// All but the last kPending groups of products are done.
template <int kPending>
__device__ __forceinline__ void wait_products() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}
// The compiler may not move uses of these registers across this place.
template <int N>
__device__ __forceinline__ void hold(float (&c)[N]) {
#pragma unroll
  for (int i = 0; i < N; ++i) asm volatile("" : "+f"(c[i])::"memory");
}

#define SCHOLIA_C8(c, i)                                                                        \
  "+f"(c[i]), "+f"(c[i + 1]), "+f"(c[i + 2]), "+f"(c[i + 3]), "+f"(c[i + 4]), "+f"(c[i + 5]), \
      "+f"(c[i + 6]), "+f"(c[i + 7])
#define SCHOLIA_C32(c, i) \
  SCHOLIA_C8(c, i), SCHOLIA_C8(c, i + 8), SCHOLIA_C8(c, i + 16), SCHOLIA_C8(c, i + 24)
#define SCHOLIA_NAMES_32                                                                         \
  "%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, " \
  "%20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define SCHOLIA_NAMES_64                                                                         \
  SCHOLIA_NAMES_32                                                                               \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, %48, %49, " \
  "%50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"

// c [64][128] = a b, or += where it adds; a [64][16] and b [16][128] in shared memory, both along k.
__device__ __forceinline__ void multiply_columns(float (&c)[64], uint64_t a, uint64_t b,
                                                   bool adds) {
  asm volatile(
      "{\n.reg .pred adds;\nsetp.ne.b32 adds, %66, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" SCHOLIA_NAMES_64
      "}, %64, %65, adds, 1, 1, 0, 0;\n}"
      : SCHOLIA_C32(c, 0), SCHOLIA_C32(c, 32)
      : "l"(a), "l"(b), "r"(int(adds)));
}

// c [64][N] += a b; a [64][16] in registers, as m16n8k16's; b [16][N] in shared memory along N.
__device__ __forceinline__ void multiply_rows_add(float (&c)[64], const unsigned (&a)[4],
                                                  uint64_t b) {
  asm volatile(
      "{\n.reg .pred adds;\nsetp.ne.b32 adds, %69, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n128k16.f32.f16.f16 {" SCHOLIA_NAMES_64
      "}, {%64, %65, %66, %67}, %68, adds, 1, 1, 1;\n}"
      : SCHOLIA_C32(c, 0), SCHOLIA_C32(c, 32)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}
__device__ __forceinline__ void multiply_rows_add(float (&c)[32], const unsigned (&a)[4],
                                                  uint64_t b) {
  asm volatile(
      "{\n.reg .pred adds;\nsetp.ne.b32 adds, %37, 0;\n"
      "wgmma.mma_async.sync.aligned.m64n64k16.f32.f16.f16 {" SCHOLIA_NAMES_32
      "}, {%32, %33, %34, %35}, %36, adds, 1, 1, 1;\n}"
      : SCHOLIA_C32(c, 0)
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(1));
}

#undef SCHOLIA_C8
#undef SCHOLIA_C32
#undef SCHOLIA_NAMES_32
#undef SCHOLIA_NAMES_64

}  // namespace scholia::cuda
