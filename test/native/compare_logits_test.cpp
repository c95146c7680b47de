#include "engine/decode/compare_logits.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace scholia {
namespace {

long double log_sum(const std::vector<float>& row) {
  long double most = row[0], sum = 0;
  for (const float x : row) most = std::max<long double>(most, x);
  for (const float x : row) sum += std::exp(x - most);
  return most + std::log(sum);
}

// The definition, summand by summand.
long double plain_kl(const std::vector<float>& truth, const std::vector<float>& other) {
  const long double truth_sum = log_sum(truth), other_sum = log_sum(other);
  long double kl = 0;
  for (size_t i = 0; i < truth.size(); ++i) {
    const long double log_p = truth[i] - truth_sum, log_q = other[i] - other_sum;
    kl += std::exp(log_p) * (log_p - log_q);
  }
  return kl;
}

std::vector<float> random_row(std::mt19937& random, int n, float spread) {
  std::normal_distribution<float> logit(3, spread);
  std::vector<float> row(n);
  for (float& x : row) x = logit(random);
  return row;
}

TEST(CompareLogits, AgreesWithTheDefinition) {
  std::mt19937 random(5);
  for (const int n : {1, 2, 15, 16, 17, 100, 49152, 151936}) {
    for (const float spread : {0.1F, 4.0F, 400.0F}) {
      for (const float change : {1e-3F, 1.0F}) {
        const auto truth = random_row(random, n, spread);
        auto other = random_row(random, n, change);
        for (int i = 0; i < n; ++i) other[i] += truth[i] + 20;
        const LogitDifference found = compare_logits(truth, other);
        const auto expected = double(plain_kl(truth, other));
        SCOPED_TRACE(testing::Message() << n << " logits, spread " << spread << " and " << change);
        // Double's own rounding of logarithms and logits of this size.
        EXPECT_NEAR(found.kl, expected, 1e-13 + 1e-14 * spread);
        EXPECT_NEAR(found.truth_log_sum, double(log_sum(truth)), 1e-11);
        EXPECT_NEAR(found.other_log_sum, double(log_sum(other)), 1e-11);
        EXPECT_EQ(truth[found.truth_top], *std::max_element(truth.begin(), truth.end()));
        EXPECT_EQ(other[found.other_top], *std::max_element(other.begin(), other.end()));
      }
    }
  }
}

TEST(CompareLogits, EqualRowsDoNotDivergeAndTwoCoinsAsTheBooksSay) {
  std::mt19937 random(6);
  const auto row = random_row(random, 1000, 4);
  EXPECT_EQ(compare_logits(row, row).kl, 0);
  const std::vector<float> fair = {std::log(0.5F), std::log(0.5F)};
  const std::vector<float> bent = {std::log(0.9F), std::log(0.1F)};
  EXPECT_NEAR(compare_logits(fair, bent).kl, 0.5 * std::log(0.5 / 0.9) + 0.5 * std::log(0.5 / 0.1),
              1e-7);
}

TEST(CompareRows, ComparesEachPositionWhateverTheThreads) {
  constexpr int kVocab = 33, kRows = 7;
  std::mt19937 random(7);
  const auto truth = random_row(random, kVocab * kRows, 2);
  const auto other = random_row(random, kVocab * kRows, 2);
  const std::vector<Token> following = {1, 32, 0, 5, 5, 7};  // the last row is the tail's last
  for (const int n_threads : {1, 3, 16}) {
    TailComparison found;
    ASSERT_TRUE(compare_rows(truth, other, kVocab, following, n_threads, found).ok());
    ASSERT_EQ(found.kl.size(), size_t(kRows));
    ASSERT_EQ(found.same_top.size(), size_t(kRows));
    ASSERT_EQ(found.loss_increase.size(), following.size());
    for (int r = 0; r < kRows; ++r) {
      const std::vector<float> t(truth.begin() + r * kVocab, truth.begin() + (r + 1) * kVocab);
      const std::vector<float> o(other.begin() + r * kVocab, other.begin() + (r + 1) * kVocab);
      EXPECT_NEAR(found.kl[r], double(plain_kl(t, o)), 1e-12);
      const auto top = [](const auto& row) {
        return std::max_element(row.begin(), row.end()) - row.begin();
      };
      EXPECT_EQ(found.same_top[r], top(t) == top(o));
      if (r == kRows - 1) continue;
      const Token next = following[r];
      EXPECT_NEAR(found.loss_increase[r],
                  double((log_sum(o) - o[next]) - (log_sum(t) - t[next])), 1e-12);
    }
  }
}

TEST(CompareRows, RefusesLogitsThatAreNotFinite) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(),
                          std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    for (const int at : {0, 3, 40}) {
      std::vector<float> truth(50, 1.0F), other = truth;
      (at == 3 ? truth : other)[at] = bad;
      TailComparison found;
      const Status status = compare_rows(truth, other, 50, {}, 1, found);
      ASSERT_FALSE(status.ok()) << bad << " at " << at;
      EXPECT_EQ(status.error().code, ErrorCode::kInternal);
    }
  }
}

}  // namespace
}  // namespace scholia
