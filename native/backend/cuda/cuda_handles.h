// Owners of what the runtime hands out.
#pragma once

#include <cuda_runtime.h>

#include <memory>

#include "backend/cuda/cuda_check.h"

namespace scholia::cuda {

struct StreamCloser {
  void operator()(cudaStream_t stream) const { cudaStreamDestroy(stream); }
};
struct GraphCloser {
  void operator()(cudaGraphExec_t graph) const { cudaGraphExecDestroy(graph); }
};
struct EventCloser {
  void operator()(cudaEvent_t event) const { cudaEventDestroy(event); }
};
using Stream = std::unique_ptr<CUstream_st, StreamCloser>;
using Graph = std::unique_ptr<CUgraphExec_st, GraphCloser>;
using Event = std::unique_ptr<CUevent_st, EventCloser>;

inline Result<Event> make_event() {
  cudaEvent_t event = nullptr;
  if (Status status = check(cudaEventCreate(&event), "an event"); !status.ok()) {
    return status.error();
  }
  return Event(event);
}

}  // namespace scholia::cuda
