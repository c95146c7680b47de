// Decode: attention over pieces, their merging, and appending K and V.
#include "cpu_ops_support.h"

namespace scholia {
namespace {

class CpuDecode : public CpuOps {};
INSTANTIATE_CPU_OPS(CpuDecode);

// Sums of up to a few thousand f32 products of size 1: 2e-5 is some 100 roundings, and a hundredth
// of what f16 K and V have cost already.
constexpr double kAtol = 2e-5, kRtol = 2e-5;

TEST_P(CpuDecode, AttendsLikeTheReference) {
  uint32_t seed = 100;
  for (int head_dim : {64, 128, 16, 48, 80, 256}) {
    for (int n_heads : {1, 3, 4, 6, 7, 8, 15, 32}) {
      for (int n_tokens : {1, 15, 16, 17, 63, 64, 65, kPieceTokens - 1, kPieceTokens,
                           kPieceTokens + 1, 3 * kPieceTokens + 77}) {
        // The scalar reference is slow: long contexts for the groups that models have.
        const bool usual = (head_dim == 64 && (n_heads == 3 || n_heads == 7)) ||
                           (head_dim == 128 && (n_heads == 4 || n_heads == 6));
        if (!usual && n_tokens > 65) continue;
        SCOPED_TRACE(testing::Message()
                     << "D " << head_dim << ", G " << n_heads << ", tokens " << n_tokens);
        Random random(seed++);
        PagedKv kv(random, 2, head_dim, n_tokens);
        const std::vector<float> q = random.normals(size_t(n_heads) * head_dim, 2);
        const Attended got = attend_runs(kv.layer(), 1, q, n_heads, {{0, n_tokens}});
        std::vector<float> out(q.size()), lse(n_heads);
        reference::attend_tokens(kv.layer(), 1, q.data(), n_heads, tokens_of({{0, n_tokens}}),
                                 out.data(), lse.data());
        ASSERT_TRUE(close(got.out, out, kAtol, kRtol));
        ASSERT_TRUE(close(got.lse, lse, kAtol, kRtol));
      }
    }
  }
}

// One key far above the others, so that weights underflow; and scores of any sign and size.
TEST_P(CpuDecode, AttendsLargeScoresLikeTheReference) {
  for (uint32_t seed = 200; seed < 210; seed++) {
    Random random(seed);
    PagedKv kv(random, 1, 64, 700, 6);
    const std::vector<float> q = random.normals(7 * 64, 8);
    const Attended got = attend_runs(kv.layer(), 0, q, 7, {{0, 700}});
    std::vector<float> out(q.size()), lse(7);
    reference::attend_tokens(kv.layer(), 0, q.data(), 7, tokens_of({{0, 700}}), out.data(),
                             lse.data());
    // Scores reach 150, where one f32 rounding is 1.5e-5 of a weight.
    ASSERT_TRUE(close(got.out, out, 2e-4, 2e-4));
    ASSERT_TRUE(close(got.lse, lse, kAtol, kRtol));
  }
}

// A selection of kv_blocks of any size, as a plan makes it.
std::vector<TokenRun> random_runs(Random& random, int block_tokens, int n_tokens) {
  std::vector<TokenRun> runs;
  for (int first = 0; first < n_tokens; first += block_tokens) {
    const int n = std::min(block_tokens, n_tokens - first);
    if (random.below(3) == 0 || n < block_tokens) runs.push_back({first, n});
  }
  return runs;
}

TEST_P(CpuDecode, AttendsSelectedBlocksLikeTheReference) {
  uint32_t seed = 300;
  for (int block_tokens : {16, 32, 64, 128}) {
    for (int n_tokens : {block_tokens, 1000, 2048, 2049, 5000}) {
      for (int n_heads : {3, 7}) {
        Random random(seed++);
        PagedKv kv(random, 2, 64, n_tokens);
        const std::vector<float> q = random.normals(n_heads * 64, 2);
        const std::vector<TokenRun> runs = random_runs(random, block_tokens, n_tokens);
        const Attended got = attend_runs(kv.layer(), 0, q, n_heads, runs);
        std::vector<float> out(q.size()), lse(n_heads);
        reference::attend_tokens(kv.layer(), 0, q.data(), n_heads, tokens_of(runs), out.data(),
                                 lse.data());
        if (runs.empty()) {
          EXPECT_TRUE(same_bits(got.out, out));
          EXPECT_TRUE(same_bits(got.lse, lse));
        } else {
          ASSERT_TRUE(close(got.out, out, kAtol, kRtol));
          ASSERT_TRUE(close(got.lse, lse, kAtol, kRtol));
        }
      }
    }
  }
}

TEST_P(CpuDecode, AnEmptySelectionIsZeroAndNeverNan) {
  Random random(400);
  PagedKv kv(random, 1, 64, 64);
  const std::vector<float> q = random.normals(4 * 64);
  const Attended got = attend_runs(kv.layer(), 0, q, 4, {});
  EXPECT_TRUE(same_bits(got.out, std::vector<float>(4 * 64, 0.0F)));
  EXPECT_TRUE(same_bits(got.lse, std::vector<float>(4, -INFINITY)));
  // A piece without runs is the empty state.
  Guarded m(4), l(4), o(4 * 64);
  attend_piece(kv.layer(), 0, q.data(), 4, nullptr, 0, {m.data(), l.data(), o.data()}, nullptr);
  EXPECT_TRUE(same_bits(m.values(), std::vector<float>(4, -INFINITY)));
  EXPECT_TRUE(same_bits(l.values(), std::vector<float>(4, 0.0F)));
  EXPECT_TRUE(same_bits(o.values(), std::vector<float>(4 * 64, 0.0F)));
}

// Full budget = dense, bit for bit: however a selection of everything is cut into blocks.
TEST_P(CpuDecode, AdjacentRunsGiveTheBitsOfOneRun) {
  uint32_t seed = 500;
  for (int n_tokens : {16, 17, 64, 500, kPieceTokens + 1, 4 * kPieceTokens + 300}) {
    for (int n_heads : {3, 7, 15}) {
      Random random(seed++);
      PagedKv kv(random, 2, 64, n_tokens);
      const std::vector<float> q = random.normals(n_heads * 64, 2);
      const Attended dense = attend_runs(kv.layer(), 1, q, n_heads, {{0, n_tokens}});
      for (int block_tokens : {16, 32, 64, 128, 2048}) {
        std::vector<TokenRun> runs;
        for (int first = 0; first < n_tokens; first += block_tokens) {
          runs.push_back({first, std::min(block_tokens, n_tokens - first)});
        }
        const Attended cut = attend_runs(kv.layer(), 1, q, n_heads, runs);
        ASSERT_TRUE(same_bits(cut.out, dense.out)) << "blocks of " << block_tokens;
        ASSERT_TRUE(same_bits(cut.lse, dense.lse)) << "blocks of " << block_tokens;
      }
    }
  }
}

TEST_P(CpuDecode, ThePlaceOfPagesInThePoolDoesNotMatter) {
  Random random(600);
  PagedKv kv(random, 2, 128, 900);
  const std::vector<float> q = random.normals(6 * 128, 2);
  const Attended before = attend_runs(kv.layer(), 0, q, 6, {{0, 900}});
  // Move every page: reverse the pool.
  const size_t page = size_t(2) * 16 * 128, n_pages = kv.pages().size();
  std::vector<f16> k = kv.k(), v = kv.v();
  for (size_t i = 0; i < n_pages; i++) {
    std::copy_n(kv.k().begin() + i * page, page, k.begin() + (n_pages - 1 - i) * page);
    std::copy_n(kv.v().begin() + i * page, page, v.begin() + (n_pages - 1 - i) * page);
  }
  for (PageId& id : kv.pages()) id = PageId(n_pages - 1 - id);
  kv.k() = k, kv.v() = v;
  const Attended after = attend_runs(kv.layer(), 0, q, 6, {{0, 900}});
  EXPECT_TRUE(same_bits(after.out, before.out));
}

// The order of whole blocks is a sum's order: it may move the last bits, no more.
TEST_P(CpuDecode, PermutingBlocksChangesNothingButRounding) {
  Random random(700);
  PagedKv kv(random, 1, 64, 2048);
  const std::vector<float> q = random.normals(7 * 64, 2);
  std::vector<TokenRun> runs;
  for (int first = 0; first < 2048; first += 32) runs.push_back({first, 32});
  const Attended sorted = attend_runs(kv.layer(), 0, q, 7, runs);
  random.shuffle(runs);
  const Attended shuffled = attend_runs(kv.layer(), 0, q, 7, runs);
  EXPECT_TRUE(close(shuffled.out, sorted.out, kAtol, kRtol));
  EXPECT_TRUE(close(shuffled.lse, sorted.lse, kAtol, kRtol));
}

TEST_P(CpuDecode, PageMassesAreTheSharesOfAttention) {
  uint32_t seed = 800;
  for (int n_tokens : {1, 40, kPieceTokens, 1500}) {
    for (int n_heads : {3, 7, 15}) {
      Random random(seed++);
      PagedKv kv(random, 1, 64, n_tokens);
      const std::vector<float> q = random.normals(n_heads * 64, 2);
      std::vector<float> mass;
      const Attended traced = attend_runs(kv.layer(), 0, q, n_heads, {{0, n_tokens}}, &mass);
      const Attended plain = attend_runs(kv.layer(), 0, q, n_heads, {{0, n_tokens}});
      EXPECT_TRUE(same_bits(traced.out, plain.out)) << "the trace must not touch the result";
      const int n_pages = (n_tokens + 15) / 16;
      ASSERT_EQ(mass.size(), size_t(n_pages) * n_heads * 2);
      for (int g = 0; g < n_heads; g++) {
        float all_lse = 0;
        std::vector<float> ignored(64);
        reference::attend_tokens(kv.layer(), 0, q.data() + g * 64, 1, tokens_of({{0, n_tokens}}),
                                 ignored.data(), &all_lse);
        for (int page = 0; page < n_pages; page++) {
          const TokenRun run{page * 16, std::min(16, n_tokens - page * 16)};
          float page_lse = 0;
          reference::attend_tokens(kv.layer(), 0, q.data() + g * 64, 1, tokens_of({run}),
                                   ignored.data(), &page_lse);
          const float* pair = mass.data() + (size_t(page) * n_heads + g) * 2;
          EXPECT_NEAR(pair[1] * std::exp(pair[0] - traced.lse[g]), std::exp(page_lse - all_lse),
                      2e-5);
        }
      }
    }
  }
}

TEST_P(CpuDecode, MergesLikeTheReference) {
  uint32_t seed = 900;
  for (int n_pieces : {0, 1, 2, 47}) {
    for (int n_heads : {1, 7, 8, 17, 32}) {
      for (int head_dim : {64, 128, 48}) {
        Random random(seed++);
        std::vector<float> m = random.normals(n_pieces * n_heads, 20);
        std::vector<float> l(n_pieces * n_heads);
        std::vector<float> o = random.normals(size_t(n_pieces) * n_heads * head_dim, 10);
        for (float& x : l) x = 1 + std::fabs(random.normal(10));
        for (int i = 0; i < n_pieces * n_heads; i++) {
          if (random.below(4) != 0) continue;  // some pieces are empty
          m[i] = -INFINITY, l[i] = 0;
          std::fill_n(o.begin() + size_t(i) * head_dim, head_dim, 0.0F);
        }
        Guarded out(size_t(n_heads) * head_dim), lse(n_heads);
        merge_states(m.data(), l.data(), o.data(), n_pieces, n_heads, head_dim, out.data(),
                     lse.data());
        std::vector<float> want(size_t(n_heads) * head_dim), want_lse(n_heads);
        reference::merge_states(m.data(), l.data(), o.data(), n_pieces, n_heads, head_dim,
                                want.data(), want_lse.data());
        out.expect_intact("out"), lse.expect_intact("lse");
        ASSERT_TRUE(close(out.values(), want, 1e-5, 1e-5));
        for (int g = 0; g < n_heads; g++) {
          if (std::isinf(want_lse[g])) {
            EXPECT_EQ(lse.data()[g], want_lse[g]);
          } else {
            EXPECT_NEAR(lse.data()[g], want_lse[g], 1e-5 * (1 + std::fabs(want_lse[g])));
          }
        }
        // lse may be left out.
        Guarded again(size_t(n_heads) * head_dim);
        merge_states(m.data(), l.data(), o.data(), n_pieces, n_heads, head_dim, again.data(),
                     nullptr);
        EXPECT_TRUE(same_bits(again.values(), out.values()));
      }
    }
  }
}

TEST_P(CpuDecode, AppendsKAndVRoundedToNearest) {
  Random random(1000);
  const int D = 80, n_kv_heads = 2, n_tokens = 50, first = 13;
  PagedKv kv(random, n_kv_heads, D, 0);
  std::vector<PageId> pages = {5, 2, 7, 0};
  std::vector<f16> k(8 * n_kv_heads * 16 * D, 1), v(k.size(), 1);
  std::vector<float> src = random.normals(size_t(n_tokens) * 400, 100);
  src[0] = 0, src[1] = -0.0F, src[2] = 65504, src[3] = 65520, src[4] = 1e-7F, src[5] = 3e-8F;
  src[6] = INFINITY, src[7] = 2049, src[8] = 2051, src[9] = -6.1e-5F;
  append_kv(k.data(), v.data(), pages.data(), n_kv_heads, D, 1, first, n_tokens, src.data(), 400,
            src.data() + 200, 400);
  std::vector<f16> want_k(k.size(), 1), want_v(k.size(), 1);
  for (int t = 0; t < n_tokens; t++) {
    const int position = first + t;
    const size_t at = ((size_t(pages[position / 16]) * n_kv_heads + 1) * 16 + position % 16) * D;
    for (int d = 0; d < D; d++) {
      want_k[at + d] = reference::f16_from_f32(src[size_t(t) * 400 + d]);
      want_v[at + d] = reference::f16_from_f32(src[size_t(t) * 400 + 200 + d]);
    }
  }
  EXPECT_EQ(k, want_k);
  EXPECT_EQ(v, want_v);
}

TEST(Pieces, CutAtPieceBoundariesAndKeepTheOrder) {
  for (uint32_t seed = 1100; seed < 1150; seed++) {
    Random random(seed);
    std::vector<TokenRun> runs;
    int first = 0;
    for (int i = random.below(20); i >= 0; i--) {
      first += 16 * random.below(5);
      const int n = 16 * random.below(90);
      runs.push_back({first, n});
      first += n;
    }
    if (random.below(2)) runs.push_back({first, random.below(16)});
    Pieces pieces;
    pieces.cut(runs.data(), int(runs.size()));
    EXPECT_EQ(tokens_of(pieces.runs), tokens_of(runs));
    const int n_tokens = int(tokens_of(runs).size());
    ASSERT_EQ(pieces.count(), (n_tokens + kPieceTokens - 1) / kPieceTokens);
    for (int i = 0; i < pieces.count(); i++) {
      int in_piece = 0;
      for (int r = pieces.first_run[i]; r < pieces.first_run[i + 1]; r++) {
        EXPECT_EQ(pieces.runs[r].first_token % 16, 0);
        EXPECT_GT(pieces.runs[r].n_tokens, 0);
        in_piece += pieces.runs[r].n_tokens;
      }
      EXPECT_EQ(in_piece, std::min(kPieceTokens, n_tokens - i * kPieceTokens));
    }
  }
}

}  // namespace
}  // namespace scholia
