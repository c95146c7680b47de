// Digests on the device: of one sequence, the one decoded last.
#pragma once

#include "backend/cuda/cuda_context.h"
#include "backend/cuda/kernels/attention.cuh"

namespace scholia::cuda {

class CudaDigests {
 public:
  explicit CudaDigests(const CudaContext& context) : context_(context) {}

  // Room for the layout's digests, which are then built anew. out_of_memory.
  Status set_layout(const DigestLayout& layout);
  // Builds what the step will read and is not there yet.
  Status update(const DecodeStep& step, KvPages& pages);

  const DigestPlanes* planes() const { return planes_.as<DigestPlanes>(); }  // [heads], on the device
  uint64_t bytes() const { return digests_.bytes(); }

 private:
  template <typename T>
  Status upload(DeviceBuffer& to, const std::vector<T>& from);

  const CudaContext& context_;
  DeviceBuffer digests_, planes_, block_tokens_;
  DigestKind kind_ = DigestKind::kMeanStd;
  uint64_t lineage_ = 0;
  int n_tokens_ = 0;  // of the lineage, digested
};

}  // namespace scholia::cuda
