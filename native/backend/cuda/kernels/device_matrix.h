// A weight matrix on the device. Quantised rows are kept in planes of units of 32 weights, so that
// a lane reads 16 aligned bytes where the file has blocks of 18, 22 or 210; no bit is lost. Bytes are
// added to Q4_K (3 %) and Q5_K alone, whose 6-bit scales take 8 bits here: unpacking 96 bits for each
// 32 weights costs more time than reading 128. Weight i of a unit, 0 <= i < 32, is d * u + m:
//
//   codes   4 and 5 bits: byte j holds the low 4 bits of u of weights j and j + 16; Q8_0: int8.
//           6 bits: 16 weights are three words, which go on in high. Byte b of word w holds u of
//           weight 4 w + b, and above it bits 2 w and 2 w + 1 of weight 12 + b
//   high    5 bits: bit 8 b + w of a word is bit 4 of weight 4 w + b. 6 bits: the last two words
//   scales  Q8_0, Q4_0, Q5_0: f16 d (m = -8 d, -16 d for the latter two). Q4_1, Q5_1: f16 d, f16 m.
//           Q6_K: uint8 for each 16 weights (d = super * (scale - 128), u less 32).
//           Q4_K, Q5_K: uint8 scale, uint8 min (d = super d * scale, m = -super dmin * min)
//   supers  for each 8 units: Q6_K f16 d; Q4_K, Q5_K f16 d, f16 dmin
//
// Where rows of Q4_K and Q6_K are whole groups of 64 units, a lane of a product has twins, an even unit
// and the odd one after it: one load brings the scales of both. So that 32 lanes still read codes side
// by side, a group's codes and high bits are those of its even units, then those of the odd ones.
//
// F32, F16 and BF16 lie as in the file, row after row, in codes.
#pragma once

#include <cstddef>
#include <cstdint>

namespace scholia::cuda {

enum class WeightFormat : uint8_t {
  kF32, kF16, kBf16, kQ8_0, kQ4_0, kQ4_1, kQ5_0, kQ5_1, kQ4_K, kQ5_K, kQ6_K
};

inline constexpr int kUnitWeights = 32;
inline constexpr int kSuperUnits = 8;
inline constexpr int kTwinUnits = 64;

struct PlaneBytes {
  int codes, high, scales;  // of a unit
  int supers;               // of 8 units
};

constexpr PlaneBytes plane_bytes(WeightFormat format) {
  switch (format) {
    case WeightFormat::kF32: return {128, 0, 0, 0};
    case WeightFormat::kF16:
    case WeightFormat::kBf16: return {64, 0, 0, 0};
    case WeightFormat::kQ8_0: return {32, 0, 2, 0};
    case WeightFormat::kQ4_0: return {16, 0, 2, 0};
    case WeightFormat::kQ4_1: return {16, 0, 4, 0};
    case WeightFormat::kQ5_0: return {16, 4, 2, 0};
    case WeightFormat::kQ5_1: return {16, 4, 4, 0};
    case WeightFormat::kQ4_K: return {16, 0, 2, 4};
    case WeightFormat::kQ5_K: return {16, 4, 2, 4};
    case WeightFormat::kQ6_K: return {16, 8, 2, 2};
  }
  return {};
}

constexpr bool is_float(WeightFormat format) { return format <= WeightFormat::kBf16; }

struct DeviceMatrix {
  WeightFormat format = WeightFormat::kF32;
  int n_rows = 0;  // outputs
  int n_cols = 0;  // inputs, a multiple of 32
  const uint8_t* codes = nullptr;
  const uint8_t* high = nullptr;
  const uint8_t* scales = nullptr;
  const uint8_t* supers = nullptr;

#ifdef __CUDACC__
  __host__ __device__
#endif
  int n_units() const { return n_cols / kUnitWeights; }

#ifdef __CUDACC__
  __host__ __device__
#endif
  bool has_twins() const {
    return (format == WeightFormat::kQ4_K || format == WeightFormat::kQ6_K) &&
           n_units() % kTwinUnits == 0;
  }

#ifdef __CUDACC__
  __host__ __device__
#endif
  // Where in its row a unit's codes and high bits lie, in units.
  int place_of_codes(int unit) const {
    if (!has_twins()) return unit;
    const int in_group = unit % kTwinUnits;
    return unit - in_group + in_group % 2 * (kTwinUnits / 2) + in_group / 2;
  }

  uint64_t bytes() const {
    const PlaneBytes plane = plane_bytes(format);
    const uint64_t units = uint64_t(n_rows) * uint64_t(n_cols / kUnitWeights);
    return units * uint64_t(plane.codes + plane.high + plane.scales) +
           units / kSuperUnits * uint64_t(plane.supers);
  }
};

}  // namespace scholia::cuda
