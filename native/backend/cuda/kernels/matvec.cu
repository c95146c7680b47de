#include "backend/cuda/kernels/matvec.cuh"

#include <algorithm>
#include <type_traits>

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/matvec/rows.cuh"

namespace scholia::cuda {
namespace {

using namespace matvec;

constexpr size_t kPlainSharedBytes = 48 << 10;  // more must be asked for

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
