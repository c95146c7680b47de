// IEEE half precision as bits, in plain C++: the same values on every machine, and loops over these
// functions vectorise with what every machine has.
#pragma once

#include <bit>
#include <cstdint>

#include "engine/kv/kv_pages.h"

namespace scholia {

inline float f32_from_f16(f16 half) {
  const int32_t wide = int16_t(half);  // the sign bit goes to its place
  const int32_t magnitude = (wide & 0x7fff) << 13;
  // The exponent's bias differs by 112; multiplying also makes subnormal halves normal.
  const int32_t scaled = std::bit_cast<int32_t>(std::bit_cast<float>(magnitude) * 0x1p112F);
  const int32_t special = magnitude > 0x0f7fffff ? 0x7f800000 : 0;  // infinity or NaN
  return std::bit_cast<float>(scaled | special | (wide & INT32_MIN));
}

// Rounds to nearest, ties to even; beyond 65504 to infinity; every NaN to one quiet NaN.
inline f16 f16_from_f32(float value) {
  const uint32_t bits = std::bit_cast<uint32_t>(value);
  const uint32_t sign = (bits >> 16) & 0x8000U;
  const uint32_t magnitude = bits & 0x7fffffffU;
  // Adding 2^k to a smaller number rounds it to the last bit of 2^k: here to 2^-24, the smallest
  // half, for results that are subnormal.
  const uint32_t subnormal =
      std::bit_cast<uint32_t>(std::bit_cast<float>(magnitude) + 0.5F) - 0x3f000000U;
  const uint32_t normal = (magnitude - 0x38000000U + 0x0fffU + ((magnitude >> 13) & 1U)) >> 13;
  uint32_t half = magnitude < 0x38800000U ? subnormal : normal;
  half = magnitude >= 0x47800000U ? 0x7c00U : half;
  half = magnitude > 0x7f800000U ? 0x7e00U : half;
  return f16(half | sign);
}

}  // namespace scholia
