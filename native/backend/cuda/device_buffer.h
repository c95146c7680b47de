// Memory of the device, and host memory that it copies from and to without a detour. Owned, never
// copied, allocated when a model or a profile is opened and not during a step.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "backend/cuda/cuda_check.h"

namespace scholia::cuda {

enum class BufferKind : uint8_t { kDevice, kPinnedHost };

template <BufferKind kKind>
class Buffer {
 public:
  Buffer() = default;
  ~Buffer() { reset(); }
  Buffer(Buffer&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), n_bytes_(std::exchange(other.n_bytes_, 0)) {}
  Buffer& operator=(Buffer&& other) noexcept {
    std::swap(data_, other.data_);
    std::swap(n_bytes_, other.n_bytes_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  // Replaces what was held. Not initialised. out_of_memory.
  Status allocate(size_t n_bytes, const char* what) {
    reset();
    if (n_bytes == 0) return {};
    const cudaError_t error = kKind == BufferKind::kDevice ? cudaMalloc(&data_, n_bytes)
                                                           : cudaMallocHost(&data_, n_bytes);
    if (Status status = check(error, what); !status.ok()) {
      data_ = nullptr;
      return status;
    }
    n_bytes_ = n_bytes;
    return {};
  }
  // allocate, unless there is already as much.
  Status grow(size_t n_bytes, const char* what) {
    return n_bytes <= n_bytes_ ? Status() : allocate(n_bytes, what);
  }
  void reset() {
    if (data_ == nullptr) return;
    if (kKind == BufferKind::kDevice) {
      cudaFree(data_);
    } else {
      cudaFreeHost(data_);
    }
    data_ = nullptr;
    n_bytes_ = 0;
  }

  template <typename T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  size_t bytes() const { return n_bytes_; }

 private:
  void* data_ = nullptr;
  size_t n_bytes_ = 0;
};

using DeviceBuffer = Buffer<BufferKind::kDevice>;
using PinnedBuffer = Buffer<BufferKind::kPinnedHost>;

}  // namespace scholia::cuda
