#include "backend/cpu/cpu_backend_ggml.h"

namespace scholia {
namespace {

template <typename Function>
Function look_up(ggml_backend_reg_t registry, const char* name) {
  return reinterpret_cast<Function>(ggml_backend_reg_get_proc_address(registry, name));
}

bool cancel_seen(void* data) {
  const auto* flag = static_cast<const CancelFlag*>(data);
  return flag != nullptr && flag->load(std::memory_order_relaxed);
}

}  // namespace

Result<GgmlCpu> GgmlCpu::open(int n_threads) {
  GgmlCpu cpu;
  cpu.n_threads_ = n_threads;
  cpu.device_ = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  if (cpu.device_ == nullptr) {
    return Error{ErrorCode::kDeviceUnavailable,
                 "No CPU library of ggml could be loaded for this processor. Install again."};
  }
  cpu.backend_.reset(ggml_backend_dev_init(cpu.device_, nullptr));
  if (!cpu.backend_) return Error{ErrorCode::kDeviceUnavailable, "ggml's CPU device did not start."};

  ggml_backend_reg_t registry = ggml_backend_dev_backend_reg(cpu.device_);
  const auto set_n_threads =
      look_up<ggml_backend_set_n_threads_t>(registry, "ggml_backend_set_n_threads");
  const auto new_threadpool =
      look_up<decltype(&ggml_threadpool_new)>(registry, "ggml_threadpool_new");
  const auto set_threadpool =
      look_up<decltype(&ggml_backend_cpu_set_threadpool)>(registry, "ggml_backend_cpu_set_threadpool");
  cpu.free_threadpool_ = look_up<decltype(&ggml_threadpool_free)>(registry, "ggml_threadpool_free");
  cpu.set_abort_callback_ =
      look_up<ggml_backend_set_abort_callback_t>(registry, "ggml_backend_set_abort_callback");
  if (set_n_threads == nullptr || new_threadpool == nullptr || set_threadpool == nullptr ||
      cpu.free_threadpool_ == nullptr || cpu.set_abort_callback_ == nullptr) {
    return Error{ErrorCode::kDeviceUnavailable, "ggml's CPU library is of another version."};
  }
  set_n_threads(cpu.backend_.get(), n_threads);
  ggml_threadpool_params params = ggml_threadpool_params_default(n_threads);
  cpu.threadpool_ = new_threadpool(&params);
  set_threadpool(cpu.backend_.get(), cpu.threadpool_);
  return cpu;
}

GgmlCpu::~GgmlCpu() {
  if (!backend_) return;  // moved from
  backend_.reset();
  if (threadpool_ != nullptr) free_threadpool_(threadpool_);
}

Status GgmlCpu::compute(ggml_cgraph* graph, const CancelFlag* cancel) {
  set_abort_callback_(backend_.get(), cancel_seen, const_cast<CancelFlag*>(cancel));
  switch (ggml_backend_graph_compute(backend_.get(), graph)) {
    case GGML_STATUS_SUCCESS: return {};
    case GGML_STATUS_ABORTED: return Error{ErrorCode::kCancelled, "Stopped."};
    case GGML_STATUS_ALLOC_FAILED:
      return Error{ErrorCode::kOutOfMemory, "Not enough memory for the model's workspace."};
    default: return Error{ErrorCode::kInternal, "ggml could not compute a graph."};
  }
}

std::string GgmlCpu::description() const { return ggml_backend_dev_description(device_); }

std::vector<ggml_backend_buffer_type_t> GgmlCpu::repacking_buffer_types() const {
  const auto get = look_up<ggml_backend_dev_get_extra_bufts_t>(
      ggml_backend_dev_backend_reg(device_), "ggml_backend_dev_get_extra_bufts");
  std::vector<ggml_backend_buffer_type_t> types;
  if (get == nullptr) return types;
  for (ggml_backend_buffer_type_t* type = get(device_); type != nullptr && *type != nullptr; ++type) {
    types.push_back(*type);
  }
  return types;
}

}  // namespace scholia
