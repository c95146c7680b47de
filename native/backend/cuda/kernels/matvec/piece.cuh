// What a lane takes of a row of weights at a time, and its product with the input.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <type_traits>

#include "backend/cuda/kernels/product_input.cuh"
#include "backend/cuda/kernels/unit.cuh"

namespace scholia::cuda::matvec {

// 32 weights of a quantised row.
template <WeightFormat kFormat>
struct ThirtyTwo {
  using Planes = RoundedPlanes;
  static constexpr int kWeights = 32, kRows = 2, kAhead = 2;
  struct Input {
    int4 low, high;
    float4 scales;
  };
  Unit<kFormat> unit;

  __device__ __forceinline__ void load(const DeviceMatrix& m, unsigned base, int ahead) {
    unit.load(m, base, ahead);
  }
  __device__ __forceinline__ static Input read(const Planes& x, int piece) {
    return {x.low[piece], x.high[piece], x.scales[piece]};
  }
  __device__ __forceinline__ float dot(const Input& x) const {
    const int2 n = halves(x);
    const float a = x.scales.x * float(n.x), b = (kOfSecond * x.scales.z) * float(n.y);
    if constexpr (kFormat == WeightFormat::kQ6_K) {
      const float2 d = unit.halves_d();
      return d.x * fmaf(-32.0F, x.scales.y, a) + d.y * fmaf(-32.0F, x.scales.w, b);
    } else if constexpr (kFormat == WeightFormat::kQ8_0) {
      return unit.d_and_m().x * (a + b);
    } else {
      const float2 dm = unit.d_and_m();
      return fmaf(dm.x, a + b, dm.y * (x.scales.y + x.scales.w));
    }
  }

  static constexpr bool kIsFourBits = kFormat == WeightFormat::kQ4_0 ||
                                      kFormat == WeightFormat::kQ4_1 ||
                                      kFormat == WeightFormat::kQ4_K;
  // Of four bits the second 16 weights' stay where they are: 16 times too much.
  static constexpr float kOfSecond = kIsFourBits ? 0.0625F : 1.0F;

  // The integers of the first and of the second 16 weights, multiplied.
  __device__ __forceinline__ int2 halves(const Input& x) const {
    if constexpr (kIsFourBits) {
      return {dot_16(unit.codes, 0x0f0f0f0fU, x.low), dot_16(unit.codes, 0xf0f0f0f0U, x.high)};
    }
    int first = __dp4a(unit.word(0), x.low.x, 0), second = __dp4a(unit.word(4), x.high.x, 0);
    first = __dp4a(unit.word(1), x.low.y, first);
    second = __dp4a(unit.word(5), x.high.y, second);
    first = __dp4a(unit.word(2), x.low.z, first);
    second = __dp4a(unit.word(6), x.high.z, second);
    first = __dp4a(unit.word(3), x.low.w, first);
    second = __dp4a(unit.word(7), x.high.w, second);
    return {first, second};
  }

 private:
  // Unsigned bytes, what `bits` leaves of them, with signed ones.
  __device__ __forceinline__ static int dot_16(uint4 a, unsigned bits, int4 b) {
    const int two = dot_4(a.y & bits, b.y, dot_4(a.x & bits, b.x, 0));
    return dot_4(a.w & bits, b.w, dot_4(a.z & bits, b.z, two));
  }
  __device__ __forceinline__ static int dot_4(unsigned a, int b, int sum) {
    int result;
    asm("dp4a.u32.s32 %0, %1, %2, %3;" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
  }
};

// 8 weights of a float row.
template <WeightFormat kFormat>
struct Eight {
  using Planes = FloatPlanes;
  static constexpr int kWeights = 8, kRows = 1, kAhead = kFormat == WeightFormat::kF32 ? 4 : 8;
  struct Input {
    float4 even, odd;
  };
  uint4 raw[kFormat == WeightFormat::kF32 ? 2 : 1];

  __device__ __forceinline__ void load(const DeviceMatrix& m, unsigned base, int ahead) {
    const uint8_t* at = m.codes + size_t(base) * sizeof raw + size_t(ahead) * sizeof raw;
#pragma unroll
    for (size_t i = 0; i < sizeof raw / sizeof raw[0]; ++i) raw[i] = load_streamed(at + 16 * i);
  }
  __device__ __forceinline__ static Input read(const Planes& x, int piece) {
    return {x.even[piece], x.odd[piece]};
  }
  __device__ __forceinline__ float2 two(int i) const {
    const unsigned words[4] = {raw[0].x, raw[0].y, raw[0].z, raw[0].w};
    if constexpr (kFormat == WeightFormat::kF32) {
      const uint4& half = raw[i / 2];
      return i % 2 == 0 ? float2{__uint_as_float(half.x), __uint_as_float(half.y)}
                        : float2{__uint_as_float(half.z), __uint_as_float(half.w)};
    } else if constexpr (kFormat == WeightFormat::kF16) {
      return __half22float2(reinterpret_cast<const __half2&>(words[i]));
    } else {
      return {__uint_as_float(words[i] << 16), __uint_as_float(words[i] & 0xffff0000U)};
    }
  }
  __device__ __forceinline__ float dot(const Input& x) const {
    const float2 a = two(0), b = two(1), c = two(2), d = two(3);
    const float first = fmaf(a.x, x.even.x, fmaf(a.y, x.even.y, fmaf(b.x, x.even.z, b.y * x.even.w)));
    return fmaf(c.x, x.odd.x, fmaf(c.y, x.odd.y, fmaf(d.x, x.odd.z, fmaf(d.y, x.odd.w, first))));
  }
};

template <WeightFormat kFormat>
using Piece = std::conditional_t<is_float(kFormat), Eight<kFormat>, ThirtyTwo<kFormat>>;

}  // namespace scholia::cuda::matvec
