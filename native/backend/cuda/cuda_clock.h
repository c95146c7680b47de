// When each stage of a decode step ended, by the device's own clock.
#pragma once

#include <vector>

#include "backend/cuda/cuda_handles.h"
#include "engine/engine.h"

namespace scholia::cuda {

class CudaClock {
 public:
  // Both belong into a capture: the looks become nodes of the graph.
  cudaError_t start(cudaStream_t stream) { return look(stream); }
  cudaError_t mark(DecodeStage stage, int layer, cudaStream_t stream) {
    stages_.push_back({stage, layer, 0, 0});
    return look(stream);
  }
  // Once the graph has run. No bytes.
  Result<std::vector<StageTime>> times() const {
    std::vector<StageTime> times = stages_;
    for (size_t i = 0; i < times.size(); ++i) {
      float ms = 0;
      const cudaError_t error =
          cudaEventElapsedTime(&ms, events_[i].get(), events_[i + 1].get());
      if (Status status = check(error, "timing a step"); !status.ok()) return status.error();
      times[i].seconds = double(ms) * 1e-3;
    }
    return times;
  }

 private:
  cudaError_t look(cudaStream_t stream) {
    auto event = make_event();
    if (!event.ok()) return cudaErrorUnknown;
    events_.push_back(std::move(event.value()));
    return cudaEventRecordWithFlags(events_.back().get(), stream, cudaEventRecordExternal);
  }

  std::vector<Event> events_;  // one more than stages
  std::vector<StageTime> stages_;
};

}  // namespace scholia::cuda
