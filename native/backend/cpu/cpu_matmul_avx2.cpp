// The packed matrix products with AVX2.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define SCHOLIA_SIMD_AVX2
#include "backend/cpu/cpu_matmul_kernels.h"

namespace scholia {
const CpuMatmulTable* avx2_cpu_matmul() {
  static constexpr CpuMatmulTable table = {"avx2", multiply_panel, quantise_column};
  return &table;
}
}  // namespace scholia
#else
#include "backend/cpu/cpu_matmul_table.h"

namespace scholia {
const CpuMatmulTable* avx2_cpu_matmul() { return nullptr; }
}  // namespace scholia
#endif
