// KV pages that do not lie in the host's memory: a stand-in for a device whose pages are only
// touched through the interface, and one that is lost.
#include <cstring>

#include "kv_support.h"

namespace scholia::kv_test {
namespace {

// Hands out addresses for the tests to write like a backend's kernels do; copies are counted.
class FarMemory final : public KvMemory {
 public:
  explicit FarMemory(size_t n_elements, const bool* is_lost)
      : data_(n_elements), is_lost_(is_lost) {}

  f16* base() override { return data_.data(); }
  bool is_on_host() const override { return false; }
  bool read(const f16* from, size_t n, f16* to_host) const override {
    if (*is_lost_) return false;
    std::copy_n(from, n, to_host);
    return true;
  }
  bool write(f16* to, size_t n, const f16* from_host) override {
    if (*is_lost_) return false;
    std::copy_n(from_host, n, to);
    return true;
  }
  bool copy(const f16* from, f16* to, size_t n) override { return write(to, n, from); }

 private:
  std::vector<f16> data_;
  const bool* is_lost_;
};

class KvMemoryTest : public ::testing::Test {
 protected:
  std::unique_ptr<KvCache> make_far_cache(size_t n_pages) {
    const size_t n_elements = kSmallShape.page_bytes() / sizeof(f16) * n_pages;
    auto pages = KvPages::over(kSmallShape, n_pages,
                               std::make_unique<FarMemory>(n_elements, &is_lost_));
    EXPECT_TRUE(pages.ok());
    auto cache = KvCache::create({kSmallShape, std::string(64, 'f'), 64, n_pages, dir_.path()},
                                 std::move(pages.value()));
    EXPECT_TRUE(cache.ok());
    return std::move(cache.value());
  }

  TestDir dir_;
  bool is_lost_ = false;
};

TEST_F(KvMemoryTest, SavesRestoresForksAndCuts) {
  const auto prompt = text(2100);
  Expected expected;
  {
    const auto far = make_far_cache(300);
    const SequenceId sequence = far->create_sequence();
    ASSERT_TRUE(prefill(*far, sequence, expected, prompt, true).status.ok());
    EXPECT_TRUE(holds(*far, sequence, expected));
    // The fork writes into the page where the prompt ended, and so must copy it.
    const auto fork = far->fork(sequence);
    ASSERT_TRUE(fork.ok());
    Expected of_fork = expected;
    const std::vector<Token> answer = text(20, 3);
    ASSERT_TRUE(generate(*far, fork.value(), of_fork, {.generated = true}, answer).ok());
    EXPECT_TRUE(holds(*far, fork.value(), of_fork));
    EXPECT_TRUE(holds(*far, sequence, expected));
    ASSERT_EQ(far->truncate(fork.value(), 2100).value(), 2100);
    of_fork.cut(2100);
    EXPECT_TRUE(holds(*far, fork.value(), of_fork));
  }
  // Files hold the plain order: another far cache opens them, and so does the host's.
  for (const bool is_far : {true, false}) {
    const auto cache = is_far ? make_far_cache(300) : make_cache(300, dir_.path());
    Expected again;
    const SequenceId sequence = cache->create_sequence();
    const auto result = prefill(*cache, sequence, again, prompt);
    ASSERT_TRUE(result.status.ok());
    EXPECT_EQ(result.cached.disk_tokens, 2100);
    EXPECT_TRUE(holds(*cache, sequence, again));
  }
}

TEST_F(KvMemoryTest, ALostDeviceIsSaidAndNoFileIsBlamed) {
  const auto prompt = text(1024);
  {
    const auto far = make_far_cache(100);
    Expected expected;
    ASSERT_TRUE(prefill(*far, far->create_sequence(), expected, prompt, true).status.ok());
  }
  ASSERT_EQ(dir_.files().size(), 1U);
  const auto far = make_far_cache(100);
  is_lost_ = true;
  const SequenceId sequence = far->create_sequence();
  ASSERT_TRUE(far->begin_segment(sequence, {}).ok());
  const CachedPrefix taken = far->take_cached(sequence, prompt, 1024);
  EXPECT_EQ(taken.total(), 0);
  EXPECT_EQ(taken.broken_tokens, 0);
  EXPECT_EQ(dir_.files().size(), 1U) << "the file is whole";

  Expected expected;
  const auto other = text(1024, 9);
  const auto saved = prefill(*far, far->create_sequence(), expected, other, true);
  ASSERT_FALSE(saved.status.ok());
  EXPECT_EQ(saved.status.error().code, ErrorCode::kEngineLost);
  EXPECT_EQ(dir_.files().size(), 1U) << "nothing half-written stays";
  EXPECT_FALSE(far->pages().host_copy(far->view(sequence)).ok() && far->view(sequence).n_tokens > 0);
}

TEST_F(KvMemoryTest, LineageChangesWithEverythingButAppending) {
  const auto cache = make_far_cache(100);
  Expected expected;
  const SequenceId sequence = cache->create_sequence();
  const uint64_t lineage = cache->lineage(sequence);
  ASSERT_TRUE(prefill(*cache, sequence, expected, text(100)).status.ok());
  ASSERT_TRUE(generate(*cache, sequence, expected, {.generated = true}, text(5)).ok());
  EXPECT_EQ(cache->lineage(sequence), lineage);
  const SequenceId fork = cache->fork(sequence).value();
  EXPECT_NE(cache->lineage(fork), lineage);
  EXPECT_EQ(cache->lineage(sequence), lineage);
  ASSERT_EQ(cache->truncate(sequence, 200).value(), 105);  // nothing to cut
  EXPECT_EQ(cache->lineage(sequence), lineage);
  ASSERT_EQ(cache->truncate(sequence, 102).value(), 102);
  EXPECT_NE(cache->lineage(sequence), lineage);
  EXPECT_NE(cache->lineage(sequence), cache->lineage(fork));
  EXPECT_NE(cache->lineage(cache->create_sequence()), lineage);
}

TEST_F(KvMemoryTest, ACopyForTheHostIsInTheViewsOrder) {
  const auto far = make_far_cache(100);
  Expected expected;
  const SequenceId first = far->create_sequence();
  ASSERT_TRUE(prefill(*far, first, expected, text(100)).status.ok());
  Expected second_expected;
  const SequenceId second = far->create_sequence();
  ASSERT_TRUE(prefill(*far, second, second_expected, text(77, 4)).status.ok());
  const KvView view = far->view(second);
  const auto copy = far->pages().host_copy(view);
  ASSERT_TRUE(copy.ok());
  ASSERT_TRUE(copy.value().is_on_host());
  const size_t n_bytes = kSmallShape.page_elements() * sizeof(f16);
  for (int layer = 0; layer < kSmallShape.n_layers; ++layer) {
    for (size_t page = 0; page < 5; ++page) {
      const size_t from = view.pages[page] * kSmallShape.page_elements();
      const size_t to = page * kSmallShape.page_elements();
      EXPECT_EQ(std::memcmp(far->pages().k(layer) + from, copy.value().k(layer) + to, n_bytes), 0);
      EXPECT_EQ(std::memcmp(far->pages().v(layer) + from, copy.value().v(layer) + to, n_bytes), 0);
    }
  }
}

}  // namespace
}  // namespace scholia::kv_test
