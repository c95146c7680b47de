// What a traced step read, and how much of its attention each block had.
#pragma once

#include "backend/cuda/cuda_context.h"
#include "backend/cuda/kernels/attention.cuh"

namespace scholia::cuda {

class CudaTrace {
 public:
  explicit CudaTrace(const CudaContext& context) : context_(context) {}

  // Where the kernels of a traced step write; room for all heads is made with the first.
  Result<AttentionTrace> reserve();
  // After the step: the attention mass of every block read. list_pages: on the device, the pages that
  // each head read.
  Status read(const AttentionTrace& trace, const int* list_pages, const DecodeStep& step);

  uint64_t workspace_bytes() const { return room_.bytes(); }

 private:
  Status fetch_pages(const AttentionTrace& trace, size_t n_heads, size_t width);

  const CudaContext& context_;
  DeviceBuffer room_;
  float* device_masses_ = nullptr;  // [heads][max_pages], in room_
  std::vector<float> masses_;       // [heads][width], as pages_
  std::vector<uint32_t> pages_;
};

}  // namespace scholia::cuda
