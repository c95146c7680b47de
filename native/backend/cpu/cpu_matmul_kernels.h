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
template <int kBitsOfU, int kInputs, bool kWithOffset>
struct Format {
  static constexpr int kBits = kBitsOfU;
  static constexpr int kBlock = kInputs;
  static constexpr int kGroups = kBlock / 4;
  static constexpr bool kHasOffset = kWithOffset;
  static constexpr bool kScalesF16 = kBlock == 32 && !kHasOffset;
  static constexpr size_t kScaleBytes = kPanelRows16 * (kScalesF16 ? 2 : 4);
  static constexpr size_t kOffsetBytes = kHasOffset ? kPanelRows16 * 4 : 0;
  static constexpr size_t kBlockBytes =
      kScaleBytes + kOffsetBytes + size_t(kPanelRows16) * kBlock * kBits / 8;
};

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
  const uint8_t* block = p.blocks;
  for (int b = 0; b < p.n_blocks; b++, block += F::kBlockBytes) {
    const uint8_t* const bits =
        block + F::kScaleBytes + F::kOffsetBytes + size_t(slice) * kSliceBytes;
    for (size_t i = 0; i < F::kBlockBytes; i += 64) prefetch(block + kFetchAhead + i);
    constexpr int kBlocksPer32 = 32 / F::kBlock;
    const int part = b % kBlocksPer32;
    const auto activations = [&](int c) -> const ActivationBlock& {
      return reinterpret_cast<const ActivationBlock*>(records +
                                                      c * p.record_bytes)[b / kBlocksPer32];
    };
    I32 dots[kSlices][kColumns];
#pragma GCC unroll 2
    for (int s = 0; s < kSlices; s++) {
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; c++) {
        // The symmetric types' u is offset by 2^(bits - 1).
        constexpr bool kCentred = F::kHasOffset || (F::kBits == 8 && kSigned8);
        dots[s][c] = kCentred ? splat_i32(0)
                              : shift_i32<F::kBits - 1>(splat_i32(activations(c).minus_sum[part]));
      }
    }
    const auto add_groups = [&]<int kPair>() {
#pragma GCC unroll 2
      for (int s = 0; s < kSlices; s++) {
        const Bytes u0 = unpack_group<F, 2 * kPair>(bits + s * kSliceBytes);
        const Bytes u1 = unpack_group<F, 2 * kPair + 1>(bits + s * kSliceBytes);
#pragma GCC unroll 16
        for (int c = 0; c < kColumns; c++) {
          const int8_t* q = activations(c).q + part * F::kBlock + kPair * 8;
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
      F32 scale;
      if constexpr (F::kScalesF16) {
        scale = load_f16(reinterpret_cast<const uint16_t*>(block) + row);
      } else {
        scale = load(reinterpret_cast<const float*>(block) + row);
      }
#pragma GCC unroll 16
      for (int c = 0; c < kColumns; c++) {
        if constexpr (F::kHasOffset) {
          const F32 offset = load(reinterpret_cast<const float*>(block + F::kScaleBytes) + row);
          sums[s][c] = mul_add(offset, splat(activations(c).minus_total), sums[s][c]);
        }
        const F32 x = mul(to_f32(dots[s][c]), scale);
        sums[s][c] = mul_add(x, splat(activations(c).d), sums[s][c]);
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

void multiply_panel(const PanelProduct& p) {
  switch (p.format->bits) {
    case 4:
      return p.format->has_offset ? multiply_format<Format<4, 32, true>>(p)
                                  : multiply_format<Format<4, 32, false>>(p);
    case 5:
      return p.format->has_offset ? multiply_format<Format<5, 32, true>>(p)
                                  : multiply_format<Format<5, 32, false>>(p);
    case 6:
      return multiply_format<Format<6, 16, false>>(p);
    default:
      return multiply_format<Format<8, 32, false>>(p);
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
      record[b].minus_total = -rounded_to_f16(rounding.unrounded_scale * float(all));
      record[b].minus_sum[0] = -all;
      record[b].minus_sum[1] = 0;
    } else {
      record[b].minus_total = -rounding.scale * float(all);
      record[b].minus_sum[0] = -sums[0];
      record[b].minus_sum[1] = -sums[1];
    }
  }
}

}  // namespace
}  // namespace scholia
