// The CPU's attention with AVX-512.
#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && defined(__AVX512VL__)
#define SCHOLIA_SIMD_AVX512
#include "backend/cpu/cpu_ops_kernels.h"

namespace scholia {
const CpuOpsTable* avx512_cpu_ops() {
  static constexpr CpuOpsTable table = make_table("avx512");
  return &table;
}
}  // namespace scholia
#else
#include "backend/cpu/cpu_ops_table.h"

namespace scholia {
const CpuOpsTable* avx512_cpu_ops() { return nullptr; }
}  // namespace scholia
#endif
