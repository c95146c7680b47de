#include <cuda_bf16.h>

#include "backend/cuda/kernels/launch.cuh"
#include "backend/cuda/kernels/unit.cuh"
#include "backend/cuda/kernels/weights.cuh"

namespace scholia::cuda {
namespace {

constexpr int kThreads = 256;

// --- the file's blocks ----------------------------------------------------------------------

__device__ unsigned short read_u16(const uint8_t* at) {
  return static_cast<unsigned short>(at[0] | at[1] << 8);
}
__device__ unsigned read_u32(const uint8_t* at) {
  return unsigned(read_u16(at)) | unsigned(read_u16(at + 2)) << 16;
}

// 6-bit scale (x) and min (y) of unit u of a K-quant's 12 packed bytes.
__device__ uint2 k_scale_and_min(const uint8_t* packed, int u) {
  if (u < 4) return {packed[u] & 63U, packed[u + 4] & 63U};
  return {(packed[u + 4] & 15U) | (unsigned(packed[u - 4]) >> 6) << 4,
          (unsigned(packed[u + 4]) >> 4) | (unsigned(packed[u]) >> 6) << 4};
}

struct PlanesOut {
  uint8_t *codes, *high, *scales, *supers;
};

// Codes of 4 to 6 bits to the planes; Q8_0's bytes as they are. index: of the unit's codes.
__device__ void write_codes(WeightFormat format, const uint8_t u[32], const PlanesOut& out,
                            size_t index) {
  const PlaneBytes bytes = plane_bytes(format);
  uint8_t* codes = out.codes + index * bytes.codes;
  if (format == WeightFormat::kQ8_0) {
    for (int i = 0; i < 32; ++i) codes[i] = u[i];
    return;
  }
  if (format == WeightFormat::kQ6_K) {
    for (int i = 0; i < 24; ++i) {
      const int word = i / 4 % 3;
      const uint8_t* half = u + i / 12 * 16;
      const auto byte = uint8_t(half[i % 12] | (half[12 + i % 4] >> (2 * word) & 3) << 6);
      (i < 16 ? codes[i] : out.high[index * bytes.high + i - 16]) = byte;
    }
    return;
  }
  for (int j = 0; j < 16; ++j) codes[j] = uint8_t((u[j] & 15) | (u[j + 16] & 15) << 4);
  if (bytes.high == 4) {
    unsigned high = 0;
    for (int i = 0; i < 32; ++i) high |= unsigned(u[i] >> 4 & 1) << (8 * (i % 4) + i / 4);
    reinterpret_cast<unsigned*>(out.high)[index] = high;
  }
}

// Unit `unit` of a row of the file. index, of_codes: where it comes, counted through the matrix.
__device__ void repack_unit(WeightFormat format, const uint8_t* row, int unit, size_t index,
                            size_t of_codes, const PlanesOut& out) {
  uint8_t u[32];
  auto* scales16 = reinterpret_cast<unsigned short*>(out.scales);
  switch (format) {
    case WeightFormat::kQ8_0: {
      const uint8_t* block = row + size_t(unit) * 34;
      scales16[index] = read_u16(block);
      for (int i = 0; i < 32; ++i) u[i] = block[2 + i];
      break;
    }
    case WeightFormat::kQ4_0:
    case WeightFormat::kQ4_1: {
      const bool has_min = format == WeightFormat::kQ4_1;
      const uint8_t* block = row + size_t(unit) * (has_min ? 20 : 18);
      if (has_min) {
        reinterpret_cast<unsigned*>(out.scales)[index] = read_u32(block);
      } else {
        scales16[index] = read_u16(block);
      }
      const uint8_t* q = block + (has_min ? 4 : 2);
      for (int j = 0; j < 16; ++j) {
        u[j] = q[j] & 15;
        u[j + 16] = q[j] >> 4;
      }
      break;
    }
    case WeightFormat::kQ5_0:
    case WeightFormat::kQ5_1: {
      const bool has_min = format == WeightFormat::kQ5_1;
      const uint8_t* block = row + size_t(unit) * (has_min ? 24 : 22);
      if (has_min) {
        reinterpret_cast<unsigned*>(out.scales)[index] = read_u32(block);
      } else {
        scales16[index] = read_u16(block);
      }
      const unsigned high = read_u32(block + (has_min ? 4 : 2));
      const uint8_t* q = block + (has_min ? 8 : 6);
      for (int j = 0; j < 16; ++j) {
        u[j] = uint8_t((q[j] & 15) | (high >> j & 1) << 4);
        u[j + 16] = uint8_t(q[j] >> 4 | (high >> (j + 16) & 1) << 4);
      }
      break;
    }
    case WeightFormat::kQ4_K:
    case WeightFormat::kQ5_K: {
      const bool has_high = format == WeightFormat::kQ5_K;
      const int in_super = unit % kSuperUnits;
      const uint8_t* block = row + size_t(unit / kSuperUnits) * (has_high ? 176 : 144);
      const uint8_t* high = block + 16;
      const uint8_t* q = block + (has_high ? 48 : 16) + in_super / 2 * 32;
      for (int i = 0; i < 32; ++i) {
        u[i] = in_super % 2 == 0 ? q[i] & 15 : q[i] >> 4;
        if (has_high) u[i] |= uint8_t((high[i] >> in_super & 1) << 4);
      }
      const uint2 scale_and_min = k_scale_and_min(block + 4, in_super);
      scales16[index] = static_cast<unsigned short>(scale_and_min.x | scale_and_min.y << 8);
      if (in_super == 0) {
        reinterpret_cast<unsigned*>(out.supers)[index / kSuperUnits] = read_u32(block);
      }
      break;
    }
    case WeightFormat::kQ6_K: {
      const int in_super = unit % kSuperUnits, half = in_super / 4, quarter = in_super % 4;
      const uint8_t* block = row + size_t(unit / kSuperUnits) * 210;
      const uint8_t* low = block + 64 * half + 32 * (quarter % 2);
      const uint8_t* high = block + 128 + 32 * half;
      for (int i = 0; i < 32; ++i) {
        const int low4 = quarter < 2 ? low[i] & 15 : low[i] >> 4;
        u[i] = uint8_t(low4 | (high[i] >> (2 * quarter) & 3) << 4);
      }
      scales16[index] = static_cast<unsigned short>(read_u16(block + 192 + 2 * in_super) ^ 0x8080U);
      if (in_super == 0) {
        reinterpret_cast<unsigned short*>(out.supers)[index / kSuperUnits] = read_u16(block + 208);
      }
      break;
    }
    default: return;
  }
  write_codes(format, u, out, of_codes);
}

constexpr size_t file_row_bytes(WeightFormat format, int n_cols) {
  const size_t units = size_t(n_cols) / kUnitWeights;
  const PlaneBytes b = plane_bytes(format);
  // 12 bytes for the scales of 8 units, instead of 16.
  const bool is_packed = format == WeightFormat::kQ4_K || format == WeightFormat::kQ5_K;
  const int supers = is_packed ? b.supers - 4 : b.supers;
  return units * (b.codes + b.high + b.scales) + units / kSuperUnits * supers;
}

// One unit for each thread. grid: units of all rows.
__global__ void repack_kernel(RepackParams p, size_t row_bytes, PlanesOut out) {
  const int n_units = p.to.n_units();
  const size_t at = size_t(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= size_t(p.n_rows) * n_units) return;
  const int row = int(at / n_units), unit = int(at % n_units);
  const size_t to = (size_t(p.first_row) + size_t(row) * p.row_step) * n_units;
  repack_unit(p.to.format, p.file_rows + row * row_bytes, unit, to + unit,
              to + p.to.place_of_codes(unit), out);
}

// --- out of the planes ----------------------------------------------------------------------

// Calls write(i, weight) for the 32 weights of a unit.
template <typename Write>
struct ReadUnit {
  const DeviceMatrix& m;
  size_t row;
  int unit;
  const Write& write;

  template <WeightFormat kFormat>
  __device__ void run() const {
    const size_t first = row * m.n_cols + size_t(unit) * kUnitWeights;
    if constexpr (kFormat == WeightFormat::kF32) {
      for (int i = 0; i < 32; ++i) write(i, reinterpret_cast<const float*>(m.codes)[first + i]);
    } else if constexpr (kFormat == WeightFormat::kF16) {
      for (int i = 0; i < 32; ++i) {
        write(i, __half2float(reinterpret_cast<const __half*>(m.codes)[first + i]));
      }
    } else if constexpr (kFormat == WeightFormat::kBf16) {
      for (int i = 0; i < 32; ++i) {
        write(i, __bfloat162float(reinterpret_cast<const __nv_bfloat16*>(m.codes)[first + i]));
      }
    } else {
      Unit<kFormat> u;
      u.load_codes(m, unsigned(row * m.n_units() + m.place_of_codes(unit)));
      u.load_scales(m, unsigned(row * m.n_units() + unit));
#pragma unroll
      for (int i = 0; i < 32; ++i) write(i, u.weight(i));
    }
  }
};

template <typename Write>
__device__ void read_unit(const DeviceMatrix& m, size_t row, int unit, const Write& write) {
  with_format(m.format, ReadUnit<Write>{m, row, unit, write});
}

__device__ __half saturated_half(float x) {
  return __float2half_rn(fminf(fmaxf(x, -65504.0F), 65504.0F));
}

// One unit for each thread, written as four 16-byte stores.
__global__ void dequantise_kernel(DequantiseParams p) {
  const int n_units = p.from.n_units();
  const size_t at = size_t(blockIdx.x) * kThreads + threadIdx.x;
  if (at >= size_t(p.n_rows) * n_units) return;
  const size_t row = at / n_units;
  const int unit = int(at % n_units);
  alignas(16) __half values[32];
  read_unit(p.from, p.first_row + row, unit,
            [&](int i, float w) { values[i] = saturated_half(w); });
  auto* to = reinterpret_cast<uint4*>(p.to + row * p.from.n_cols + size_t(unit) * kUnitWeights);
#pragma unroll
  for (int i = 0; i < 4; ++i) to[i] = reinterpret_cast<const uint4*>(values)[i];
}

// grid: (units, tokens).
__global__ void embed_kernel(EmbedParams p) {
  const int unit = int(blockIdx.x) * kThreads + threadIdx.x;
  if (unit >= p.table.n_units()) return;
  const size_t row = size_t(p.tokens[blockIdx.y]);
  float* to = p.to + size_t(blockIdx.y) * p.table.n_cols + size_t(unit) * kUnitWeights;
  read_unit(p.table, row, unit, [&](int i, float w) { to[i] = w; });
}

unsigned blocks_for(size_t n) { return unsigned((n + kThreads - 1) / kThreads); }

}  // namespace

cudaError_t launch_repack(const RepackParams& p, cudaStream_t stream) {
  const size_t row_bytes = file_row_bytes(p.to.format, p.to.n_cols);
  if (is_float(p.to.format)) {  // rows as they are
    return cudaMemcpy2DAsync(const_cast<uint8_t*>(p.to.codes) + p.first_row * row_bytes,
                             p.row_step * row_bytes, p.file_rows, row_bytes, row_bytes,
                             size_t(p.n_rows), cudaMemcpyDeviceToDevice, stream);
  }
  const PlanesOut out{const_cast<uint8_t*>(p.to.codes), const_cast<uint8_t*>(p.to.high),
                      const_cast<uint8_t*>(p.to.scales), const_cast<uint8_t*>(p.to.supers)};
  const size_t n = size_t(p.n_rows) * p.to.n_units();
  return launch(repack_kernel, {blocks_for(n), kThreads}, stream, p, row_bytes, out);
}

cudaError_t launch_dequantise(const DequantiseParams& p, cudaStream_t stream) {
  return launch(dequantise_kernel, {blocks_for(size_t(p.n_rows) * p.from.n_units()), kThreads},
                stream, p);
}

cudaError_t launch_embed(const EmbedParams& p, cudaStream_t stream) {
  const dim3 grid(blocks_for(size_t(p.table.n_units())), unsigned(p.n_tokens));
  return launch(embed_kernel, {grid, kThreads}, stream, p);
}

}  // namespace scholia::cuda
