// What every (block size, budget) pair would cost each head: the calibration's measurement.
// Everything comes from stored K and V and from the rotated queries of a few positions, with the
// deployed digests, score, reduction and selection (AB-Sparse, arXiv 2605.12110; the objective is
// ours: the output error, not recall).
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "engine/engine.h"
#include "engine/kv/kv_pages.h"

namespace scholia {

struct CapturedQueries {
  std::vector<int> positions;             // ascending
  std::vector<std::vector<float>> q;      // [layer][query][n_q_heads * head_dim], after rotary
};

Result<HeadErrors> measure_head_errors(KvPages& pages, const KvView& view, int n_q_heads,
                                       DigestFormat digest, const CapturedQueries& queries,
                                       std::span<const int> block_tokens,
                                       std::span<const int> budget_tokens, int n_threads,
                                       const std::function<void(double fraction)>& on_progress,
                                       const CancelFlag* cancel);

}  // namespace scholia
