// What this processor can do, by the names of the instruction sets that the kernels are compiled for
// (native/CMakeLists.txt): all flags that a set is compiled with are asked for.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__)
#include <cpuid.h>
#endif

namespace scholia {

inline bool processor_has_avx2() {
#if defined(__x86_64__) && defined(__GNUC__)
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
#else
  return false;
#endif
}

inline bool processor_has_avxvnni() {
#if defined(__x86_64__) && defined(__GNUC__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  constexpr unsigned kBit = 1U << 4;  // AVX-VNNI in EAX of leaf 7, sub-leaf 1
  return processor_has_avx2() && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & kBit) != 0;
#else
  return false;
#endif
}

inline bool processor_has_avx512() {
#if defined(__x86_64__) && defined(__GNUC__)
  return processor_has_avx2() && __builtin_cpu_supports("avx512f") &&
         __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vnni");
#else
  return false;
#endif
}

}  // namespace scholia
