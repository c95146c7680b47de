#include "backend/cuda/cuda_trace.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>
#include <vector>

namespace scholia::cuda {
namespace {

constexpr const char* kWhat = "the trace";

// One head's pages summed up to blocks, in ascending order: the kernel has those selected last in the
// order of their scores. blocks: room.
void add_head(const HeadPlan& head, int n_tokens, const uint32_t* pages, const float* masses,
              std::vector<std::pair<uint32_t, float>>& blocks, StepTrace& out) {
  const int tokens = head.tokens_read(n_tokens);
  const size_t n_pages = size_t(tokens + kKvPageTokens - 1) / kKvPageTokens;
  blocks.clear();
  for (size_t i = 0; i < n_pages; ++i) {
    const uint32_t block = pages[i] / uint32_t(head.block_tokens / kKvPageTokens);
    if (blocks.empty() || blocks.back().first != block) blocks.emplace_back(block, 0.0F);
    blocks.back().second += masses[i];
  }
  const auto selected_last = std::is_sorted_until(blocks.begin(), blocks.end());
  std::sort(selected_last, blocks.end());
  std::inplace_merge(blocks.begin(), selected_last, blocks.end());
  for (const auto& [block, mass] : blocks) {
    out.block_idx.push_back(block);
    out.mass.push_back(mass);
  }
  out.block_offset.push_back(uint32_t(out.block_idx.size()));
}

}  // namespace

Result<AttentionTrace> CudaTrace::reserve(bool masses) {
  Status status = lse_.grow(2 * n_lse() * sizeof(float), kWhat);
  if (!status.ok()) return status.error();
  AttentionTrace trace;
  trace.lse = lse_.as<float>();
  if (!masses) return trace;
  const size_t places = size_t(context_.n_heads()) * size_t(context_.max_pages());
  const size_t states = places * size_t(context_.hp().group()) * sizeof(float2);
  if (status = room_.grow(states + places * 8, kWhat); !status.ok()) return status.error();
  uint8_t* base = room_.as<uint8_t>();
  trace.page_state = reinterpret_cast<float2*>(base);
  trace.pages = reinterpret_cast<uint32_t*>(base + states);
  trace.max_pages = context_.max_pages();
  device_masses_ = reinterpret_cast<float*>(trace.pages + places);
  return trace;
}

Status CudaTrace::read_masses(const AttentionTrace& trace, const int* list_pages,
                              const DecodeStep& step) {
  const auto& heads = step.plan->heads;
  const int n_tokens = step.plan->n_tokens;
  int longest = 0;
  for (const HeadPlan& head : heads) {
    longest = std::max(longest, head.tokens_read(n_tokens) / kKvPageTokens + 1);
  }
  longest = std::min(longest, context_.max_pages());
  Status status = check(launch_trace_masses(trace, list_pages, longest, context_.n_heads(),
                                            context_.hp().group(), device_masses_,
                                            context_.stream()),
                        kWhat);
  if (!status.ok()) return status;
  const size_t width = size_t(longest);
  if (status = fetch_pages(trace, heads.size(), width); !status.ok()) return status;

  StepTrace& out = *step.trace;
  out.block_offset.assign(1, 0);
  out.block_idx.clear();
  out.mass.clear();
  const uint32_t* pages = host_pages_.as<uint32_t>();
  const float* masses = host_masses_.as<float>();
  std::vector<std::pair<uint32_t, float>> blocks;
  for (size_t h = 0; h < heads.size(); ++h) {
    add_head(heads[h], n_tokens, pages + h * width, masses + h * width, blocks, out);
  }
  return {};
}

Status CudaTrace::read_kept(const DecodeStep& step) {
  const size_t group = size_t(context_.hp().group());
  std::vector<float> lse(2 * n_lse());
  Status status = check(cudaMemcpyAsync(lse.data(), lse_.as<void>(), lse.size() * sizeof(float),
                                        cudaMemcpyDeviceToHost, context_.stream()),
                        kWhat);
  if (status.ok()) status = context_.finish(kWhat);
  if (!status.ok()) return status;
  std::vector<float>& kept = step.trace->mass_kept;
  kept.clear();
  for (size_t h = 0; h < step.plan->heads.size(); ++h) {
    const float *read = &lse[h * group], *all = read + n_lse();
    float sum = 0;
    for (size_t g = 0; g < group; ++g) sum += std::exp2(read[g] - all[g]);
    // A head that reads everything may do so in other pieces: 1 but for rounding.
    const HeadPlan& head = step.plan->heads[h];
    kept.push_back(head.n_selected == head.n_free() ? 1 : std::min(1.0F, sum / float(group)));
  }
  return {};
}

// The first `width` places of each head. To pinned memory, without which each copy waits for the step and
// goes through a buffer of the driver's.
Status CudaTrace::fetch_pages(const AttentionTrace& trace, size_t n_heads, size_t width) {
  const auto fetch = [&](PinnedBuffer& to, const void* from) {
    // Lists grow with the context; the room does not each time.
    if (Status status = to.grow(std::bit_ceil(n_heads * width * 4), kWhat); !status.ok()) return status;
    return check(cudaMemcpy2DAsync(to.as<void>(), width * 4, from, size_t(trace.max_pages) * 4,
                                   width * 4, n_heads, cudaMemcpyDeviceToHost, context_.stream()),
                 kWhat);
  };
  if (Status status = fetch(host_masses_, device_masses_); !status.ok()) return status;
  if (Status status = fetch(host_pages_, trace.pages); !status.ok()) return status;
  return context_.finish(kWhat);
}

}  // namespace scholia::cuda
