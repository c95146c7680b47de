// Whether logits are as close to libllama's as libllama's are to each other: oracle_test.cpp says why
// that is the measure.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>
#include <span>
#include <string>
#include <vector>

namespace scholia::test {

// How far two computations' logits are apart, row by row.
struct Distance {
  std::vector<double> kl;
  std::vector<double> largest;  // difference of a logit

  double mean_kl() const { return mean(kl); }
  double largest_of_all() const { return *std::max_element(largest.begin(), largest.end()); }

  static double mean(const std::vector<double>& values) {
    return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  }
};

// The mean of a - b in units of its own standard error: above 3 is no chance. The error is that of
// means over runs of rows: a flipped rounding stays in the KV, so a row resembles the ones before.
inline double excess(const std::vector<double>& a, const std::vector<double>& b) {
  constexpr size_t kRuns = 32;
  const size_t run = a.size() / kRuns;
  std::vector<double> difference(kRuns);
  for (size_t i = 0; i < kRuns * run; ++i) {
    difference[i / run] += (a[i] - b[i]) / static_cast<double>(run);
  }
  const double mean = Distance::mean(difference);
  double squares = 0;
  for (const double d : difference) squares += (d - mean) * (d - mean);
  const auto n = static_cast<double>(difference.size());
  return mean / std::sqrt(squares / (n - 1) / n);
}

// A row of logits with its log-sum-exp.
struct Row {
  std::span<const float> logits;
  double lse = 0;

  explicit Row(std::span<const float> row) : logits(row) {
    float largest = -INFINITY;
    for (const float x : row) {
      EXPECT_TRUE(std::isfinite(x));
      largest = std::max(largest, x);
    }
    double sum = 0;
    for (const float x : row) sum += std::exp(x - largest);
    lse = largest + std::log(sum);
  }
};

inline void add_row(const Row& truth, const Row& other, Distance& distance) {
  ASSERT_EQ(truth.logits.size(), other.logits.size());
  double kl = 0, largest = 0;
  for (size_t i = 0; i < truth.logits.size(); ++i) {
    const double log_p = truth.logits[i] - truth.lse, log_q = other.logits[i] - other.lse;
    // Below e^-30 a token adds nothing to the sum that could be seen.
    if (log_p > -30) kl += std::exp(log_p) * (log_p - log_q);
    largest = std::max<double>(largest, std::abs(truth.logits[i] - other.logits[i]));
  }
  distance.kl.push_back(kl);
  distance.largest.push_back(largest);
}

struct TopTwo {
  size_t first = 0;
  float margin = 0;
};

inline TopTwo top_two(std::span<const float> row) {
  size_t first = 0, second = 1;
  if (row[second] > row[first]) std::swap(first, second);
  for (size_t i = 2; i < row.size(); ++i) {
    if (row[i] > row[first]) {
      second = first;
      first = i;
    } else if (row[i] > row[second]) {
      second = i;
    }
  }
  return {first, row[first] - row[second]};
}

// Collects rows of ours and of both libllamas, then judges.
class Judge {
 public:
  void add(std::span<const float> ours, std::span<const float> plain, std::span<const float> flash) {
    const Row our_row(ours), plain_row(plain), flash_row(flash);
    add_row(plain_row, our_row, from_plain_);
    add_row(flash_row, our_row, from_flash_);
    add_row(plain_row, flash_row, noise_);
    ours_top_.push_back(top_two(ours));
    plain_top_.push_back(top_two(plain));
  }

  void verdict(const std::string& what) const {
    const double kl_excess = excess(from_plain_.kl, noise_.kl);
    const double largest_excess = excess(from_plain_.largest, noise_.largest);
    std::cout << what << ", " << noise_.kl.size() << " rows\n  mean KL: ours from plain "
              << from_plain_.mean_kl() << ", from flash " << from_flash_.mean_kl()
              << "; plain from flash " << noise_.mean_kl() << "; excess " << kl_excess
              << " standard errors"
              << "\n  largest difference of a logit: " << from_plain_.largest_of_all() << ", "
              << from_flash_.largest_of_all() << "; " << noise_.largest_of_all()
              << "; mean over rows " << Distance::mean(from_plain_.largest) << ", "
              << Distance::mean(from_flash_.largest) << "; " << Distance::mean(noise_.largest)
              << "; excess " << largest_excess << " standard errors\n";
    EXPECT_LE(kl_excess, 3) << what;
    EXPECT_LE(largest_excess, 3) << what;
    // A single extreme of 10^8 values is a matter of chance; twice the noise's is not.
    EXPECT_LE(from_plain_.largest_of_all(), 2 * noise_.largest_of_all()) << what;
    for (size_t i = 0; i < ours_top_.size(); ++i) {
      // Two logits may each move by the noise.
      if (plain_top_[i].margin > 2 * noise_.largest_of_all()) {
        EXPECT_EQ(ours_top_[i].first, plain_top_[i].first) << what << ", row " << i;
      }
    }
  }

 private:
  Distance from_plain_, from_flash_, noise_;
  std::vector<TopTwo> ours_top_, plain_top_;
};

}  // namespace scholia::test
