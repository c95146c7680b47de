#include "backend/cuda/cuda_trace.h"

#include <algorithm>

namespace scholia::cuda {
namespace {

constexpr const char* kWhat = "the trace";

// One head's pages summed up to blocks.
void add_head(const HeadPlan& head, int n_tokens, const uint32_t* pages, const float* masses,
              StepTrace& out) {
  const int tokens = head.tokens_read(n_tokens);
  const size_t n_pages = size_t(tokens + kKvPageTokens - 1) / kKvPageTokens;
  const size_t first = out.block_idx.size();
  for (size_t i = 0; i < n_pages; ++i) {
    const uint32_t block = pages[i] / uint32_t(head.block_tokens / kKvPageTokens);
    if (out.block_idx.size() == first || out.block_idx.back() != block) {
      out.block_idx.push_back(block);
      out.mass.push_back(0);
    }
    out.mass.back() += masses[i];
  }
  out.block_offset.push_back(uint32_t(out.block_idx.size()));
}

}  // namespace

Result<AttentionTrace> CudaTrace::reserve() {
  const size_t heads = size_t(context_.n_heads());
  const size_t places = heads * size_t(context_.max_pages());
  const size_t group = size_t(context_.hp().group());
  const size_t states = places * group * sizeof(float2), lse = heads * group * sizeof(float);
  if (Status status = room_.grow(states + lse + places * 8, kWhat); !status.ok()) {
    return status.error();
  }
  uint8_t* base = room_.as<uint8_t>();
  AttentionTrace trace;
  trace.page_state = reinterpret_cast<float2*>(base);
  trace.lse = reinterpret_cast<float*>(base + states);
  trace.pages = reinterpret_cast<uint32_t*>(base + states + lse);
  trace.max_pages = context_.max_pages();
  device_masses_ = reinterpret_cast<float*>(trace.pages + places);
  return trace;
}

Status CudaTrace::read(const AttentionTrace& trace, const int* list_pages, const DecodeStep& step) {
  const auto& heads = step.plan->heads;
  const int n_tokens = step.plan->n_tokens;
  Status status = check(launch_trace_masses(trace, list_pages, context_.n_heads(),
                                            context_.hp().group(), device_masses_,
                                            context_.stream()),
                        kWhat);
  if (!status.ok()) return status;
  int longest = 0;
  for (const HeadPlan& head : heads) {
    longest = std::max(longest, head.tokens_read(n_tokens) / kKvPageTokens + 1);
  }
  const size_t width = size_t(std::min(longest, context_.max_pages()));
  if (status = fetch_pages(trace, heads.size(), width); !status.ok()) return status;

  StepTrace& out = *step.trace;
  out.block_offset.assign(1, 0);
  out.block_idx.clear();
  out.mass.clear();
  for (size_t h = 0; h < heads.size(); ++h) {
    add_head(heads[h], n_tokens, &pages_[h * width], &masses_[h * width], out);
  }
  return {};
}

// The first `width` places of each head.
Status CudaTrace::fetch_pages(const AttentionTrace& trace, size_t n_heads, size_t width) {
  masses_.resize(n_heads * width);
  pages_.resize(n_heads * width);
  const auto fetch = [&](void* to, const void* from) {
    return check(cudaMemcpy2DAsync(to, width * 4, from, size_t(trace.max_pages) * 4, width * 4,
                                   n_heads, cudaMemcpyDeviceToHost, context_.stream()),
                 kWhat);
  };
  if (Status status = fetch(masses_.data(), device_masses_); !status.ok()) return status;
  if (Status status = fetch(pages_.data(), trace.pages); !status.ok()) return status;
  return context_.finish(kWhat);
}

}  // namespace scholia::cuda
