#include "backend/cuda/cuda_backend.h"

#include "backend/cuda/cuda_bandwidth.h"
#include "backend/cuda/cuda_context.h"
#include "backend/cuda/cuda_decode.h"
#include "backend/cuda/cuda_prefill.h"
#include "backend/cuda/device_kv_memory.h"

namespace scholia {
namespace {

using namespace cuda;

// Left free on the device for the driver, graphs and other programs.
constexpr uint64_t kReservedBytes = 768 << 20;

class Cuda final : public CudaBackend {
 public:
  Cuda(const GgufModel& model, CudaDevice device, const CudaTuning& tuning, int max_context)
      : context_(model.hyperparameters(), std::move(device), tuning, max_context) {}

  Status open(const GgufModel& model, int prefill_step_tokens);

  std::string device_name() const override { return "cuda (" + context_.device().name + ")"; }
  uint64_t weights_bytes() const override { return context_.weights().bytes(); }
  uint64_t workspace_bytes() const override;
  uint64_t free_bytes() const override;
  uint64_t pool_limit_bytes() const override;
  Result<KvPages> reserve_pages(const KvShape& shape, size_t n_pages) override;
  Status set_digest_layout(const DigestLayout& layout) override {
    return decode_.set_digest_layout(layout);
  }
  bool keeps_digests() const override { return true; }
  uint64_t digest_bytes() const override { return decode_.digest_bytes(); }

  int prefill_step_tokens() const override { return prefill_.step_tokens(); }
  Result<std::span<const float>> prefill(const PrefillStep& step, KvPages& pages,
                                         const CancelFlag* cancel) override {
    return prefill_.prefill(step, pages, cancel);
  }
  Result<Decoded> decode(const DecodeStep& step, KvPages& pages) override {
    return decode_.decode(step, pages);
  }
  Result<std::vector<StageTime>> time_decode(const DecodeStep& step, KvPages& pages) override {
    return decode_.time_decode(step, pages);
  }
  double bytes_per_second() const override;
  Result<double> time_stages(unsigned stages, int n_repeats, KvPages& pages) override {
    return decode_.time_stages(stages, n_repeats, pages);
  }

 private:
  CudaContext context_;
  CudaDecode decode_{context_};
  CudaPrefill prefill_{context_};
  mutable double bytes_per_second_ = 0;
};

// What needs no weights comes first, so that a model or a machine is refused soon.
Status Cuda::open(const GgufModel& model, int prefill_step_tokens) {
  Status status = context_.open_stream();
  if (status.ok()) status = decode_.choose_attention();
  if (status.ok()) status = prefill_.open_cublas();
  if (status.ok()) status = context_.load(model);
  if (status.ok()) status = decode_.reserve();
  if (status.ok()) status = prefill_.reserve(prefill_step_tokens);
  return status;
}

uint64_t Cuda::workspace_bytes() const {
  return context_.workspace_bytes() + decode_.workspace_bytes() + prefill_.workspace_bytes();
}

uint64_t Cuda::free_bytes() const {
  size_t free = 0, total = 0;
  if (cudaMemGetInfo(&free, &total) != cudaSuccess) return 0;
  return free;
}

// Digests take a sixtieth of the KV that they summarise, at the smallest blocks.
uint64_t Cuda::pool_limit_bytes() const {
  const uint64_t free = free_bytes();
  return free > kReservedBytes ? (free - kReservedBytes) / 20 * 19 : 1;
}

// Measured the first time; 0 where there is no room for it.
double Cuda::bytes_per_second() const {
  constexpr size_t kCopied = 256 << 20;
  if (bytes_per_second_ == 0) {
    const auto measured = copy_bytes_per_second(kCopied);
    if (measured.ok()) bytes_per_second_ = measured.value();
  }
  return bytes_per_second_;
}

Result<KvPages> Cuda::reserve_pages(const KvShape& shape, size_t n_pages) {
  const char* what = "the KV pool";
  DeviceBuffer buffer;
  const size_t n_bytes = shape.page_bytes() * n_pages;
  cudaStream_t stream = context_.stream();
  Status status = buffer.allocate(n_bytes, what);
  if (status.ok()) status = check(cudaMemsetAsync(buffer.as<void>(), 0, n_bytes, stream), what);
  if (status.ok()) status = context_.finish(what);
  if (!status.ok()) return status.error();
  return KvPages::over(shape, n_pages, std::make_unique<DeviceKvMemory>(std::move(buffer), stream));
}

}  // namespace

Result<std::unique_ptr<CudaBackend>> open_cuda_backend(const GgufModel& model, int max_context,
                                                       int prefill_step_tokens,
                                                       const CudaTuning& tuning) {
  auto device = find_cuda_device();
  if (!device.ok()) return device.error();
  auto backend = std::make_unique<Cuda>(model, std::move(device.value()), tuning, max_context);
  if (Status status = backend->open(model, prefill_step_tokens); !status.ok()) {
    return status.error();
  }
  return std::unique_ptr<CudaBackend>(std::move(backend));
}

}  // namespace scholia
