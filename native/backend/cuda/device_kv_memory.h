// KV pages on the device, in the plain order.
#pragma once

#include <utility>

#include "backend/cuda/device_buffer.h"
#include "engine/kv/kv_pages.h"

namespace scholia::cuda {

class DeviceKvMemory final : public KvMemory {
 public:
  DeviceKvMemory(DeviceBuffer buffer, cudaStream_t stream)
      : buffer_(std::move(buffer)), stream_(stream) {}

  f16* base() override { return buffer_.as<f16>(); }
  bool is_on_host() const override { return false; }
  bool read(const f16* from, size_t n, f16* to_host) const override {
    return copy(to_host, from, n, cudaMemcpyDeviceToHost);
  }
  bool write(f16* to, size_t n, const f16* from_host) override {
    return copy(to, from_host, n, cudaMemcpyHostToDevice);
  }
  bool copy(const f16* from, f16* to, size_t n) override {
    return copy(to, from, n, cudaMemcpyDeviceToDevice);
  }

 private:
  bool copy(f16* to, const f16* from, size_t n, cudaMemcpyKind kind) const {
    return cudaMemcpyAsync(to, from, n * sizeof(f16), kind, stream_) == cudaSuccess &&
           cudaStreamSynchronize(stream_) == cudaSuccess;
  }

  DeviceBuffer buffer_;
  cudaStream_t stream_;
};

}  // namespace scholia::cuda
