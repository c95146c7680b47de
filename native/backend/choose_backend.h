// One function decides which backend runs, and says why.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "engine/model/gguf_model.h"

namespace scholia {

struct ChosenBackend {
  std::unique_ptr<Backend> backend;
  // Where a faster device is there and is not used: why, for the user. Else empty.
  std::string reason;
};

struct BackendOptions {
  int n_threads = 1;
  int max_context = 0;          // tokens of a sequence
  int prefill_step_tokens = 0;  // room is made for; 0: what suits the device
};

// kAuto takes the GPU where it works, else the processor; an explicit device that cannot be used is
// device_unavailable, model_unsupported or out_of_memory.
Result<ChosenBackend> choose_backend(Device device, const GgufModel& model,
                                     const BackendOptions& options);

}  // namespace scholia
