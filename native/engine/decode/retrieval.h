// How often a head looks at the very token that the text goes on to copy: what makes a retrieval head
// (Wu et al., arXiv 2404.15574).
#pragma once

#include <span>
#include <vector>

#include "engine/decode/head_errors.h"
#include "engine/engine.h"
#include "engine/kv/kv_pages.h"

namespace scholia {

// The share of the queries in which a query head's heaviest token (of equal ones, the first) is the
// query's source: [n_layers * n_q_heads]. sources: [queries], each at most its query's position.
Result<std::vector<double>> retrieval_scores(const KvPages& pages, const KvView& view,
                                             int n_q_heads, const CapturedQueries& queries,
                                             std::span<const int> sources, int n_threads,
                                             const CancelFlag* cancel);

}  // namespace scholia
