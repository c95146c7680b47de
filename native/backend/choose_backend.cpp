#include "backend/choose_backend.h"

#include "backend/cpu/cpu_backend.h"

#ifdef SCHOLIA_CUDA
#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_device.h"
#endif

namespace scholia {
namespace {

#ifdef SCHOLIA_CUDA
Result<std::unique_ptr<Backend>> open_cuda(const GgufModel& model, const BackendOptions& options) {
  auto cuda = open_cuda_backend(model, options.max_context, options.prefill_step_tokens);
  if (!cuda.ok()) return cuda.error();
  return std::unique_ptr<Backend>(std::move(cuda.value()));
}
#else
Result<std::unique_ptr<Backend>> open_cuda(const GgufModel&, const BackendOptions&) {
  return Error{ErrorCode::kDeviceUnavailable, cuda_support().detail};
}
#endif

}  // namespace

#ifdef SCHOLIA_CUDA
CudaSupport cuda_support() {
  const auto device = find_cuda_device();
  if (device.ok()) return {true, device.value().name};
  return {false, device.error().message};
}
#else
CudaSupport cuda_support() { return {false, "this build has no CUDA backend"}; }
#endif

Result<ChosenBackend> choose_backend(Device device, const GgufModel& model,
                                     const BackendOptions& options) {
  std::string reason;
  if (device == Device::kCuda || (device == Device::kAuto && cuda_support().is_usable)) {
    auto cuda = open_cuda(model, options);
    if (cuda.ok()) return ChosenBackend{std::move(cuda.value()), ""};
    const Error& error = cuda.error();
    // After a failure of the GPU itself the process is of no more use.
    if (error.code == ErrorCode::kEngineLost) return error;
    if (device == Device::kCuda) {
      if (error.code != ErrorCode::kDeviceUnavailable) return error;
      return Error{error.code,
                   "The GPU cannot be used: " + error.message + ". Use --device cpu, or auto."};
    }
    reason = "the GPU is not used: " + error.message;
  }
  auto cpu = open_cpu_backend(model, options.n_threads, options.max_context);
  if (!cpu.ok()) return cpu.error();
  return ChosenBackend{std::move(cpu.value()), std::move(reason)};
}

}  // namespace scholia
