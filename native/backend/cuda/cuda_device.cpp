#include "backend/cuda/cuda_device.h"

#include <cuda_runtime.h>

namespace scholia {
namespace {

constexpr int kOldestCapability = 80;  // Ampere: what the kernels are compiled for

Error unavailable(const std::string& why) { return {ErrorCode::kDeviceUnavailable, why}; }

}  // namespace

Result<CudaDevice> find_cuda_device() {
  int n_devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&n_devices);
  if (error == cudaErrorInsufficientDriver) {
    int driver = 0;
    const bool has_driver = cudaDriverGetVersion(&driver) == cudaSuccess && driver > 0;
    cudaGetLastError();
    return unavailable(has_driver ? "the NVIDIA driver is older than CUDA " +
                                        std::to_string(CUDART_VERSION / 1000)
                                  : "there is no NVIDIA driver");
  }
  if (error == cudaErrorNoDevice || (error == cudaSuccess && n_devices == 0)) {
    cudaGetLastError();
    return unavailable("there is no NVIDIA GPU");
  }
  if (error != cudaSuccess) {
    cudaGetLastError();
    return unavailable(std::string("the GPU cannot be used: ") + cudaGetErrorString(error));
  }
  cudaDeviceProp properties{};
  if (cudaGetDeviceProperties(&properties, 0) != cudaSuccess) {
    cudaGetLastError();
    return unavailable("the GPU does not answer");
  }
  CudaDevice device;
  device.name = properties.name;
  device.compute_capability = properties.major * 10 + properties.minor;
  device.n_sms = properties.multiProcessorCount;
  if (device.compute_capability < kOldestCapability) {
    return unavailable(device.name + " is older than the GPUs that are supported (compute "
                                     "capability 8.0 and later)");
  }
  return device;
}

}  // namespace scholia
