#include <cuda_bf16.h>

#include <type_traits>

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/matvec.cuh"
#include "backend/cuda/kernels/unit.cuh"

namespace scholia::cuda {
namespace {

constexpr int kThreads = 512;
constexpr int kWarps = kThreads / 32;
constexpr size_t kPlainSharedBytes = 48 << 10;  // more must be asked for
// Pieces that a lane fetches of each row at a time. 1, 3 and 4 were slower (docs/benchmarks_cuda.md).
constexpr int kPiecesAhead = 2;
constexpr int kHeld = 4;  // float4s of the input that a thread has on the way or keeps at a time

// A rounded unit's scale, and the sums of its first and second 16 integers.
struct UnitMeta {
  float d;
  short sum[2];
};

// The input in shared memory. Integers in two planes, the first and the second 16 of each unit, and
// floats in two planes, the first and the second 4 of each 8, so that lanes read side by side.
struct Input {
  int4 *low, *high;  // [n_units]
  UnitMeta* meta;    // [n_units]
  float4 *even, *odd;  // [n_cols / 8]

  static __host__ __device__ size_t bytes(int n_cols, bool rounded, bool floats) {
    const size_t n_units = size_t(n_cols) / 32;
    return (rounded ? n_units * 32 + meta_bytes(n_units) : 0) + (floats ? size_t(n_cols) * 4 : 0);
  }
  // What follows them is aligned to 16 bytes.
  static __host__ __device__ size_t meta_bytes(size_t n_units) {
    return (n_units * sizeof(UnitMeta) + 15) / 16 * 16;
  }
  __device__ Input(uint8_t* shared, int n_cols, bool rounded) {
    const int n_units = n_cols / 32;
    low = reinterpret_cast<int4*>(shared);
    high = low + n_units;
    meta = reinterpret_cast<UnitMeta*>(high + n_units);
    uint8_t* after_meta = reinterpret_cast<uint8_t*>(meta) + meta_bytes(size_t(n_units));
    even = reinterpret_cast<float4*>(rounded ? after_meta : shared);
    odd = even + n_cols / 8;
  }
};

__device__ float block_sum(float x) {
  __shared__ float parts[kWarps];
  x = warp_sum(x);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = x;
  __syncthreads();
  float sum = 0;
#pragma unroll
  for (int w = 0; w < kWarps; ++w) sum += parts[w];
  return sum;
}

// Rounds 4 of a unit's 32 values; the other 28 are the 7 neighbouring lanes'.
__device__ void round_unit(float4 v, int at, const Input& input) {
  float most = fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w)));
#pragma unroll
  for (int lanes = 4; lanes > 0; lanes /= 2) {
    most = fmaxf(most, __shfl_xor_sync(~0U, most, lanes));
  }
  const float d = most / 127.0F;
  const float inverse = most > 0 ? 127.0F / most : 0.0F;
  const int q[4] = {__float2int_rn(v.x * inverse), __float2int_rn(v.y * inverse),
                    __float2int_rn(v.z * inverse), __float2int_rn(v.w * inverse)};
  int sum = q[0] + q[1] + q[2] + q[3];
  sum += __shfl_xor_sync(~0U, sum, 1);
  sum += __shfl_xor_sync(~0U, sum, 2);
  if (at < 0) return;
  const int unit = at / 8, quarter = at % 8;
  const int packed = (q[0] & 255) | (q[1] & 255) << 8 | (q[2] & 255) << 16 | q[3] << 24;
  reinterpret_cast<int*>((quarter < 4 ? input.low : input.high) + unit)[quarter % 4] = packed;
  if (quarter % 4 == 0) input.meta[unit].sum[quarter / 4] = short(sum);
  if (quarter == 0) input.meta[unit].d = d;
}

// x, normalised if asked for, to shared memory in the forms wanted.
__device__ void prepare_input(const MatvecParams& p, int n_cols, const Input& input, bool rounded,
                              bool floats) {
  const int n4 = n_cols / 4;
  const auto* x4 = reinterpret_cast<const float4*>(p.x);
  const auto* weight4 = reinterpret_cast<const float4*>(p.norm_weight);
  const bool normalises = p.norm_weight != nullptr;
  constexpr int kRound = kHeld * kThreads;
  // A round's values are all on the way before the first is used.
  float4 held[kHeld];
  const auto fetch = [&](int first) {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      const int at = first + j * kThreads + int(threadIdx.x);
      held[j] = at < n4 ? __ldcg(x4 + at) : float4{0, 0, 0, 0};
    }
  };
  fetch(0);
  float factor = 1;
  if (normalises) {
    float squares = 0;
    for (int first = 0;;) {
#pragma unroll
      for (const float4& v : held) squares += v.x * v.x + v.y * v.y + v.z * v.z + v.w * v.w;
      if ((first += kRound) >= n4) break;
      fetch(first);
    }
    factor = 1.0F / sqrtf(block_sum(squares) / float(n_cols) + p.norm_eps);
    if (n4 > kRound) fetch(0);
  }
  for (int first = 0;;) {
#pragma unroll
    for (int j = 0; j < kHeld; ++j) {
      // All lanes of a warp stay together: rounding goes over 8 of them.
      if (first + j * kThreads + int(threadIdx.x) / 32 * 32 >= n4) break;
      const int at = first + j * kThreads + int(threadIdx.x);
      float4 v = held[j];
      if (normalises && at < n4) {
        const float4 w = __ldg(weight4 + at);
        v = {v.x * factor * w.x, v.y * factor * w.y, v.z * factor * w.z, v.w * factor * w.w};
      }
      if (floats && at < n4) (at % 2 == 0 ? input.even : input.odd)[at / 2] = v;
      if (rounded) round_unit(v, at < n4 ? at : -1, input);
    }
    if ((first += kRound) >= n4) break;
    fetch(first);
  }
  __syncthreads();
}

// --- a pair of rows, one warp ---------------------------------------------------------------

template <WeightFormat kFormat>
__device__ float unit_dot(const Unit<kFormat>& u, int unit, const int x[8], const UnitMeta& meta) {
  int first = 0, second = 0;
#pragma unroll
  for (int w = 0; w < 4; ++w) {
    first = __dp4a(u.word(w), x[w], first);
    second = __dp4a(u.word(w + 4), x[w + 4], second);
  }
  if constexpr (kFormat == WeightFormat::kQ6_K) {
    const float2 d = u.halves_d();
    return meta.d * (d.x * float(first - 32 * meta.sum[0]) + d.y * float(second - 32 * meta.sum[1]));
  } else if constexpr (kFormat == WeightFormat::kQ8_0) {
    return meta.d * u.d_and_m(unit).x * float(first + second);
  } else {
    const float2 dm = u.d_and_m(unit);
    return meta.d * (dm.x * float(first + second) + dm.y * float(meta.sum[0] + meta.sum[1]));
  }
}

// --- a stream of pairs of rows, one warp ------------------------------------------------------

__device__ void widen(WeightFormat format, const uint4& raw, float w[8]) {
  const unsigned words[4] = {raw.x, raw.y, raw.z, raw.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    if (format == WeightFormat::kF16) {
      const float2 two = __half22float2(reinterpret_cast<const __half2&>(words[i]));
      w[2 * i] = two.x;
      w[2 * i + 1] = two.y;
    } else {
      w[2 * i] = __uint_as_float(words[i] << 16);
      w[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000U);
    }
  }
}

// 8 weights of a float row.
template <WeightFormat kFormat>
struct Eight {
  uint4 raw[kFormat == WeightFormat::kF32 ? 2 : 1];

  // index: row * (n_cols / 8) + eight.
  __device__ __forceinline__ void load(const DeviceMatrix& m, size_t index) {
#pragma unroll
    for (size_t i = 0; i < sizeof raw / sizeof raw[0]; ++i) {
      raw[i] = load_streamed(m.codes + index * sizeof raw + 16 * i);
    }
  }
  __device__ __forceinline__ float dot(int eight, const Input& input) const {
    const float4 a = input.even[eight], b = input.odd[eight];
    float w[8];
    if constexpr (kFormat == WeightFormat::kF32) {
      reinterpret_cast<uint4*>(w)[0] = raw[0];
      reinterpret_cast<uint4*>(w)[1] = raw[1];
    } else {
      widen(kFormat, raw[0], w);
    }
    const float first = fmaf(w[0], a.x, fmaf(w[1], a.y, fmaf(w[2], a.z, w[3] * a.w)));
    return fmaf(w[4], b.x, fmaf(w[5], b.y, fmaf(w[6], b.z, fmaf(w[7], b.w, first))));
  }
};

// 32 weights of a quantised row.
template <WeightFormat kFormat>
struct ThirtyTwo {
  Unit<kFormat> unit;

  __device__ __forceinline__ void load(const DeviceMatrix& m, size_t index) { unit.load(m, index); }
  __device__ __forceinline__ float dot(int at, const Input& input) const {
    const int4 low = input.low[at], high = input.high[at];
    const int x[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
    return unit_dot<kFormat>(unit, at, x, input.meta[at]);
  }
};

// Where a warp is: a pair of rows of one of the parts, and how far along them.
struct Place {
  const MatvecPart* part;
  int pair;        // of the run
  int row0, row1;  // of the part; the same where a matrix has an odd last row
  int step;
};

__device__ float silu(float x) { return x / (1.0F + expf(-x)); }

__device__ void write_row(const MatvecPart& part, MatvecOut out, int row, float y) {
  if (part.bias != nullptr) y += part.bias[row];
  if (out == MatvecOut::kStore) part.out[row] = y;
  // From L2: the line's other rows are other SMs'.
  if (out == MatvecOut::kAdd) part.out[row] = __ldcg(part.out + row) + y;
  if (out == MatvecOut::kGateWith) part.out[row] = silu(__ldcg(part.out + row)) * y;
}

// What a warp has summed of two rows; lane 0 writes.
__device__ void write_pair(const MatvecParams& p, const Place& place, float y0, float y1) {
  if (threadIdx.x % 32 != 0) return;
  if (p.out == MatvecOut::kGatePairs) {
    place.part->out[place.row0 / 2] = silu(y0) * y1;
    return;
  }
  write_row(*place.part, p.out, place.row0, y0);
  if (place.row1 > place.row0) write_row(*place.part, p.out, place.row1, y1);
}

// Reads the pairs [first, end) of the parts [part, end_part), all of one format, from the first on
// in steps of kWarps, and always has the next pieces on the way while it computes with the last.
template <WeightFormat kFormat>
class PairStream {
 public:
  __device__ PairStream(const MatvecParams& p, int part, int end_part, int first, int end)
      : p_(p), part_(part), end_part_(end_part), end_(end), n_pieces_(p.parts[part].matrix.n_cols /
                                                                      kPieceWeights) {
    next_.pair = first + int(threadIdx.x) / 32;
    find_rows();
  }

  // Fetches the first pieces: weights are nobody's output, so this need not wait.
  __device__ __forceinline__ void prime() {
    load(ahead_[0]);
    load(ahead_[1]);
  }

  __device__ __forceinline__ void run(const Input& input) {
    float2 sum{0, 0};
    while (is_loaded_[0]) {
      use(ahead_[0], input, sum);
      load(ahead_[0]);
      if (!is_loaded_[1]) break;
      use(ahead_[1], input, sum);
      load(ahead_[1]);
    }
  }

 private:
  using Piece = std::conditional_t<is_float(kFormat), Eight<kFormat>, ThirtyTwo<kFormat>>;
  static constexpr int kPieceWeights = is_float(kFormat) ? 8 : 32;
  static constexpr int kAhead = kFormat == WeightFormat::kF32 || kFormat == WeightFormat::kQ8_0
                                    ? 1
                                    : kPiecesAhead;
  struct Batch {
    Piece a[kAhead], b[kAhead];
    Place place;
  };

  __device__ __forceinline__ void find_rows() {
    int part = part_, row = 2 * next_.pair;
    while (part + 1 < end_part_ && row >= ((p_.parts[part].matrix.n_rows + 1) & ~1)) {
      row -= (p_.parts[part++].matrix.n_rows + 1) & ~1;
    }
    next_.part = &p_.parts[part];
    next_.row0 = row;
    next_.row1 = min(row + 1, next_.part->matrix.n_rows - 1);
    next_.step = 0;
  }

  __device__ __forceinline__ void load(Batch& batch) {
    const int slot = &batch == &ahead_[1];
    is_loaded_[slot] = next_.pair < end_;
    if (!is_loaded_[slot]) return;
    batch.place = next_;
    const DeviceMatrix& m = next_.part->matrix;
    const size_t at0 = size_t(next_.row0) * n_pieces_, at1 = size_t(next_.row1) * n_pieces_;
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      // Beyond the row's end its last piece is read again, and not used.
      const int piece = min((next_.step * kAhead + i) * 32 + int(threadIdx.x) % 32, n_pieces_ - 1);
      batch.a[i].load(m, at0 + piece);
      batch.b[i].load(m, at1 + piece);
    }
    if (++next_.step * kAhead * 32 < n_pieces_) return;
    next_.pair += kWarps;
    find_rows();
  }

  __device__ __forceinline__ void use(const Batch& batch, const Input& input, float2& sum) {
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int piece = (batch.place.step * kAhead + i) * 32 + int(threadIdx.x) % 32;
      if (piece >= n_pieces_) break;
      sum.x += batch.a[i].dot(piece, input);
      sum.y += batch.b[i].dot(piece, input);
    }
    if ((batch.place.step + 1) * kAhead * 32 < n_pieces_) return;
    write_pair(p_, batch.place, warp_sum(sum.x), warp_sum(sum.y));
    sum = {0, 0};
  }

  const MatvecParams& p_;
  const int part_, end_part_, end_, n_pieces_;
  Place next_;
  Batch ahead_[2];
  bool is_loaded_[2] = {false, false};
};

// This CTA's share of n pairs.
__device__ int first_pair(int n, unsigned cta) { return int(int64_t(n) * cta / gridDim.x); }

// CTA i owns the i-th part of the pairs of rows of each run, warp w of it every 16th of these. The
// parts up to n_first are of format kA, the others of kB. grid: any.
template <WeightFormat kA, WeightFormat kB>
__global__ void __launch_bounds__(kThreads, 1)
    matvec_kernel(const __grid_constant__ MatvecParams p, int n_first, int n_first_pairs,
                  int n_other_pairs) {
  constexpr bool kRounded = !is_float(kA) || !is_float(kB);
  constexpr bool kFloats = is_float(kA) || is_float(kB);
  extern __shared__ __align__(16) uint8_t shared[];
  const int n_cols = p.parts[0].matrix.n_cols;
  const Input input(shared, n_cols, kRounded);
  const int first = first_pair(n_first_pairs, blockIdx.x);
  const int end = first_pair(n_first_pairs, blockIdx.x + 1);
  PairStream<kA> stream(p, 0, n_first, first, end);
  stream.prime();
  wait_for_previous();
  prepare_input(p, n_cols, input, kRounded, kFloats);
  let_next_start();
  stream.run(input);
  if constexpr (kA != kB) {
    PairStream<kB> other(p, n_first, p.n_parts, first_pair(n_other_pairs, blockIdx.x),
                         first_pair(n_other_pairs, blockIdx.x + 1));
    other.prime();
    other.run(input);
  }
}

using Kernel = void (*)(MatvecParams, int, int, int);

// The kernels there are: one for each format, and one for the mixture that is common.
Kernel find_kernel(WeightFormat a, WeightFormat b) {
  using enum WeightFormat;
  if (a == kQ4_K && b == kQ6_K) return matvec_kernel<kQ4_K, kQ6_K>;
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
  int end_first, end;
  WeightFormat a, b;
};
Runs find_runs(const MatvecParams& p, int first) {
  const auto format = [&](int i) { return p.parts[i].matrix.format; };
  Runs runs{first + 1, 0, format(first), format(first)};
  while (runs.end_first < p.n_parts && format(runs.end_first) == runs.a) ++runs.end_first;
  runs.end = runs.end_first;
  if (runs.end < p.n_parts && find_kernel(runs.a, format(runs.end)) != nullptr) {
    runs.b = format(runs.end);
    while (runs.end < p.n_parts && format(runs.end) == runs.b) ++runs.end;
  }
  return runs;
}

}  // namespace

cudaError_t launch_matvec(const MatvecParams& p, int n_ctas, bool early, cudaStream_t stream) {
  for (int first = 0; first < p.n_parts;) {
    const Runs runs = find_runs(p, first);
    MatvecParams some = p;
    some.n_parts = runs.end - first;
    int n_pairs[2] = {0, 0};
    for (int i = first; i < runs.end; ++i) {
      some.parts[i - first] = p.parts[i];
      n_pairs[i >= runs.end_first] += (p.parts[i].matrix.n_rows + 1) / 2;
    }
    const bool rounded = !is_float(runs.a) || !is_float(runs.b);
    const bool floats = is_float(runs.a) || is_float(runs.b);
    const size_t shared = Input::bytes(p.parts[0].matrix.n_cols, rounded, floats);
    const Kernel kernel = find_kernel(runs.a, runs.b);
    if (shared > kPlainSharedBytes) {
      const cudaError_t error = cudaFuncSetAttribute(
          kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, int(shared));
      if (error != cudaSuccess) return error;
    }
    const cudaError_t error = launch(kernel, {unsigned(n_ctas), kThreads, shared, 1, early}, stream,
                                     some, runs.end_first - first, n_pairs[0], n_pairs[1]);
    if (error != cudaSuccess) return error;
    first = runs.end;
  }
  return cudaSuccess;
}

}  // namespace scholia::cuda
