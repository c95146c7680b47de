#include "engine/decode/head_errors.h"

#include <ggml.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <thread>

#include "backend/cpu/cpu_ops.h"
#include "engine/decode/plan.h"
#include "engine/kv/digests.h"

namespace scholia {
namespace {

constexpr int kPage = kKvPageTokens;

int pages_for(int n_tokens) { return (n_tokens + kPage - 1) / kPage; }

// One block size with the digests that decode would have at each query.
struct Granularity {
  int block_tokens = 0;
  DigestLayout layout;
  // A query at position p sees p / kDigestGroupTokens closed groups. Blocks of the open group have
  // the same digest whatever follows them, so one Digests serves all queries with equal counts.
  std::vector<int> closed_groups;  // ascending
  std::vector<Digests> digests;

  const Digests& at(int position) const {
    const auto found =
        std::lower_bound(closed_groups.begin(), closed_groups.end(), position / kDigestGroupTokens);
    return digests[size_t(found - closed_groups.begin())];
  }
};

Granularity build_granularity(const KvPages& pages, const KvView& view, DigestFormat digest,
                              const std::vector<int>& positions, int block_tokens) {
  const KvShape& shape = pages.shape();
  HeadProfile profile = HeadProfile::uniform(shape.n_layers, shape.n_kv_heads, block_tokens);
  profile.digest = digest;
  Granularity built{block_tokens, DigestLayout(shape, profile), {}, {}};
  Digests digests;
  for (size_t i = 0; i < positions.size(); ++i) {
    const int groups = positions[i] / kDigestGroupTokens;
    if (i + 1 < positions.size() && positions[i + 1] / kDigestGroupTokens == groups) continue;
    digests.update(built.layout, pages, {view.pages, positions[i]});
    built.closed_groups.push_back(groups);
    built.digests.push_back(digests);
  }
  return built;
}

// K and V of one head as f32, converted once for all queries. K is turned within each page, so that
// the inner loop over tokens has no reduction and vectorises.
struct HeadKv {
  std::vector<float> k;  // [page][head_dim][16]
  std::vector<float> v;  // [page][16][head_dim]

  void load(const KvPages& pages, const KvView& view, int layer, int kv_head) {
    const KvShape& shape = pages.shape();
    const int D = shape.head_dim;
    const size_t elements = size_t(kPage) * D;
    const int n_pages = pages_for(view.n_tokens);
    k.resize(n_pages * elements);
    v.resize(n_pages * elements);
    std::vector<float> row(elements);
    for (int page = 0; page < n_pages; ++page) {
      const size_t from = (size_t(view.pages[page]) * shape.n_kv_heads + kv_head) * elements;
      ggml_fp16_to_fp32_row(pages.v(layer) + from, v.data() + page * elements, int64_t(elements));
      ggml_fp16_to_fp32_row(pages.k(layer) + from, row.data(), int64_t(elements));
      float* turned = k.data() + page * elements;
      for (int t = 0; t < kPage; ++t) {
        for (int d = 0; d < D; ++d) turned[d * kPage + t] = row[size_t(t) * D + d];
      }
    }
  }
};

// The exact attention of one query group, kept page by page: every candidate is a list of pages,
// and merging their states is all that it costs. Weights are relative to their own page's maximum,
// so a page of tiny weights keeps its precision.
struct PageStates {
  int group = 0, head_dim = 0, n_tokens = 0, n_pages = 0;
  std::vector<float> weight;  // [page][G][16] e^(score - m)
  std::vector<float> m;       // [page][G]
  std::vector<float> l;       // [page][G] sum of the weights
  std::vector<float> o;       // [page][G][D] sum of weight * V

  void attend(const HeadKv& kv, const float* q, int n_q_heads_per_kv, int D, int tokens) {
    group = n_q_heads_per_kv;
    head_dim = D;
    n_tokens = tokens;
    n_pages = pages_for(tokens);
    weight.resize(size_t(n_pages) * group * kPage);
    m.resize(size_t(n_pages) * group);
    l.resize(size_t(n_pages) * group);
    o.resize(size_t(n_pages) * group * D);
    const float scale = 1 / std::sqrt(float(D));
    for (int page = 0; page < n_pages; ++page) {
      const int n = std::min(kPage, n_tokens - page * kPage);
      for (int g = 0; g < group; ++g) {
        const size_t at = size_t(page) * group + g;
        score_page(kv.k.data() + size_t(page) * kPage * D, q + size_t(g) * D, n, scale, at);
        sum_page(kv.v.data() + size_t(page) * kPage * D, at);
      }
    }
  }

 private:
  void score_page(const float* k, const float* q, int n, float scale, size_t at) {
    float scores[kPage] = {};
    for (int d = 0; d < head_dim; ++d) {
      for (int t = 0; t < kPage; ++t) scores[t] += q[d] * k[d * kPage + t];
    }
    m[at] = -std::numeric_limits<float>::infinity();
    for (int t = 0; t < n; ++t) m[at] = std::max(m[at], scores[t] * scale);
    float* w = weight.data() + at * kPage;
    l[at] = 0;
    for (int t = 0; t < kPage; ++t) {
      w[t] = t < n ? std::exp(scores[t] * scale - m[at]) : 0;
      l[at] += w[t];
    }
  }

  void sum_page(const float* v, size_t at) {
    const float* w = weight.data() + at * kPage;
    float* out = o.data() + at * head_dim;
    std::fill_n(out, head_dim, 0.0F);
    for (int t = 0; t < kPage; ++t) {
      for (int d = 0; d < head_dim; ++d) out[d] += w[t] * v[size_t(t) * head_dim + d];
    }
  }
};

// The attention over a list of pages, merged in its order.
struct Attention {
  std::vector<double> output;          // [G][D]
  std::vector<double> log_normaliser;  // [G] natural log of the sum of e^score

  void merge(const PageStates& states, const std::vector<int>& pages) {
    const int group = states.group, D = states.head_dim;
    output.assign(size_t(group) * D, 0);
    log_normaliser.assign(group, 0);
    for (int g = 0; g < group; ++g) {
      float top = -std::numeric_limits<float>::infinity();
      for (const int page : pages) top = std::max(top, states.m[size_t(page) * group + g]);
      double total = 0;
      double* sum = output.data() + size_t(g) * D;
      for (const int page : pages) {
        const size_t at = size_t(page) * group + g;
        const double factor = std::exp(double(states.m[at]) - double(top));
        total += factor * double(states.l[at]);
        const float* o = states.o.data() + at * D;
        for (int d = 0; d < D; ++d) sum[d] += factor * double(o[d]);
      }
      for (int d = 0; d < D; ++d) sum[d] /= total;
      log_normaliser[g] = double(top) + std::log(total);
    }
  }
};

double norm(const std::vector<double>& x) {
  double sum = 0;
  for (const double value : x) sum += value * value;
  return std::sqrt(sum);
}

double relative_error(const std::vector<double>& truth, const std::vector<double>& other) {
  std::vector<double> difference(truth.size());
  for (size_t i = 0; i < truth.size(); ++i) difference[i] = truth[i] - other[i];
  const double error = norm(difference);
  return error == 0 ? 0 : error / norm(truth);
}

// How the dense attention is spread: mean over the group's softmax rows.
struct Masses {
  std::vector<double> page;  // [page]
  std::vector<double> best;  // [n + 1] mass of the n heaviest tokens

  void measure(const PageStates& states, const Attention& dense) {
    const int group = states.group;
    page.assign(states.n_pages, 0);
    std::vector<float> token(size_t(states.n_pages) * kPage, 0.0F);
    for (int p = 0; p < states.n_pages; ++p) {
      for (int g = 0; g < group; ++g) {
        const size_t at = size_t(p) * group + g;
        const double share = std::exp(double(states.m[at]) - dense.log_normaliser[g]) / group;
        page[p] += share * double(states.l[at]);
        for (int t = 0; t < kPage; ++t) {
          token[size_t(p) * kPage + t] += float(share) * states.weight[at * kPage + t];
        }
      }
    }
    token.resize(states.n_tokens);
    std::sort(token.begin(), token.end(), std::greater<>());
    best.assign(1, 0);
    for (const float mass : token) best.push_back(best.back() + double(mass));
  }
};

struct Work {
  const KvPages& pages;
  const KvView& view;
  const CapturedQueries& queries;
  const std::vector<Granularity>& granularities;
  std::span<const int> budget_tokens;
  int group;
  const CancelFlag* cancel;
  HeadErrors& errors;
};

// Measures all candidates for one head after the other; each thread has its own.
class HeadMeter {
 public:
  explicit HeadMeter(const Work& work) : work_(work) {}

  // False when it was cancelled.
  bool measure(int head) {
    const KvShape& shape = work_.pages.shape();
    const int layer = head / shape.n_kv_heads, kv_head = head % shape.n_kv_heads;
    kv_.load(work_.pages, work_.view, layer, kv_head);
    const size_t group_floats = size_t(work_.group) * shape.head_dim;
    const size_t row = group_floats * shape.n_kv_heads;
    for (size_t i = 0; i < work_.queries.positions.size(); ++i) {
      if (work_.cancel != nullptr && work_.cancel->load(std::memory_order_relaxed)) return false;
      const float* q = work_.queries.q[layer].data() + i * row + kv_head * group_floats;
      measure_query(head, q, work_.queries.positions[i]);
    }
    return true;
  }

 private:
  void measure_query(int head, const float* q, int position) {
    const int n_tokens = position + 1;
    states_.attend(kv_, q, work_.group, work_.pages.shape().head_dim, n_tokens);
    read_.clear();
    add_pages(0, n_tokens);
    dense_.merge(states_, read_);
    masses_.measure(states_, dense_);
    for (size_t b = 0; b < work_.granularities.size(); ++b) {
      const Granularity& granularity = work_.granularities[b];
      score(granularity, head, q, position);
      for (size_t t = 0; t < work_.budget_tokens.size(); ++t) {
        const HeadPlan plan =
            plan_one_head(granularity.block_tokens, work_.budget_tokens[t], n_tokens);
        list_pages(plan, n_tokens);
        sparse_.merge(states_, read_);
        const size_t at = (head * work_.granularities.size() + b) * work_.budget_tokens.size() + t;
        const double n_queries = double(work_.queries.positions.size());
        work_.errors.output_error[at] += relative_error(dense_.output, sparse_.output) / n_queries;
        double mass = 0;
        for (const int page : read_) mass += masses_.page[page];
        work_.errors.recall[at] += mass / masses_.best[plan.tokens_read(n_tokens)] / n_queries;
      }
    }
  }

  static HeadPlan plan_one_head(int block_tokens, int budget_tokens, int n_tokens) {
    return make_decode_plan(HeadProfile::uniform(1, 1, block_tokens), KvShape{1, 1, 1},
                            Mode::kAbSparse, budget_tokens, n_tokens)
        .heads[0];
  }

  // The free blocks are the same for every budget.
  void score(const Granularity& granularity, int head, const float* q, int position) {
    const HeadPlan plan = plan_one_head(granularity.block_tokens, 1, position + 1);
    const int n_free = plan.n_free();
    reduced_.resize(n_free);
    selected_.resize(n_free);
    scratch_.resize(n_free);
    if (n_free == 0) return;
    scores_.resize(size_t(n_free) * work_.group);
    score_kv_blocks(granularity.layout, granularity.at(position), head, q, work_.group,
                    plan.sink_blocks, n_free, scores_.data(), n_free);
    reduce_scores(scores_.data(), n_free, work_.group, n_free, reduced_.data());
  }

  void list_pages(const HeadPlan& plan, int n_tokens) {
    const int block = plan.block_tokens;
    read_.clear();
    add_pages(0, plan.sink_blocks * block);
    if (plan.n_selected > 0) {
      select_kv_blocks(reduced_.data(), plan.n_free(), plan.n_selected, selected_.data(),
                       scratch_.data());
    }
    for (int i = 0; i < plan.n_selected; ++i) {
      const int first = (plan.sink_blocks + selected_[i]) * block;
      add_pages(first, first + block);
    }
    add_pages(plan.first_local_block * block, n_tokens);
  }

  // Appends the pages of the tokens [begin, end); begin is a page's first token.
  void add_pages(int begin, int end) {
    for (int page = begin / kPage; page < pages_for(end); ++page) read_.push_back(page);
  }

  Work work_;
  HeadKv kv_;
  PageStates states_;
  Attention dense_, sparse_;
  Masses masses_;
  std::vector<int> read_;  // pages, ascending
  std::vector<float> scores_, reduced_;
  std::vector<int> selected_, scratch_;
};

Status check_arguments(const KvPages& pages, const KvView& view, int n_q_heads,
                       const CapturedQueries& queries, std::span<const int> block_tokens,
                       std::span<const int> budget_tokens) {
  const auto invalid = [](std::string message) {
    return Error{ErrorCode::kInvalidArgument, std::move(message)};
  };
  for (const int block : block_tokens) {
    if (std::find(std::begin(kBlockSizes), std::end(kBlockSizes), block) == std::end(kBlockSizes)) {
      return invalid("A block size must be 16, 32, 64 or 128 tokens, not " + std::to_string(block) +
                     ".");
    }
  }
  for (const int budget : budget_tokens) {
    if (budget <= 0) {
      return invalid("A budget must be a positive number of tokens, not " + std::to_string(budget) +
                     ".");
    }
  }
  if (block_tokens.empty() || budget_tokens.empty() || queries.positions.empty()) {
    return invalid("Measuring heads needs queries, block sizes and budgets.");
  }
  int last = -1;
  for (const int position : queries.positions) {
    if (position <= last || position >= view.n_tokens) {
      return invalid("The queries' positions must ascend within the text's " +
                     std::to_string(view.n_tokens) + " tokens.");
    }
    last = position;
  }
  const KvShape& shape = pages.shape();
  const size_t floats = queries.positions.size() * size_t(n_q_heads) * shape.head_dim;
  const bool all_there = queries.q.size() == size_t(shape.n_layers) &&
                         std::all_of(queries.q.begin(), queries.q.end(),
                                     [&](const auto& q) { return q.size() == floats; });
  if (!all_there || n_q_heads <= 0 || n_q_heads % shape.n_kv_heads != 0) {
    return invalid("The captured queries do not have the model's shape.");
  }
  return {};
}

bool all_finite(const std::vector<double>& values) {
  return std::all_of(values.begin(), values.end(), [](double x) { return std::isfinite(x); });
}

}  // namespace

Result<HeadErrors> measure_head_errors(KvPages& pages, const KvView& view, int n_q_heads,
                                       DigestFormat digest, const CapturedQueries& queries,
                                       std::span<const int> block_tokens,
                                       std::span<const int> budget_tokens, int n_threads,
                                       const std::function<void(double fraction)>& on_progress,
                                       const CancelFlag* cancel) {
  if (Status status = check_arguments(pages, view, n_q_heads, queries, block_tokens, budget_tokens);
      !status.ok()) {
    return status.error();
  }
  const int n_heads = pages.shape().n_heads();
  HeadErrors errors;
  errors.block_tokens.assign(block_tokens.begin(), block_tokens.end());
  errors.budget_tokens.assign(budget_tokens.begin(), budget_tokens.end());
  errors.n_queries = int(queries.positions.size());
  errors.output_error.assign(n_heads * block_tokens.size() * budget_tokens.size(), 0);
  errors.recall = errors.output_error;

  std::vector<Granularity> granularities;
  for (const int block : block_tokens) {
    granularities.push_back(build_granularity(pages, view, digest, queries.positions, block));
  }

  const int group = n_q_heads / pages.shape().n_kv_heads;
  const Work work{pages, view, queries, granularities, budget_tokens, group, cancel, errors};
  std::atomic<int> next_head{0}, done_heads{0};
  std::atomic<bool> cancelled{false};
  const auto measure_heads = [&](bool reports) {
    HeadMeter meter(work);
    for (int head = next_head.fetch_add(1); head < n_heads; head = next_head.fetch_add(1)) {
      if (!meter.measure(head)) {
        cancelled = true;
        return;
      }
      const int done = done_heads.fetch_add(1) + 1;
      if (reports && on_progress) on_progress(double(done) / n_heads);
    }
  };
  // The caller's thread measures too, and alone reports.
  std::vector<std::thread> helpers;
  for (int i = 1; i < std::min(n_threads, n_heads); ++i) helpers.emplace_back(measure_heads, false);
  measure_heads(true);
  for (std::thread& helper : helpers) helper.join();
  if (cancelled) return Error{ErrorCode::kCancelled, "Measuring the heads was cancelled."};
  if (!all_finite(errors.output_error) || !all_finite(errors.recall)) {
    return Error{ErrorCode::kInternal, "The attention of this text is not finite."};
  }
  return errors;
}

}  // namespace scholia
