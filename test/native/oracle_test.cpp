// libllama as the oracle: our dense logits may be no further from its logits than it is from itself
// with flash attention on and off.
#include <gtest/gtest.h>

#include <cmath>
#include <iostream>

#include "models.h"
#include "peer/libllama_peer.h"

namespace scholia::test {
namespace {

// How far two rows of logits are apart, over many rows.
struct Distance {
  double kl_sum = 0;
  double largest = 0;
  int rows = 0;
  double mean_kl() const { return rows == 0 ? 0 : kl_sum / rows; }
};

std::vector<double> log_softmax(std::span<const float> row) {
  double largest = -INFINITY;
  for (const float x : row) {
    EXPECT_TRUE(std::isfinite(x));
    largest = std::max<double>(largest, x);
  }
  double sum = 0;
  for (const float x : row) sum += std::exp(x - largest);
  const double lse = largest + std::log(sum);
  std::vector<double> out;
  out.reserve(row.size());
  for (const float x : row) out.push_back(x - lse);
  return out;
}

void add_row(std::span<const float> truth, std::span<const float> other, Distance& distance) {
  ASSERT_EQ(truth.size(), other.size());
  const auto p = log_softmax(truth), q = log_softmax(other);
  for (size_t i = 0; i < p.size(); ++i) {
    distance.kl_sum += std::exp(p[i]) * (p[i] - q[i]);
    distance.largest = std::max<double>(distance.largest, std::abs(truth[i] - other[i]));
  }
  ++distance.rows;
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

// Collects rows of all three, then judges.
class Judge {
 public:
  void add(std::span<const float> ours, std::span<const float> plain, std::span<const float> flash) {
    add_row(plain, ours, ours_);
    add_row(plain, flash, noise_);
    ours_top_.push_back(top_two(ours));
    plain_top_.push_back(top_two(plain));
  }

  void verdict(const std::string& what) const {
    std::cout << what << ": " << ours_.rows << " rows; KL ours " << ours_.mean_kl()
              << ", libllama's own " << noise_.mean_kl() << "; largest difference ours "
              << ours_.largest << ", libllama's own " << noise_.largest << "\n";
    EXPECT_LE(ours_.mean_kl(), noise_.mean_kl()) << what;
    EXPECT_LE(ours_.largest, noise_.largest) << what;
    for (size_t i = 0; i < ours_top_.size(); ++i) {
      // Two logits may each move by the noise.
      if (plain_top_[i].margin > 2 * noise_.largest) {
        EXPECT_EQ(ours_top_[i].first, plain_top_[i].first) << what << ", row " << i;
      }
    }
  }

 private:
  Distance ours_, noise_;
  std::vector<TopTwo> ours_top_, plain_top_;
};

class Oracle : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    engine_ = open_engine(GetParam(), {.n_threads = 2});
    ASSERT_NE(engine_, nullptr);
  }

  LibllamaPeer peer(bool flash_attention, int context) {
    auto peer = LibllamaPeer::open(model_path(GetParam()), {2, context, flash_attention});
    EXPECT_TRUE(peer.ok());
    return std::move(peer.value());
  }

  std::unique_ptr<Engine> engine_;
};

TEST_P(Oracle, TwoThousandPositionsOfRealText) {
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
  constexpr int kSteps = 16;
  for (const int depth : {1, 511, 4096}) {
    const auto tokens = real_tokens(*engine_, static_cast<size_t>(depth + kSteps));
    const auto document = std::span(tokens).first(static_cast<size_t>(depth));
    LibllamaPeer plain = peer(false, depth + kSteps), flash = peer(true, depth + kSteps);
    ASSERT_TRUE(plain.prefill(document).ok() && flash.prefill(document).ok());
    const SequenceId dense = engine_->create_sequence();
    ASSERT_TRUE(engine_->prefill(dense, document, {}, {}, nullptr).ok());
    const auto whole = engine_->fork(dense);
    ASSERT_TRUE(whole.ok());
    Judge judge;
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
    judge.verdict(std::string(GetParam()) + ", decode at " + std::to_string(depth));
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Oracle, ::testing::Values(kSmall, kMedium),
                         [](const auto& info) {
                           return std::string(info.param) == kSmall ? "Small" : "Medium";
                         });

}  // namespace
}  // namespace scholia::test
