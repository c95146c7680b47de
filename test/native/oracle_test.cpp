// libllama as the oracle. Activations are quantised to 8 bits before each matrix product, so the
// smallest difference (an order of summation) flips roundings and grows to a noise of its own. So
// ours may be no further from libllama (flash attention off) than libllama with flash attention is,
// beyond what chance explains: with our packed products, and with ggml's.
#include <gtest/gtest.h>

#include "backend/cpu/cpu_matmul.h"
#include "logits_judge.h"
#include "models.h"
#include "peer/libllama_peer.h"

namespace scholia::test {
namespace {

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
