// The instruction-set dependent part of cpu_matmul; see there for the layout.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/cpu/cpu_matmul.h"

namespace scholia {

struct PanelProduct {
  const PackedFormat* format;
  const uint8_t* panel;      // one packed panel
  int64_t n_in;
  const uint8_t* records;    // activations of the first column
  int n_columns;
  float* out;                // the panel's first row of the first column
  size_t out_stride;         // floats between columns
};

void multiply_panel_avx512(const PanelProduct& product);
void quantise_column_avx512(ActivationKind kind, const float* x, int64_t n_in, uint8_t* record);

}  // namespace scholia
