#include "backend/cuda/cuda_digests.h"

#include "backend/cuda/kernels/digests.cuh"

namespace scholia::cuda {

Status CudaDigests::set_layout(const DigestLayout& layout) {
  if (!layout.digest.is_made_for_decode()) {
    return Error{ErrorCode::kDeviceUnavailable,
                 "Digests of this kind and size are compared on the processor only: take --device "
                 "cpu."};
  }
  const size_t n_groups =
      size_t(context_.max_context() + kDigestGroupTokens - 1) / kDigestGroupTokens;
  std::vector<size_t> offsets;
  size_t total = 0;
  const auto place = [&](size_t n_bytes) {
    offsets.push_back(total);
    total += (n_bytes + 15) / 16 * 16;
  };
  for (int head = 0; head < context_.n_heads(); ++head) {
    const size_t n_blocks = size_t(layout.blocks_per_group(head));
    place(n_groups * n_blocks * layout.closed_record_bytes());
    place(n_groups * layout.scale_bytes());
    place(n_blocks * layout.open_record_bytes());
  }
  lineage_ = 0;
  n_tokens_ = 0;
  kind_ = layout.digest.kind;
  if (Status status = digests_.grow(total, "the digests"); !status.ok()) return status;
  std::vector<DigestPlanes> planes;
  for (int head = 0; head < context_.n_heads(); ++head) {
    const size_t* at = &offsets[size_t(head) * 3];
    uint8_t* base = digests_.as<uint8_t>();
    planes.push_back({base + at[0], reinterpret_cast<__half*>(base + at[1]),
                      reinterpret_cast<__half*>(base + at[2])});
  }
  if (Status status = upload(planes_, planes); !status.ok()) return status;
  return upload(block_tokens_, layout.block_tokens);
}

template <typename T>
Status CudaDigests::upload(DeviceBuffer& to, const std::vector<T>& from) {
  const char* what = "the digests";
  const size_t n_bytes = from.size() * sizeof(T);
  if (Status status = to.grow(n_bytes, what); !status.ok()) return status;
  if (Status status = check(cudaMemcpyAsync(to.as<void>(), from.data(), n_bytes,
                                            cudaMemcpyHostToDevice, context_.stream()),
                            what);
      !status.ok()) {
    return status;
  }
  return context_.finish(what);
}

Status CudaDigests::update(const DecodeStep& step, KvPages& pages) {
  if (step.plan->reads_all) return {};
  const Hyperparameters& hp = context_.hp();
  const int n = step.view.n_tokens;
  if (step.lineage != lineage_ || n < n_tokens_) n_tokens_ = 0;
  lineage_ = step.lineage;
  DigestParams p;
  p.kind = int(kind_);
  p.head_dim = hp.head_dim;
  p.n_layers = hp.n_layers;
  p.n_kv_heads = hp.n_kv_heads;
  p.pool = as_half(pages.k(0));
  p.layer_elements = size_t(pages.v(0) - pages.k(0));
  p.pages = context_.page_table();
  p.block_tokens = block_tokens_.as<uint16_t>();
  p.planes = planes_.as<DigestPlanes>();
  p.from_tokens = n_tokens_;
  p.to_tokens = n;
  n_tokens_ = n;
  return check(launch_build_digests(p, context_.stream()), "the digests");
}

}  // namespace scholia::cuda
