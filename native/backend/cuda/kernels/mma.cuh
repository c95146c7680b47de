// Tensor cores and asynchronous copies, one instruction each. Fragments as PTX lays them out for
// m16n8k16: lane = 4 g + t; A rows g and g + 8, B column g, C rows g and g + 8, columns 2 t, 2 t + 1.
#pragma once

#include <cuda_fp16.h>

#include <cstdint>

namespace scholia::cuda {

// c += a b; a [16][16], b [16][8] f16, c [16][8] f32.
__device__ __forceinline__ void mma_16x8x16(float c[4], const unsigned a[4], unsigned b0,
                                            unsigned b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, "
      "{%8, %9}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ unsigned shared_address(const void* p) {
  return static_cast<unsigned>(__cvta_generic_to_shared(p));
}

// Four 8 x 8 matrices; lane 8 i + r gives the address of row r of matrix i.
__device__ __forceinline__ void load_matrices(unsigned to[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}
__device__ __forceinline__ void load_matrices_transposed(unsigned to[4], unsigned address) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
               : "r"(address)
               : "memory");
}

// The transpose of an 8 x 8 matrix of f16 in the lanes' registers.
__device__ __forceinline__ unsigned transposed(unsigned x) {
  unsigned y;
  asm volatile("movmatrix.sync.aligned.m8n8.trans.b16 %0, %1;" : "=r"(y) : "r"(x));
  return y;
}

// 4 bytes to shared memory.
__device__ __forceinline__ void copy_4_async(unsigned to_shared, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to_shared), "l"(from) : "memory");
}
// 0, 4, 8, 12 or 16 bytes to shared memory, then zeros up to 16.
__device__ __forceinline__ void copy_async(unsigned to_shared, const void* from, int n_bytes) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to_shared), "l"(from),
               "r"(n_bytes)
               : "memory");
}
// 16 bytes to shared memory; zeros when not wanted.
__device__ __forceinline__ void copy_16_async(unsigned to_shared, const void* from, bool wanted) {
  copy_async(to_shared, from, wanted ? 16 : 0);
}
__device__ __forceinline__ void commit_copies() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}
// All but the last kPending groups have arrived for this thread.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

__device__ __forceinline__ unsigned pack_halves(float x, float y) {
  const __half2 h = __floats2half2_rn(x, y);
  return reinterpret_cast<const unsigned&>(h);
}
__device__ __forceinline__ float2 unpack_halves(unsigned x) {
  return __half22float2(reinterpret_cast<const __half2&>(x));
}
// What pack_halves lost.
__device__ __forceinline__ unsigned pack_remainders(float x, float y) {
  const float2 rounded = unpack_halves(pack_halves(x, y));
  return pack_halves(x - rounded.x, y - rounded.y);
}

// Where chunk `chunk` (8 elements) of row `row` lies in a tile of rows of D f16, in elements:
// shuffled so that ldmatrix finds 8 rows in different banks.
template <int D>
__device__ __forceinline__ int tile_offset(int row, int chunk) {
  return row * D + (chunk ^ (row & 7)) * 8;
}

}  // namespace scholia::cuda
