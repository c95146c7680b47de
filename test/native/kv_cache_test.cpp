#include "engine/kv/kv_cache.h"

#include <gtest/gtest.h>

#include <set>

#include "kv_support.h"

namespace scholia::kv_test {
namespace {

constexpr int kChunk = 64;
const SegmentKind kDenseText{.generated = true, .mode = Mode::kDense};
const SegmentKind kSparseText{
    .generated = true, .mode = Mode::kAbSparse, .budget_tokens = 1024, .profile_id = 42};

struct Reading {
  SequenceId id;
  Expected expected;
};

Reading read(KvCache& cache, std::span<const Token> prompt, CachedPrefix* cached = nullptr,
             int limit_tokens = 1 << 30) {
  Reading reading{cache.create_sequence(), {}};
  const PrefillResult result =
      prefill(cache, reading.id, reading.expected, prompt, false, limit_tokens);
  EXPECT_TRUE(result.status.ok()) << result.status.error().message;
  EXPECT_TRUE(holds(cache, reading.id, reading.expected));
  if (cached != nullptr) *cached = result.cached;
  return reading;
}

// Lengths around every boundary.
std::vector<int> lengths() {
  std::set<int> n;
  for (const int boundary : {0, 16, 32, 64, 128, 1024, 2048}) {
    for (int offset = -1; offset <= 1; ++offset) {
      if (boundary + offset > 0) n.insert(boundary + offset);
    }
  }
  return {n.begin(), n.end()};
}

// --- refusals -------------------------------------------------------------------------------

TEST(KvCache, RefusesShapesAndChunksThatCannotBe) {
  const auto code_of = [](KvCacheConfig config) {
    auto cache = KvCache::create(config);
    EXPECT_FALSE(cache.ok());
    return cache.ok() ? ErrorCode::kInternal : cache.error().code;
  };
  const KvCacheConfig good{kSmallShape, "f", 64, 8, ""};
  for (const int chunk_tokens : {0, -64, 15, 63, 65}) {
    KvCacheConfig config = good;
    config.chunk_tokens = chunk_tokens;
    EXPECT_EQ(code_of(config), ErrorCode::kInvalidArgument) << chunk_tokens;
  }
  for (const KvShape& shape : {KvShape{0, 1, 4}, KvShape{1, -1, 4}, KvShape{1, 1, 3},
                               KvShape{1, 1, 1 << 20}, KvShape{1 << 30, 1 << 30, 1 << 30}}) {
    KvCacheConfig config = good;
    config.shape = shape;
    EXPECT_EQ(code_of(config), ErrorCode::kInvalidArgument);
  }
  KvCacheConfig config = good;
  config.n_pages = 0;
  EXPECT_EQ(code_of(config), ErrorCode::kInvalidArgument);
  config = good;
  config.shape = {65536, 65536, 65536};
  config.n_pages = 1U << 31;
  EXPECT_EQ(code_of(config), ErrorCode::kOutOfMemory);
}

TEST(KvCache, RefusesSequencesThatAreNotThere) {
  const auto cache = make_cache(8);
  EXPECT_FALSE(cache->contains(99));
  EXPECT_EQ(cache->fork(99).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(cache->truncate(99, 0).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(cache->reserve(99, 1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(cache->begin_segment(99, {}).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(cache->end_segment(99, true).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(cache->persist(99).error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(cache->stored_runs(99).empty());
  cache->release(99);
  const SequenceId id = cache->create_sequence();
  EXPECT_EQ(cache->truncate(id, -1).error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(cache->reserve(id, -1).error().code, ErrorCode::kInvalidArgument);
}

// --- chunks ---------------------------------------------------------------------------------

TEST(KvCache, ChunksEndAtMultiplesAndWithTheSegment) {
  const auto cache = make_cache(8);
  EXPECT_EQ(cache->chunk_end(0, 1000), 64);
  EXPECT_EQ(cache->chunk_end(63, 1000), 64);
  EXPECT_EQ(cache->chunk_end(64, 1000), 128);
  EXPECT_EQ(cache->chunk_end(70, 100), 100);
  EXPECT_EQ(cache->chunk_end(70, 128), 128);
}

// --- reading again --------------------------------------------------------------------------

TEST(KvCache, AReadDocumentIsFoundWhole) {
  for (const int n : lengths()) {
    SCOPED_TRACE(n);
    const auto cache = make_cache(400);
    const std::vector<Token> document = text(n);
    const Reading first = read(*cache, document);
    const ChainHash name = cache->chain(first.id);
    EXPECT_EQ(cache->find_cached(document), n);
    CachedPrefix cached;
    const Reading second = read(*cache, document, &cached);
    EXPECT_EQ(cached.memory_tokens, n);
    EXPECT_EQ(cached.disk_tokens, 0);
    EXPECT_EQ(cache->chain(second.id), name);
    cache->release(first.id);
    cache->release(second.id);
    EXPECT_EQ(cache->pages_in_use(), 0U);
    read(*cache, document, &cached);
    EXPECT_EQ(cached.memory_tokens, n) << "a released read stays findable";
  }
}

TEST(KvCache, TheLastChunkIsComputedAgainWhenItsLogitsAreWanted) {
  for (const int n : lengths()) {
    SCOPED_TRACE(n);
    const auto cache = make_cache(400);
    const std::vector<Token> document = text(n);
    read(*cache, document);
    CachedPrefix cached;
    read(*cache, document, &cached, n - 1);
    EXPECT_EQ(cached.total(), (n - 1) / kChunk * kChunk);
  }
}

TEST(KvCache, ALimitEndsAtAChunkBoundary) {
  const auto cache = make_cache(100);
  const std::vector<Token> document = text(300);
  read(*cache, document);
  for (int limit = 0; limit <= 301; ++limit) {
    CachedPrefix cached;
    const Reading reading = read(*cache, document, &cached, limit);
    EXPECT_EQ(cached.total(), limit >= 300 ? 300 : limit / kChunk * kChunk) << limit;
    cache->release(reading.id);
  }
}

TEST(KvCache, ALongerSegmentDoesNotTakeAShortChunk) {
  const auto cache = make_cache(100);
  read(*cache, text(200));  // chunks end at 64, 128, 192 and 200
  CachedPrefix cached;
  read(*cache, text(210), &cached);
  EXPECT_EQ(cached.total(), 192);
  read(*cache, text(230), &cached);  // 210 was computed as [192, 210): of no use here either
  EXPECT_EQ(cached.total(), 192);
  read(*cache, text(256), &cached);
  EXPECT_EQ(cached.total(), 192);
  read(*cache, text(300), &cached);  // [192, 256) is a whole chunk now
  EXPECT_EQ(cached.total(), 256);
}

TEST(KvCache, TextsThatBeginAlikeShareWhatIsAlike) {
  const auto cache = make_cache(200);
  read(*cache, text(500, 1, 300));
  const size_t before = cache->pages_in_use();
  CachedPrefix cached;
  read(*cache, text(500, 2, 300), &cached);
  EXPECT_EQ(cached.memory_tokens, 256);
  EXPECT_EQ(cache->pages_in_use() - before, size_t((500 - 256 + 15) / 16));
}

TEST(KvCache, ASecondSegmentIsFoundAfterTheFirst) {
  for (const int n : lengths()) {
    SCOPED_TRACE(n);
    const auto cache = make_cache(400);
    const std::vector<Token> document = text(n);
    const std::vector<Token> question = text(100, 7);
    Reading first = read(*cache, document);
    ASSERT_TRUE(prefill(*cache, first.id, first.expected, question).status.ok());
    Reading second = read(*cache, document);
    const PrefillResult result = prefill(*cache, second.id, second.expected, question);
    ASSERT_TRUE(result.status.ok());
    EXPECT_EQ(result.cached.memory_tokens, 100);
    EXPECT_TRUE(holds(*cache, second.id, second.expected));
    EXPECT_EQ(cache->chain(first.id), cache->chain(second.id));
    EXPECT_EQ(first.expected.states, second.expected.states);
  }
}

TEST(KvCache, TwoQuestionsDoNotDisturbEachOther) {
  for (const int n : lengths()) {
    SCOPED_TRACE(n);
    const auto cache = make_cache(800);
    const std::vector<Token> document = text(n);
    std::vector<Reading> readings;
    for (int question = 1; question <= 3; ++question) {
      readings.push_back(read(*cache, document));
      Reading& reading = readings.back();
      ASSERT_TRUE(prefill(*cache, reading.id, reading.expected, text(9, question)).status.ok());
      ASSERT_TRUE(
          generate(*cache, reading.id, reading.expected, kSparseText, text(20, question)).ok());
    }
    for (const Reading& reading : readings) {
      EXPECT_TRUE(holds(*cache, reading.id, reading.expected));
    }
  }
}

TEST(KvCache, APromptThatGoesOnAtAChunkBoundaryHasTheSameName) {
  const auto cache = make_cache(200);
  const std::vector<Token> document = text(300);
  Reading whole = read(*cache, document);
  Reading parts{cache->create_sequence(), {}};
  // Cancelled after two chunks, then continued with the rest.
  auto result = prefill(*cache, parts.id, parts.expected, document, false, 0, 2);
  ASSERT_EQ(parts.expected.n_tokens(), 128);
  result = prefill(*cache, parts.id, parts.expected, std::span(document).subspan(128), false, 0);
  ASSERT_TRUE(result.status.ok());
  EXPECT_EQ(cache->chain(parts.id), cache->chain(whole.id));
  EXPECT_EQ(parts.expected.states, whole.expected.states);
  // A segment that ends within a chunk is another computation, and another name.
  Reading other{cache->create_sequence(), {}};
  ASSERT_TRUE(prefill(*cache, other.id, other.expected, std::span(document).first(100), false, 0)
                  .status.ok());
  ASSERT_TRUE(prefill(*cache, other.id, other.expected, std::span(document).subspan(100), false, 0)
                  .status.ok());
  EXPECT_NE(cache->chain(other.id), cache->chain(whole.id));
}

// --- generated text -------------------------------------------------------------------------

TEST(KvCache, GeneratedPagesAreNeverTakenForPrefilledOnes) {
  const std::vector<Token> document = text(64);
  const std::vector<Token> answer = text(64, 5);
  std::vector<Token> both = document;
  both.insert(both.end(), answer.begin(), answer.end());
  for (const SegmentKind& kind : {kDenseText, kSparseText}) {
    const auto cache = make_cache(200);
    Reading chat = read(*cache, document);
    ASSERT_TRUE(generate(*cache, chat.id, chat.expected, kind, answer).ok());
    CachedPrefix cached;
    const Reading as_prompt = read(*cache, both, &cached);
    EXPECT_EQ(cached.total(), 64);
    EXPECT_NE(cache->chain(as_prompt.id), cache->chain(chat.id));
  }
}

TEST(KvCache, GeneratedTextIsFoundUnderItsOwnKindOnly) {
  const auto cache = make_cache(400);
  const std::vector<Token> document = text(70);
  const std::vector<Token> answer = text(50, 5);
  SegmentKind other_budget = kSparseText;
  other_budget.budget_tokens = 2048;
  SegmentKind other_profile = kSparseText;
  other_profile.profile_id = 43;
  Reading chat = read(*cache, document);
  ASSERT_TRUE(generate(*cache, chat.id, chat.expected, kSparseText, answer).ok());
  ASSERT_TRUE(cache->end_segment(chat.id, false).ok());
  for (const SegmentKind& kind : {kDenseText, other_budget, other_profile}) {
    const Reading reading = read(*cache, document);
    ASSERT_TRUE(cache->begin_segment(reading.id, kind).ok());
    EXPECT_EQ(cache->take_cached(reading.id, answer, 50).total(), 0);
  }
  for (int limit = 0; limit <= 50; ++limit) {
    const Reading reading = read(*cache, document);
    ASSERT_TRUE(cache->begin_segment(reading.id, kSparseText).ok());
    const int taken = cache->take_cached(reading.id, answer, limit).total();
    EXPECT_EQ(taken, limit == 50 ? 50 : std::max(0, (70 + limit) / 16 * 16 - 70)) << limit;
    Expected expected = chat.expected;
    expected.cut(70 + taken);
    EXPECT_TRUE(holds(*cache, reading.id, expected));
    cache->release(reading.id);
  }
}

TEST(KvCache, DenseTextHasNoBudgetInItsName) {
  const auto cache = make_cache(100);
  SegmentKind with_budget = kDenseText;
  with_budget.budget_tokens = 7;
  with_budget.profile_id = 9;
  std::vector<ChainHash> names;
  for (const SegmentKind& kind : {kDenseText, with_budget}) {
    Reading reading = read(*cache, text(30));
    ASSERT_TRUE(generate(*cache, reading.id, reading.expected, kind, text(30, 3)).ok());
    names.push_back(cache->chain(reading.id));
  }
  EXPECT_EQ(names[0], names[1]);
}

TEST(KvCache, WhereTheKindChangesWithinAPageIsPartOfTheName) {
  const auto cache = make_cache(100);
  const std::vector<Token> answer = text(16, 5);
  std::set<ChainHash> names;
  for (size_t change = 0; change <= answer.size(); ++change) {
    Reading reading = read(*cache, text(64));
    const std::span whole(answer);
    ASSERT_TRUE(
        generate(*cache, reading.id, reading.expected, kDenseText, whole.first(change)).ok());
    ASSERT_TRUE(
        generate(*cache, reading.id, reading.expected, kSparseText, whole.subspan(change)).ok());
    names.insert(cache->chain(reading.id));
    cache->release(reading.id);
  }
  EXPECT_EQ(names.size(), answer.size() + 1);
}

// --- fork and truncate ----------------------------------------------------------------------

TEST(KvCache, ForksGoTheirOwnWays) {
  for (const int n : lengths()) {
    SCOPED_TRACE(n);
    const auto cache = make_cache(400);
    Reading first = read(*cache, text(n));
    const size_t before = cache->pages_in_use();
    const auto forked = cache->fork(first.id);
    ASSERT_TRUE(forked.ok());
    EXPECT_EQ(cache->pages_in_use(), before);
    Reading second{forked.value(), first.expected};
    ASSERT_TRUE(generate(*cache, first.id, first.expected, kDenseText, text(40, 1)).ok());
    ASSERT_TRUE(generate(*cache, second.id, second.expected, kDenseText, text(40, 2)).ok());
    EXPECT_TRUE(holds(*cache, first.id, first.expected));
    EXPECT_TRUE(holds(*cache, second.id, second.expected));
    const auto third = cache->fork(second.id);  // in the middle of a generated segment
    ASSERT_TRUE(third.ok());
    Expected third_expected = second.expected;
    ASSERT_TRUE(generate(*cache, third.value(), third_expected, kDenseText, text(5, 3)).ok());
    ASSERT_TRUE(generate(*cache, second.id, second.expected, kDenseText, text(5, 4)).ok());
    EXPECT_TRUE(holds(*cache, third.value(), third_expected));
    EXPECT_TRUE(holds(*cache, second.id, second.expected));
    cache->release(first.id);
    EXPECT_TRUE(holds(*cache, second.id, second.expected));
  }
}

TEST(KvCache, APromptIsCutBetweenChunksAndTextAnywhere) {
  for (int n = 0; n <= 260; ++n) {
    const auto cache = make_cache(100);
    Reading reading = read(*cache, text(100));  // chunks [0, 64), [64, 100)
    ASSERT_TRUE(prefill(*cache, reading.id, reading.expected, text(60, 1)).status.ok());
    // ... [100, 128), [128, 160)
    ASSERT_TRUE(generate(*cache, reading.id, reading.expected, kDenseText, text(90, 2)).ok());
    const auto kept = cache->truncate(reading.id, n);
    ASSERT_TRUE(kept.ok());
    int expected = 0;
    for (const int boundary : {64, 100, 128, 160}) {
      if (boundary <= n) expected = boundary;
    }
    if (n > 160) expected = std::min(n, 250);
    EXPECT_EQ(kept.value(), expected) << n;
    reading.expected.cut(expected);
    EXPECT_TRUE(holds(*cache, reading.id, reading.expected));
    // What comes next is the same as in a run that never went further.
    ASSERT_TRUE(prefill(*cache, reading.id, reading.expected, text(50, 9)).status.ok());
    EXPECT_TRUE(holds(*cache, reading.id, reading.expected));
  }
}

TEST(KvCache, TextGeneratedAgainAfterACutHasTheNameOfAStraightRun) {
  const auto cache = make_cache(100);
  const std::vector<Token> answer = text(60, 2);
  Reading straight = read(*cache, text(100));
  ASSERT_TRUE(generate(*cache, straight.id, straight.expected, kSparseText, answer).ok());
  for (int n = 100; n <= 160; ++n) {
    Reading reading = read(*cache, text(100));
    ASSERT_TRUE(generate(*cache, reading.id, reading.expected, kSparseText, answer).ok());
    ASSERT_EQ(cache->truncate(reading.id, n).value(), n);
    reading.expected.cut(n);
    ASSERT_TRUE(generate(*cache, reading.id, reading.expected, kSparseText,
                         std::span(answer).subspan(size_t(n - 100)))
                    .ok());
    EXPECT_EQ(cache->chain(reading.id), cache->chain(straight.id));
    EXPECT_EQ(reading.expected.states, straight.expected.states);
    EXPECT_TRUE(holds(*cache, reading.id, reading.expected));
    EXPECT_TRUE(holds(*cache, straight.id, straight.expected));
    cache->release(reading.id);
  }
}

TEST(KvCache, ACutDoesNotTouchWhatOthersHoldOrFind) {
  const auto cache = make_cache(100);
  Reading first = read(*cache, text(100));
  ASSERT_TRUE(generate(*cache, first.id, first.expected, kDenseText, text(30, 1)).ok());
  ASSERT_TRUE(cache->end_segment(first.id, false).ok());
  Reading second{cache->fork(first.id).value(), first.expected};
  ASSERT_EQ(cache->truncate(second.id, 105).value(), 105);
  second.expected.cut(105);
  ASSERT_TRUE(generate(*cache, second.id, second.expected, kDenseText, text(30, 2)).ok());
  EXPECT_TRUE(holds(*cache, first.id, first.expected));
  // Released, its pages are still found with what they held.
  const Expected answered = first.expected;
  ASSERT_EQ(cache->truncate(first.id, 110).value(), 110);
  first.expected.cut(110);
  ASSERT_TRUE(generate(*cache, first.id, first.expected, kDenseText, text(30, 3)).ok());
  Reading third = read(*cache, text(100));
  ASSERT_TRUE(cache->begin_segment(third.id, kDenseText).ok());
  EXPECT_EQ(cache->take_cached(third.id, text(30, 1), 30).total(), 30);
  EXPECT_TRUE(holds(*cache, third.id, answered));
}

TEST(KvCache, ACutEndsTheOpenSegment) {
  const auto cache = make_cache(100);
  const std::vector<Token> answer = text(40, 1);
  Reading reading = read(*cache, text(64));
  ASSERT_TRUE(generate(*cache, reading.id, reading.expected, kDenseText, answer).ok());
  ASSERT_TRUE(cache->end_segment(reading.id, false).ok());
  ASSERT_TRUE(cache->begin_segment(reading.id, kDenseText).ok());
  ASSERT_EQ(cache->truncate(reading.id, 104).value(), 104) << "nothing is cut";
  ASSERT_EQ(cache->truncate(reading.id, 64).value(), 64);
  EXPECT_EQ(cache->take_cached(reading.id, answer, 40).total(), 0) << "no segment is open";
  ASSERT_TRUE(cache->begin_segment(reading.id, kDenseText).ok());
  EXPECT_EQ(cache->take_cached(reading.id, answer, 40).total(), 40);
}

TEST(KvCache, RoomReservedForACancelledChunkIsNotInTheWay) {
  const auto cache = make_cache(100);
  const std::vector<Token> document = text(600);
  read(*cache, document);
  Reading reading{cache->create_sequence(), {}};
  prefill(*cache, reading.id, reading.expected, document, false, 0, 3);
  ASSERT_EQ(reading.expected.n_tokens(), 192);
  const auto result =
      prefill(*cache, reading.id, reading.expected, std::span(document).subspan(192));
  ASSERT_TRUE(result.status.ok());
  EXPECT_EQ(result.cached.memory_tokens, 600 - 192);
  EXPECT_TRUE(holds(*cache, reading.id, reading.expected));
}

// --- room -----------------------------------------------------------------------------------

TEST(KvCache, TheOldestReadMakesRoomFirstAndItsEndBeforeItsBeginning) {
  const auto cache = make_cache(24);
  for (int number = 1; number <= 3; ++number) {  // eight pages each
    cache->release(read(*cache, text(128, number)).id);
  }
  read(*cache, text(64, 4));  // takes four of the first one's
  EXPECT_EQ(cache->find_cached(text(128, 1)), 64);
  EXPECT_EQ(cache->find_cached(text(128, 2)), 128);
  EXPECT_EQ(cache->find_cached(text(128, 3)), 128);
}

TEST(KvCache, ReadingAgainMakesAReadRecent) {
  const auto cache = make_cache(16);
  cache->release(read(*cache, text(128, 1)).id);
  cache->release(read(*cache, text(128, 2)).id);
  cache->release(read(*cache, text(128, 1)).id);
  read(*cache, text(64, 3));
  EXPECT_EQ(cache->find_cached(text(128, 1)), 128);
  EXPECT_EQ(cache->find_cached(text(128, 2)), 64);
}

TEST(KvCache, WhatIsInUseIsFoundHoweverOftenItsPagesWereUsedBefore) {
  const auto cache = make_cache(40);
  for (int round = 0; round < 200; ++round) {
    const std::vector<Token> document = text(20 + round * 37 % 500, round * round % 7);
    const Reading reading = read(*cache, document);
    ASSERT_EQ(cache->find_cached(document), int(document.size())) << round;
    cache->release(reading.id);
  }
}

TEST(KvCache, AUsedPageIsAsGoodAsANewOne) {
  const auto cache = make_cache(2);
  cache->release(read(*cache, text(32, 1)).id);
  Reading first = read(*cache, text(20));  // on the pages of the one before
  const Reading second{cache->fork(first.id).value(), first.expected};
  // The first to go on writes in place: there is no page for a copy.
  EXPECT_TRUE(generate(*cache, first.id, first.expected, kDenseText, text(12, 2)).ok());
  EXPECT_TRUE(holds(*cache, first.id, first.expected));
  EXPECT_TRUE(holds(*cache, second.id, second.expected));
}

TEST(KvCache, IsOutOfMemoryOnlyWhenEveryPageIsInUse) {
  const auto cache = make_cache(10);
  Reading first = read(*cache, text(80, 1));
  Reading second = read(*cache, text(80, 2));
  EXPECT_EQ(cache->pages_in_use(), 10U);
  const Status full = cache->reserve(first.id, 1);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::kOutOfMemory);
  EXPECT_NE(full.error().message.find("10"), std::string::npos) << full.error().message;
  EXPECT_TRUE(holds(*cache, first.id, first.expected));
  EXPECT_TRUE(holds(*cache, second.id, second.expected));
  cache->release(second.id);
  EXPECT_TRUE(generate(*cache, first.id, first.expected, kDenseText, text(80, 3)).ok());
  EXPECT_TRUE(holds(*cache, first.id, first.expected));
  EXPECT_FALSE(cache->reserve(first.id, 1).ok());
  EXPECT_TRUE(cache->reserve(first.id, 0).ok());
}

TEST(KvCache, ACopyNeedsAPageToo) {
  const auto cache = make_cache(2);
  Reading first = read(*cache, text(20));
  Reading second{cache->fork(first.id).value(), first.expected};
  ASSERT_TRUE(generate(*cache, first.id, first.expected, kDenseText, text(5)).ok());
  const Status full = cache->reserve(second.id, 1);
  ASSERT_FALSE(full.ok());
  EXPECT_EQ(full.error().code, ErrorCode::kOutOfMemory);
  cache->release(first.id);
  ASSERT_TRUE(generate(*cache, second.id, second.expected, kDenseText, text(5, 2)).ok());
  EXPECT_TRUE(holds(*cache, second.id, second.expected));
}

TEST(KvCache, RoomThatWasReservedAndNotUsedIsGivenBack) {
  const auto cache = make_cache(20);
  const SequenceId id = cache->create_sequence();
  ASSERT_TRUE(cache->reserve(id, 320).ok());
  EXPECT_EQ(cache->pages_in_use(), 20U);
  EXPECT_TRUE(cache->reserve(id, 320).ok()) << "the same room again";
  const auto forked = cache->fork(id);
  cache->release(id);
  EXPECT_EQ(cache->pages_in_use(), 0U);
  EXPECT_TRUE(cache->contains(forked.value()));
}

TEST(KvCache, MoreThanTheIntegersHoldIsOutOfMemory) {
  const auto cache = make_cache(20);
  Reading reading = read(*cache, text(100));
  const Status status = cache->reserve(reading.id, std::numeric_limits<int>::max());
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code, ErrorCode::kOutOfMemory);
}

TEST(KvCache, SeesFarIntoALargePool) {
  // 2^31 elements and more per layer: offsets must not be 32-bit integers.
  const KvShape shape{1, 8, 128};
  const size_t n_pages = (size_t(1) << 31) / shape.page_elements() + 4;
  auto pages = KvPages::reserve(shape, n_pages);
  ASSERT_TRUE(pages.ok());
  const PageId last = PageId(n_pages - 1);
  f16* row = row_of(pages.value().v(0), shape, last, 7, 15);
  row[127] = 0x3c00;
  pages.value().copy_page(last, last - 1);
  EXPECT_EQ(row_of(pages.value().v(0), shape, last - 1, 7, 15)[127], 0x3c00);
  EXPECT_EQ(row + 128, pages.value().v(0) + n_pages * shape.page_elements());
}

}  // namespace
}  // namespace scholia::kv_test
