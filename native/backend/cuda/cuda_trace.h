// What a traced step read, how much of its attention each block had, and how much of dense attention
// falls on what was read.
#pragma once

#include "backend/cuda/cuda_context.h"
#include "backend/cuda/kernels/attention.cuh"

namespace scholia::cuda {

class CudaTrace {
 public:
  explicit CudaTrace(const CudaContext& context) : context_(context) {}

  // Where the kernels of a traced step write: [heads][G] normalisers, and with masses what each page
  // had. Room for all heads is made with the first.
  Result<AttentionTrace> reserve(bool masses);
  // Where dense attention's normalisers go, [heads][G] base 2; after reserve().
  float* dense_lse() const { return lse_.as<float>() + n_lse(); }

  // After the step: the attention mass of every block read. list_pages: on the device, the pages that
  // each head read.
  Status read_masses(const AttentionTrace& trace, const int* list_pages, const DecodeStep& step);
  // After a step that wrote dense_lse(): the mass kept of each head.
  Status read_kept(const DecodeStep& step);

  uint64_t workspace_bytes() const { return room_.bytes() + lse_.bytes(); }

 private:
  size_t n_lse() const { return size_t(context_.n_heads()) * size_t(context_.hp().group()); }
  Status fetch_pages(const AttentionTrace& trace, size_t n_heads, size_t width);

  const CudaContext& context_;
  DeviceBuffer lse_;   // [2][heads][G]: of what was read, of everything
  DeviceBuffer room_;
  float* device_masses_ = nullptr;  // [heads][max_pages], in room_
  PinnedBuffer host_masses_, host_pages_;  // [heads][width]
};

}  // namespace scholia::cuda
