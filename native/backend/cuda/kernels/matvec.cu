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
  for (int i = int(threadIdx.x) % 32; i < x.n_units; i += 32) {
    const float2 two = __ldcg(reinterpret_cast<const float2*>(x.squares) + i);
    squares += two.x + two.y;
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
    if constexpr (kIsFourBits) {
      // The second 16 weights' bits stay where they are: 16 times too much.
      const int first = dot_16(unit.codes, 0x0f0f0f0fU, x.low);
      const int second = dot_16(unit.codes, 0xf0f0f0f0U, x.high);
      const float2 dm = unit.d_and_m();
      const float sum = fmaf(x.scales.x, float(first), (0.0625F * x.scales.z) * float(second));
      return fmaf(dm.x, sum, dm.y * (x.scales.y + x.scales.w));
    }
    int first = __dp4a(unit.word(0), x.low.x, 0), second = __dp4a(unit.word(4), x.high.x, 0);
    first = __dp4a(unit.word(1), x.low.y, first);
    second = __dp4a(unit.word(5), x.high.y, second);
    first = __dp4a(unit.word(2), x.low.z, first);
    second = __dp4a(unit.word(6), x.high.z, second);
    first = __dp4a(unit.word(3), x.low.w, first);
    second = __dp4a(unit.word(7), x.high.w, second);
    const float a = x.scales.x * float(first), b = x.scales.z * float(second);
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

 private:
  static constexpr bool kIsFourBits = kFormat == WeightFormat::kQ4_0 ||
                                      kFormat == WeightFormat::kQ4_1 ||
                                      kFormat == WeightFormat::kQ4_K;

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

  // sums [n_slices][end - first], shared. All warps go through as many rounds.
  __device__ __forceinline__ void run(const typename P::Planes& x, float* sums) {
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

// --- what becomes of the sums -------------------------------------------------------------------

__device__ __forceinline__ float silu(float x) { return x / (1.0F + expf(-x)); }

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
    for (int slice = 0; slice < n_slices; ++slice) sum += of_slices[slice * n_rows + row];
    return sum * factor;
  }
};

__device__ __forceinline__ float result_of(MatvecOut out, const Operands& with, const Sums& sums,
                                           int i) {
  if (out == MatvecOut::kGatePairs) return silu(sums.of(2 * i)) * sums.of(2 * i + 1);
  const float y = sums.of(i) + with.bias;
  if (out == MatvecOut::kAdd) return with.old + y;
  if (out == MatvecOut::kGateWith) return silu(with.old) * y;
  return y;
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
template <WeightFormat kFormat>
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

  RowStream<kFormat> rows(matrix, first, end, split.slice_bits);
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
  if constexpr (is_float(kFormat)) {
    copy_input(p.x.floats, shared, n_bytes);
  } else {
    copy_input(p.x.rounded, shared, n_bytes);
  }
  __syncthreads();
  rows.run(typename P::Planes(shared, p.x.n_units), sums);
  __syncthreads();
  const bool leaves = p.next.n_units > 0;
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
template <WeightFormat kA, WeightFormat kB>
__global__ void __launch_bounds__(kThreads, 2)
    matvec_kernel(const __grid_constant__ MatvecParams p, const __grid_constant__ Split split) {
  extern __shared__ __align__(16) uint8_t shared[];
  int i = 0;
  while (i + 1 < p.n_parts && int(blockIdx.x) >= split.first_cta[i + 1]) ++i;
  if constexpr (kA != kB) {
    if (p.parts[i].matrix.format == kB) {
      multiply_share<kB>(p, split, i, shared);
      return;
    }
  }
  multiply_share<kA>(p, split, i, shared);
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

// The kernels there are: one for each format, and those of the mixtures that are common.
Kernel find_kernel(WeightFormat a, WeightFormat b) {
  using enum WeightFormat;
  if (a == kQ4_K && b == kQ6_K) return matvec_kernel<kQ4_K, kQ6_K>;
  if (a == kQ5_0 && b == kQ8_0) return matvec_kernel<kQ5_0, kQ8_0>;
  if (a != b) return nullptr;
  switch (a) {
    case kF32: return matvec_kernel<kF32, kF32>;
    case kF16: return matvec_kernel<kF16, kF16>;
    case kBf16: return matvec_kernel<kBf16, kBf16>;
    case kQ8_0: return matvec_kernel<kQ8_0, kQ8_0>;
    case kQ4_0: return matvec_kernel<kQ4_0, kQ4_0>;
    case kQ4_1: return matvec_kernel<kQ4_1, kQ4_1>;
    case kQ5_0: return matvec_kernel<kQ5_0, kQ5_0>;
    case kQ5_1: return matvec_kernel<kQ5_1, kQ5_1>;
    case kQ4_K: return matvec_kernel<kQ4_K, kQ4_K>;
    case kQ5_K: return matvec_kernel<kQ5_K, kQ5_K>;
    case kQ6_K: return matvec_kernel<kQ6_K, kQ6_K>;
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
  Runs runs{first + 1, format(first), format(first)};
  while (runs.end < p.n_parts && format(runs.end) == runs.a) ++runs.end;
  if (runs.end < p.n_parts && find_kernel(runs.a, format(runs.end)) != nullptr) {
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
    const Kernel kernel = find_kernel(runs.a, runs.b);
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
