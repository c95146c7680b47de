#include "backend/cpu/cpu_matmul_kernels.h"

#if defined(__AVX512VNNI__)

#include <immintrin.h>

#include <cmath>
#include <cstring>

namespace scholia {
namespace {

// Columns multiplied at once: as many accumulators as leave room for a block's 8 groups.
constexpr int kColumns = 12;

inline __m512i load(const uint8_t* p) { return _mm512_loadu_si512(p); }

// Group G of a block as unsigned bytes, from the planes at `bits`.
template <int kBits, int kGroups, int G>
inline __m512i unpack_group(const uint8_t* bits) {
  if constexpr (kBits == 8) {
    return load(bits + G * 64);
  } else {
    const __m512i plane = load(bits + G / 2 * 64);
    const __m512i low = _mm512_and_si512(G % 2 == 0 ? plane : _mm512_srli_epi16(plane, 4),
                                         _mm512_set1_epi8(15));
    if constexpr (kBits == 4) return low;
    // The high bits are shifted to bit 4 and masked: (shifted & mask) | low.
    const __m512i high = load(bits + kGroups / 2 * 64);
    constexpr int kAt = kBits == 5 ? G : 2 * G;  // where the group's bits are
    const __m512i shifted = kAt < 4   ? _mm512_slli_epi16(high, 4 - kAt)
                            : kAt > 4 ? _mm512_srli_epi16(high, kAt - 4)
                                      : high;
    const __m512i mask = _mm512_set1_epi8(kBits == 5 ? 0x10 : 0x30);
    return _mm512_ternarylogic_epi32(shifted, mask, low, 0xEA);  // (a & b) | c
  }
}

inline __m512i broadcast_group(const uint8_t* q) {
  int32_t four;
  std::memcpy(&four, q, 4);
  return _mm512_set1_epi32(four);
}

struct Record {
  const uint8_t* q;
  const float *d, *sum32, *sum16;
  Record(const uint8_t* record, int64_t n_in)
      : q(record),
        d(reinterpret_cast<const float*>(record + n_in)),
        sum32(d + n_in / 32),
        sum16(sum32 + n_in / 32) {}
};

// N columns of one panel. The order of every sum is the same for all N.
template <int kBits, int kBlock, bool kScalesF16, bool kHasOffset, int N>
void multiply_columns(const PanelProduct& product, int first_column) {
  constexpr int kGroups = kBlock / 4;
  const PackedFormat& format = *product.format;
  const size_t record_bytes = activation_bytes(product.n_in);
  const Record first(product.records + first_column * record_bytes, product.n_in);
  const __m512 factor = _mm512_set1_ps(format.offset_factor);
  const size_t block_bytes = format.block_bytes();
  const auto column = [record_bytes](const auto* p, int c) {
    return reinterpret_cast<decltype(p)>(reinterpret_cast<const uint8_t*>(p) + c * record_bytes);
  };

  __m512 sums[N];
  for (int c = 0; c < N; ++c) sums[c] = _mm512_setzero_ps();
  const uint8_t* block = product.panel;
  const auto n_blocks = static_cast<int>(product.n_in / kBlock);
  for (int b = 0; b < n_blocks; ++b, block += block_bytes) {
    const uint8_t* bits = block + (kScalesF16 ? 32 : 64) + (kHasOffset ? 64 : 0);
    __m512 scale, offset;
    if constexpr (kScalesF16) {
      scale = _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(block)));
    } else {
      scale = _mm512_loadu_ps(block);
    }
    if constexpr (kHasOffset) offset = _mm512_loadu_ps(block + (kScalesF16 ? 32 : 64));
    __m512i u[kGroups];
    u[0] = unpack_group<kBits, kGroups, 0>(bits);
    u[1] = unpack_group<kBits, kGroups, 1>(bits);
    u[2] = unpack_group<kBits, kGroups, 2>(bits);
    u[3] = unpack_group<kBits, kGroups, 3>(bits);
    if constexpr (kGroups == 8) {
      u[4] = unpack_group<kBits, kGroups, 4>(bits);
      u[5] = unpack_group<kBits, kGroups, 5>(bits);
      u[6] = unpack_group<kBits, kGroups, 6>(bits);
      u[7] = unpack_group<kBits, kGroups, 7>(bits);
    }
    for (int c = 0; c < N; ++c) {
      const uint8_t* q = column(first.q, c) + b * kBlock;
      __m512i even = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u[0], broadcast_group(q));
      __m512i odd = _mm512_dpbusd_epi32(_mm512_setzero_si512(), u[1], broadcast_group(q + 4));
      for (int g = 2; g < kGroups; g += 2) {
        even = _mm512_dpbusd_epi32(even, u[g], broadcast_group(q + 4 * g));
        odd = _mm512_dpbusd_epi32(odd, u[g + 1], broadcast_group(q + 4 * g + 4));
      }
      const __m512 dot = _mm512_cvtepi32_ps(_mm512_add_epi32(even, odd));
      const float sum = kBlock == 16 ? column(first.sum16, c)[b] : column(first.sum32, c)[b];
      const __m512 d = _mm512_set1_ps(column(first.d, c)[kBlock == 16 ? b / 2 : b]);
      __m512 x;
      if constexpr (kHasOffset) {
        x = _mm512_fnmadd_ps(offset, _mm512_set1_ps(sum), _mm512_mul_ps(dot, scale));
      } else {
        x = _mm512_mul_ps(_mm512_fnmadd_ps(factor, _mm512_set1_ps(sum), dot), scale);
      }
      sums[c] = _mm512_fmadd_ps(x, d, sums[c]);
    }
  }
  for (int c = 0; c < N; ++c) {
    _mm512_storeu_ps(product.out + (first_column + c) * product.out_stride, sums[c]);
  }
}

template <int kBits, int kBlock, bool kScalesF16, bool kHasOffset>
void multiply_panel(const PanelProduct& product) {
  int column = 0;
  for (; column + kColumns <= product.n_columns; column += kColumns) {
    multiply_columns<kBits, kBlock, kScalesF16, kHasOffset, kColumns>(product, column);
  }
  for (; column + 4 <= product.n_columns; column += 4) {
    multiply_columns<kBits, kBlock, kScalesF16, kHasOffset, 4>(product, column);
  }
  for (; column < product.n_columns; ++column) {
    multiply_columns<kBits, kBlock, kScalesF16, kHasOffset, 1>(product, column);
  }
}

}  // namespace

void multiply_panel_avx512(const PanelProduct& product) {
  const PackedFormat& format = *product.format;
  switch (format.bits) {
    case 4:
      return format.has_offset ? multiply_panel<4, 32, false, true>(product)
                               : multiply_panel<4, 32, true, false>(product);
    case 5:
      return format.has_offset ? multiply_panel<5, 32, false, true>(product)
                               : multiply_panel<5, 32, true, false>(product);
    case 6: return multiply_panel<6, 16, false, false>(product);
    default: return multiply_panel<8, 32, true, false>(product);
  }
}

namespace {

float round_to_f16(float x) {
  return _mm512_cvtss_f32(_mm512_cvtph_ps(
      _mm512_cvtps_ph(_mm512_set1_ps(x), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)));
}

// The value of the largest magnitude, the first one of equals, with its sign.
float signed_largest(const float* x, int n) {
  float largest = 0, magnitude = 0;
  __m512 magnitudes = _mm512_setzero_ps();
  for (int i = 0; i < n; i += 16) {
    magnitudes = _mm512_max_ps(magnitudes, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
  }
  magnitude = _mm512_reduce_max_ps(magnitudes);
  for (int i = 0; i < n; ++i) {
    if (std::fabs(x[i]) == magnitude) {
      largest = x[i];
      break;
    }
  }
  return largest;
}

}  // namespace

void quantise_column_avx512(ActivationKind kind, const float* x, int64_t n_in, uint8_t* record) {
  auto* q = reinterpret_cast<int8_t*>(record);
  auto* d = reinterpret_cast<float*>(record + n_in);
  float* sum32 = d + n_in / 32;
  float* sum16 = sum32 + n_in / 32;
  float inverse = 0, scale = 0;
  for (int64_t b = 0; b < n_in / 32; ++b) {
    const __m512 low = _mm512_loadu_ps(x + b * 32), high = _mm512_loadu_ps(x + b * 32 + 16);
    if (kind == ActivationKind::kQ8_0) {
      const float largest =
          _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(low), _mm512_abs_ps(high)));
      inverse = largest == 0 ? 0 : 127 / largest;
      scale = round_to_f16(largest / 127);
    } else if (b % 8 == 0) {
      const float largest = signed_largest(x + b * 32, 256);
      inverse = largest == 0 ? 0 : -127 / largest;
      scale = largest == 0 ? 0 : 1 / inverse;
    }
    const __m512 factor = _mm512_set1_ps(inverse);
    const __m512i low_q = _mm512_cvtps_epi32(_mm512_mul_ps(low, factor));
    const __m512i high_q = _mm512_cvtps_epi32(_mm512_mul_ps(high, factor));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + b * 32), _mm512_cvtsepi32_epi8(low_q));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(q + b * 32 + 16), _mm512_cvtsepi32_epi8(high_q));
    d[b] = scale;
    sum16[2 * b] = static_cast<float>(_mm512_reduce_add_epi32(low_q));
    sum16[2 * b + 1] = static_cast<float>(_mm512_reduce_add_epi32(high_q));
    sum32[b] = sum16[2 * b] + sum16[2 * b + 1];
  }
}

}  // namespace scholia

#else

namespace scholia {

// Never called: packed_matmul_available() is false in such builds.
void multiply_panel_avx512(const PanelProduct&) {}
void quantise_column_avx512(ActivationKind, const float*, int64_t, uint8_t*) {}

}  // namespace scholia

#endif
