// The softmax's exponential, and decode's selection: digests scored, scores reduced, blocks chosen.
#include <cstring>

#include "cpu_ops_support.h"
#include "engine/kv/digests.h"

namespace scholia {
namespace {

class CpuExp : public CpuOps {};
class CpuScore : public CpuOps {};
class CpuSelect : public CpuOps {};
INSTANTIATE_CPU_OPS(CpuExp);
INSTANTIATE_CPU_OPS(CpuScore);
INSTANTIATE_CPU_OPS(CpuSelect);

// --- exp -------------------------------------------------------------------------------------

float exp_of(float x) {
  float y = 0;
  exp_f32(&x, &y, 1);
  return y;
}

TEST_P(CpuExp, IsWithinTwoUnitsInTheLastPlace) {
  // Every 97th float from -110 to 95, both signs of zero and subnormals among them.
  std::vector<float> x, y;
  for (uint32_t sign : {0U, 0x80000000U}) {
    float limit = sign ? 110.0F : 95.0F;
    uint32_t last;
    std::memcpy(&last, &limit, sizeof(last));
    for (uint32_t bits = 0; bits <= last; bits += 97) {
      const uint32_t signed_bits = bits | sign;
      x.emplace_back();
      std::memcpy(&x.back(), &signed_bits, sizeof(float));
    }
  }
  y.resize(x.size());
  exp_f32(x.data(), y.data(), int(x.size()));
  double worst = 0;
  float worst_x = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const double want = std::exp(double(x[i]));
    if (want > std::numeric_limits<float>::max()) {
      // The largest float is reached at 88.7228; just below it, rounding up may overflow.
      ASSERT_TRUE(y[i] == INFINITY || y[i] == std::numeric_limits<float>::max()) << x[i];
      continue;
    }
    ASSERT_TRUE(std::isfinite(y[i]) || want > 3.4028e38) << x[i];
    if (!std::isfinite(y[i])) continue;
    const double unit = std::ldexp(1.0, std::max(std::ilogb(std::max(want, 1e-300)), -126) - 23);
    const double error = std::fabs(y[i] - want) / unit;
    if (error > worst) worst = error, worst_x = x[i];
  }
  EXPECT_LE(worst, 2.0) << "at " << worst_x;
  std::printf("worst error of exp: %.3f units in the last place, at %.9g\n", worst, worst_x);
}

TEST_P(CpuExp, SpecialValues) {
  EXPECT_EQ(exp_of(0.0F), 1.0F);
  EXPECT_EQ(exp_of(-0.0F), 1.0F);
  EXPECT_EQ(exp_of(-INFINITY), 0.0F);
  EXPECT_EQ(exp_of(-1e30F), 0.0F);
  EXPECT_EQ(exp_of(-104.5F), 0.0F);
  EXPECT_EQ(exp_of(INFINITY), INFINITY);
  EXPECT_EQ(exp_of(1e30F), INFINITY);
  EXPECT_TRUE(std::isnan(exp_of(NAN)));
  EXPECT_TRUE(std::isnan(exp_of(-NAN)));
}

// --- score -----------------------------------------------------------------------------------

// One layer of stored K with its digests, built by the code that decode uses.
struct DigestFixture {
  DigestFixture(Random& random, int head_dim, std::vector<uint16_t> block_tokens, int n_tokens,
                DigestFormat format = {})
      : shape{1, int(block_tokens.size()), head_dim},
        pages(std::move(KvPages::reserve(shape, (n_tokens + 15) / 16).value())),
        table((n_tokens + 15) / 16),
        layout(shape, profile_of(shape, std::move(block_tokens), format)) {
    std::iota(table.begin(), table.end(), 0U);
    random.shuffle(table);
    for (int t = 0; t < n_tokens; t++) {
      for (int h = 0; h < shape.n_kv_heads; h++) {
        for (int d = 0; d < head_dim; d++) {
          const float x =
              random.normal(1 + d % 3) + d % 5;  // channels of their own mean and spread
          key(t, h)[d] = reference::f16_from_f32(x);
        }
      }
    }
    digests.update(layout, pages, {table.data(), n_tokens});
  }

  static HeadProfile profile_of(const KvShape& shape, std::vector<uint16_t> block_tokens,
                                DigestFormat format) {
    HeadProfile profile = HeadProfile::uniform(shape.n_layers, shape.n_kv_heads);
    profile.digest = format;
    profile.block_tokens = std::move(block_tokens);
    return profile;
  }
  f16* key(int token, int head) {
    return pages.k(0) + ((size_t(table[token / 16]) * shape.n_kv_heads + head) * 16 + token % 16) *
                            shape.head_dim;
  }
  // What the bytes of block b say, by the layout in digests.h.
  void read(int head, int block, double* c, double* r) const {
    const int per_group = layout.blocks_per_group(head);
    const size_t group = block / per_group, i = block % per_group;
    const bool is_closed = group < digests.closed().size();
    const uint8_t* base = is_closed ? digests.closed()[group]->data() + layout.closed_offset[head]
                                    : digests.open().data() + layout.open_offset[head];
    const bool is_quantised = is_closed && layout.digest.bits != 16;
    const uint8_t* record =
        is_quantised ? base + layout.scale_bytes() + i * layout.closed_record_bytes()
                     : base + i * layout.open_record_bytes();
    reference::read_record(layout.digest,
                           is_quantised ? reinterpret_cast<const f16*>(base) : nullptr, record,
                           shape.head_dim, c, r);
  }

  KvShape shape;
  KvPages pages;
  std::vector<PageId> table;
  DigestLayout layout;
  Digests digests;
};

TEST_P(CpuScore, ScoresDigestsLikeTheReference) {
  uint32_t seed = 4000;
  for (int head_dim : {64, 128, 48, 80, 256}) {
    for (int n_heads : {1, 3, 4, 6, 7, 8, 15, 32}) {
      for (int n_tokens : {128, 2047, 2048, 2048 + 16, 5000}) {
        if (n_tokens != 2048 + 16 && (head_dim != 64 || n_heads != 7)) continue;
        if (head_dim != 64 && n_heads != 4 && n_heads != 15) continue;
        SCOPED_TRACE(testing::Message()
                     << "D " << head_dim << ", G " << n_heads << ", tokens " << n_tokens);
        Random random(seed++);
        DigestFixture kv(random, head_dim, {16, 64, 128, 32}, n_tokens);
        const std::vector<float> q = random.normals(size_t(n_heads) * head_dim, 2);
        std::vector<double> c(head_dim), r(head_dim);
        for (int head = 0; head < 4; head++) {
          const int n_blocks = n_tokens / kv.layout.block_tokens[head];
          if (n_blocks == 0) continue;
          const size_t stride = n_blocks + 5;
          Guarded got(n_heads * stride);
          score_kv_blocks(kv.layout, kv.digests, head, q.data(), n_heads, 0, n_blocks, got.data(),
                          stride);
          got.expect_intact("scores");
          for (int b = 0; b < n_blocks; b++) {
            kv.read(head, b, c.data(), r.data());
            for (int g = 0; g < n_heads; g++) {
              const double want =
                  reference::score_digest(c.data(), r.data(), q.data() + g * head_dim, head_dim);
              // Folding moves s to the query, so terms of some hundreds cancel.
              ASSERT_NEAR(got.data()[g * stride + b], want, 2e-4 + 1e-5 * std::fabs(want))
                  << "head " << head << ", block " << b << ", query head " << g;
            }
          }
          for (int g = 0; g < n_heads; g++) {  // nothing between the rows is written
            for (size_t b = n_blocks; b < stride; b++) {
              ASSERT_TRUE(std::isnan(got.data()[g * stride + b]));
            }
          }
        }
      }
    }
  }
}

TEST_P(CpuScore, RangesOfBlocksGiveTheBitsOfAll) {
  Random random(4500);
  DigestFixture kv(random, 64, {16, 32}, 6000);
  const std::vector<float> q = random.normals(7 * 64, 2);
  for (int head : {0, 1}) {
    const int n_blocks = 6000 / kv.layout.block_tokens[head];
    std::vector<float> all(7 * n_blocks), parts(all.size());
    score_kv_blocks(kv.layout, kv.digests, head, q.data(), 7, 0, n_blocks, all.data(), n_blocks);
    for (int first = 0, n = 0; first < n_blocks; first += n) {
      n = std::min(1 + random.below(70), n_blocks - first);
      score_kv_blocks(kv.layout, kv.digests, head, q.data(), 7, first, n, parts.data() + first,
                      n_blocks);
    }
    EXPECT_TRUE(same_bits(parts, all)) << "head " << head;
  }
}

// INT4 may move a score by half a step per channel, no further.
TEST_P(CpuScore, QuantisedScoresLieWithinHalfAStepOfTheDigests) {
  Random random(4600);
  const int D = 64, n_tokens = 4096;
  DigestFixture kv(random, D, {32}, n_tokens);
  const std::vector<float> q = random.normals(D, 2);
  std::vector<float> got(n_tokens / 32);
  score_kv_blocks(kv.layout, kv.digests, 0, q.data(), 1, 0, n_tokens / 32, got.data(), 0);
  for (int b = 0; b < n_tokens / 32; b++) {
    std::vector<float> block(32 * D), c(D), r(D);
    for (int t = 0; t < 32; t++) {
      for (int d = 0; d < D; d++) {
        block[t * D + d] = float(reference::f32_from_f16(kv.key(b * 32 + t, 0)[d]));
      }
    }
    reference_digest(DigestKind::kMeanStd, block.data(), 32, D, c.data(), r.data());
    const auto* scale = reinterpret_cast<const f16*>(kv.digests.closed()[b / 64]->data() +
                                                     kv.layout.closed_offset[0]);
    const std::vector<double> c64(c.begin(), c.end()), r64(r.begin(), r.end());
    double slack = 1e-3;
    for (int d = 0; d < D; d++) {
      slack += std::fabs(q[d]) / std::sqrt(double(D)) * 0.51 *
               (reference::f32_from_f16(scale[d]) + reference::f32_from_f16(scale[2 * D + d]));
    }
    EXPECT_NEAR(got[b], reference::score_digest(c64.data(), r64.data(), q.data(), D), slack);
  }
}

// What is there to be compared is scored as what decode uses: every kind in every width.
TEST_P(CpuScore, ScoresEveryFormatLikeTheReference) {
  uint32_t seed = 4650;
  for (const DigestKind kind : {DigestKind::kMeanStd, DigestKind::kQuest, DigestKind::kArkVale,
                                DigestKind::kMean, DigestKind::kCentroids}) {
    for (const int bits : {2, 4, 8, 16}) {
      for (const int D : {16, 48, 64, 128}) {
        SCOPED_TRACE(testing::Message()
                     << "kind " << int(kind) << ", " << bits << " bits, D " << D);
        const DigestFormat format{kind, uint8_t(bits)};
        Random random(seed++);
        DigestFixture kv(random, D, {16, 32}, 2048 + 700, format);
        const int n_heads = 3;
        const std::vector<float> q = random.normals(size_t(n_heads) * D, 2);
        std::vector<double> c(D), r(D);
        for (int head : {0, 1}) {
          const int n_blocks = (2048 + 700) / kv.layout.block_tokens[head];
          Guarded got(size_t(n_heads) * n_blocks);
          score_kv_blocks(kv.layout, kv.digests, head, q.data(), n_heads, 0, n_blocks, got.data(),
                          n_blocks);
          got.expect_intact("scores");
          for (int b = 0; b < n_blocks; b++) {
            kv.read(head, b, c.data(), r.data());
            for (int g = 0; g < n_heads; g++) {
              const double want =
                  reference::score_digest(c.data(), r.data(), q.data() + g * D, D, kind);
              ASSERT_NEAR(got.data()[g * n_blocks + b], want, 2e-4 + 1e-5 * std::fabs(want))
                  << "head " << head << ", block " << b << ", query head " << g;
            }
          }
        }
      }
    }
  }
}

// One head's block size does not touch another head's scores.
TEST_P(CpuScore, HeadsDoNotTouchEachOther) {
  std::vector<float> first_scores;
  for (uint16_t other : {16, 32, 64, 128}) {
    Random random(4700);
    DigestFixture kv(random, 64, {other, 32, other}, 5000);
    const std::vector<float> q = random.normals(7 * 64, 2);
    std::vector<float> scores(7 * (5000 / 32));
    score_kv_blocks(kv.layout, kv.digests, 1, q.data(), 7, 0, 5000 / 32, scores.data(), 5000 / 32);
    if (first_scores.empty()) first_scores = scores;
    EXPECT_TRUE(same_bits(scores, first_scores)) << "neighbours with blocks of " << other;
  }
}

// --- reduce and select -----------------------------------------------------------------------

TEST_P(CpuSelect, ReducesLikeTheReference) {
  uint32_t seed = 5000;
  for (int n_heads : {1, 3, 7, 8, 32}) {
    for (int n_blocks : {1, 15, 16, 17, 63, 64, 65, 777, 2048}) {
      Random random(seed++);
      const size_t stride = n_blocks + 3;
      const std::vector<float> scores = random.normals(n_heads * stride, 6);
      Guarded got(n_blocks);
      reduce_scores(scores.data(), stride, n_heads, n_blocks, got.data());
      got.expect_intact("out");
      std::vector<double> want(n_blocks);
      reference::reduce_scores(scores.data(), stride, n_heads, n_blocks, want.data());
      const std::vector<float> want_f32(want.begin(), want.end());
      ASSERT_TRUE(close(got.values(), want_f32, 1e-7, 5e-6));
      const std::vector<float> values = got.values();
      EXPECT_NEAR(std::accumulate(values.begin(), values.end(), 0.0), 1.0, 1e-5);
    }
  }
}

TEST_P(CpuSelect, ReducingNothingWritesNothing) {
  Guarded out(0);
  reduce_scores(nullptr, 0, 7, 0, out.data());
  out.expect_intact("out");
}

std::vector<int> select(const std::vector<float>& reduced, int n_selected) {
  std::vector<int> selected(n_selected + 2, -7), scratch(reduced.size());
  select_kv_blocks(reduced.data(), int(reduced.size()), n_selected, selected.data(),
                   scratch.data());
  EXPECT_EQ(selected[n_selected], -7) << "written after the end";
  selected.resize(n_selected);
  return selected;
}

TEST_P(CpuSelect, SelectsLikeAFullSort) {
  for (uint32_t seed = 5100; seed < 5140; seed++) {
    Random random(seed);
    const int n = 1 + random.below(seed % 2 ? 40 : 2000);
    std::vector<float> reduced(n);
    const int kind = int(seed % 5);
    for (float& x : reduced) {
      x = random.normal();
      if (kind == 0) x = std::exp(10 * x - 30);        // as a softmax is: many magnitudes
      if (kind == 1) x = float(random.below(4));       // many ties
      if (kind == 2) x = 0.25F;                        // all ties
      if (kind == 3 && random.below(5) == 0) x = NAN;  // NaN ranks lowest
      if (kind == 4 && random.below(3) == 0) x = random.below(2) ? 0.0F : -0.0F;
      if (kind == 4 && random.below(9) == 0) x = random.below(2) ? INFINITY : -INFINITY;
    }
    for (int k : {0, 1, 2, n / 3, n / 2, n - 1, n}) {
      if (k > n || k < 0) continue;
      ASSERT_EQ(select(reduced, k), reference::select_kv_blocks(reduced.data(), n, k))
          << k << " of " << n;
    }
  }
}

TEST_P(CpuSelect, TiesGoToTheLowerIndexAndNanComesLast) {
  EXPECT_EQ(select({1, 2, 2, 2, 0}, 2), (std::vector<int>{1, 2}));
  EXPECT_EQ(select({NAN, -INFINITY, NAN, -5}, 2), (std::vector<int>{1, 3}));
  EXPECT_EQ(select({NAN, NAN, 1}, 2), (std::vector<int>{0, 2}));
  EXPECT_EQ(select({0.0F, -0.0F, 0.0F}, 2), (std::vector<int>{0, 1}));
}

}  // namespace
}  // namespace scholia
