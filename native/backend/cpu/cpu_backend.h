// The CPU backend: ggml graphs for the matrix work, our attention (cpu_ops.h) as ggml custom ops.
#pragma once

#include <memory>

#include "backend/backend.h"
#include "engine/model/gguf_model.h"

namespace scholia {

// max_context sizes the workspace of a decode step. The model must outlive the backend (its weights
// are read in place).
Result<std::unique_ptr<Backend>> open_cpu_backend(const GgufModel& model, int n_threads,
                                                  int max_context);

}  // namespace scholia
