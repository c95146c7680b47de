// Room for a product's input (kernels/product_input.cuh), in both forms; who leaves values and who
// reads them ask for the forms that its readers need.
#pragma once

#include <initializer_list>

#include "backend/cuda/device_buffer.h"
#include "backend/cuda/kernels/product_input.cuh"

namespace scholia::cuda {

class InputBuffer {
 public:
  // For n values. normalised: with their squares. What is beyond n is 0 from now on. out_of_memory.
  Status allocate(int n, bool normalised, cudaStream_t stream, const char* what) {
    n_units_ = ProductInput::padded_units(n);
    normalised_ = normalised;
    if (Status status = planes_.allocate(squares_at() + ProductInput::squares_bytes(n_units_), what);
        !status.ok()) {
      return status;
    }
    return check(cudaMemsetAsync(planes_.as<void>(), 0, planes_.bytes(), stream), what);
  }

  // readers: the matrices that it is multiplied by; those that are not there count for nothing.
  ProductInput of(std::initializer_list<const DeviceMatrix*> readers) const {
    ProductInput input;
    input.n_units = n_units_;
    for (const DeviceMatrix* matrix : readers) {
      if (matrix->codes == nullptr) continue;
      if (is_float(matrix->format)) {
        input.floats = reinterpret_cast<float*>(planes_.as<uint8_t>() + floats_at());
      } else {
        input.rounded = planes_.as<uint8_t>();
      }
    }
    if (normalised_) input.squares = reinterpret_cast<float*>(planes_.as<uint8_t>() + squares_at());
    return input;
  }

  uint64_t bytes() const { return planes_.bytes(); }

 private:
  size_t floats_at() const { return ProductInput::rounded_bytes(n_units_); }
  size_t squares_at() const { return floats_at() + ProductInput::floats_bytes(n_units_); }

  DeviceBuffer planes_;
  int n_units_ = 0;
  bool normalised_ = false;
};

}  // namespace scholia::cuda
