#include "backend/cuda/cuda_bandwidth.h"

#include <algorithm>
#include <vector>

#include "backend/cuda/cuda_handles.h"
#include "backend/cuda/device_buffer.h"

namespace scholia::cuda {

Result<double> copy_bytes_per_second(size_t n_bytes) {
  constexpr int kCopies = 15;
  const char* what = "measuring its bandwidth";
  DeviceBuffer from, to;
  for (DeviceBuffer* buffer : {&from, &to}) {
    if (Status status = buffer->allocate(n_bytes, what); !status.ok()) return status.error();
  }
  auto begin = make_event(), end = make_event();
  if (!begin.ok()) return begin.error();
  if (!end.ok()) return end.error();
  Status status = check(cudaMemset(from.as<void>(), 1, n_bytes), what);
  std::vector<double> rates;
  for (int i = 0; i < kCopies && status.ok(); ++i) {
    cudaEventRecord(begin.value().get());
    cudaMemcpyAsync(to.as<void>(), from.as<void>(), n_bytes, cudaMemcpyDeviceToDevice);
    cudaEventRecord(end.value().get());
    status = check(cudaEventSynchronize(end.value().get()), what);
    float ms = 0;
    cudaEventElapsedTime(&ms, begin.value().get(), end.value().get());
    rates.push_back(2.0 * double(n_bytes) / (double(ms) * 1e-3));
  }
  if (!status.ok()) return status.error();
  std::nth_element(rates.begin(), rates.begin() + kCopies / 2, rates.end());
  return rates[kCopies / 2];
}

}  // namespace scholia::cuda
