#include "engine/decode/plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <iterator>
#include <map>
#include <random>

namespace scholia {
namespace {

struct Case {
  KvShape shape;
  HeadProfile profile;
  int budget_tokens;
  int n_tokens;
};

int64_t tokens_read(const DecodePlan& plan) {
  int64_t n = 0;
  for (const HeadPlan& head : plan.heads) n += head.tokens_read(plan.n_tokens);
  return n;
}

// The documented forced part, token by token: sink blocks, the last tokens, and what shares a
// block with them.
int forced_tokens(int block_tokens, int n_tokens) {
  const int sink = std::max(block_tokens, kSinkTokens);
  const int local = std::max(2 * block_tokens, kLocalTokens);
  int n = 0;
  for (int t = 0; t < n_tokens; ++t) {
    const int block_end = (t / block_tokens + 1) * block_tokens;
    n += t < sink || block_end > n_tokens - local;
  }
  return n;
}

void expect_sound(const Case& c, const DecodePlan& plan) {
  ASSERT_EQ(plan.heads.size(), size_t(c.shape.n_heads()));
  EXPECT_EQ(plan.n_tokens, c.n_tokens);
  int64_t least = 0;
  int largest_block = 0;
  bool all = true;
  std::map<int, int> forced;
  for (const int block_tokens : kBlockSizes) {
    forced[block_tokens] = forced_tokens(block_tokens, c.n_tokens);
  }
  for (size_t h = 0; h < plan.heads.size(); ++h) {
    const HeadPlan& head = plan.heads[h];
    const int block_tokens = c.profile.block_tokens[h];
    EXPECT_EQ(head.block_tokens, block_tokens);
    EXPECT_GE(head.sink_blocks, 0);
    EXPECT_GE(head.n_free(), 0);
    EXPECT_LE(int64_t(head.first_local_block) * block_tokens, c.n_tokens);
    EXPECT_EQ(head.forced_tokens(c.n_tokens), forced[block_tokens]);
    EXPECT_GE(head.n_selected, std::min(1, head.n_free())) << "head " << h;
    EXPECT_LE(head.n_selected, head.n_free()) << "head " << h;
    EXPECT_LE(head.tokens_read(c.n_tokens), c.n_tokens);
    least += forced[block_tokens] + std::min(1, head.n_free()) * block_tokens;
    largest_block = std::max(largest_block, block_tokens);
    all = all && head.n_selected == head.n_free();
  }
  EXPECT_EQ(plan.reads_all, all);
  if (c.budget_tokens >= c.n_tokens) {
    EXPECT_TRUE(plan.reads_all);
    return;
  }
  const int64_t budget = int64_t(c.budget_tokens) * c.shape.n_heads();
  const int64_t read = tokens_read(plan);
  EXPECT_LE(read, std::max(budget, least));
  if (plan.reads_all) return;
  EXPECT_GT(read, std::max(budget, least) - largest_block);
}

DecodePlan plan_of(const Case& c) {
  return make_decode_plan(c.profile, c.shape, Mode::kAbSparse, c.budget_tokens, c.n_tokens);
}

HeadProfile random_profile(std::mt19937& random, const KvShape& shape, double spread) {
  HeadProfile profile = HeadProfile::uniform(shape.n_layers, shape.n_kv_heads);
  std::lognormal_distribution<double> share(0, spread);
  std::vector<double> shares;
  double sum = 0;
  for (auto& block_tokens : profile.block_tokens) {
    block_tokens = uint16_t(kBlockSizes[random() % std::size(kBlockSizes)]);
    shares.push_back(share(random));
    sum += shares.back();
  }
  for (size_t h = 0; h < shares.size(); ++h) {
    profile.budget_share[h] = float(shares[h] * double(shares.size()) / sum);
  }
  EXPECT_TRUE(profile.check(shape.n_layers, shape.n_kv_heads, "").ok());
  return profile;
}

TEST(DecodePlan, UniformSharesReadTheBudgetInWholeBlocks) {
  const Case c{{4, 2, 64}, HeadProfile::uniform(4, 2), 1024, 8192};
  const DecodePlan plan = plan_of(c);
  expect_sound(c, plan);
  for (const HeadPlan& head : plan.heads) {
    EXPECT_EQ(head.sink_blocks, 2);
    EXPECT_EQ(head.first_local_block, 252);
    EXPECT_EQ(head.n_selected, (1024 - 64 - 128) / 32);
    EXPECT_EQ(head.tokens_read(8192), 1024);
  }
}

TEST(DecodePlan, ForcedTokensFollowTheBlockSize) {
  const struct {
    int block_tokens, sink_blocks, first_local_block;
  } expected[] = {{16, 4, 55}, {32, 2, 27}, {64, 1, 13}, {128, 1, 5}};
  for (const auto& e : expected) {
    const Case c{{1, 1, 64}, HeadProfile::uniform(1, 1, e.block_tokens), 512, 1010};
    const DecodePlan plan = plan_of(c);
    EXPECT_EQ(plan.heads[0].sink_blocks, e.sink_blocks);
    EXPECT_EQ(plan.heads[0].first_local_block, e.first_local_block);
    expect_sound(c, plan);
  }
}

TEST(DecodePlan, SharesDecideWhereTheBudgetGoes) {
  HeadProfile profile = HeadProfile::uniform(1, 4, 16);
  profile.budget_share = {0.5F, 0.5F, 1.0F, 2.0F};
  const Case c{{1, 4, 64}, profile, 1024, 16384};
  const DecodePlan plan = plan_of(c);
  expect_sound(c, plan);
  EXPECT_EQ(plan.heads[0].tokens_read(c.n_tokens), 512);
  EXPECT_EQ(plan.heads[2].tokens_read(c.n_tokens), 1024);
  EXPECT_EQ(plan.heads[3].tokens_read(c.n_tokens), 2048);
}

TEST(DecodePlan, WhatAHeadCannotUseGoesToTheOthersByTheirShares) {
  HeadProfile profile = HeadProfile::uniform(1, 4, 16);
  profile.budget_share = {2.5F, 0.5F, 0.5F, 0.5F};
  const Case c{{1, 4, 64}, profile, 800, 1600};  // the first would get 2,000 of 1,600
  const DecodePlan plan = plan_of(c);
  expect_sound(c, plan);
  EXPECT_EQ(plan.heads[0].tokens_read(c.n_tokens), 1600);
  for (int h = 1; h < 4; ++h) {
    EXPECT_NEAR(plan.heads[size_t(h)].tokens_read(c.n_tokens), (800 * 4 - 1600) / 3, 16);
  }
}

TEST(DecodePlan, EveryHeadKeepsItsForcedTokensAndOneBlock) {
  for (const int budget_tokens : {-5, 0, 1, 16, 100, 208}) {
    const Case c{{2, 2, 64}, HeadProfile::uniform(2, 2, 16), budget_tokens, 4096};
    const DecodePlan plan = plan_of(c);
    expect_sound(c, plan);
    for (const HeadPlan& head : plan.heads) EXPECT_EQ(head.n_selected, 1);
  }
}

TEST(DecodePlan, ReadsAllWhenTheBudgetCoversTheContextOrTheModeIsDense) {
  const KvShape shape{2, 2, 64};
  std::mt19937 random(5);
  for (const int n_tokens : {1, 15, 16, 17, 500, 4096, 30000}) {
    const HeadProfile profile = random_profile(random, shape, 1);
    for (const int budget_tokens : {n_tokens, n_tokens + 1, 1 << 30}) {
      const DecodePlan plan =
          make_decode_plan(profile, shape, Mode::kAbSparse, budget_tokens, n_tokens);
      EXPECT_TRUE(plan.reads_all);
      EXPECT_EQ(tokens_read(plan), int64_t(n_tokens) * shape.n_heads());
    }
    const DecodePlan dense = make_decode_plan(profile, shape, Mode::kDense, 64, n_tokens);
    EXPECT_TRUE(dense.reads_all);
    EXPECT_EQ(tokens_read(dense), int64_t(n_tokens) * shape.n_heads());
  }
}

TEST(DecodePlan, ReadsAllButOneHead) {
  const KvShape shape{2, 2, 64};
  const HeadProfile profile = HeadProfile::uniform(2, 2, 64);
  const DecodePlan every = make_decode_plan(profile, shape, Mode::kAbSparse, 512, 4096);
  DecodePlan one = every;
  read_all_but(one, 2);
  EXPECT_FALSE(one.reads_all);
  for (size_t h = 0; h < one.heads.size(); ++h) {
    EXPECT_EQ(one.heads[h].tokens_read(4096), h == 2 ? every.heads[2].tokens_read(4096) : 4096);
  }
  // A head that reads everything anyway leaves a dense step.
  DecodePlan whole = make_decode_plan(profile, shape, Mode::kAbSparse, 512, 250);
  read_all_but(whole, 1);
  EXPECT_TRUE(whole.reads_all);
}

TEST(DecodePlan, ShortContextsAreReadWhole) {
  for (const int block_tokens : kBlockSizes) {
    for (int n_tokens = 1; n_tokens <= 700; ++n_tokens) {
      const Case c{{1, 2, 64}, HeadProfile::uniform(1, 2, block_tokens), 64, n_tokens};
      const DecodePlan plan = plan_of(c);
      expect_sound(c, plan);
      if (forced_tokens(block_tokens, n_tokens) == n_tokens) {
        EXPECT_TRUE(plan.reads_all) << n_tokens;
        EXPECT_EQ(plan.heads[0].n_free(), 0);
      }
    }
  }
}

TEST(DecodePlan, HoldsForRandomProfilesBudgetsAndDepths) {
  for (uint32_t seed = 0; seed < 1000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const KvShape shape{1 + int(random() % 30), 1 + int(random() % 8), 64};
    const double spread = double(random() % 4);
    Case c{shape, random_profile(random, shape, spread), 0, 0};
    c.n_tokens = 1 + int(random() % (seed % 2 == 0 ? 2000 : 60000));
    c.budget_tokens = 1 + int(random() % 4096);
    const DecodePlan plan = plan_of(c);
    expect_sound(c, plan);
    const DecodePlan again = plan_of(c);
    for (size_t h = 0; h < plan.heads.size(); ++h) {
      EXPECT_EQ(plan.heads[h].n_selected, again.heads[h].n_selected);
    }
    if (HasFailure()) return;
  }
}

TEST(DecodePlan, ALargerBudgetReadsNoLess) {
  std::mt19937 random(11);
  const KvShape shape{6, 3, 64};
  const HeadProfile profile = random_profile(random, shape, 1);
  int64_t before = 0;
  for (int budget_tokens = 1; budget_tokens <= 5000; budget_tokens += 7) {
    const Case c{shape, profile, budget_tokens, 4999};
    const DecodePlan plan = plan_of(c);
    expect_sound(c, plan);
    EXPECT_GE(tokens_read(plan) + 128, before);
    before = std::max(before, tokens_read(plan));
  }
}

}  // namespace
}  // namespace scholia
