// The packed matrix products with AVX-512 and its dot-product instructions (VNNI).
#if defined(__AVX512VNNI__)
#define SCHOLIA_SIMD_AVX512
#include "backend/cpu/cpu_matmul_kernels.h"

namespace scholia {
const CpuMatmulTable* avx512_cpu_matmul() {
  static constexpr CpuMatmulTable table = {"avx512", multiply_panel, quantise_column};
  return &table;
}
}  // namespace scholia
#else
#include "backend/cpu/cpu_matmul_table.h"

namespace scholia {
const CpuMatmulTable* avx512_cpu_matmul() { return nullptr; }
}  // namespace scholia
#endif
