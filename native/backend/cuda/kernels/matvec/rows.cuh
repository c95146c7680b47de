// The rows that a warp multiplies with the input, on their way from memory.
#pragma once

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/matvec/piece.cuh"

namespace scholia::cuda::matvec {

inline constexpr int kThreads = 512;
inline constexpr int kWarps = kThreads / 32, kWarpBits = 4;
static_assert(kWarps == 1 << kWarpBits);

// To shared memory, byte for byte.
__device__ inline void copy_input(const void* from, uint8_t* to, int n_bytes) {
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

}  // namespace scholia::cuda::matvec
