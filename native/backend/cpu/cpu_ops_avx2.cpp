// The CPU's attention with AVX2, FMA and F16C.
#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
#define SCHOLIA_SIMD_AVX2
#include "backend/cpu/cpu_ops_kernels.h"

namespace scholia {
const CpuOpsTable* avx2_cpu_ops() {
  static constexpr CpuOpsTable table = make_table("avx2");
  return &table;
}
}  // namespace scholia
#else
#include "backend/cpu/cpu_ops_table.h"

namespace scholia {
const CpuOpsTable* avx2_cpu_ops() { return nullptr; }
}  // namespace scholia
#endif
