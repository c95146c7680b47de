// Which GPU there is, and if none can be used, why.
#pragma once

#include <string>

#include "engine/status.h"

namespace scholia {

struct CudaDevice {
  std::string name;  // e.g. "NVIDIA H100 80GB HBM3"
  int compute_capability = 0;  // 90 for 9.0
  int n_sms = 0;
};

// device_unavailable with the reason in words: no driver, no GPU, too old a GPU.
Result<CudaDevice> find_cuda_device();

}  // namespace scholia
