#include "engine/decode/retrieval.h"

#include <ggml.h>

#include <algorithm>
#include <atomic>
#include <thread>

namespace scholia {
namespace {

// The keys of one head as f32, turned within each page: [page][head_dim][16], so that the inner loop
// over tokens has no reduction and vectorises.
std::vector<float> turned_keys(const KvPages& pages, const KvView& view, int layer, int kv_head) {
  const KvShape& shape = pages.shape();
  const int D = shape.head_dim;
  const size_t elements = size_t(kKvPageTokens) * D;
  const int n_pages = (view.n_tokens + kKvPageTokens - 1) / kKvPageTokens;
  std::vector<float> keys(n_pages * elements), row(elements);
  for (int page = 0; page < n_pages; ++page) {
    const size_t from = (size_t(view.pages[page]) * shape.n_kv_heads + kv_head) * elements;
    ggml_fp16_to_fp32_row(pages.k(layer) + from, row.data(), int64_t(elements));
    float* turned = keys.data() + page * elements;
    for (int t = 0; t < kKvPageTokens; ++t) {
      for (int d = 0; d < D; ++d) turned[d * kKvPageTokens + t] = row[size_t(t) * D + d];
    }
  }
  return keys;
}

// The token with the largest score among the first n_tokens: the softmax keeps their order.
int heaviest_token(const std::vector<float>& keys, const float* q, int head_dim, int n_tokens) {
  int heaviest = 0;
  float most = 0;
  for (int first = 0; first < n_tokens; first += kKvPageTokens) {
    const float* k = keys.data() + size_t(first) * head_dim;
    float scores[kKvPageTokens] = {};
    for (int d = 0; d < head_dim; ++d) {
      for (int t = 0; t < kKvPageTokens; ++t) scores[t] += q[d] * k[d * kKvPageTokens + t];
    }
    for (int t = 0; t < std::min(kKvPageTokens, n_tokens - first); ++t) {
      if (first + t > 0 && !(scores[t] > most)) continue;
      most = scores[t];
      heaviest = first + t;
    }
  }
  return heaviest;
}

}  // namespace

Result<std::vector<double>> retrieval_scores(const KvPages& pages, const KvView& view,
                                             int n_q_heads, const CapturedQueries& queries,
                                             std::span<const int> sources, int n_threads,
                                             const CancelFlag* cancel) {
  const KvShape& shape = pages.shape();
  const int D = shape.head_dim, group = n_q_heads / shape.n_kv_heads;
  const size_t row = size_t(n_q_heads) * D, n_queries = queries.positions.size();
  std::vector<double> scores(size_t(shape.n_layers) * n_q_heads);

  const auto measure_head = [&](int head) {
    const int layer = head / shape.n_kv_heads, kv_head = head % shape.n_kv_heads;
    const std::vector<float> keys = turned_keys(pages, view, layer, kv_head);
    for (int g = 0; g < group; ++g) {
      const size_t q_head = size_t(kv_head) * group + g;
      int hits = 0;
      for (size_t i = 0; i < n_queries; ++i) {
        const float* q = queries.q[layer].data() + i * row + q_head * D;
        hits += heaviest_token(keys, q, D, queries.positions[i] + 1) == sources[i];
      }
      scores[size_t(layer) * n_q_heads + q_head] = double(hits) / double(n_queries);
    }
  };

  std::atomic<int> next_head{0};
  const auto is_cancelled = [&] {
    return cancel != nullptr && cancel->load(std::memory_order_relaxed);
  };
  const auto measure_heads = [&] {
    for (int head = next_head++; head < shape.n_heads() && !is_cancelled(); head = next_head++) {
      measure_head(head);
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < std::min(n_threads, shape.n_heads()); ++i) {
    helpers.emplace_back(measure_heads);
  }
  measure_heads();
  for (std::thread& helper : helpers) helper.join();
  if (is_cancelled()) return Error{ErrorCode::kCancelled, "Measuring the heads was cancelled."};
  return scores;
}

}  // namespace scholia
