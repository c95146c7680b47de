// The text of the packed matrix products, compiled once per instruction set (see simd_dot.h).
#pragma once

#include <math.h>
#include <string.h>

#include <utility>

#include "backend/cpu/cpu_matmul_table.h"
#include "backend/cpu/simd_dot.h"

namespace scholia {
namespace {

constexpr int kPanelRows16 = 16;
// A panel's 16 rows are this many vectors.
constexpr int kPanelSlices = kPanelRows16 / kLanes;
constexpr int kGroupBytes = 4 * kPanelRows16;
constexpr int kSliceBytes = 4 * kLanes;

// Bytes by which a panel is fetched ahead: beside the streams of a dozen columns the processor's
// own prefetchers lose it (Q6_K 404 to 553, Q4_K 592 to 675 GFLOP/s, 4864 x 896, on one Zen 5
// core).
constexpr size_t kFetchAhead = 2048;

// A type's packing as constants.
template <int kBitsOfU, int kInputs, bool kWithOffset, bool kWithSuper>
struct Format {
  static constexpr int kBits = kBitsOfU;
  static constexpr int kBlock = kInputs;
  static constexpr int kGroups = kBlock / 4;
  static constexpr bool kHasOffset = kWithOffset;
  static constexpr bool kHasSuper = kWithSuper;
  static constexpr int kBlocksPerSuper = kHasSuper ? 256 / kBlock : 1;
  static constexpr size_t kArrays = kHasOffset ? 2 : 1;  // scales, offsets
  // What comes before the bits of a super-block's blocks, or of a block in none.
  static constexpr size_t kHeaderBytes =
      kHasSuper ? (kArrays * kPanelRows16 * (2 + kBlocksPerSuper) + 63) / 64 * 64
                : kArrays * kPanelRows16 * 2;
  static constexpr size_t kBitsBytes = size_t(kPanelRows16) * kBlock * kBits / 8;
};

// Scale (kArray 0) or offset (1) of a slice's rows; block: in the super-block.
template <class F, size_t kArray>
inline F32 load_scale(const uint8_t* header, int block, int row) {
  const auto* d = reinterpret_cast<const uint16_t*>(header) + kArray * kPanelRows16;
  if constexpr (!F::kHasSuper) return load_f16(d + row);
  // Q6_K's factors are signed; the others' have 6 bits.
  const auto* factors = reinterpret_cast<const int8_t*>(header) +
                        (F::kArrays * (2 + size_t(block)) + kArray) * kPanelRows16;
  return mul(load_f16(d + row), load_i8(factors + row));
}

// u of the group kGroup for one slice; bits: the slice's part of the block's first plane.
template <class F, int kGroup>
inline Bytes unpack_group(const uint8_t* bits) {
  if constexpr (F::kBits == 8) {
    return load_bytes(bits + kGroup * kGroupBytes);
  } else {
    const Bytes plane = load_bytes(bits + kGroup / 2 * kGroupBytes);
    const Bytes low = bits_and(shift < kGroup % 2 == 0 ? 0 : -4 > (plane), splat_byte(15));
    if constexpr (F::kBits == 4) return low;
    // The higher bits move to bit 4.
    const Bytes high = load_bytes(bits + F::kGroups / 2 * kGroupBytes);
    constexpr int kAt = F::kBits == 5 ? kGroup : 2 * kGroup;
    return and_or(shift<4 - kAt>(high), splat_byte(F::kBits == 5 ? 0x10 : 0x30), low);
  }
}

inline int32_t four_bytes(const int8_t* q) {
  int32_t four;
  memcpy(&four, q, sizeof(four));
  return four;
}

// kColumns columns of kSlices slices of a panel, from `slice` on. A sum's order is the same
// whatever the number of columns.
template <class F, int kSlices, int kColumns>
void multiply_columns(const PanelProduct& p, int first_column, int slice) {
  const uint8_t* records = p.records + first_column * p.record_bytes;
  F32 sums[kSlices][kColumns];
#pragma GCC unroll 2
  for (int s = 0; s < kSlices; s++) {
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; c++) sums[s][c] = splat(0);
  }
  const auto* activations = reinterpret_cast<const ActivationBlock*>(records);
  const auto column = [&](int c) -> const ActivationBlock& {
    return *reinterpret_cast<const ActivationBlock*>(reinterpret_cast<const uint8_t*>(activations) +
                                                     c * p.record_bytes);
  };

  // One block, part kPart of 32 inputs.
  const auto add_block = [&]<int kPart>(const uint8_t* header, int block, const uint8_t* bits) {
    for (size_t i = 0; i < F::kBitsBytes; i += 64) prefetch(bits + kFetchAhead + i);
    I32 dots[kSlices][kColumns];
#pragma GCC unroll 2
    for (int s = 0; s < kSlices; s++) {
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; c++) {
        // The symmetric types' u is offset by 2^(bits - 1).
        constexpr bool kCentred = F::kHasOffset || (F::kBits == 8 && kSigned8);
        dots[s][c] = kCentred ? splat_i32(0)
                              : shift_i32<F::kBits - 1>(splat_i32(column(c).minus_sum[kPart]));
      }
    }
    const auto add_groups = [&]<int kPair>() {
#pragma GCC unroll 2
      for (int s = 0; s < kSlices; s++) {
        const uint8_t* slice_bits = bits + size_t(slice + s) * kSliceBytes;
        const Bytes u0 = unpack_group<F, 2 * kPair>(slice_bits);
        const Bytes u1 = unpack_group<F, 2 * kPair + 1>(slice_bits);
#pragma GCC unroll 16
        for (int c = 0; c < kColumns; c++) {
          const int8_t* q = column(c).q + kPart * F::kBlock + kPair * 8;
          dots[s][c] = dot_two<F::kBits>(dots[s][c], u0, four_bytes(q), u1, four_bytes(q + 4));
        }
      }
    };
    [&]<int... kPair>(std::integer_sequence<int, kPair...>) {
      (add_groups.template operator()<kPair>(), ...);
    }(std::make_integer_sequence<int, F::kGroups / 2>());

#pragma GCC unroll 2
    for (int s = 0; s < kSlices; s++) {
      const int row = (slice + s) * kLanes;
      const F32 scale = load_scale<F, 0>(header, block, row);
      [[maybe_unused]] F32 offset = scale;
      if constexpr (F::kHasOffset) offset = load_scale<F, 1>(header, block, row);
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; c++) {
        if constexpr (F::kHasOffset) {
          sums[s][c] = mul_add(offset, splat(column(c).total), sums[s][c]);
        }
        const F32 x = mul(to_f32(dots[s][c]), scale);
        sums[s][c] = mul_add(x, splat(column(c).d), sums[s][c]);
      }
    }
  };

  const uint8_t* bits = p.panel;
  for (int64_t done = 0; done < p.n_in;) {
    const uint8_t* const header = bits;
    bits += F::kHeaderBytes;
    for (int block = 0; block < F::kBlocksPerSuper; activations++, done += 32) {
      add_block.template operator()<0>(header, block++, bits);
      bits += F::kBitsBytes;
      if constexpr (F::kBlock == 16) {
        add_block.template operator()<1>(header, block++, bits);
        bits += F::kBitsBytes;
      }
    }
  }

  float* const out = p.out + first_column * p.out_stride + slice * kLanes;
#pragma GCC unroll 2
  for (int s = 0; s < kSlices; s++) {
#pragma GCC unroll 16
    for (int c = 0; c < kColumns; c++) store(out + c * p.out_stride + s * kLanes, sums[s][c]);
  }
}

template <class F>
void multiply_format(const PanelProduct& p) {
  int column = 0;
  for (; column + kColumnsAtOnce <= p.n_columns; column += kColumnsAtOnce) {
    for (int slice = 0; slice < kPanelSlices; slice++) {
      multiply_columns<F, 1, kColumnsAtOnce>(p, column, slice);
    }
  }
  for (; column + 4 <= p.n_columns; column += 4) {
    for (int slice = 0; slice < kPanelSlices; slice++) multiply_columns<F, 1, 4>(p, column, slice);
  }
  for (; column < p.n_columns; column++) multiply_columns<F, kPanelSlices, 1>(p, column, 0);
}

template <int kBits>
void multiply_bits(const PanelProduct& p) {
  if (p.format->has_super) return multiply_format<Format<kBits, 32, true, true>>(p);
  if (p.format->has_offset) return multiply_format<Format<kBits, 32, true, false>>(p);
  return multiply_format<Format<kBits, 32, false, false>>(p);
}

void multiply_panel(const PanelProduct& p) {
  switch (p.format->bits) {
    case 4:
      return multiply_bits<4>(p);
    case 5:
      return multiply_bits<5>(p);
    case 6:
      return multiply_format<Format<6, 16, false, true>>(p);
    default:
      return multiply_format<Format<8, 32, false, false>>(p);
  }
}

// --- activations -----------------------------------------------------------------------------

F32 magnitude(F32 x) { return max(x, sub(splat(0), x)); }

float largest_magnitude(const float* x, int n) {
  F32 largest = splat(0);
  for (int i = 0; i < n; i += kLanes) largest = max(largest, magnitude(load(x + i)));
  return max_lane(largest);
}

float rounded_to_f16(float x) {
  uint16_t half[kLanes];
  float rounded[kLanes];
  store_f16(half, splat(x));
  store(rounded, load_f16(half));
  return rounded[0];
}

// q = x * inverse, rounded to nearest, ties to even; x is about scale * q.
struct Rounding {
  float inverse = 0, scale = 0, unrounded_scale = 0;
};

Rounding rounding_q8_0(const float* x) {
  const float largest = largest_magnitude(x, 32);
  if (largest == 0) return {};
  return {127.0F / largest, rounded_to_f16(largest / 127.0F), largest / 127.0F};
}

// The first of the values of largest magnitude becomes -127.
Rounding rounding_q8_k(const float* x) {
  const float largest = largest_magnitude(x, 256);
  if (largest == 0) return {};
  int at = 0;
  while (at < 255 && fabsf(x[at]) != largest) at++;
  const float inverse = -127.0F / x[at];
  return {inverse, 1.0F / inverse, 1.0F / inverse};
}

void quantise_column(ActivationKind kind, const float* x, int64_t n_in, ActivationBlock* record) {
  Rounding rounding;
  for (int64_t b = 0; b < n_in / 32; b++, x += 32) {
    if (kind == ActivationKind::kQ8_0) {
      rounding = rounding_q8_0(x);
    } else if (b % 8 == 0) {
      rounding = rounding_q8_k(x);
    }
    int32_t sums[2];
    for (int half = 0; half < 2; half++) {
      F32 sum = splat(0);
      for (int i = half * 16; i < half * 16 + 16; i += kLanes) {
        const F32 q = round(mul(load(x + i), splat(rounding.inverse)));
        store_i8(record[b].q + i, q);
        sum = add(sum, q);
      }
      sums[half] = int32_t(sum_lanes(sum));
    }
    const int32_t all = sums[0] + sums[1];
    record[b].d = rounding.scale;
    if (kind == ActivationKind::kQ8_0) {
      record[b].total = rounded_to_f16(rounding.unrounded_scale * float(all));
      record[b].minus_sum[0] = -all;
      record[b].minus_sum[1] = 0;
    } else {
      record[b].total = rounding.scale * float(all);
      record[b].minus_sum[0] = -sums[0];
      record[b].minus_sum[1] = -sums[1];
    }
  }
}

}  // namespace
}  // namespace scholia
