#include "backend/cuda/kernels/matvec.cuh"

#include <cuda_bf16.h>

#include <algorithm>
#include <type_traits>

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/unit.cuh"

namespace scholia::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32, kWarpBits = 4;
static_assert(kWarps == 1 << kWarpBits);
constexpr size_t kPlainSharedBytes = 48 << 10;  // more must be asked for

// --- the input ------------------------------------------------------------------------------

// To shared memory, byte for byte.
__device__ void copy_input(const void* from, uint8_t* to, int n_bytes) {
  const auto* from16 = static_cast<const uint4*>(from);
  auto* to16 = reinterpret_cast<uint4*>(to);
  const int n = n_bytes / 16;
  constexpr int kHeld = 4;  // on the way at a time
  for (int first = int(threadIdx.x); first < n; first += kHeld * kThreads) {
    uint4 held[kHeld];
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      if (first + j * kThreads < n) held[j] = __ldcg(from16 + first + j * kThreads);
    }
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      if (first + j * kThreads < n) to16[first + j * kThreads] = held[j];
    }
  }
}

// What the sums of normalised values are multiplied by. One warp.
__device__ float norm_factor(const ProductInput& x, float eps, int n_cols) {
  float squares = 0;
  const auto* twos = reinterpret_cast<const float2*>(x.squares);
  constexpr int kHeld = 4;  // on the way at a time
#pragma unroll 1
  for (int first = int(threadIdx.x) % 32; first < x.n_units; first += kHeld * 32) {
    float2 held[kHeld] = {};
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      if (first + 32 * j < x.n_units) held[j] = __ldcg(twos + first + 32 * j);
    }
#pragma unroll
    for (int j = 0; j < kHeld; ++j) squares += held[j].x + held[j].y;
  }
  return 1.0F / sqrtf(warp_sum(squares) / float(n_cols) + eps);
}

// --- a lane's piece of a row ------------------------------------------------------------------

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

// The warp's index, known to be the same in its lanes.
__device__ __forceinline__ int uniform_warp() {
  return __shfl_sync(~0U, int(threadIdx.x) / 32, 0);
}

// Over the warp: of a in its first 16 lanes, of b in the others.
__device__ __forceinline__ float sum_of_rows(float a, float b) {
  const bool is_second = threadIdx.x & 16;
  float x = (is_second ? b : a) + __shfl_xor_sync(~0U, is_second ? a : b, 16);
#pragma unroll
  for (int apart = 8; apart > 0; apart /= 2) x += __shfl_xor_sync(~0U, x, apart);
  return x;
}

// --- rows, one warp ---------------------------------------------------------------------------

// Reads the rows [first, end) of a matrix, kRows at once, in groups of kAhead pieces for each lane.
// While it computes with one group, the next is on the way. Where there are fewer rows than the
// warps take at once, several warps share them: each takes a slice.
template <WeightFormat kFormat>
class RowStream {
  using P = Piece<kFormat>;
  static constexpr int kRows = P::kRows, kAhead = P::kAhead;
  static constexpr int kGroup = 32 * kAhead;  // pieces

 public:
  // slice_bits: of the number of slices.
  __device__ __forceinline__ RowStream(const DeviceMatrix& m, int first, int end, int slice_bits)
      : m_(m), first_(first), end_(end), n_pieces_(m.n_cols / P::kWeights),
        rows_at_once_(kRows * kWarps >> slice_bits) {
    const int warp = uniform_warp(), steps = (n_pieces_ + 31) / 32;
    slice_ = warp >> (kWarpBits - slice_bits);
    slice_start_ = (steps * slice_ >> slice_bits) * 32;
    slice_end_ = min((steps * (slice_ + 1) >> slice_bits) * 32, n_pieces_);
    first_row_ = first + (kRows * warp & (rows_at_once_ - 1));
  }

  // Fetches the first pieces: weights are nobody's output, so this need not wait.
  __device__ __forceinline__ void prime() {
    const Place place = place_of(first_row_, slice_start_);
#pragma unroll
    for (int slot = 0; slot < kAhead; ++slot) {
#pragma unroll
      for (int r = 0; r < kRows; ++r) ahead_[slot][r] = {};
      load(place, slot);
    }
  }

  // The input to shared memory.
  __device__ __forceinline__ static void copy(const ProductInput& x, uint8_t* to) {
    if constexpr (is_float(kFormat)) {
      copy_input(x.floats, to, int(ProductInput::floats_bytes(x.n_units)));
    } else {
      copy_input(x.rounded, to, int(ProductInput::rounded_bytes(x.n_units)));
    }
  }

  // sums [n_slices][end - first], shared. All warps go through as many rounds.
  __device__ __forceinline__ void run(uint8_t* shared, int n_units, float* sums) {
    const typename P::Planes x(shared, n_units);
    const int lane = int(threadIdx.x) % 32, n_rows = end_ - first_;
    sums += slice_ * n_rows - first_;
    int row = first_row_;
    for (int left = n_rows; left > 0; left -= rows_at_once_, row += rows_at_once_) {
      float sum[kRows] = {};
      for (int start = slice_start_; start < slice_end_; start += kGroup) {
        const Place next = start + kGroup < slice_end_ ? place_of(row, start + kGroup)
                                                       : place_of(row + rows_at_once_, slice_start_);
#pragma unroll
        for (int slot = 0; slot < kAhead; ++slot) {
          if (start + 32 * slot < slice_end_) {
            const int piece = start + 32 * slot + lane;
            const typename P::Input input = P::read(x, piece);
#pragma unroll
            for (int r = 0; r < kRows; ++r) sum[r] += ahead_[slot][r].dot(input);
          }
          load(next, slot);
        }
      }
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        sum[r] = warp_sum(sum[r]);
        if (lane == 0 && row + r < end_) sums[row + r] = sum[r];
      }
    }
  }

 private:
  // A lane's first piece of a group in each row, counted through the matrix; how many pieces there
  // are from it to the slice's end.
  struct Place {
    unsigned piece[kRows];
    int left;
  };

  // Beyond the last row that one is read again.
  __device__ __forceinline__ Place place_of(int row, int start) const {
    const int piece = start + int(threadIdx.x) % 32;
    Place place;
    place.piece[0] = unsigned(row) * unsigned(n_pieces_) + unsigned(piece);
#pragma unroll
    for (int r = 1; r < kRows; ++r) {
      place.piece[r] = place.piece[r - 1] + (row + r < end_ ? unsigned(n_pieces_) : 0U);
    }
    place.left = row < end_ ? slice_end_ - piece : 0;
    return place;
  }

  // Beyond the row's end an older piece stays: the input is 0 there.
  __device__ __forceinline__ void load(const Place& place, int slot) {
    if (32 * slot >= place.left) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) ahead_[slot][r].load(m_, place.piece[r], 32 * slot);
  }

  const DeviceMatrix& m_;
  const int first_, end_, n_pieces_, rows_at_once_;
  int slice_, slice_start_, slice_end_, first_row_;
  P ahead_[kAhead][kRows];
};

// As RowStream, for matrices of twins: of each group of 64 units a lane has two that are neighbours, so
// that one load brings the scales of both and one address serves all of the input.
template <WeightFormat kFormat>
class TwinStream {
  using P = Piece<kFormat>;
  static constexpr bool kIsQ6K = kFormat == WeightFormat::kQ6_K;
  static constexpr int kRows = P::kRows;
  static constexpr int kPlane = kTwinUnits * 16, kGroupBytes = 3 * kPlane;  // of the input

 public:
  __device__ __forceinline__ TwinStream(const DeviceMatrix& m, int first, int end, int slice_bits)
      : m_(m), first_(first), end_(end), n_groups_(m.n_units() / kTwinUnits),
        rows_at_once_(kRows * kWarps >> slice_bits) {
    const int warp = uniform_warp();
    slice_ = warp >> (kWarpBits - slice_bits);
    first_group_ = n_groups_ * slice_ >> slice_bits;
    end_group_ = n_groups_ * (slice_ + 1) >> slice_bits;
    first_row_ = first + (kRows * warp & (rows_at_once_ - 1));
  }

  __device__ __forceinline__ void prime() {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      scales_[r] = {};
#pragma unroll
      for (int slot = 0; slot < 2; ++slot) pieces_[slot][r] = {};
    }
    if (first_group_ == end_group_) return;
    const Place place = place_of(first_row_, first_group_);
    load_scales(place);
    load_codes(place, 0);
    load_codes(place, 1);
  }

  // The input to shared memory. Groups of 64 units: of each the planes one after another, in these the
  // even units before the odd ones.
  __device__ __forceinline__ static void copy(const ProductInput& x, uint8_t* to) {
    const RoundedPlanes from(x.rounded, x.n_units);
#pragma unroll 1
    for (int unit = int(threadIdx.x); unit < x.n_units; unit += kThreads) {
      const int4 low = __ldcg(from.low + unit), high = __ldcg(from.high + unit);
      const float4 scales = prepared(__ldcg(from.scales + unit));
      const int in_group = unit % kTwinUnits;
      uint8_t* at = to + unit / kTwinUnits * kGroupBytes + in_group % 2 * (kPlane / 2) +
                    in_group / 2 * 16;
      *reinterpret_cast<int4*>(at) = low;
      *reinterpret_cast<int4*>(at + kPlane) = high;
      *reinterpret_cast<float4*>(at + 2 * kPlane) = scales;
    }
  }

  __device__ __forceinline__ void run(const uint8_t* x, int /*n_units*/, float* sums) {
    const int lane = int(threadIdx.x) % 32, n_rows = end_ - first_;
    sums += slice_ * n_rows - first_;
    x += first_group_ * kGroupBytes + lane * 16;
    // In a register: as a constant it takes the place of byte_less's selectors, each of which then is
    // moved to a register. The compiler does not see through a shuffle.
    two_to_23_ = Unit<kFormat>::kTwoTo23 + (__shfl_xor_sync(~0U, threadIdx.x, 1) >> 16);
    int row = first_row_;
#pragma unroll 1
    for (int left = n_rows; left > 0; left -= rows_at_once_, row += rows_at_once_) {
      float sum[kRows] = {};
      const uint8_t* at = x;
#pragma unroll 1
      for (int group = first_group_; group < end_group_; ++group, at += kGroupBytes) {
        const bool is_last = group + 1 == end_group_;
        const Place next = place_of(is_last ? row + rows_at_once_ : row,
                                    is_last ? first_group_ : group + 1);
        Scales now[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) now[r] = scales_[r];
        load_scales(next);
        float2 of_units[kRows];
#pragma unroll
        for (int slot = 0; slot < 2; ++slot) {
          const typename P::Input input = read(at, slot);
#pragma unroll
          for (int r = 0; r < kRows; ++r) add_unit(input, slot, r, now[r], of_units[r]);
          load_codes(next, slot);
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r) sum[r] = add_twins(of_units[r], now[r], sum[r]);
      }
      static_assert(kRows == 2);
      const float both = sum_of_rows(sum[0], sum[1]);
      const int of = row + lane / 16;
      if (lane % 16 == 0 && of < end_) sums[of] = both;
    }
  }

 private:
  // Of a lane's two units.
  struct Scales {
    unsigned of_units, super;  // as many of super's bytes as the format has
  };
  // Of a group, in each row, counted through the matrix: the lane's twins, and its first codes.
  struct Place {
    unsigned twins[kRows], codes[kRows];
    bool exists;
  };

  // Beyond the last row that one is read again.
  __device__ __forceinline__ Place place_of(int row, int group) const {
    const unsigned lane = threadIdx.x % 32;
    Place place;
    place.twins[0] = unsigned(row * n_groups_ + group) * 32 + lane;
    place.twins[1] = place.twins[0] + (row + 1 < end_ ? unsigned(n_groups_) * 32 : 0U);
#pragma unroll
    for (int r = 0; r < kRows; ++r) place.codes[r] = 2 * place.twins[r] - lane;
    place.exists = row < end_;
    return place;
  }

  __device__ __forceinline__ void load_scales(const Place& place) {
    if (!place.exists) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      const unsigned super = place.twins[r] / (kSuperUnits / 2);
      scales_[r].of_units = __ldg(reinterpret_cast<const unsigned*>(m_.scales) + place.twins[r]);
      scales_[r].super = kIsQ6K ? __ldg(reinterpret_cast<const unsigned short*>(m_.supers) + super)
                                : __ldg(reinterpret_cast<const unsigned*>(m_.supers) + super);
    }
  }
  __device__ __forceinline__ void load_codes(const Place& place, int slot) {
    if (!place.exists) return;
#pragma unroll
    for (int r = 0; r < kRows; ++r) pieces_[slot][r].unit.load_codes(m_, place.codes[r], 32 * slot);
  }

  // The scales as add_unit takes them. Q6_K: of each half, and what its offset takes off; else both
  // halves', and the sum of the values.
  __device__ __forceinline__ static float4 prepared(float4 s) {
    if constexpr (kIsQ6K) return {s.x, -32 * s.y, s.z, -32 * s.w};
    return {s.x, s.y + s.w, P::kOfSecond * s.z, 0};
  }
  __device__ __forceinline__ static typename P::Input read(const uint8_t* at, int slot) {
    at += slot * (kPlane / 2);
    return {*reinterpret_cast<const int4*>(at), *reinterpret_cast<const int4*>(at + kPlane),
            *reinterpret_cast<const float4*>(at + 2 * kPlane)};
  }

  // To the sums of twins, their supers left out. x: of d. y: of m; not for Q6_K.
  __device__ __forceinline__ void add_unit(const typename P::Input& x, int slot, int r,
                                           const Scales& scales, float2& sum) const {
    constexpr float kOffset = kIsQ6K ? 128 : 0;
    const int2 n = pieces_[slot][r].halves(x);
    const auto byte = [&](int i) {
      return Unit<kFormat>::byte_less(scales.of_units, i, kOffset, two_to_23_);
    };
    const float first = byte(2 * slot), second = byte(2 * slot + 1);
    if constexpr (kIsQ6K) {
      const float a = fmaf(x.scales.x, float(n.x), x.scales.y);
      const float b = fmaf(x.scales.z, float(n.y), x.scales.w);
      sum.x = fmaf(second, b, slot == 0 ? first * a : fmaf(first, a, sum.x));
    } else {
      const float both = fmaf(x.scales.x, float(n.x), x.scales.z * float(n.y));
      sum.x = slot == 0 ? first * both : fmaf(first, both, sum.x);
      sum.y = slot == 0 ? second * x.scales.y : fmaf(second, x.scales.y, sum.y);
    }
  }
  __device__ __forceinline__ static float add_twins(float2 of_units, const Scales& scales, float sum) {
    if constexpr (kIsQ6K) {
      const float d = __half2float(__ushort_as_half(static_cast<unsigned short>(scales.super)));
      return fmaf(d, of_units.x, sum);
    } else {
      const float2 dm = __half22float2(reinterpret_cast<const __half2&>(scales.super));
      return fmaf(-dm.y, of_units.y, fmaf(dm.x, of_units.x, sum));
    }
  }

  const DeviceMatrix& m_;
  const int first_, end_, n_groups_, rows_at_once_;
  int slice_, first_group_, end_group_, first_row_;
  unsigned two_to_23_;
  Scales scales_[kRows];
  P pieces_[2][kRows];
};

// --- what becomes of the sums -------------------------------------------------------------------

// Unrolled loops and the library's exp and division would be a third of the kernel's code, which
// every SM fetches anew for every product.
__device__ __forceinline__ float silu(float x) { return __fdividef(x, 1.0F + __expf(-x)); }

// Beside a row's sum, what its result is made of.
struct Operands {
  float bias = 0, norm = 1, old = 0;

  __device__ __forceinline__ void fetch_weights(const MatvecParams& p, const MatvecPart& part, int i) {
    if (part.bias != nullptr) bias = __ldg(part.bias + i);
    if (p.next_norm != nullptr) norm = __ldg(p.next_norm + i);
  }
  // From L2: the line's other values are other SMs'.
  __device__ __forceinline__ void fetch_old(const MatvecParams& p, const MatvecPart& part, int i) {
    if (p.out == MatvecOut::kAdd || p.out == MatvecOut::kGateWith) old = __ldcg(part.out + i);
  }
};

// Of a CTA's rows: what the slices of each have summed.
struct Sums {
  const float* of_slices;  // [n_slices][n_rows]
  int n_slices, n_rows;
  float factor;

  __device__ __forceinline__ float of(int row) const {
    float sum = 0;
#pragma unroll 1
    for (int slice = 0; slice < n_slices; ++slice) sum += of_slices[slice * n_rows + row];
    return sum * factor;
  }
};

__device__ __forceinline__ float result_of(MatvecOut out, const Operands& with, const Sums& sums,
                                           int i) {
  const bool pairs = out == MatvecOut::kGatePairs;
  float gate = with.old, y = 0;
#pragma unroll 1
  for (int of = pairs ? 2 * i : i; of <= (pairs ? 2 * i + 1 : i); ++of) {
    if (pairs) gate = y;
    y = sums.of(of);
  }
  y += with.bias;
  if (out == MatvecOut::kStore) return y;
  return out == MatvecOut::kAdd ? with.old + y : silu(gate) * y;
}

// --- the kernel ---------------------------------------------------------------------------------

// Which CTAs have which part, and how they share its rows: in granules, of which the first n_longer
// CTAs have one more than the others.
struct Split {
  int first_cta[MatvecParams::kMaxParts + 1];
  int granules[MatvecParams::kMaxParts], n_longer[MatvecParams::kMaxParts];
  int granule;     // rows
  int slice_bits;  // of the number of a row's slices
};

// Part i's rows of this CTA.
template <WeightFormat kFormat, bool kTwins>
__device__ __forceinline__ void multiply_share(const MatvecParams& p, const Split& split, int i_part,
                                               uint8_t* shared) {
  using P = Piece<kFormat>;
  const int thread = int(threadIdx.x);
  const MatvecPart& part = p.parts[i_part];
  const DeviceMatrix matrix = part.matrix;  // in registers: which part it is, is not known before
  const int rank = int(blockIdx.x) - split.first_cta[i_part];
  const int granules = split.granules[i_part], n_longer = split.n_longer[i_part];
  const int first = (rank * granules + min(rank, n_longer)) * split.granule;
  const int end =
      min(matrix.n_rows, first + (granules + (rank < n_longer ? 1 : 0)) * split.granule);
  const int n_bytes = int(is_float(kFormat) ? ProductInput::floats_bytes(p.x.n_units)
                                            : ProductInput::rounded_bytes(p.x.n_units));
  float* sums = reinterpret_cast<float*>(shared + n_bytes);
  __shared__ float shared_factor;
  const bool pairs = p.out == MatvecOut::kGatePairs;
  const int first_out = pairs ? first / 2 : first, n_out = pairs ? (end - first) / 2 : end - first;

  using Rows = std::conditional_t<kTwins, TwinStream<kFormat>, RowStream<kFormat>>;
  Rows rows(matrix, first, end, split.slice_bits);
  let_next_start();
  rows.prime();
  Operands mine;
  if (thread < n_out) mine.fetch_weights(p, part, first_out + thread);
  wait_for_previous();
  if (thread < n_out) mine.fetch_old(p, part, first_out + thread);
  if (thread >= kThreads - 32) {
    const float factor =
        p.x.squares == nullptr ? 1.0F : norm_factor(p.x, p.norm_eps, matrix.n_cols);
    if (thread == kThreads - 1) shared_factor = factor;
  }
  Rows::copy(p.x, shared);
  __syncthreads();
  rows.run(shared, p.x.n_units, sums);
  __syncthreads();
  const bool leaves = p.next.n_units > 0;
#pragma unroll 1
  for (int i = thread; i < n_out; i += kThreads) {
    if (i != thread) {
      mine.fetch_weights(p, part, first_out + i);
      mine.fetch_old(p, part, first_out + i);
    }
    const float y =
        result_of(p.out, mine, {sums, 1 << split.slice_bits, end - first, shared_factor}, i);
    if (part.out != nullptr) part.out[first_out + i] = y;
    if (leaves) leave_value(p.next, first_out + i, y, y * mine.norm);
  }
}

// Each CTA has rows of one part, which is of format kA or kB. grid: any.
template <WeightFormat kA, WeightFormat kB, bool kTwins>
__global__ void __launch_bounds__(kThreads, 2)
    matvec_kernel(const __grid_constant__ MatvecParams p, const __grid_constant__ Split split) {
  extern __shared__ __align__(16) uint8_t shared[];
  int i = 0;
  while (i + 1 < p.n_parts && int(blockIdx.x) >= split.first_cta[i + 1]) ++i;
  if constexpr (kA != kB) {
    if (p.parts[i].matrix.format == kB) {
      multiply_share<kB, kTwins>(p, split, i, shared);
      return;
    }
  }
  multiply_share<kA, kTwins>(p, split, i, shared);
}

__global__ void leave_input_kernel(const float* x, const float* norm_weight, int n,
                                   const ProductInput to) {
  wait_for_previous();
  let_next_start();
  const int i = int(blockIdx.x) * kThreads + int(threadIdx.x);
  if (i >= n) return;
  const float v = x[i];
  leave_value(to, i, v, norm_weight == nullptr ? v : v * norm_weight[i]);
}

// --- launch -------------------------------------------------------------------------------------

using Kernel = void (*)(MatvecParams, Split);

// The kernels there are: one for each format, and those of the mixtures that are common. twins: for
// matrices that have them.
Kernel find_kernel(WeightFormat a, WeightFormat b, bool twins) {
  using enum WeightFormat;
  if (twins) {
    if (a == kQ4_K && b == kQ6_K) return matvec_kernel<kQ4_K, kQ6_K, true>;
    if (a == kQ4_K && b == kQ4_K) return matvec_kernel<kQ4_K, kQ4_K, true>;
    if (a == kQ6_K && b == kQ6_K) return matvec_kernel<kQ6_K, kQ6_K, true>;
    return nullptr;
  }
  if (a == kQ4_K && b == kQ6_K) return matvec_kernel<kQ4_K, kQ6_K, false>;
  if (a == kQ5_0 && b == kQ8_0) return matvec_kernel<kQ5_0, kQ8_0, false>;
  if (a != b) return nullptr;
  switch (a) {
    case kF32: return matvec_kernel<kF32, kF32, false>;
    case kF16: return matvec_kernel<kF16, kF16, false>;
    case kBf16: return matvec_kernel<kBf16, kBf16, false>;
    case kQ8_0: return matvec_kernel<kQ8_0, kQ8_0, false>;
    case kQ4_0: return matvec_kernel<kQ4_0, kQ4_0, false>;
    case kQ4_1: return matvec_kernel<kQ4_1, kQ4_1, false>;
    case kQ5_0: return matvec_kernel<kQ5_0, kQ5_0, false>;
    case kQ5_1: return matvec_kernel<kQ5_1, kQ5_1, false>;
    case kQ4_K: return matvec_kernel<kQ4_K, kQ4_K, false>;
    case kQ5_K: return matvec_kernel<kQ5_K, kQ5_K, false>;
    case kQ6_K: return matvec_kernel<kQ6_K, kQ6_K, false>;
  }
  return nullptr;
}

// The parts from `first` on that one launch can take: a run of one format, and where there is a
// kernel for both, a run of another.
struct Runs {
  int end;
  WeightFormat a, b;
};
Runs find_runs(const MatvecParams& p, int first) {
  const auto format = [&](int i) { return p.parts[i].matrix.format; };
  const bool twins = p.parts[first].matrix.has_twins();
  Runs runs{first + 1, format(first), format(first)};
  while (runs.end < p.n_parts && format(runs.end) == runs.a) ++runs.end;
  if (runs.end < p.n_parts && find_kernel(runs.a, format(runs.end), twins) != nullptr) {
    runs.b = format(runs.end);
    while (runs.end < p.n_parts && format(runs.end) == runs.b) ++runs.end;
  }
  return runs;
}

// CTAs by the parts' bytes, one at least. *n_sums: the most rows that one has, times their slices.
Split split_ctas(const MatvecParams& p, int n_ctas, int* n_sums) {
  Split split{};
  split.granule = p.out == MatvecOut::kGatePairs ? 2 : 1;
  if (p.next.n_units > 0) split.granule = p.out == MatvecOut::kGatePairs ? 2 * kSixteen : kSixteen;
  double bytes = 0, before = 0;
  for (int i = 0; i < p.n_parts; ++i) bytes += double(p.parts[i].matrix.bytes());
  int most = 0;
  for (int i = 0; i < p.n_parts; ++i) {
    before += double(p.parts[i].matrix.bytes());
    const int first = split.first_cta[i], left = p.n_parts - 1 - i;
    const int end = std::clamp(int(before / bytes * n_ctas + 0.5), first + 1, n_ctas - left);
    split.first_cta[i + 1] = end;
    const int granules = (p.parts[i].matrix.n_rows + split.granule - 1) / split.granule;
    split.granules[i] = granules / (end - first);
    split.n_longer[i] = granules % (end - first);
    most = std::max(most, (split.granules[i] + (split.n_longer[i] > 0 ? 1 : 0)) * split.granule);
  }
  const int at_once = kWarps * (is_float(p.parts[0].matrix.format) ? 1 : 2);
  split.slice_bits = most > at_once / 2 ? 0 : most > at_once / 4 ? 1 : 2;
  *n_sums = most << split.slice_bits;
  return split;
}

}  // namespace

cudaError_t launch_matvec(const MatvecParams& p, int n_ctas, bool early, cudaStream_t stream) {
  for (int first = 0; first < p.n_parts;) {
    const Runs runs = find_runs(p, first);
    MatvecParams some = p;
    some.n_parts = runs.end - first;
    std::copy(p.parts + first, p.parts + runs.end, some.parts);
    n_ctas = std::max(n_ctas, some.n_parts);
    int n_sums = 0;
    const Split split = split_ctas(some, n_ctas, &n_sums);
    const size_t input = is_float(runs.a) ? ProductInput::floats_bytes(p.x.n_units)
                                          : ProductInput::rounded_bytes(p.x.n_units);
    const size_t shared = input + size_t(n_sums) * sizeof(float);
    const Kernel kernel = find_kernel(runs.a, runs.b, p.parts[first].matrix.has_twins());
    if (shared > kPlainSharedBytes) {
      const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
      if (error != cudaSuccess) return error;
    }
    const cudaError_t error =
        launch(kernel, {unsigned(n_ctas), kThreads, shared, 1, early}, stream, some, split);
    if (error != cudaSuccess) return error;
    first = runs.end;
  }
  return cudaSuccess;
}

cudaError_t launch_leave_input(const float* x, const float* norm_weight, int n,
                               const ProductInput& to, bool early, cudaStream_t stream) {
  return launch(leave_input_kernel, {unsigned((n + kThreads - 1) / kThreads), kThreads, 0, 1, early},
                stream, x, norm_weight, n, to);
}

}  // namespace scholia::cuda
