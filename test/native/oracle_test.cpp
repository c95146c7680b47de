// libllama as the oracle. Activations are quantised to 8 bits before each matrix product, so the
// smallest difference (an order of summation) flips roundings and grows to a noise of its own. So
// ours may be no further from libllama (flash attention off) than libllama with flash attention is,
// beyond what chance explains: with our packed products, and with ggml's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iostream>
#include <numeric>

#include "backend/cpu/cpu_matmul.h"
#include "models.h"
#include "peer/libllama_peer.h"

namespace scholia::test {
namespace {

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
double excess(const std::vector<double>& a, const std::vector<double>& b) {
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

void add_row(const Row& truth, const Row& other, Distance& distance) {
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

TopTwo top_two(std::span<const float> row) {
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

class Oracle : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (GetParam() == std::string(kMedium) && environment("SCHOLIA_TEST_FULL").empty()) {
      GTEST_SKIP() << "takes minutes: npm run test:full runs it";
    }
    engine_ = open_engine(GetParam(), {.n_threads = 2});
    ASSERT_NE(engine_, nullptr);
  }

  LibllamaPeer peer(bool flash_attention, int context) {
    auto peer = LibllamaPeer::open(model_path(GetParam()), {2, context, flash_attention});
    EXPECT_TRUE(peer.ok());
    return std::move(peer.value());
  }

  void compare_prompt();

  std::unique_ptr<Engine> engine_;
};

TEST_P(Oracle, TwoThousandPositionsOfRealText) { compare_prompt(); }

TEST_P(Oracle, TwoThousandPositionsWithGgmlsProducts) {
  const std::string variant = cpu_matmul_variant();
  engine_.reset();
  ASSERT_TRUE(force_cpu_matmul_variant("none"));
  engine_ = open_engine(GetParam(), {.n_threads = 2});
  compare_prompt();
  ASSERT_TRUE(force_cpu_matmul_variant(variant.c_str()));
}

void Oracle::compare_prompt() {
  ASSERT_NE(engine_, nullptr);
  constexpr int kPositions = 2048, kChunk = 512;
  const auto tokens = real_tokens(*engine_, kPositions);
  LibllamaPeer plain = peer(false, kPositions), flash = peer(true, kPositions);
  const SequenceId sequence = engine_->create_sequence();
  const auto n_vocab = static_cast<size_t>(engine_->model().n_vocab);
  Judge judge;
  for (int at = 0; at < kPositions; at += kChunk) {
    const auto chunk = std::span(tokens).subspan(static_cast<size_t>(at), kChunk);
    const auto ours = engine_->prefill_logits(sequence, chunk);
    const auto p = plain.prefill(chunk, true), f = flash.prefill(chunk, true);
    ASSERT_TRUE(ours.ok() && p.ok() && f.ok());
    for (size_t row = 0; row < kChunk; ++row) {
      const auto of = [&](const std::vector<float>& all) {
        return std::span(all).subspan(row * n_vocab, n_vocab);
      };
      judge.add(of(ours.value()), of(p.value()), of(f.value()));
    }
  }
  judge.verdict(std::string(GetParam()) + ", prompt");
}

TEST_P(Oracle, DecodeAtDepths) {
  constexpr int kSteps = 24;
  Judge judge;
  for (const int depth : {1, 511, 4096}) {
    const auto tokens = real_tokens(*engine_, static_cast<size_t>(depth + kSteps));
    const auto document = std::span(tokens).first(static_cast<size_t>(depth));
    LibllamaPeer plain = peer(false, depth + kSteps), flash = peer(true, depth + kSteps);
    ASSERT_TRUE(plain.prefill(document).ok() && flash.prefill(document).ok());
    const SequenceId dense = engine_->create_sequence();
    ASSERT_TRUE(engine_->prefill(dense, document, {}, {}, nullptr).ok());
    const auto whole = engine_->fork(dense);
    ASSERT_TRUE(whole.ok());
    for (int step = 0; step < kSteps; ++step) {
      const Token token = tokens[static_cast<size_t>(depth + step)];
      ASSERT_TRUE(engine_->decode(dense, token, {.mode = Mode::kDense}).ok());
      const std::vector<float> ours(engine_->logits().begin(), engine_->logits().end());
      const auto p = plain.decode(token), f = flash.decode(token);
      ASSERT_TRUE(p.ok() && f.ok());
      judge.add(ours, p.value(), f.value());

      // A budget that covers the context reads everything: the same bits.
      ASSERT_TRUE(engine_
                      ->decode(whole.value(), token,
                               {.mode = Mode::kAbSparse, .budget_tokens = depth + kSteps})
                      .ok());
      const std::vector<float> sparse(engine_->logits().begin(), engine_->logits().end());
      ASSERT_EQ(ours, sparse) << "depth " << depth << ", step " << step;
    }
    engine_->release(dense);
    engine_->release(whole.value());
  }
  judge.verdict(std::string(GetParam()) + ", decode");
}

INSTANTIATE_TEST_SUITE_P(Models, Oracle, ::testing::Values(kSmall, kMedium),
                         [](const auto& info) {
                           return std::string(info.param) == kSmall ? "Small" : "Medium";
                         });

}  // namespace
}  // namespace scholia::test
