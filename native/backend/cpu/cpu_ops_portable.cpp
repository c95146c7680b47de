// The CPU's attention in plain C++, for processors without AVX2.
#include "backend/cpu/cpu_ops_kernels.h"

namespace scholia {
const CpuOpsTable* portable_cpu_ops() {
  static constexpr CpuOpsTable table = make_table("portable");
  return &table;
}
}  // namespace scholia
