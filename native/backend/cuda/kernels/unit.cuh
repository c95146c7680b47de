// One unit of 32 quantised weights in a lane's registers: loading it, and what its bits mean.
#pragma once

#include <cuda_fp16.h>

#include "backend/cuda/kernels/device_matrix.h"

namespace scholia::cuda {

// Weights are read once per token: they should not push anything out of the L1 cache.
__device__ __forceinline__ uint4 load_streamed(const void* address) {
  uint4 x;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(x.x), "=r"(x.y), "=r"(x.z), "=r"(x.w)
               : "l"(address));
  return x;
}

template <WeightFormat kFormat>
struct Unit {
  static constexpr PlaneBytes kBytes = plane_bytes(kFormat);
  static constexpr bool kIsQ8 = kFormat == WeightFormat::kQ8_0;
  static constexpr bool kIsK = kFormat == WeightFormat::kQ4_K || kFormat == WeightFormat::kQ5_K;
  static constexpr bool kIsQ6K = kFormat == WeightFormat::kQ6_K;
  static constexpr bool kHasMin = kFormat == WeightFormat::kQ4_1 || kFormat == WeightFormat::kQ5_1;
  // u stands for u - kOffset, apart from Q6_K's scales of 16.
  static constexpr int kOffset = kFormat == WeightFormat::kQ4_0   ? 8
                                 : kFormat == WeightFormat::kQ5_0 ? 16
                                                                  : 0;

  uint4 codes, more_codes;  // more_codes: Q8_0
  uint2 high;               // Q5: x; Q6_K: both
  unsigned scale, super;    // as many of their bytes as the format has

  // Unit base + ahead of the matrix, counted through its rows. ahead: a multiple of 8, known when
  // compiling, so that one address serves several loads.
  __device__ __forceinline__ void load(const DeviceMatrix& m, unsigned base, int ahead = 0) {
    load_codes(m, base, ahead);
    load_scales(m, base, ahead);
  }
  __device__ __forceinline__ void load_codes(const DeviceMatrix& m, unsigned base, int ahead = 0) {
    const uint8_t* at = m.codes + size_t(base) * kBytes.codes + ahead * kBytes.codes;
    codes = load_streamed(at);
    if constexpr (kIsQ8) more_codes = load_streamed(at + 16);
    if constexpr (kBytes.high == 4) {
      high.x = __ldg(reinterpret_cast<const unsigned*>(m.high) + base + ahead);
    }
    if constexpr (kBytes.high == 8) high = __ldg(reinterpret_cast<const uint2*>(m.high) + base + ahead);
  }
  __device__ __forceinline__ void load_scales(const DeviceMatrix& m, unsigned base, int ahead = 0) {
    if constexpr (kBytes.scales == 4) {
      scale = __ldg(reinterpret_cast<const unsigned*>(m.scales) + base + ahead);
    } else {
      scale = __ldg(reinterpret_cast<const unsigned short*>(m.scales) + base + ahead);
    }
    const unsigned of_super = base / kSuperUnits;
    if constexpr (kBytes.supers == 4) {
      super = __ldg(reinterpret_cast<const unsigned*>(m.supers) + of_super + ahead / kSuperUnits);
    } else if constexpr (kBytes.supers == 2) {
      super = __ldg(reinterpret_cast<const unsigned short*>(m.supers) + of_super +
                    ahead / kSuperUnits);
    }
  }

  // u of weights 4 w to 4 w + 3, as bytes; Q8_0: signed.
  __device__ __forceinline__ int word(int w) const {
    if constexpr (kIsQ8) {
      const uint4 from = w < 4 ? codes : more_codes;
      return int(w % 4 == 0 ? from.x : w % 4 == 1 ? from.y : w % 4 == 2 ? from.z : from.w);
    }
    if constexpr (kIsQ6K) {
      const unsigned a = w < 4 ? codes.x : codes.w, b = w < 4 ? codes.y : high.x,
                     c = w < 4 ? codes.z : high.y;
      if (w % 4 < 3) return int((w % 4 == 0 ? a : w % 4 == 1 ? b : c) & 0x3f3f3f3fU);
      return int((a >> 6 & 0x03030303U) | (b >> 4 & 0x0c0c0c0cU) | (c >> 2 & 0x30303030U));
    }
    const unsigned both = w % 4 == 0   ? codes.x
                          : w % 4 == 1 ? codes.y
                          : w % 4 == 2 ? codes.z
                                       : codes.w;
    unsigned u = (w < 4 ? both : both >> 4) & 0x0f0f0f0fU;
    if constexpr (kBytes.high == 4) {
      u |= (w < 4 ? high.x << (4 - w) : high.x >> (w - 4)) & 0x10101010U;
    }
    return int(u);
  }

  static constexpr unsigned kTwoTo23 = 0x4b000000U;  // as a float's bits

  // Byte i less `offset`: as the low bits of 2^23's mantissa, which is cheaper than a conversion.
  __device__ __forceinline__ static float byte_less(unsigned bytes, int i, float offset,
                                                    unsigned two_to_23 = kTwoTo23) {
    return __uint_as_float(__byte_perm(bytes, two_to_23, 0x7440U + unsigned(i))) -
           (8388608.0F + offset);
  }

  // Weight = d * u + m. Not for Q6_K.
  __device__ __forceinline__ float2 d_and_m() const {
    if constexpr (kIsK) {
      const float2 dm = __half22float2(reinterpret_cast<const __half2&>(super));
      return {dm.x * byte_less(scale, 0, 0), -dm.y * byte_less(scale, 1, 0)};
    } else if constexpr (kHasMin) {
      return __half22float2(reinterpret_cast<const __half2&>(scale));
    } else {
      const float d = __half2float(__ushort_as_half(static_cast<unsigned short>(scale)));
      return {d, d * float(-kOffset)};
    }
  }

  // Q6_K: d of the unit's first and second 16 weights, whose u stands for u - 32.
  __device__ __forceinline__ float2 halves_d() const {
    const float d = __half2float(__ushort_as_half(static_cast<unsigned short>(super)));
    return {d * byte_less(scale, 0, 128), d * byte_less(scale, 1, 128)};
  }

  // Weight i as f32, for what is not in a hurry.
  __device__ __forceinline__ float weight(int i) const {
    const int byte = (word(i / 4) >> (8 * (i % 4))) & 0xff;
    if constexpr (kIsQ6K) {
      const float2 d = halves_d();
      return (i < 16 ? d.x : d.y) * float(byte - 32);
    } else {
      const float2 dm = d_and_m();
      return dm.x * float(kIsQ8 ? int(static_cast<signed char>(byte)) : byte) + dm.y;
    }
  }
};

// use.run<format>() for a format known at run time.
template <typename Use>
__device__ __forceinline__ auto with_format(WeightFormat format, const Use& use) {
  switch (format) {
    case WeightFormat::kF32: return use.template run<WeightFormat::kF32>();
    case WeightFormat::kF16: return use.template run<WeightFormat::kF16>();
    case WeightFormat::kBf16: return use.template run<WeightFormat::kBf16>();
    case WeightFormat::kQ8_0: return use.template run<WeightFormat::kQ8_0>();
    case WeightFormat::kQ4_0: return use.template run<WeightFormat::kQ4_0>();
    case WeightFormat::kQ4_1: return use.template run<WeightFormat::kQ4_1>();
    case WeightFormat::kQ5_0: return use.template run<WeightFormat::kQ5_0>();
    case WeightFormat::kQ5_1: return use.template run<WeightFormat::kQ5_1>();
    case WeightFormat::kQ4_K: return use.template run<WeightFormat::kQ4_K>();
    case WeightFormat::kQ5_K: return use.template run<WeightFormat::kQ5_K>();
    case WeightFormat::kQ6_K: return use.template run<WeightFormat::kQ6_K>();
  }
  __builtin_unreachable();
}

}  // namespace scholia::cuda
