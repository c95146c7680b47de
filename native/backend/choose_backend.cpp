#include "backend/choose_backend.h"

#include "backend/cpu/cpu_backend.h"

namespace scholia {

Result<ChosenBackend> choose_backend(Device device, const GgufModel& model, int n_threads,
                                     int max_context) {
  if (device == Device::kCuda) {
    return Error{ErrorCode::kDeviceUnavailable,
                 "This build has no CUDA backend. Use --device cpu, or auto."};
  }
  auto cpu = open_cpu_backend(model, n_threads, max_context);
  if (!cpu.ok()) return cpu.error();
  return ChosenBackend{std::move(cpu.value()),
                       device == Device::kCpu ? "asked for" : "this build has no CUDA backend"};
}

}  // namespace scholia
