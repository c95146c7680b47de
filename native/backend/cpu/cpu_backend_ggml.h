// ggml's CPU device through its registry: the library is one of several built for different
// processors and is chosen when it is loaded, so its functions are looked up, not linked.
#pragma once

#include <ggml-backend.h>
#include <ggml-cpu.h>

#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/status.h"

namespace scholia {

class GgmlCpu {
 public:
  static Result<GgmlCpu> open(int n_threads);
  GgmlCpu(GgmlCpu&&) noexcept = default;
  GgmlCpu& operator=(GgmlCpu&&) = delete;
  ~GgmlCpu();

  // cancel may be null. kCancelled when it was seen between two nodes.
  Status compute(ggml_cgraph* graph, const CancelFlag* cancel);

  int n_threads() const { return n_threads_; }
  std::string description() const;
  ggml_backend_dev_t device() const { return device_; }
  ggml_backend_buffer_type_t buffer_type() const { return ggml_backend_dev_buffer_type(device_); }
  // Buffer types that hold weights in an order of their own which multiplies faster.
  std::vector<ggml_backend_buffer_type_t> repacking_buffer_types() const;

 private:
  struct BackendCloser {
    void operator()(ggml_backend_t backend) const { ggml_backend_free(backend); }
  };
  GgmlCpu() = default;

  ggml_backend_dev_t device_ = nullptr;
  std::unique_ptr<ggml_backend, BackendCloser> backend_;
  ggml_threadpool* threadpool_ = nullptr;
  int n_threads_ = 1;
  ggml_backend_set_abort_callback_t set_abort_callback_ = nullptr;
  decltype(&ggml_threadpool_free) free_threadpool_ = nullptr;
};

}  // namespace scholia
