// Which pages a head reads, and which CTA of its team reads which.
#pragma once

#include "backend/cuda/kernels/attention/shared.cuh"
#include "backend/cuda/kernels/team.cuh"

namespace scholia::cuda::attention {

// Places shared out over `size` owners: the first have one more.
class Shares {
 public:
  __device__ Shares(int n_places, int size)
      : each_(unsigned(n_places) / unsigned(size)), n_longer_(n_places - int(each_) * size) {}
  // Over a team's CTAs, without a division: the kernel's beginning waits for it.
  __device__ Shares(int n_places, const Team& team)
      : each_(team.divided(unsigned(n_places))),
        n_longer_(n_places - int(each_) * team.size) {}

  __device__ int first(int rank) const { return int(each_) * rank + min(rank, n_longer_); }
  __device__ int owner(int place) const {
    const unsigned of_longer = unsigned(n_longer_) * (each_ + 1);
    return unsigned(place) < of_longer ? int(unsigned(place) / (each_ + 1))
                                       : n_longer_ + int((unsigned(place) - of_longer) / each_);
  }

 private:
  unsigned each_;
  int n_longer_;
};

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
