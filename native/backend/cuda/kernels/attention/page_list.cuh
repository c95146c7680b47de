// Which pages a head reads, and which CTA of its team reads which.
#pragma once

#include "backend/cuda/kernels/attention/shared.cuh"

namespace scholia::cuda::attention {

// Where place p of a list of n_places, shared out over the team, belongs.
__device__ inline int first_place(int n_places, int rank, int size) {
  return int(int64_t(n_places) * rank / size);
}
__device__ inline int owner_of(int place, int n_places, int size) {
  return int((int64_t(place + 1) * size - 1) / n_places);
}

// The list of a head: sink pages, selected blocks' pages, local pages.
struct PageList {
  int n_pages, n_sink, n_selected;  // pages of each kind; the rest is local
  int local_shift;                  // page of the context less place in the list, of local ones

  __device__ PageList(const HeadStep& head, int n_tokens) {
    const int per_block = head.block_tokens / kPageTokens;
    const int all = (n_tokens + kPageTokens - 1) / kPageTokens;
    n_sink = head.sink_blocks * per_block;
    n_selected = head.n_selected * per_block;
    local_shift = (head.first_local_block - head.sink_blocks - head.n_selected) * per_block;
    n_pages = all - local_shift;
  }
};


}  // namespace scholia::cuda::attention
