// libllama as the oracle. Activations are quantised to 8 bits before each matrix product, so the
// smallest difference (an order of summation) flips roundings and grows to a fixed noise: any two
// sound computations of the same model lie that far apart. Ours must lie within it: no further from
// the nearest libllama than libllama is from itself (flash attention on or off, batches of 512 or
// 256).
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
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

// Collects rows of ours and of three libllamas (0: plain, 1: flash attention, 2: smaller batches),
// then judges.
class Judge {
 public:
  using Rows = std::array<std::span<const float>, 3>;

  void add(std::span<const float> ours, const Rows& peers) {
    for (size_t i = 0; i < peers.size(); ++i) {
      add_row(peers[i], ours, ours_[i]);
      add_row(peers[i], peers[(i + 1) % peers.size()], noise_[i]);
    }
    ours_top_.push_back(top_two(ours));
    plain_top_.push_back(top_two(peers[0]));
  }

  void verdict(const std::string& what) const {
    const auto kl = [](const Distance& a, const Distance& b) { return a.mean_kl() < b.mean_kl(); };
    const auto largest = [](const Distance& a, const Distance& b) { return a.largest < b.largest; };
    const double ours_kl = std::min_element(ours_.begin(), ours_.end(), kl)->mean_kl();
    const double ours_largest = std::min_element(ours_.begin(), ours_.end(), largest)->largest;
    const double noise_kl = std::max_element(noise_.begin(), noise_.end(), kl)->mean_kl();
    const double noise_largest = std::max_element(noise_.begin(), noise_.end(), largest)->largest;
    std::cout << what << ", " << ours_[0].rows << " rows\n"
              << "  KL from libllama plain " << ours_[0].mean_kl() << ", flash "
              << ours_[1].mean_kl() << ", batches of 256 " << ours_[2].mean_kl()
              << "; libllama plain-flash " << noise_[0].mean_kl() << ", flash-256 "
              << noise_[1].mean_kl() << ", 256-plain " << noise_[2].mean_kl() << "\n"
              << "  largest difference " << ours_[0].largest << ", " << ours_[1].largest << ", "
              << ours_[2].largest << "; libllama " << noise_[0].largest << ", "
              << noise_[1].largest << ", " << noise_[2].largest << "\n";
    EXPECT_LE(ours_kl, noise_kl) << what;
    EXPECT_LE(ours_largest, noise_largest) << what;
    for (size_t i = 0; i < ours_top_.size(); ++i) {
      // Two logits may each move by the noise.
      if (plain_top_[i].margin > 2 * noise_largest) {
        EXPECT_EQ(ours_top_[i].first, plain_top_[i].first) << what << ", row " << i;
      }
    }
  }

 private:
  std::array<Distance, 3> ours_, noise_;
  std::vector<TopTwo> ours_top_, plain_top_;
};

class Oracle : public ::testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    engine_ = open_engine(GetParam(), {.n_threads = 2});
    ASSERT_NE(engine_, nullptr);
  }

  std::array<LibllamaPeer, 3> peers(int context) {
    const auto open = [&](bool flash_attention, int batch_tokens) {
      auto peer = LibllamaPeer::open(model_path(GetParam()),
                                     {2, context, flash_attention, batch_tokens});
      EXPECT_TRUE(peer.ok());
      return std::move(peer.value());
    };
    return {open(false, 512), open(true, 512), open(false, 256)};
  }

  std::unique_ptr<Engine> engine_;
};

TEST_P(Oracle, TwoThousandPositionsOfRealText) {
  constexpr int kPositions = 2048, kChunk = 512;
  const auto tokens = real_tokens(*engine_, kPositions);
  auto libllama = peers(kPositions);
  const SequenceId sequence = engine_->create_sequence();
  const auto n_vocab = static_cast<size_t>(engine_->model().n_vocab);
  Judge judge;
  for (int at = 0; at < kPositions; at += kChunk) {
    const auto chunk = std::span(tokens).subspan(static_cast<size_t>(at), kChunk);
    const auto ours = engine_->prefill_logits(sequence, chunk);
    ASSERT_TRUE(ours.ok());
    std::array<std::vector<float>, 3> theirs;
    for (size_t i = 0; i < theirs.size(); ++i) {
      auto logits = libllama[i].prefill(chunk, true);
      ASSERT_TRUE(logits.ok());
      theirs[i] = std::move(logits.value());
    }
    for (size_t row = 0; row < kChunk; ++row) {
      const auto of = [&](const std::vector<float>& all) {
        return std::span(all).subspan(row * n_vocab, n_vocab);
      };
      judge.add(of(ours.value()), {of(theirs[0]), of(theirs[1]), of(theirs[2])});
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
    auto libllama = peers(depth + kSteps);
    for (LibllamaPeer& peer : libllama) ASSERT_TRUE(peer.prefill(document).ok());
    const SequenceId dense = engine_->create_sequence();
    ASSERT_TRUE(engine_->prefill(dense, document, {}, {}, nullptr).ok());
    const auto whole = engine_->fork(dense);
    ASSERT_TRUE(whole.ok());
    for (int step = 0; step < kSteps; ++step) {
      const Token token = tokens[static_cast<size_t>(depth + step)];
      ASSERT_TRUE(engine_->decode(dense, token, {.mode = Mode::kDense}).ok());
      const std::vector<float> ours(engine_->logits().begin(), engine_->logits().end());
      Judge::Rows theirs;
      for (size_t i = 0; i < theirs.size(); ++i) {
        const auto logits = libllama[i].decode(token);
        ASSERT_TRUE(logits.ok());
        theirs[i] = logits.value();
      }
      judge.add(ours, theirs);

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
