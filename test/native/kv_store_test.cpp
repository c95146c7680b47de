// Reads on disk: kept, found, verified; broken files; no room; killed at any moment.
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <limits>
#include <map>
#include <set>
#include <thread>

#include "engine/kv/run_store.h"
#include "kv_support.h"

#ifndef _WIN32
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#endif

namespace scholia::kv_test {
namespace {

namespace fs = std::filesystem;

constexpr int kChunk = 64;
const SegmentKind kSparseText{
    .generated = true, .mode = Mode::kAbSparse, .budget_tokens = 1024, .profile_id = 42};

// Reads a prompt with a fresh cache on the folder and saves it.
Expected save(const std::string& dir, std::span<const Token> prompt, int chunk_tokens = kChunk) {
  const auto cache = make_cache(400, dir, chunk_tokens);
  const SequenceId id = cache->create_sequence();
  Expected expected;
  const PrefillResult result = prefill(*cache, id, expected, prompt, true);
  EXPECT_TRUE(result.status.ok()) << result.status.error().message;
  return expected;
}

// Reads a prompt with a fresh cache on the folder; checks what the sequence then holds.
CachedPrefix restore(const std::string& dir, std::span<const Token> prompt,
                     int limit_tokens = 1 << 30, int chunk_tokens = kChunk, size_t n_pages = 400) {
  const auto cache = make_cache(n_pages, dir, chunk_tokens);
  const SequenceId id = cache->create_sequence();
  Expected expected;
  const PrefillResult result = prefill(*cache, id, expected, prompt, false, limit_tokens);
  EXPECT_TRUE(result.status.ok()) << result.status.error().message;
  EXPECT_TRUE(holds(*cache, id, expected));
  return result.cached;
}

std::vector<uint8_t> bytes_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void write_bytes(const fs::path& path, const std::vector<uint8_t>& bytes) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file.write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
}

// --- kept and found -------------------------------------------------------------------------

TEST(KvStore, ASavedReadIsFoundWhole) {
  for (const int n : {1, 15, 16, 17, 63, 64, 65, 1023, 1024, 1025, 1040, 2047, 2048, 2049, 3000}) {
    SCOPED_TRACE(n);
    const TestDir dir;
    const std::vector<Token> document = text(n);
    save(dir.path(), document);
    EXPECT_EQ(int(dir.files().size()), (n + kRunTokens - 1) / kRunTokens);
    EXPECT_EQ(make_cache(400, dir.path())->find_cached(document), n);
    const CachedPrefix cached = restore(dir.path(), document);
    EXPECT_EQ(cached.disk_tokens, n);
    EXPECT_EQ(cached.memory_tokens, 0);
    EXPECT_EQ(cached.broken_tokens, 0);
  }
}

TEST(KvStore, EveryChunkSizeIsFoundUpToAChunkBoundary) {
  // Chunks that do not divide a run, and chunks longer than one.
  for (const int chunk_tokens : {16, 48, 512, 768, 1024, 2048}) {
    for (const int n : {2000, 2048, 3100}) {
      SCOPED_TRACE(std::to_string(chunk_tokens) + " of " + std::to_string(n));
      const TestDir dir;
      const std::vector<Token> document = text(n);
      save(dir.path(), document, chunk_tokens);
      EXPECT_EQ(restore(dir.path(), document, n, chunk_tokens).disk_tokens, n);
      EXPECT_EQ(restore(dir.path(), document, n - 1, chunk_tokens).disk_tokens,
                (n - 1) / chunk_tokens * chunk_tokens);
      // Without its last run, what is left ends at a chunk boundary.
      const auto cache = make_cache(400, dir.path(), chunk_tokens);
      Expected expected;
      const SequenceId id = cache->create_sequence();
      ASSERT_TRUE(prefill(*cache, id, expected, document).status.ok());
      fs::remove(cache->stored_runs(id).back());
      const int left = (n - 1) / kRunTokens * kRunTokens;
      EXPECT_EQ(restore(dir.path(), document, n, chunk_tokens).disk_tokens,
                left / chunk_tokens * chunk_tokens);
    }
  }
}

TEST(KvStore, ReadsThatBeginAlikeShareFiles) {
  const TestDir dir;
  save(dir.path(), text(2500, 1, 2100));
  EXPECT_EQ(dir.files().size(), 3U);
  save(dir.path(), text(2500, 2, 2100));
  EXPECT_EQ(dir.files().size(), 4U);
  EXPECT_EQ(restore(dir.path(), text(2500, 3, 2100)).disk_tokens, 2048);
}

TEST(KvStore, MemoryIsTakenBeforeDisk) {
  const TestDir dir;
  const std::vector<Token> document = text(3000);
  save(dir.path(), document);
  const auto cache = make_cache(400, dir.path());
  Expected first, second;
  const SequenceId a = cache->create_sequence();
  ASSERT_TRUE(prefill(*cache, a, first, std::span(document).first(1500), false, 0).status.ok());
  const SequenceId b = cache->create_sequence();
  const PrefillResult result = prefill(*cache, b, second, document);
  ASSERT_TRUE(result.status.ok());
  // [1472, 1500) is a short chunk of the first read: of no use here.
  EXPECT_EQ(result.cached.memory_tokens, 1472);
  EXPECT_EQ(result.cached.disk_tokens, 3000 - 1472);
  EXPECT_TRUE(holds(*cache, a, first));
  EXPECT_TRUE(holds(*cache, b, second));
}

TEST(KvStore, ARunOfWhichMemoryHoldsTheMiddleIsCompleted) {
  const TestDir dir;
  const std::vector<Token> document = text(1000);
  save(dir.path(), document);
  // The pool holds the read and little more: other reads take pages from its end first, then this
  // one is read again, and again, with different parts of it gone.
  const auto cache = make_cache(80, dir.path());
  for (int other = 1; other <= 30; ++other) {
    SCOPED_TRACE(other);
    Expected expected;
    const SequenceId id = cache->create_sequence();
    const PrefillResult result = prefill(*cache, id, expected, document);
    ASSERT_TRUE(result.status.ok());
    EXPECT_EQ(result.cached.total(), 1000);
    EXPECT_TRUE(holds(*cache, id, expected));
    cache->release(id);
    Expected noise;
    const SequenceId noise_id = cache->create_sequence();
    ASSERT_TRUE(prefill(*cache, noise_id, noise, text(37 * other, other)).status.ok());
    cache->release(noise_id);
  }
}

TEST(KvStore, TakesFromDiskWhatThePoolHolds) {
  const TestDir dir;
  const std::vector<Token> document = text(2000);
  save(dir.path(), document);
  const auto cache = make_cache(70, dir.path());  // 1,120 tokens
  const SequenceId id = cache->create_sequence();
  ASSERT_TRUE(cache->begin_segment(id, {}).ok());
  const CachedPrefix cached = cache->take_cached(id, document, 2000);
  EXPECT_EQ(cached.disk_tokens, 1120 / kChunk * kChunk);
  Expected expected;
  expected.add_prompt(document, kChunk);
  expected.cut(cached.total());
  EXPECT_TRUE(holds(*cache, id, expected));
  EXPECT_EQ(cached.broken_tokens, 0);
  EXPECT_EQ(dir.files().size(), 2U);
}

TEST(KvStore, AnotherModelChunkSizeOrTextFindsNothing) {
  const TestDir dir;
  save(dir.path(), text(1500));
  EXPECT_EQ(restore(dir.path(), text(1500, 1)).total(), 0);
  EXPECT_EQ(restore(dir.path(), text(1500), 1 << 30, 128).total(), 0);
  const auto other_model = make_cache(400, dir.path(), kChunk, kSmallShape, std::string(64, 'e'));
  EXPECT_EQ(other_model->find_cached(text(1500)), 0);
  EXPECT_EQ(dir.files().size(), 2U) << "and deletes nothing";
}

TEST(KvStore, ASecondSegmentAndGeneratedTextAreSavedToo) {
  const TestDir dir;
  const std::vector<Token> document = text(700), question = text(500, 1), answer = text(2000, 2);
  Expected expected;
  ChainHash name;
  std::vector<std::string> files;
  {
    const auto cache = make_cache(400, dir.path());
    const SequenceId id = cache->create_sequence();
    ASSERT_TRUE(prefill(*cache, id, expected, document, true).status.ok());
    ASSERT_TRUE(prefill(*cache, id, expected, question, true).status.ok());
    ASSERT_TRUE(generate(*cache, id, expected, kSparseText, answer).ok());
    ASSERT_TRUE(cache->end_segment(id, true).ok());
    name = cache->chain(id);
    files = cache->stored_runs(id);
    // [0, 700), [0, 1024), [1024, 1200), [1024, 2048), [2048, 3072), [3072, 3200)
    EXPECT_EQ(files.size(), 6U);
    EXPECT_EQ(std::set<std::string>(files.begin(), files.end()).size(), 6U);
    for (const std::string& file : files) EXPECT_TRUE(fs::is_regular_file(file)) << file;
  }
  const auto cache = make_cache(400, dir.path());
  Expected again;
  const SequenceId id = cache->create_sequence();
  EXPECT_EQ(prefill(*cache, id, again, document).cached.disk_tokens, 700);
  EXPECT_EQ(prefill(*cache, id, again, question).cached.disk_tokens, 500);
  ASSERT_TRUE(cache->begin_segment(id, kSparseText).ok());
  EXPECT_EQ(cache->take_cached(id, answer, 2000).disk_tokens, 2000);
  EXPECT_TRUE(holds(*cache, id, expected));
  EXPECT_EQ(cache->chain(id), name);
  EXPECT_EQ(cache->stored_runs(id), files);
}

TEST(KvStore, RestoredPagesAreSharedLikeOthers) {
  const TestDir dir;
  const std::vector<Token> document = text(100), answer = text(100, 2);
  Expected expected;
  {
    const auto cache = make_cache(40, dir.path());
    const SequenceId id = cache->create_sequence();
    ASSERT_TRUE(prefill(*cache, id, expected, document).status.ok());
    ASSERT_TRUE(generate(*cache, id, expected, kSparseText, answer).ok());
    ASSERT_TRUE(cache->end_segment(id, true).ok());
  }
  const auto cache = make_cache(40, dir.path());
  const SequenceId id = cache->create_sequence();
  Expected restored;
  ASSERT_TRUE(prefill(*cache, id, restored, document).status.ok());
  ASSERT_TRUE(cache->begin_segment(id, kSparseText).ok());
  ASSERT_EQ(cache->take_cached(id, answer, 100).disk_tokens, 100);
  const SequenceId forked = cache->fork(id).value();
  ASSERT_EQ(cache->truncate(forked, 195).value(), 195);
  restored = expected;
  restored.cut(195);
  ASSERT_TRUE(generate(*cache, forked, restored, kSparseText, text(20, 3)).ok());
  EXPECT_TRUE(holds(*cache, id, expected));
  EXPECT_TRUE(holds(*cache, forked, restored));
}

TEST(KvStore, ACutReadNamesOnlyTheFilesOfWhatIsLeft) {
  const TestDir dir;
  const auto cache = make_cache(400, dir.path());
  const SequenceId id = cache->create_sequence();
  Expected expected;
  ASSERT_TRUE(prefill(*cache, id, expected, text(1500), true).status.ok());
  ASSERT_TRUE(generate(*cache, id, expected, kSparseText, text(1000, 1)).ok());
  ASSERT_TRUE(cache->end_segment(id, true).ok());
  // [0, 1024), [1024, 1500), [1024, 2048), [2048, 2500)
  EXPECT_EQ(cache->stored_runs(id).size(), 4U);
  const std::pair<int, size_t> left[] = {{2499, 3}, {2049, 3}, {2048, 3}, {2047, 2}, {1501, 2},
                                         {1500, 2}, {1499, 1}, {1024, 1}, {1023, 0}};
  for (const auto& [n_tokens, n_files] : left) {
    ASSERT_TRUE(cache->truncate(id, n_tokens).ok());
    EXPECT_EQ(cache->stored_runs(id).size(), n_files) << n_tokens;
  }
}

TEST(KvStore, TheLastPageHoldsNothingBeyondTheSegment) {
  const TestDir dir;
  const auto cache = make_cache(40, dir.path());
  const SequenceId id = cache->create_sequence();
  Expected expected;
  ASSERT_TRUE(prefill(*cache, id, expected, text(20), true).status.ok());
  const std::vector<uint8_t> clean = bytes_of(dir.files().at(0));
  fs::remove(dir.files().at(0));
  ASSERT_TRUE(generate(*cache, id, expected, kSparseText, text(8, 1)).ok());  // the same page
  ASSERT_EQ(cache->truncate(id, 20).value(), 20);
  ASSERT_TRUE(cache->end_segment(id, true).ok());
  EXPECT_EQ(bytes_of(dir.files().at(0)), clean) << "a file is a function of its name";
}

TEST(KvStore, KilledReadsGoOnFromTheLastWholeRun) {
  const TestDir dir;
  const std::vector<Token> document = text(4000);
  {
    const auto cache = make_cache(400, dir.path());
    Expected expected;
    const SequenceId id = cache->create_sequence();
    ASSERT_TRUE(prefill(*cache, id, expected, document, true, 0, 40).status.ok());
    EXPECT_EQ(expected.n_tokens(), 40 * kChunk);
  }
  EXPECT_EQ(restore(dir.path(), document).disk_tokens, 2048);
}

TEST(KvStore, NamesAndFilesAreTheSameHoweverManyChunksAreComputedAtOnce) {
  const std::vector<Token> document = text(3000), question = text(130, 1);
  std::map<std::string, std::vector<uint8_t>> files;  // of the reads made chunk by chunk
  ChainHash name;
  for (const int step_tokens : {kChunk, 4 * kChunk, 64 * kChunk}) {
    const TestDir dir;
    const auto cache = make_cache(400, dir.path());
    Expected expected;
    const SequenceId id = cache->create_sequence();
    for (const auto& segment : {document, question}) {
      ASSERT_TRUE(prefill(*cache, id, expected, segment, true, 0, 1 << 30, step_tokens).status.ok());
    }
    EXPECT_TRUE(holds(*cache, id, expected));
    if (step_tokens == kChunk) name = cache->chain(id);
    EXPECT_EQ(cache->chain(id), name);
    for (const fs::path& file : dir.files()) {
      const auto bytes = bytes_of(file);
      EXPECT_EQ(files.emplace(file.filename().string(), bytes).first->second, bytes) << file;
    }
    EXPECT_EQ(dir.files().size(), files.size());
  }
}

TEST(KvStore, AReadGoesOnWithStepsOfAnotherSize) {
  const std::vector<Token> document = text(4000);
  for (const auto& [first, then] : {std::pair{kChunk, 32 * kChunk}, {16 * kChunk, kChunk}}) {
    const TestDir dir;
    Expected expected;
    {
      const auto cache = make_cache(400, dir.path());
      const SequenceId id = cache->create_sequence();
      const int steps = 2560 / first;
      ASSERT_TRUE(prefill(*cache, id, expected, document, true, 0, steps, first).status.ok());
      EXPECT_EQ(expected.n_tokens(), steps * first);
    }
    const auto cache = make_cache(400, dir.path());
    const SequenceId id = cache->create_sequence();
    expected = {};
    const auto went_on = prefill(*cache, id, expected, document, true, 1 << 30, 1 << 30, then);
    EXPECT_EQ(went_on.cached.disk_tokens, 2048);
    EXPECT_TRUE(holds(*cache, id, expected));
    EXPECT_EQ(restore(dir.path(), document).disk_tokens, 4000);
  }
}

TEST(KvStore, FilesAreTheReadersOwn) {
  const TestDir dir;
  save(dir.path(), text(100));
  const auto others = fs::perms::group_all | fs::perms::others_all;
  EXPECT_EQ(fs::status(dir.path()).permissions() & others, fs::perms::none);
  EXPECT_EQ(fs::status(dir.files().at(0)).permissions() & others, fs::perms::none);
}

// --- as documented (docs/kv_files.md) ---------------------------------------------------------

std::vector<Token> ascending(int begin, int end) {
  std::vector<Token> tokens;
  for (int token = begin; token < end; ++token) tokens.push_back(token);
  return tokens;
}

TEST(KvStore, NamesAreAsDocumented) {
  // From an independent program that follows the document.
  const auto cache = make_cache(40);
  SequenceId id = cache->create_sequence();
  EXPECT_EQ(to_hex(cache->chain(id)),
            "d975b32e78e78ec9d384552afbfb259ccdb201508aa921c196413173dfb1609d");
  Expected expected;
  ASSERT_TRUE(prefill(*cache, id, expected, ascending(0, 20)).status.ok());
  EXPECT_EQ(to_hex(cache->chain(id)),
            "e33a629d41e12f5f982627346c53ca8766e8469fc96694d2d32898e927ea179a");
  ASSERT_TRUE(generate(*cache, id, expected, kSparseText, ascending(20, 32)).ok());
  EXPECT_EQ(to_hex(cache->chain(id)),
            "b1b2b3d083fffe97a60ef8457106c11d9047ab58eea92500581dc75f27fe491f");
  id = cache->create_sequence();
  expected = {};
  ASSERT_TRUE(prefill(*cache, id, expected, ascending(0, 64)).status.ok());
  EXPECT_EQ(to_hex(cache->chain(id)),
            "b19de53aa9942fad5f5676888549400e49752170b732e957afc842f951568de9");
}

TEST(KvStore, TheFileIsAsDocumented) {
  const TestDir dir;
  const auto cache = make_cache(100, dir.path());
  const SequenceId id = cache->create_sequence();
  Expected expected;
  ASSERT_TRUE(prefill(*cache, id, expected, text(1050), true).status.ok());
  const auto files = cache->stored_runs(id);
  ASSERT_EQ(files.size(), 2U);
  EXPECT_EQ(fs::path(files[1]).filename().string(), to_hex(cache->chain(id)) + ".kv");
  const std::vector<uint8_t> bytes = bytes_of(files[1]);  // tokens 1,024 to 1,049
  const auto u32 = [&](size_t offset) {
    uint32_t value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
  };
  EXPECT_EQ(std::string(bytes.begin(), bytes.begin() + 8), "SCHOLIKV");
  EXPECT_EQ(u32(8), 1U);
  EXPECT_EQ(u32(12), 4096U);
  EXPECT_EQ(std::string(bytes.begin() + 16, bytes.begin() + 24), std::string("f16\0\0\0\0\0", 8));
  const uint32_t fields[] = {2, 2, 4, 16, uint32_t(kChunk), 1024, 26, 1, 64, 4};
  for (size_t i = 0; i < std::size(fields); ++i) EXPECT_EQ(u32(24 + 4 * i), fields[i]) << i;
  const std::vector<uint8_t> before = bytes_of(files[0]);
  EXPECT_TRUE(std::equal(before.begin() + 96, before.begin() + 128, bytes.begin() + 64))
      << "the run before ends where this one begins";
  const ChainHash name = cache->chain(id);
  EXPECT_TRUE(std::equal(name.begin(), name.end(), bytes.begin() + 96));
  EXPECT_EQ(std::string(bytes.begin() + 128, bytes.begin() + 192), std::string(64, 'f'));
  const uint32_t piece[] = {0, 1050, 0, 0, 0, 0};
  for (size_t i = 0; i < std::size(piece); ++i) EXPECT_EQ(u32(192 + 4 * i), piece[i]) << i;
  for (size_t i = 0; i < 26; ++i) EXPECT_EQ(Token(u32(216 + 4 * i)), expected.tokens[1024 + i]);
  // [layer][K, V][page][kv_head][slot][d]; the last page's six slots beyond the end are zero.
  size_t offset = 4096;
  for (int layer = 0; layer < 2; ++layer) {
    for (int side = 0; side < 2; ++side) {
      for (int row = 0; row < 2 * 2 * 16; ++row) {
        const int position = 1024 + row / 32 * 16 + row % 16;
        const int kv_head = row / 16 % 2;
        for (int d = 0; d < 4; ++d, offset += 2) {
          const f16 element = position < 1050 ? kv_element(expected.states[size_t(position)], layer,
                                                           side, kv_head, d)
                                              : f16(0);
          ASSERT_EQ(bytes.at(offset) | bytes.at(offset + 1) << 8, element) << offset;
        }
      }
    }
  }
  EXPECT_EQ(offset, bytes.size());
}

// --- broken files ---------------------------------------------------------------------------

TEST(KvStore, EveryFlippedByteIsNoticed) {
  const TestDir dir;
  const std::vector<Token> document = text(50);
  save(dir.path(), document);
  const fs::path path = dir.files().at(0);
  const std::vector<uint8_t> good = bytes_of(path);
  const auto cache = make_cache(40, dir.path());
  for (size_t i = 0; i < good.size(); ++i) {
    std::vector<uint8_t> bad = good;
    bad[i] ^= uint8_t(1 << (i % 8));
    write_bytes(path, bad);
    const SequenceId id = cache->create_sequence();
    ASSERT_TRUE(cache->begin_segment(id, {}).ok());
    const CachedPrefix cached = cache->take_cached(id, document, 50);
    ASSERT_EQ(cached.total(), 0) << "byte " << i << " of " << good.size();
    ASSERT_EQ(cached.broken_tokens, 50);
    ASSERT_FALSE(fs::exists(path)) << "a broken file is deleted";
    ASSERT_EQ(cache->pages_in_use(), 0U);
    cache->release(id);
  }
  write_bytes(path, good);
  EXPECT_EQ(restore(dir.path(), document).disk_tokens, 50);
}

TEST(KvStore, EveryCutAndEveryAdditionIsNoticed) {
  const TestDir dir;
  const std::vector<Token> document = text(50);
  save(dir.path(), document);
  const fs::path path = dir.files().at(0);
  const std::vector<uint8_t> good = bytes_of(path);
  std::set<size_t> sizes;
  for (size_t n = 0; n < good.size(); n += 61) sizes.insert(n);
  for (const size_t boundary : {size_t(0), size_t(128), size_t(4096), good.size()}) {
    for (int offset = -1; offset <= 1; ++offset) sizes.insert(boundary + size_t(offset));
  }
  sizes.erase(good.size());
  sizes.erase(std::numeric_limits<size_t>::max());
  const auto cache = make_cache(40, dir.path());
  for (const size_t n_bytes : sizes) {
    std::vector<uint8_t> bad = good;
    bad.resize(n_bytes);
    write_bytes(path, bad);
    EXPECT_EQ(cache->find_cached(document), 0) << n_bytes;
    const SequenceId id = cache->create_sequence();
    ASSERT_TRUE(cache->begin_segment(id, {}).ok());
    const CachedPrefix cached = cache->take_cached(id, document, 50);
    ASSERT_EQ(cached.total(), 0) << n_bytes;
    ASSERT_EQ(cached.broken_tokens, 50);
    ASSERT_FALSE(fs::exists(path));
    cache->release(id);
  }
}

TEST(KvStore, ABrokenRunIsReadAgainAndSavedAgain) {
  const TestDir dir;
  const std::vector<Token> document = text(3000);
  const Expected expected = save(dir.path(), document);
  std::vector<std::string> files;
  {
    const auto cache = make_cache(400, dir.path());
    Expected e;
    const SequenceId id = cache->create_sequence();
    prefill(*cache, id, e, document);
    files = cache->stored_runs(id);
    ASSERT_EQ(files.size(), 3U);
  }
  std::vector<uint8_t> bad = bytes_of(files[1]);
  bad[bad.size() / 2] ^= 1;
  write_bytes(files[1], bad);
  {
    const auto cache = make_cache(400, dir.path());
    EXPECT_EQ(cache->find_cached(document), 3000) << "known by name and size only";
    const SequenceId id = cache->create_sequence();
    Expected e;
    const PrefillResult result = prefill(*cache, id, e, document, true);
    ASSERT_TRUE(result.status.ok());
    EXPECT_EQ(result.cached.disk_tokens, 1024);
    EXPECT_EQ(result.cached.broken_tokens, 1024);
    EXPECT_TRUE(holds(*cache, id, e));
    EXPECT_EQ(e.states, expected.states);
  }
  EXPECT_EQ(restore(dir.path(), document).disk_tokens, 3000);
}

TEST(KvStore, AFileOfAnotherReadOrShapeUnderTheNameIsNotUsed) {
  const TestDir dir, other_dir;
  const std::vector<Token> document = text(1024), other = text(1024, 1);
  save(dir.path(), document);
  save(other_dir.path(), other);
  const fs::path path = dir.files().at(0);
  fs::copy_file(other_dir.files().at(0), path, fs::copy_options::overwrite_existing);
  const CachedPrefix cached = restore(dir.path(), document);
  EXPECT_EQ(cached.total(), 0);
  EXPECT_EQ(cached.broken_tokens, 1024);
  // The same bytes in another arrangement: two layers of one KV head for one of two.
  for (const KvShape& shape : {KvShape{4, 1, 4}, KvShape{1, 4, 4}, KvShape{2, 1, 8},
                               KvShape{1, 1, 4}, KvShape{64, 8, 128}}) {
    save(dir.path(), document);
    const auto cache = make_cache(80, dir.path(), kChunk, shape);
    const SequenceId id = cache->create_sequence();
    ASSERT_TRUE(cache->begin_segment(id, {}).ok());
    EXPECT_EQ(cache->take_cached(id, document, 1024).total(), 0);
    EXPECT_FALSE(fs::exists(path));
  }
}

TEST(KvStore, WhatIsNoFileUnderTheNameIsNotUsed) {
  const TestDir dir;
  const std::vector<Token> document = text(100);
  save(dir.path(), document);
  const fs::path path = dir.files().at(0);
  fs::remove(path);
  fs::create_directory(path);
  EXPECT_EQ(restore(dir.path(), document).total(), 0);
  fs::remove(path);
  fs::create_symlink("/dev/zero", path);
  EXPECT_EQ(restore(dir.path(), document).total(), 0);
}

// --- no room, no folder ---------------------------------------------------------------------

#ifndef _WIN32
TEST(KvStore, AWriteThatStopsHalfWayLeavesNothing) {
  // A limit on the size of files makes write() fail as on a full disk.
  struct sigaction ignore {};
  struct sigaction before_action {};
  ignore.sa_handler = SIG_IGN;
  sigaction(SIGXFSZ, &ignore, &before_action);
  rlimit before{};
  getrlimit(RLIMIT_FSIZE, &before);
  const TestDir dir;
  const std::vector<Token> document = text(1000);
  const auto cache = make_cache(400, dir.path());
  const SequenceId id = cache->create_sequence();
  Expected expected;
  ASSERT_TRUE(prefill(*cache, id, expected, document).status.ok());
  for (const rlim_t limit : {0U, 100U, 4096U, 20000U}) {
    rlimit small = before;
    small.rlim_cur = limit;
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    const Status status = cache->end_segment(id, true);
    ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
    ASSERT_FALSE(status.ok());
    EXPECT_EQ(status.error().code, ErrorCode::kDiskFull);
    EXPECT_NE(status.error().message.find("MB"), std::string::npos) << status.error().message;
    EXPECT_TRUE(dir.files().empty()) << "limit " << limit;
  }
  sigaction(SIGXFSZ, &before_action, nullptr);
  ASSERT_TRUE(generate(*cache, id, expected, kSparseText, text(10, 1)).ok());
  EXPECT_TRUE(holds(*cache, id, expected)) << "the read in memory is whole";
  ASSERT_EQ(cache->truncate(id, 1000).value(), 1000);
  EXPECT_TRUE(cache->end_segment(id, true).ok()) << "and is saved once there is room";
  EXPECT_EQ(restore(dir.path(), document).disk_tokens, 1000);
}

TEST(KvStore, AFullDiskIsSeenBeforeWriting) {
  const TestDir dir;
  fs::create_directories(dir.path());
  if (mount("tmpfs", dir.path().c_str(), "tmpfs", 0, "size=256k") != 0) {
    GTEST_SKIP() << "no permission to mount a small file system";
  }
  {
    const auto cache = make_cache(400, dir.path());
    const SequenceId id = cache->create_sequence();
    Expected expected;
    // Runs of about 70 KB: three fit.
    const PrefillResult result = prefill(*cache, id, expected, text(5000), true);
    EXPECT_FALSE(result.status.ok());
    if (!result.status.ok()) {
      EXPECT_EQ(result.status.error().code, ErrorCode::kDiskFull) << result.status.error().message;
    }
    EXPECT_EQ(dir.files().size(), 3U);
    EXPECT_TRUE(holds(*cache, id, expected));
    EXPECT_EQ(restore(dir.path(), text(5000)).disk_tokens, 3072);
  }
  EXPECT_EQ(umount(dir.path().c_str()), 0);
}
#endif

TEST(KvStore, AFolderThatCannotBeIsRefusedAndOneThatGoesIsReported) {
  const TestDir dir;
  fs::create_directories(dir.path());
  write_bytes(fs::path(dir.path()) / "file", {1});
  for (const char* bad : {"/file", "/file/below"}) {
    auto cache = KvCache::create({kSmallShape, "f", kChunk, 8, dir.path() + bad});
    ASSERT_FALSE(cache.ok());
    EXPECT_EQ(cache.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(cache.error().message.find("store_dir"), std::string::npos);
  }
  const std::string folder = dir.path() + "/a/b/c";
  const auto cache = make_cache(40, folder);
  fs::remove_all(folder);
  const SequenceId id = cache->create_sequence();
  Expected expected;
  const PrefillResult result = prefill(*cache, id, expected, text(100), true);
  ASSERT_FALSE(result.status.ok());
  EXPECT_EQ(result.status.error().code, ErrorCode::kInvalidArgument);
  EXPECT_TRUE(holds(*cache, id, expected));
}

TEST(KvStore, WithoutAFolderNothingIsSaved) {
  const auto cache = make_cache(40);
  const SequenceId id = cache->create_sequence();
  Expected expected;
  ASSERT_TRUE(prefill(*cache, id, expected, text(100), true).status.ok());
  EXPECT_TRUE(cache->persist(id).ok());
  EXPECT_TRUE(cache->stored_runs(id).empty());
}

// --- killed ---------------------------------------------------------------------------------

TEST(KvStore, OldUnfinishedFilesAreRemovedAndNothingElse) {
  const TestDir dir;
  fs::create_directories(dir.path());
  const fs::path folder = dir.path();
  const auto old = fs::file_time_type::clock::now() - std::chrono::hours(2);
  for (const char* name : {"a.kv.1-2.unfinished", "young.kv.1-2.unfinished", "a.kv", "notes.txt"}) {
    write_bytes(folder / name, {1, 2, 3});
    if (std::string(name) != "young.kv.1-2.unfinished") fs::last_write_time(folder / name, old);
  }
  fs::create_directory(folder / "folder.unfinished");
  fs::last_write_time(folder / "folder.unfinished", old);
  make_cache(8, dir.path());
  std::set<std::string> left;
  for (const fs::path& path : dir.files()) left.insert(path.filename().string());
  EXPECT_EQ(left, (std::set<std::string>{"young.kv.1-2.unfinished", "a.kv", "notes.txt",
                                         "folder.unfinished"}));
}

#ifndef _WIN32
TEST(KvStore, KilledAtAnyMomentLeavesWholeRunsOnly) {
  const TestDir dir;
  fs::create_directories(dir.path());
  constexpr int kTokens = 20 * kRunTokens;
  const std::vector<Token> document = text(kTokens);
  int before = 0;
  for (int round = 0; round < 12 && before < kTokens; ++round) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const auto cache = make_cache(kTokens / kKvPageTokens, dir.path());
      Expected expected;
      const SequenceId id = cache->create_sequence();
      prefill(*cache, id, expected, document, true);
      _exit(0);
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(3 + 7 * round));
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);

    const auto cache = make_cache(kTokens / kKvPageTokens, dir.path());
    const SequenceId id = cache->create_sequence();
    ASSERT_TRUE(cache->begin_segment(id, {}).ok());
    const CachedPrefix cached = cache->take_cached(id, document, kTokens);
    EXPECT_EQ(cached.broken_tokens, 0);
    EXPECT_EQ(cached.total() % kRunTokens, 0);
    EXPECT_GE(cached.total(), before) << "what was saved stays";
    before = cached.total();
    Expected expected;
    expected.add_prompt(document, kChunk);
    expected.cut(cached.total());
    EXPECT_TRUE(holds(*cache, id, expected));
  }
}
#endif

}  // namespace
}  // namespace scholia::kv_test
