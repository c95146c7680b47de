// The calibration's measurement against plain sums in double.
#include "engine/decode/head_errors.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <numeric>
#include <random>

#include "backend/cpu/reference_ops.h"
#include "engine/decode/plan.h"
#include "engine/decode/retrieval.h"

namespace scholia::test {
namespace {

constexpr int kBlocks[] = {16, 32, 64, 128};

// Random K, V and queries of one text, its pages scattered over the pool.
struct Text {
  KvPages pages;
  std::vector<PageId> table;
  int n_tokens;
  int group;
  CapturedQueries queries;

  KvView view(int n) const { return {table.data(), n}; }
  KvView view() const { return view(n_tokens); }
  int n_q_heads() const { return group * pages.shape().n_kv_heads; }
};

Text random_text(const KvShape& shape, int group, int n_tokens, std::vector<int> positions,
                 uint32_t seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  const int n_pages = (n_tokens + kKvPageTokens - 1) / kKvPageTokens;
  auto pages = KvPages::reserve(shape, size_t(n_pages) + 3);
  EXPECT_TRUE(pages.ok());
  Text text{std::move(pages.value()), {}, n_tokens, group, {}};
  std::vector<PageId> ids(size_t(n_pages) + 3);
  std::iota(ids.begin(), ids.end(), 0);
  std::shuffle(ids.begin(), ids.end(), random);
  text.table.assign(ids.begin(), ids.begin() + n_pages);
  const size_t elements = text.pages.n_pages() * shape.page_elements();
  for (int layer = 0; layer < shape.n_layers; ++layer) {
    for (size_t i = 0; i < elements; ++i) {
      text.pages.k(layer)[i] = reference::f16_from_f32(normal(random));
      text.pages.v(layer)[i] = reference::f16_from_f32(normal(random));
    }
  }
  text.queries.positions = std::move(positions);
  const size_t floats =
      text.queries.positions.size() * size_t(text.n_q_heads()) * size_t(shape.head_dim);
  text.queries.q.resize(size_t(shape.n_layers));
  for (auto& q : text.queries.q) {
    // Sharper than a model's mean head, so that what is selected matters.
    for (size_t i = 0; i < floats; ++i) q.push_back(1.5F * normal(random));
  }
  return text;
}

Result<HeadErrors> measure(Text& text, std::span<const int> budgets, int n_threads = 2,
                           const CancelFlag* cancel = nullptr) {
  return measure_head_errors(text.pages, text.view(), text.n_q_heads(), DigestFormat(),
                             text.queries, kBlocks, budgets, n_threads, {}, cancel);
}

// What decode at `position` would read of one head, token by token, with digests made afresh.
std::vector<int> tokens_read(const Text& text, int head, const float* q, int position,
                             int block_tokens, int budget_tokens) {
  const KvShape& shape = text.pages.shape();
  const DigestLayout layout(shape,
                            HeadProfile::uniform(shape.n_layers, shape.n_kv_heads, block_tokens));
  Digests digests;
  digests.update(layout, text.pages, text.view(position));
  const HeadPlan plan =
      make_decode_plan(HeadProfile::uniform(1, 1, block_tokens), {1, 1, shape.head_dim},
                       Mode::kAbSparse, budget_tokens, position + 1)
          .heads[0];
  const auto n_free = size_t(plan.n_free());
  std::vector<float> scores(n_free * size_t(text.group)), reduced(n_free);
  std::vector<int> selected(n_free), scratch(n_free);
  if (n_free > 0) {
    score_kv_blocks(layout, digests, head, q, text.group, plan.sink_blocks, plan.n_free(),
                    scores.data(), n_free);
    reduce_scores(scores.data(), n_free, text.group, plan.n_free(), reduced.data());
    select_kv_blocks(reduced.data(), plan.n_free(), plan.n_selected, selected.data(),
                     scratch.data());
  }
  std::vector<int> tokens;
  const auto add_block = [&](int block) {
    for (int t = block * block_tokens; t < std::min((block + 1) * block_tokens, position + 1);
         ++t) {
      tokens.push_back(t);
    }
  };
  for (int block = 0; block < plan.sink_blocks; ++block) add_block(block);
  for (int i = 0; i < plan.n_selected; ++i) add_block(plan.sink_blocks + selected[size_t(i)]);
  for (int block = plan.first_local_block; block * block_tokens <= position; ++block) {
    add_block(block);
  }
  return tokens;
}

struct Cost {
  double error, recall;
};

Cost naive_cost(const Text& text, int head, const float* q, int position,
                const std::vector<int>& tokens) {
  const KvShape& shape = text.pages.shape();
  const int layer = head / shape.n_kv_heads, kv_head = head % shape.n_kv_heads;
  const KvLayer kv{text.pages.k(layer), text.pages.v(layer), text.table.data(), shape.n_kv_heads,
                   shape.head_dim};
  std::vector<int> all(size_t(position) + 1);
  std::iota(all.begin(), all.end(), 0);
  const auto D = size_t(shape.head_dim);
  const auto k = reference::gather(kv, kv.k, kv_head, all);
  const auto v = reference::gather(kv, kv.v, kv_head, all);
  const auto few_k = reference::gather(kv, kv.k, kv_head, tokens);
  const auto few_v = reference::gather(kv, kv.v, kv_head, tokens);
  double difference = 0, size = 0;
  std::vector<double> mass(all.size());
  for (int g = 0; g < text.group; ++g) {
    const float* row = q + size_t(g) * D;
    std::vector<double> dense(D), sparse(D);
    const double lse =
        reference::attend(row, k.data(), v.data(), int(all.size()), int(D), dense.data());
    reference::attend(row, few_k.data(), few_v.data(), int(tokens.size()), int(D), sparse.data());
    for (size_t d = 0; d < D; ++d) {
      difference += (dense[d] - sparse[d]) * (dense[d] - sparse[d]);
      size += dense[d] * dense[d];
    }
    for (size_t t = 0; t < all.size(); ++t) {
      double dot = 0;
      for (size_t d = 0; d < D; ++d) dot += double(row[d]) * double(k[t * D + d]);
      mass[t] += std::exp(dot / std::sqrt(double(D)) - lse) / text.group;
    }
  }
  double kept = 0, best = 0;
  for (const int t : tokens) kept += mass[size_t(t)];
  std::sort(mass.begin(), mass.end(), std::greater<>());
  for (size_t i = 0; i < tokens.size(); ++i) best += mass[i];
  return {std::sqrt(difference / size), kept / best};
}

void expect_naive(Text& text, std::span<const int> budgets) {
  const auto measured = measure(text, budgets);
  ASSERT_TRUE(measured.ok()) << measured.error().message;
  const HeadErrors& errors = measured.value();
  const KvShape& shape = text.pages.shape();
  const size_t group_floats = size_t(text.group) * size_t(shape.head_dim);
  const double n_queries = double(text.queries.positions.size());
  size_t at = 0;
  for (int head = 0; head < shape.n_heads(); ++head) {
    const auto& q = text.queries.q[size_t(head / shape.n_kv_heads)];
    for (const int block : kBlocks) {
      for (const int budget : budgets) {
        Cost mean{0, 0};
        for (size_t i = 0; i < text.queries.positions.size(); ++i) {
          const float* group_q =
              q.data() +
              (i * size_t(shape.n_kv_heads) + size_t(head % shape.n_kv_heads)) * group_floats;
          const int position = text.queries.positions[i];
          const Cost cost = naive_cost(text, head, group_q, position,
                                       tokens_read(text, head, group_q, position, block, budget));
          mean.error += cost.error / n_queries;
          mean.recall += cost.recall / n_queries;
        }
        // f32 scores and weights against double.
        EXPECT_NEAR(errors.output_error[at], mean.error, 1e-5)
            << "head " << head << ", blocks of " << block << ", budget " << budget;
        EXPECT_NEAR(errors.recall[at], mean.recall, 1e-5)
            << "head " << head << ", blocks of " << block << ", budget " << budget;
        ++at;
      }
    }
  }
  EXPECT_EQ(errors.output_error.size(), at);
  EXPECT_EQ(errors.recall.size(), at);
}

TEST(HeadErrors, EqualPlainSumsWithinTheOpenGroup) {
  // Budgets below the forced tokens, between, and beyond the context; contexts around a page's and
  // a block's end.
  Text text = random_text({2, 2, 32}, 3, 700, {511, 512, 575, 640, 699}, 1);
  expect_naive(text, std::vector<int>{1, 256, 400, 512, 1000});
}

TEST(HeadErrors, EqualPlainSumsAcrossClosedGroups) {
  Text text = random_text({1, 2, 64}, 7, 2200, {2047, 2048, 2100, 2199}, 2);
  expect_naive(text, std::vector<int>{512, 1024});
}

TEST(HeadErrors, EqualPlainSumsInAShortText) {
  Text text = random_text({1, 1, 64}, 1, 40, {0, 15, 16, 39}, 3);
  expect_naive(text, std::vector<int>{16, 32, 64});
}

TEST(HeadErrors, ReadingEverythingIsExact) {
  Text text = random_text({1, 2, 64}, 4, 900, {700, 899}, 4);
  const auto errors = measure(text, std::vector<int>{900, 4096});
  ASSERT_TRUE(errors.ok());
  for (const double error : errors.value().output_error) EXPECT_EQ(error, 0);
  for (const double recall : errors.value().recall) EXPECT_NEAR(recall, 1, 1e-6);
}

TEST(HeadErrors, ReadingLessIsNot) {
  Text text = random_text({1, 2, 64}, 4, 900, {700, 899}, 5);
  const auto errors = measure(text, std::vector<int>{450});
  ASSERT_TRUE(errors.ok());
  for (const double error : errors.value().output_error) EXPECT_GT(error, 0.01);
  for (const double recall : errors.value().recall) {
    EXPECT_GT(recall, 0.1);
    EXPECT_LT(recall, 1);
  }
}

// Scores hundreds apart: the weights of what is selected may be too small for f32 beside the
// largest, and still make a proper average.
TEST(HeadErrors, SurviveScoresFarApart) {
  Text text = random_text({1, 1, 32}, 2, 600, {599}, 6);
  for (float& q : text.queries.q[0]) q *= 400;
  expect_naive(text, std::vector<int>{300});
}

TEST(HeadErrors, TheNumberOfThreadsChangesNoBit) {
  Text text = random_text({3, 2, 32}, 2, 600, {300, 599}, 7);
  const std::vector<int> budgets{300, 400};
  const auto one = measure(text, budgets, 1), many = measure(text, budgets, 5);
  ASSERT_TRUE(one.ok() && many.ok());
  EXPECT_EQ(one.value().output_error, many.value().output_error);
  EXPECT_EQ(one.value().recall, many.value().recall);
}

TEST(HeadErrors, ReportProgressUpToTheEnd) {
  Text text = random_text({3, 2, 32}, 2, 300, {299}, 8);
  std::vector<double> seen;
  const auto errors = measure_head_errors(
      text.pages, text.view(), text.n_q_heads(), DigestFormat(), text.queries, kBlocks,
      std::vector<int>{256}, 1, [&](double fraction) { seen.push_back(fraction); }, nullptr);
  ASSERT_TRUE(errors.ok());
  ASSERT_EQ(seen.size(), 6U);
  EXPECT_TRUE(std::is_sorted(seen.begin(), seen.end()));
  EXPECT_EQ(seen.back(), 1);
}

TEST(HeadErrors, StopWhenCancelled) {
  Text text = random_text({1, 1, 32}, 2, 300, {299}, 9);
  const CancelFlag cancel{true};
  const auto errors = measure(text, std::vector<int>{256}, 2, &cancel);
  ASSERT_FALSE(errors.ok());
  EXPECT_EQ(errors.error().code, ErrorCode::kCancelled);
}

TEST(HeadErrors, RefuseWhatCannotBeMeasured) {
  Text text = random_text({1, 1, 32}, 2, 300, {299}, 10);
  const auto code = [&](std::span<const int> blocks, std::span<const int> budgets) {
    const auto errors =
        measure_head_errors(text.pages, text.view(), text.n_q_heads(), DigestFormat(),
                            text.queries, blocks, budgets, 1, {}, nullptr);
    return errors.ok() ? "ok" : error_code_name(errors.error().code);
  };
  EXPECT_EQ(code(kBlocks, std::vector<int>{256}), "ok");
  EXPECT_EQ(code(std::vector<int>{48}, std::vector<int>{256}), "invalid_argument");
  EXPECT_EQ(code(kBlocks, std::vector<int>{0}), "invalid_argument");
  EXPECT_EQ(code(kBlocks, std::vector<int>{}), "invalid_argument");
  EXPECT_EQ(code({}, std::vector<int>{256}), "invalid_argument");
  text.queries.positions = {300};
  EXPECT_EQ(code(kBlocks, std::vector<int>{256}), "invalid_argument");
  text.queries.positions = {299, 298};
  EXPECT_EQ(code(kBlocks, std::vector<int>{256}), "invalid_argument");
  text.queries.positions = {299};
  text.queries.q[0].pop_back();
  EXPECT_EQ(code(kBlocks, std::vector<int>{256}), "invalid_argument");
}

// A text that holds NaN must not make a profile.
TEST(HeadErrors, RefuseWhatIsNotFinite) {
  Text text = random_text({1, 1, 32}, 2, 300, {299}, 11);
  text.queries.q[0][0] = std::nanf("");
  const auto errors = measure(text, std::vector<int>{256});
  ASSERT_FALSE(errors.ok());
  EXPECT_EQ(errors.error().code, ErrorCode::kInternal);
}

// The heaviest token of a query head, by sums in double.
int heaviest(const Text& text, int layer, int q_head, size_t query) {
  const KvShape& shape = text.pages.shape();
  const int D = shape.head_dim, kv_head = q_head / text.group;
  const float* q = text.queries.q[size_t(layer)].data() +
                   (query * size_t(text.n_q_heads()) + size_t(q_head)) * size_t(D);
  int best = 0;
  double most = -1e300;
  for (int t = 0; t <= text.queries.positions[query]; ++t) {
    const size_t page = text.table[size_t(t / kKvPageTokens)];
    const f16* k = text.pages.k(layer) +
                   ((page * size_t(shape.n_kv_heads) + size_t(kv_head)) * kKvPageTokens +
                    size_t(t % kKvPageTokens)) * size_t(D);
    double score = 0;
    for (int d = 0; d < D; ++d) score += double(q[d]) * double(reference::f32_from_f16(k[d]));
    if (score > most) best = t, most = score;
  }
  return best;
}

TEST(Retrieval, CountsTheQueriesWhoseHeaviestTokenIsTheirSource) {
  const Text text = random_text({2, 2, 32}, 3, 150, {17, 40, 90, 149}, 5);
  // Two of the four sources are what the fifth query head of the second layer looks at.
  const std::vector<int> sources = {3, heaviest(text, 1, 4, 1), heaviest(text, 1, 4, 2), 149};
  const auto scores =
      retrieval_scores(text.pages, text.view(), text.n_q_heads(), text.queries, sources, 2, nullptr);
  ASSERT_TRUE(scores.ok());
  ASSERT_EQ(scores.value().size(), 2U * 6U);
  for (int layer = 0; layer < 2; ++layer) {
    for (int q_head = 0; q_head < 6; ++q_head) {
      int hits = 0;
      for (size_t i = 0; i < 4; ++i) hits += heaviest(text, layer, q_head, i) == sources[i];
      EXPECT_EQ(scores.value()[size_t(layer) * 6 + size_t(q_head)], hits / 4.0);
    }
  }
  EXPECT_GE(scores.value()[6 + 4], 0.5);
}

TEST(Retrieval, StopsWhenCancelled) {
  const Text text = random_text({2, 2, 32}, 1, 64, {63}, 6);
  const CancelFlag cancelled{true};
  const int source = 0;
  const auto scores = retrieval_scores(text.pages, text.view(), text.n_q_heads(), text.queries,
                                       {&source, 1}, 2, &cancelled);
  ASSERT_FALSE(scores.ok());
  EXPECT_EQ(scores.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace scholia::test
