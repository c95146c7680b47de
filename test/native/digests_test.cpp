#include "engine/kv/digests.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <span>

#include "engine/kv/f16.h"

namespace scholia {
namespace {

// --- halves, by their definition ------------------------------------------------------------

double value_of_half(f16 half) {
  const int exponent = (half >> 10) & 31;
  const int mantissa = half & 1023;
  double magnitude =
      exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  if (exponent == 31) {
    magnitude = mantissa == 0 ? std::numeric_limits<double>::infinity()
                              : std::numeric_limits<double>::quiet_NaN();
  }
  return (half & 0x8000) != 0 ? -magnitude : magnitude;
}

// The nearest half, ties to the even one, found by bisection over all of them.
f16 nearest_half(float x) {
  if (std::isnan(x)) return 0x7e00;
  const double magnitude = std::fabs(double(x));
  f16 low = 0;
  f16 high = 0x7c00;  // infinity, taken for 65536
  while (high - low > 1) {
    const f16 middle = f16((low + high) / 2);
    (value_of_half(middle) <= magnitude ? low : high) = middle;
  }
  const double above = high == 0x7c00 ? 65536.0 : value_of_half(high);
  const double to_low = magnitude - value_of_half(low);
  const double to_high = above - magnitude;
  const bool up = to_high < to_low || (to_high == to_low && low % 2 == 1);
  return f16((up ? high : low) | (std::signbit(x) ? 0x8000 : 0));
}

TEST(Halves, EveryHalfHasItsValue) {
  for (uint32_t half = 0; half < 65536; ++half) {
    const double expected = value_of_half(f16(half));
    const float value = f32_from_f16(f16(half));
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(value)) << half;
    } else {
      EXPECT_EQ(double(value), expected) << half;
      EXPECT_EQ(std::signbit(value), (half & 0x8000) != 0) << half;
      EXPECT_EQ(f16_from_f32(value), half);
    }
  }
}

TEST(Halves, FloatsRoundToTheNearest) {
  std::vector<float> values = {0.0F,
                               -0.0F,
                               65504,
                               65519.996F,
                               65520,
                               65536,
                               1e10F,
                               1e-10F,
                               5e-8F,
                               std::numeric_limits<float>::infinity(),
                               std::numeric_limits<float>::quiet_NaN(),
                               std::numeric_limits<float>::denorm_min()};
  for (uint32_t half = 0; half < 0x7bff; ++half) {  // between neighbours: the tie and beside it
    const float tie = float((value_of_half(f16(half)) + value_of_half(f16(half + 1))) / 2);
    for (const float x : {tie, std::nextafter(tie, 0.0F), std::nextafter(tie, 1e9F)}) {
      values.push_back(x);
    }
  }
  std::mt19937 random(1);
  for (int i = 0; i < 100000; ++i) values.push_back(std::bit_cast<float>(uint32_t(random())));
  for (const float value : values) {
    for (const float x : {value, -value}) {
      if (std::isnan(x)) {
        EXPECT_EQ(f16_from_f32(x) & 0x7fff, 0x7e00);
      } else {
        ASSERT_EQ(f16_from_f32(x), nearest_half(x)) << x;
      }
    }
  }
}

// --- stored keys ----------------------------------------------------------------------------

HeadProfile mixed_profile(const KvShape& shape, DigestFormat digest = {}) {
  HeadProfile profile = HeadProfile::uniform(shape.n_layers, shape.n_kv_heads);
  profile.digest = digest;
  for (size_t h = 0; h < profile.block_tokens.size(); ++h) {
    profile.block_tokens[h] = uint16_t(kBlockSizes[(h + h / 4) % std::size(kBlockSizes)]);
  }
  return profile;
}

// Keys of one sequence on pages in no order; channels of very different mean and spread.
struct Keys {
  Keys(const KvShape& shape, int n_tokens, uint32_t seed)
      : pages(std::move(KvPages::reserve(shape, size_t(n_tokens) / kKvPageTokens + 2).value())),
        random(seed) {
    table.resize(size_t(n_tokens) / kKvPageTokens + 1);
    std::iota(table.begin(), table.end(), PageId(1));
    std::shuffle(table.begin(), table.end(), random);
    for (int t = 0; t < n_tokens; ++t) write(t);
  }
  f16* row(int layer, int kv_head, int token) {
    const KvShape& shape = pages.shape();
    const size_t page = table[size_t(token) / kKvPageTokens];
    return pages.k(layer) + ((page * size_t(shape.n_kv_heads) + size_t(kv_head)) * kKvPageTokens +
                             size_t(token) % kKvPageTokens) *
                                size_t(shape.head_dim);
  }
  // A new random key for every head.
  void write(int token) {
    std::normal_distribution<float> normal;
    const KvShape& shape = pages.shape();
    for (int layer = 0; layer < shape.n_layers; ++layer) {
      for (int kv_head = 0; kv_head < shape.n_kv_heads; ++kv_head) {
        f16* k = row(layer, kv_head, token);
        for (int d = 0; d < shape.head_dim; ++d) {
          const float mean = d % 7 == 3 ? 90.0F : float(d % 3);
          const float spread = d % 5 == 0 ? 0.01F : 2.0F;
          k[d] = f16_from_f32(d == 1 ? 3.0F : mean + spread * normal(random));
        }
      }
    }
  }
  KvView view(int n_tokens) const { return {table.data(), n_tokens}; }
  std::vector<float> block(const DigestLayout& layout, int head, int index) {
    const KvShape& shape = pages.shape();
    std::vector<float> k;
    for (int t = 0; t < layout.block_tokens[size_t(head)]; ++t) {
      const f16* from = row(head / shape.n_kv_heads, head % shape.n_kv_heads,
                            index * layout.block_tokens[size_t(head)] + t);
      for (int d = 0; d < shape.head_dim; ++d) k.push_back(float(value_of_half(from[d])));
    }
    return k;
  }

  KvPages pages;
  std::vector<PageId> table;
  std::mt19937 random;
};

// --- the definition, written out ------------------------------------------------------------

struct BlockDigest {
  std::vector<float> c, r;
};

BlockDigest naive_digest(Keys& keys, const DigestLayout& layout, int head, int index) {
  const int head_dim = layout.shape.head_dim;
  BlockDigest digest{std::vector<float>(size_t(head_dim)), std::vector<float>(size_t(head_dim))};
  reference_digest(layout.digest.kind, keys.block(layout, head, index).data(),
                   layout.block_tokens[size_t(head)], head_dim, digest.c.data(), digest.r.data());
  return digest;
}

// One channel of one vector over the blocks of a group: scale, zero, levels.
struct NaiveLevels {
  f16 scale, zero;
  std::vector<int> levels;
};

NaiveLevels naive_levels(const std::vector<float>& x, int top) {
  const auto [least, most] = std::minmax_element(x.begin(), x.end());
  NaiveLevels q{nearest_half((*most - *least) / float(top)), nearest_half(*least), {}};
  const float s = float(value_of_half(q.scale));
  const float z = float(value_of_half(q.zero));
  for (const float value : x) {
    const int level = s == 0 ? 0 : int(std::floor((value - z) / s + 0.5F));
    q.levels.push_back(std::clamp(level, 0, top));
  }
  return q;
}

f16 half_at(const uint8_t* bytes, int index) {
  f16 half;
  std::memcpy(&half, bytes + size_t(index) * sizeof half, sizeof half);
  return half;
}

void expect_closed_group(Keys& keys, const DigestLayout& layout, const DigestGroup& group,
                         int group_index) {
  const int head_dim = layout.shape.head_dim;
  ASSERT_EQ(group.size(), layout.closed_offset.back());
  for (int head = 0; head < layout.shape.n_heads(); ++head) {
    const int n_blocks = layout.blocks_per_group(head);
    const uint8_t* place = group.data() + layout.closed_offset[size_t(head)];
    std::vector<BlockDigest> digests;
    for (int b = 0; b < n_blocks; ++b) {
      digests.push_back(naive_digest(keys, layout, head, group_index * n_blocks + b));
    }
    const int bits = layout.digest.bits;
    const int n_bytes = head_dim * bits / 8;  // of a vector
    for (int vector = 0; vector < layout.digest.n_vectors(); ++vector) {
      for (int d = 0; d < head_dim; ++d) {
        std::vector<float> x;
        for (const BlockDigest& digest : digests) {
          x.push_back((vector == 0 ? digest.c : digest.r)[size_t(d)]);
        }
        const NaiveLevels expected = naive_levels(x, (1 << bits) - 1);
        ASSERT_EQ(half_at(place, (2 * vector + 0) * head_dim + d), expected.scale) << d;
        ASSERT_EQ(half_at(place, (2 * vector + 1) * head_dim + d), expected.zero) << d;
        for (int b = 0; b < n_blocks; ++b) {
          const uint8_t* record =
              place + layout.scale_bytes() + size_t(b) * layout.closed_record_bytes();
          const uint8_t byte = record[vector * n_bytes + d % n_bytes];
          ASSERT_EQ((byte >> (d / n_bytes * bits)) & ((1 << bits) - 1), expected.levels[size_t(b)])
              << "head " << head << ", vector " << vector << ", channel " << d << ", block " << b;
        }
      }
    }
  }
}

// The f16 records of the blocks in [first_token, n_tokens).
void expect_halves(Keys& keys, const DigestLayout& layout, const std::vector<uint8_t>& group,
                   int first_token, int n_tokens) {
  const int head_dim = layout.shape.head_dim;
  for (int head = 0; head < layout.shape.n_heads(); ++head) {
    const int block_tokens = layout.block_tokens[size_t(head)];
    for (int b = 0; first_token + (b + 1) * block_tokens <= n_tokens; ++b) {
      const BlockDigest expected = naive_digest(keys, layout, head, first_token / block_tokens + b);
      const uint8_t* record =
          group.data() + layout.open_offset[size_t(head)] + size_t(b) * layout.open_record_bytes();
      for (int d = 0; d < head_dim; ++d) {
        ASSERT_EQ(half_at(record, d), nearest_half(expected.c[size_t(d)]))
            << "head " << head << ", block " << b << ", channel " << d;
        if (layout.digest.n_vectors() == 1) continue;
        ASSERT_EQ(half_at(record, head_dim + d), nearest_half(expected.r[size_t(d)]))
            << "head " << head << ", block " << b << ", channel " << d;
      }
    }
  }
}

void expect_digests(Keys& keys, const DigestLayout& layout, const Digests& digests, int n_tokens) {
  ASSERT_EQ(digests.n_tokens(), n_tokens);
  ASSERT_EQ(int(digests.closed().size()), n_tokens / kDigestGroupTokens);
  for (int g = 0; g < int(digests.closed().size()); ++g) {
    expect_closed_group(keys, layout, *digests.closed()[size_t(g)], g);
  }
  expect_halves(keys, layout, digests.open(), n_tokens / kDigestGroupTokens * kDigestGroupTokens,
                n_tokens);
}

// Bit for bit, the records that count.
void expect_same(const DigestLayout& layout, const Digests& a, const Digests& b) {
  ASSERT_EQ(a.n_tokens(), b.n_tokens());
  ASSERT_EQ(a.closed().size(), b.closed().size());
  for (size_t g = 0; g < a.closed().size(); ++g) ASSERT_EQ(*a.closed()[g], *b.closed()[g]) << g;
  for (int head = 0; head < layout.shape.n_heads(); ++head) {
    const int n_blocks = a.n_tokens() % kDigestGroupTokens / layout.block_tokens[size_t(head)];
    const size_t offset = layout.open_offset[size_t(head)];
    const size_t n_bytes = size_t(n_blocks) * layout.open_record_bytes();
    if (n_bytes == 0) continue;
    ASSERT_EQ(std::memcmp(a.open().data() + offset, b.open().data() + offset, n_bytes), 0)
        << "head " << head;
  }
}

constexpr DigestKind kKinds[] = {DigestKind::kMeanStd, DigestKind::kQuest, DigestKind::kArkVale};

// --- tests ----------------------------------------------------------------------------------

TEST(Digests, AreWhatTheirDefinitionsSay) {
  // One channel: 1, 2, 3, 6.
  const float k[] = {1, 2, 3, 6};
  float c = 0;
  float r = 0;
  reference_digest(DigestKind::kMeanStd, k, 4, 1, &c, &r);
  EXPECT_EQ(c, 3);
  EXPECT_FLOAT_EQ(r, std::sqrt(14.0F / 4));
  reference_digest(DigestKind::kQuest, k, 4, 1, &c, &r);
  EXPECT_EQ(c, 3.5F);
  EXPECT_EQ(r, 2.5F);
  reference_digest(DigestKind::kArkVale, k, 4, 1, &c, &r);
  EXPECT_EQ(c, 3.5F);
  EXPECT_EQ(r, (2.5F + 1.5F + 0.5F + 2.5F) / 4);
}

TEST(Digests, QuestsScoreBoundsEveryKeyOfTheBlock) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  constexpr int kDim = 16;
  std::vector<float> k(32 * kDim), q(kDim), c(kDim), r(kDim);
  for (int round = 0; round < 100; ++round) {
    for (float& x : k) x = normal(random);
    for (float& x : q) x = normal(random);
    reference_digest(DigestKind::kQuest, k.data(), 32, kDim, c.data(), r.data());
    float score = 0;
    for (int d = 0; d < kDim; ++d)
      score += c[size_t(d)] * q[size_t(d)] + r[size_t(d)] * std::fabs(q[size_t(d)]);
    for (int t = 0; t < 32; ++t) {
      float dot = 0;
      for (int d = 0; d < kDim; ++d) dot += k[size_t(t * kDim + d)] * q[size_t(d)];
      EXPECT_LE(dot, score + 1e-4F);
    }
  }
}

TEST(Digests, EqualTheReferenceAtEveryBoundary) {
  std::set<int> lengths;
  for (const int boundary : {0, 16, 32, 64, 128, 256, 2048, 2048 + 128, 4096, 6144}) {
    for (int offset = -1; offset <= 1; ++offset) lengths.insert(std::max(0, boundary + offset));
  }
  for (const DigestKind kind : kKinds) {
    const KvShape shape{3, 3, 10};
    const DigestLayout layout(shape, mixed_profile(shape, {kind}));
    Keys keys(shape, 6200, 7);
    Digests grown;
    for (const int n_tokens : lengths) {
      SCOPED_TRACE("kind " + std::to_string(int(kind)) + ", " + std::to_string(n_tokens));
      Digests fresh;
      fresh.update(layout, keys.pages, keys.view(n_tokens));
      grown.update(layout, keys.pages, keys.view(n_tokens));
      expect_same(layout, fresh, grown);
      if (kind == DigestKind::kMeanStd || n_tokens > 6000) {
        expect_digests(keys, layout, fresh, n_tokens);
      }
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Digests, EqualTheReferenceForEveryHeadDimension) {
  for (const int head_dim : {2, 6, 64, 80, 128, 256}) {
    SCOPED_TRACE(head_dim);
    const KvShape shape{1, 4, head_dim};
    const DigestLayout layout(shape, mixed_profile(shape));
    Keys keys(shape, 2048 + 200, uint32_t(head_dim));
    Digests digests;
    digests.update(layout, keys.pages, keys.view(2048 + 200));
    expect_digests(keys, layout, digests, 2048 + 200);
  }
}

TEST(Digests, EqualTheReferenceInEveryFormat) {
  for (const DigestKind kind : {DigestKind::kMeanStd, DigestKind::kMean, DigestKind::kCentroids}) {
    for (const int bits : {2, 4, 8}) {
      SCOPED_TRACE("kind " + std::to_string(int(kind)) + ", bits " + std::to_string(bits));
      const KvShape shape{1, 4, 16};
      const DigestLayout layout(shape, mixed_profile(shape, {kind, uint8_t(bits)}));
      Keys keys(shape, 2048 + 200, 8);
      Digests digests;
      digests.update(layout, keys.pages, keys.view(2048 + 200));
      expect_digests(keys, layout, digests, 2048 + 200);
      EXPECT_EQ(digests.bytes(), layout.closed_offset.back() + layout.open_offset.back());
    }
  }
}

// Closed groups in f16 are what the open group was before it closed.
TEST(Digests, UnquantisedGroupsKeepTheirHalves) {
  const KvShape shape{1, 4, 16};
  for (const DigestKind kind : {DigestKind::kMeanStd, DigestKind::kMean}) {
    const DigestLayout layout(shape, mixed_profile(shape, {kind, 16}));
    ASSERT_EQ(layout.scale_bytes(), 0U);
    ASSERT_EQ(layout.closed_record_bytes(), layout.open_record_bytes());
    Keys keys(shape, 2048, 8);
    Digests digests;
    digests.update(layout, keys.pages, keys.view(2048));
    expect_halves(keys, layout, *digests.closed()[0], 0, 2048);
  }
}

// Two heaps of keys: the centroids are their means, and the score is the larger of both products.
TEST(Digests, CentroidsFindTwoHeaps) {
  constexpr int kDim = 4;
  const float heaps[2][kDim] = {{10, 0, 3, -2}, {-6, 4, 3, 8}};
  std::vector<float> k;
  for (int t = 0; t < 32; ++t) {
    for (int d = 0; d < kDim; ++d) {
      k.push_back(heaps[t % 3 == 0 ? 1 : 0][d] + (t / 3 % 2 == 0 ? 0.5F : -0.5F));
    }
  }
  float sum[2][kDim] = {};
  int n_of[2] = {};
  for (int t = 0; t < 32; ++t) {
    const int heap = t % 3 == 0 ? 1 : 0;
    ++n_of[heap];
    for (int d = 0; d < kDim; ++d) sum[heap][d] += k[size_t(t * kDim + d)];
  }
  float c[kDim], r[kDim];
  reference_digest(DigestKind::kCentroids, k.data(), 32, kDim, c, r);
  const float q[kDim] = {1, -2, 0.5F, 3};
  float product[2] = {}, middle = 0, between = 0;
  for (int d = 0; d < kDim; ++d) {
    for (int heap : {0, 1}) product[heap] += sum[heap][d] / float(n_of[heap]) * q[d];
    middle += c[d] * q[d];
    between += r[d] * q[d];
  }
  EXPECT_NEAR(middle + std::fabs(between), std::max(product[0], product[1]), 1e-4);
  EXPECT_NEAR(middle - std::fabs(between), std::min(product[0], product[1]), 1e-4);
}

TEST(Digests, CentroidsOfEqualKeysAreOne) {
  const std::vector<float> k(16 * 4, 3.0F);
  float c[4], r[4];
  reference_digest(DigestKind::kCentroids, k.data(), 16, 4, c, r);
  for (int d = 0; d < 4; ++d) {
    EXPECT_EQ(c[d], 3);
    EXPECT_EQ(r[d], 0);
  }
}

TEST(Digests, GrowTokenByTokenAsInOneStep) {
  const KvShape shape{2, 2, 8};
  const DigestLayout layout(shape, mixed_profile(shape));
  Keys keys(shape, 4400, 9);
  Digests grown;
  for (int n_tokens = 1900; n_tokens <= 4400; ++n_tokens) {
    grown.update(layout, keys.pages, keys.view(n_tokens));
    if (n_tokens % 97 != 0 && n_tokens % 16 > 1) continue;
    Digests fresh;
    fresh.update(layout, keys.pages, keys.view(n_tokens));
    expect_same(layout, fresh, grown);
    if (HasFatalFailure()) return;
  }
}

TEST(Digests, AfterCutsAndOtherKeysEqualAStraightRun) {
  const KvShape shape{2, 2, 8};
  for (uint32_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const DigestLayout layout(shape, mixed_profile(shape, {kKinds[seed % 3]}));
    Keys keys(shape, 5000, seed);
    std::mt19937 random(seed);
    Digests digests;
    int n_tokens = 0;
    for (int step = 0; step < 30; ++step) {
      const bool cuts = random() % 3 == 0;
      const int most = cuts ? n_tokens : 5000 - n_tokens;
      const int change = int(random() % uint32_t(most + 1)) / (random() % 2 == 0 ? 1 : 20);
      if (cuts) {
        n_tokens -= change;
        digests.truncate(n_tokens);
        for (int t = n_tokens; t < std::min(5000, n_tokens + 300); ++t) keys.write(t);
      } else {
        n_tokens += change;
        digests.update(layout, keys.pages, keys.view(n_tokens));
        Digests fresh;
        fresh.update(layout, keys.pages, keys.view(n_tokens));
        expect_same(layout, fresh, digests);
      }
      if (HasFatalFailure()) return;
    }
  }
}

TEST(Digests, AShorterViewIsACut) {
  const KvShape shape{1, 2, 4};
  const DigestLayout layout(shape, mixed_profile(shape));
  Keys keys(shape, 4500, 2);
  for (const int shorter : {4499, 4400, 4096, 4095, 2048, 2047, 100, 0}) {
    Digests digests;
    digests.update(layout, keys.pages, keys.view(4500));
    digests.update(layout, keys.pages, keys.view(shorter));
    Digests fresh;
    fresh.update(layout, keys.pages, keys.view(shorter));
    expect_same(layout, fresh, digests);
  }
}

TEST(Digests, CopiesShareClosedGroups) {
  const KvShape shape{1, 2, 4};
  const DigestLayout layout(shape, mixed_profile(shape));
  Keys keys(shape, 4500, 2);
  Digests digests;
  digests.update(layout, keys.pages, keys.view(4500));
  Digests copy = digests;
  ASSERT_EQ(copy.closed().size(), 2U);
  EXPECT_EQ(copy.closed()[0].get(), digests.closed()[0].get());
  copy.truncate(2100);
  copy.update(layout, keys.pages, keys.view(4300));
  EXPECT_EQ(copy.closed()[0].get(), digests.closed()[0].get());
  Digests fresh;
  fresh.update(layout, keys.pages, keys.view(4500));
  expect_same(layout, fresh, digests);
  copy.clear();
  EXPECT_EQ(copy.bytes(), 0U);
  EXPECT_EQ(copy.n_tokens(), 0);
}

TEST(Digests, OneHeadsBlockSizeDoesNotTouchAnother) {
  const KvShape shape{1, 3, 8};
  HeadProfile profile = HeadProfile::uniform(1, 3, 16);
  Keys keys(shape, 3000, 4);
  Digests before;
  const DigestLayout layout(shape, profile);
  before.update(layout, keys.pages, keys.view(3000));
  profile.block_tokens[1] = 128;
  const DigestLayout changed_layout(shape, profile);
  Digests after;
  after.update(changed_layout, keys.pages, keys.view(3000));
  for (const int head : {0, 2}) {
    const size_t h = size_t(head);
    const uint8_t* a = before.closed()[0]->data() + layout.closed_offset[h];
    const uint8_t* b = after.closed()[0]->data() + changed_layout.closed_offset[h];
    EXPECT_EQ(std::memcmp(a, b, layout.closed_offset[1]), 0);
    const uint8_t* c = before.open().data() + layout.open_offset[h];
    const uint8_t* d = after.open().data() + changed_layout.open_offset[h];
    EXPECT_EQ(std::memcmp(c, d, size_t(952 / 16) * layout.open_record_bytes()), 0);
  }
}

TEST(Digests, QuantisedValuesAreWithinHalfAStep) {
  const KvShape shape{1, 4, 64};
  const DigestLayout layout(shape, mixed_profile(shape));
  Keys keys(shape, 2048, 6);
  Digests digests;
  digests.update(layout, keys.pages, keys.view(2048));
  for (int head = 0; head < 4; ++head) {
    const uint8_t* place = digests.closed()[0]->data() + layout.closed_offset[size_t(head)];
    for (int b = 0; b < layout.blocks_per_group(head); ++b) {
      const BlockDigest digest = naive_digest(keys, layout, head, b);
      const uint8_t* record = place + layout.scale_bytes() + size_t(b) * 64;
      for (int d = 0; d < 64; ++d) {
        const double s = value_of_half(half_at(place, d));
        const double z = value_of_half(half_at(place, 64 + d));
        const int level = d < 32 ? record[d] & 15 : record[d - 32] >> 4;
        // Half a step, and what rounding s and z to halves can move the two ends by.
        const double rounding = (std::fabs(z) + 15 * s) * std::ldexp(1, -11);
        EXPECT_NEAR(s * level + z, double(digest.c[size_t(d)]), s / 2 + rounding + 1e-7)
            << "head " << head << ", block " << b << ", channel " << d;
      }
    }
  }
}

TEST(Digests, KeysThatAreNotFiniteStayInTheirChannelAndHead) {
  for (const DigestKind kind : kKinds) {
    for (const f16 bad : {f16(0x7e00), f16(0x7c00), f16(0xfc00)}) {
      const KvShape shape{1, 2, 4};
      const DigestLayout layout(shape, mixed_profile(shape, {kind}));
      Keys keys(shape, 2100, 5);
      Digests before;
      before.update(layout, keys.pages, keys.view(2100));
      keys.row(0, 0, 40)[2] = bad;
      keys.row(0, 0, 2060)[2] = bad;
      Digests after;
      after.update(layout, keys.pages, keys.view(2100));
      // The other head's closed group is the same, and so are the other channels' scales.
      EXPECT_EQ(std::memcmp(before.closed()[0]->data() + layout.closed_offset[1],
                            after.closed()[0]->data() + layout.closed_offset[1],
                            layout.closed_offset[2] - layout.closed_offset[1]),
                0);
      for (const int d : {0, 1, 3}) {
        EXPECT_EQ(half_at(before.closed()[0]->data(), d), half_at(after.closed()[0]->data(), d));
      }
    }
  }
}

TEST(Digests, CountTheBytesThatScoringReads) {
  const KvShape shape{1, 1, 64};
  for (const int block_tokens : kBlockSizes) {
    const DigestLayout layout(shape, HeadProfile::uniform(1, 1, block_tokens));
    for (const int n_tokens : {100, 2047, 2048, 2049, 4096, 5000, 9000}) {
      const int n_full = n_tokens / block_tokens;
      for (int first = 0; first <= n_full; first += 3) {
        for (int end = first; end <= n_full; end += 5) {
          size_t expected = 0;
          std::set<int> groups;
          for (int b = first; b < end; ++b) {
            const int group = b * block_tokens / kDigestGroupTokens;
            const bool closed = (group + 1) * kDigestGroupTokens <= n_tokens;
            expected += closed ? 64 : 256;
            if (closed) groups.insert(group);
          }
          expected += groups.size() * 4 * 2 * 64;
          ASSERT_EQ(layout.read_bytes(block_tokens, first, end, n_tokens), expected)
              << block_tokens << ": " << first << " to " << end << " of " << n_tokens;
        }
      }
    }
  }
}

}  // namespace
}  // namespace scholia
