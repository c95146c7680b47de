// One function decides which backend runs, and says why.
#pragma once

#include <memory>
#include <string>

#include "backend/backend.h"
#include "engine/model/gguf_model.h"

namespace scholia {

struct ChosenBackend {
  std::unique_ptr<Backend> backend;
  std::string reason;  // why this one, for the user
};

// kAuto takes the fastest that works; an explicit device that is not there is device_unavailable.
Result<ChosenBackend> choose_backend(Device device, const GgufModel& model, int n_threads,
                                     int max_context);

}  // namespace scholia
