// The packed matrix products with AVX2 and its dot-product instructions (AVX-VNNI).
#if defined(__AVXVNNI__)
#define SCHOLIA_SIMD_AVX2
#define SCHOLIA_SIMD_AVXVNNI
#include "backend/cpu/cpu_matmul_kernels.h"

namespace scholia {
const CpuMatmulTable* avxvnni_cpu_matmul() {
  static constexpr CpuMatmulTable table = {"avxvnni", multiply_panel, quantise_column};
  return &table;
}
}  // namespace scholia
#else
#include "backend/cpu/cpu_matmul_table.h"

namespace scholia {
const CpuMatmulTable* avxvnni_cpu_matmul() { return nullptr; }
}  // namespace scholia
#endif
