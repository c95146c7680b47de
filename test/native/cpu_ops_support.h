// What the tests of the CPU's attention share: seeded data in paged, shuffled KV whose unwritten
// slots are NaN, guarded output buffers, and a comparison that can fail.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/reference_ops.h"

namespace scholia {

// Runs once for each instruction set; skipped where the processor lacks it.
class CpuOps : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (!force_cpu_ops_variant(GetParam())) GTEST_SKIP() << "this processor has no " << GetParam();
  }
  void TearDown() override { force_cpu_ops_variant(chosen_.c_str()); }

 private:
  const std::string chosen_ = cpu_ops_variant();
};

inline std::string variant_name(const testing::TestParamInfo<const char*>& info) {
  return info.param;
}
#define INSTANTIATE_CPU_OPS(suite)                                                         \
  INSTANTIATE_TEST_SUITE_P(Variants, suite, testing::Values("avx512", "avx2", "portable"), \
                           variant_name)

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {
    testing::Test::RecordProperty("seed", int(seed));
    trace_ =
        std::make_unique<testing::ScopedTrace>(__FILE__, __LINE__, "seed " + std::to_string(seed));
  }
  float normal(float deviation = 1) { return deviation * normal_(engine_); }
  int below(int n) { return int(engine_() % uint32_t(n)); }
  std::vector<float> normals(size_t n, float deviation = 1) {
    std::vector<float> values(n);
    for (float& x : values) x = normal(deviation);
    return values;
  }
  template <class T>
  void shuffle(std::vector<T>& values) {
    std::shuffle(values.begin(), values.end(), engine_);
  }

 private:
  std::mt19937 engine_;
  std::normal_distribution<float> normal_;
  std::unique_ptr<testing::ScopedTrace> trace_;
};

// A buffer with sentinels on both sides, filled with NaN: what is not written shows, and so does
// what is written outside.
class Guarded {
 public:
  explicit Guarded(size_t n) : values_(n + 2 * kGuard, std::nanf("")) {
    std::fill_n(values_.begin(), kGuard, kSentinel);
    std::fill_n(values_.end() - kGuard, kGuard, kSentinel);
  }
  float* data() { return values_.data() + kGuard; }
  size_t size() const { return values_.size() - 2 * kGuard; }
  std::vector<float> values() { return {data(), data() + size()}; }
  void expect_intact(const std::string& what) const {
    for (size_t i = 0; i < kGuard; i++) {
      ASSERT_EQ(values_[i], kSentinel) << what << ": written before its begin";
      ASSERT_EQ(values_[values_.size() - 1 - i], kSentinel) << what << ": written after its end";
    }
  }

 private:
  static constexpr size_t kGuard = 64;
  static constexpr float kSentinel = -12345.5F;
  std::vector<float> values_;
};

// Finite first, then |got - want| <= atol + rtol |want|; names the worst element.
inline testing::AssertionResult close(const float* got, const float* want, size_t n, double atol,
                                      double rtol) {
  size_t worst = 0;
  double worst_excess = -std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < n; i++) {
    if (!std::isfinite(want[i])) {
      return testing::AssertionFailure() << "want[" << i << "] = " << want[i];
    }
    if (!std::isfinite(got[i])) {
      return testing::AssertionFailure() << "got[" << i << "] = " << got[i];
    }
    const double excess = std::fabs(double(got[i]) - want[i]) - atol - rtol * std::fabs(want[i]);
    if (excess > worst_excess) worst_excess = excess, worst = i;
  }
  if (n == 0 || worst_excess <= 0) return testing::AssertionSuccess();
  return testing::AssertionFailure() << "worst at " << worst << " of " << n << ": got "
                                     << got[worst] << ", want " << want[worst];
}
inline testing::AssertionResult close(const std::vector<float>& got, const std::vector<float>& want,
                                      double atol, double rtol) {
  if (got.size() != want.size()) return testing::AssertionFailure() << "sizes differ";
  return close(got.data(), want.data(), got.size(), atol, rtol);
}

// Equal bits (so that NaN equals NaN, and -0 does not equal 0).
inline testing::AssertionResult same_bits(const std::vector<float>& got,
                                          const std::vector<float>& want) {
  if (got.size() != want.size()) return testing::AssertionFailure() << "sizes differ";
  for (size_t i = 0; i < got.size(); i++) {
    if (std::memcmp(&got[i], &want[i], sizeof(float)) != 0) {
      return testing::AssertionFailure()
             << "differs at " << i << " of " << got.size() << ": " << got[i] << " and " << want[i];
    }
  }
  return testing::AssertionSuccess();
}

constexpr f16 kF16Nan = 0x7E00;

// n_tokens tokens of one layer, in pages whose order is shuffled in a pool that has more of them.
// Whatever no token has written is NaN.
class PagedKv {
 public:
  PagedKv(Random& random, int n_kv_heads, int head_dim, int n_tokens, float k_deviation = 1)
      : n_kv_heads_(n_kv_heads), head_dim_(head_dim), n_tokens_(n_tokens) {
    const int n_pages = (n_tokens + 15) / 16;
    pages_.resize(n_pages + 3);
    std::iota(pages_.begin(), pages_.end(), 0U);
    random.shuffle(pages_);
    const size_t n = pages_.size() * n_kv_heads * 16 * head_dim;
    k_.assign(n, kF16Nan);
    v_.assign(n, kF16Nan);
    for (int t = 0; t < n_tokens; t++) {
      for (int h = 0; h < n_kv_heads; h++) {
        for (int d = 0; d < head_dim; d++) {
          k_[at(t, h) + d] = reference::f16_from_f32(random.normal(k_deviation));
          v_[at(t, h) + d] = reference::f16_from_f32(random.normal());
        }
      }
    }
  }

  KvLayer layer() const { return {k_.data(), v_.data(), pages_.data(), n_kv_heads_, head_dim_}; }
  size_t at(int token, int kv_head) const {
    return ((size_t(pages_[token / 16]) * n_kv_heads_ + kv_head) * 16 + token % 16) * head_dim_;
  }
  int n_tokens() const { return n_tokens_; }
  std::vector<f16>& k() { return k_; }
  std::vector<f16>& v() { return v_; }
  std::vector<PageId>& pages() { return pages_; }

 private:
  int n_kv_heads_, head_dim_, n_tokens_;
  std::vector<PageId> pages_;
  std::vector<f16> k_, v_;
};

inline std::vector<int> tokens_of(const std::vector<TokenRun>& runs) {
  std::vector<int> tokens;
  for (const TokenRun& run : runs) {
    for (int i = 0; i < run.n_tokens; i++) tokens.push_back(run.first_token + i);
  }
  return tokens;
}

struct Attended {
  std::vector<float> out;  // [G][D]
  std::vector<float> lse;  // [G]
};

// Decode as a backend does it: cut, attend each piece, merge.
inline Attended attend_runs(const KvLayer& kv, int kv_head, const std::vector<float>& q,
                            int n_heads, const std::vector<TokenRun>& runs,
                            std::vector<float>* page_mass = nullptr) {
  Pieces pieces;
  pieces.cut(runs.data(), int(runs.size()));
  const size_t n = pieces.count(), D = kv.head_dim;
  Guarded m(n * n_heads), l(n * n_heads), o(n * n_heads * D);
  for (size_t i = 0; i < n; i++) {
    const TokenRun* first = pieces.runs.data() + pieces.first_run[i];
    const int n_runs = pieces.first_run[i + 1] - pieces.first_run[i];
    size_t n_pages = 0;
    for (int r = 0; r < n_runs; r++) n_pages += (first[r].n_tokens + 15) / 16;
    Guarded mass(n_pages * n_heads * 2);
    attend_piece(kv, kv_head, q.data(), n_heads, first, n_runs,
                 {m.data() + i * n_heads, l.data() + i * n_heads, o.data() + i * n_heads * D},
                 page_mass ? mass.data() : nullptr);
    mass.expect_intact("page_mass");
    if (page_mass) {
      const std::vector<float> values = mass.values();
      page_mass->insert(page_mass->end(), values.begin(), values.end());
    }
  }
  m.expect_intact("m"), l.expect_intact("l"), o.expect_intact("o");
  Guarded out(n_heads * D), lse(n_heads);
  merge_states(m.data(), l.data(), o.data(), int(n), n_heads, int(D), out.data(), lse.data());
  out.expect_intact("out"), lse.expect_intact("lse");
  return {out.values(), lse.values()};
}

}  // namespace scholia
