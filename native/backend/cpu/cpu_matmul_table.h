// The part of cpu_matmul that each instruction set provides; see cpu_matmul.h for the layouts.
// cpu_matmul.cpp chooses a table once; the cpu_matmul_<variant>.cpp compile the one text of
// cpu_matmul_kernels.h. As in cpu_ops_table.h, nothing but plain structs crosses this border.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/cpu_matmul.h"

namespace scholia {

// 32 activations of one column.
struct ActivationBlock {
  int8_t q[32];
  float d;               // x = d * q
  float total;           // of d * q; kQ8_0: rounded to f16, as ggml's Q8_1 has it
  int32_t minus_sum[2];  // of q; kQ8_0: of all and 0; kQ8_K: of q[0, 16) and q[16, 32)
};

// One packed panel times n_columns columns.
struct PanelProduct {
  const PackedFormat* format;
  const uint8_t* panel;
  int64_t n_in;
  const uint8_t* records;  // activations of the first column
  size_t record_bytes;
  int n_columns;
  float* out;         // the panel's first row of the first column
  size_t out_stride;  // floats between columns
};

struct CpuMatmulTable {
  const char* name;
  void (*multiply_panel)(const PanelProduct& product);
  void (*quantise_column)(ActivationKind kind, const float* x, int64_t n_in,
                          ActivationBlock* record);
};

// Null where the compiler or the processor's family lacks the instruction set.
const CpuMatmulTable* avx2_cpu_matmul();
const CpuMatmulTable* avxvnni_cpu_matmul();
const CpuMatmulTable* avx512_cpu_matmul();

}  // namespace scholia
