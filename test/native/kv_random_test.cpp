// Random histories of sequences against a naive record that shares nothing.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <map>
#include <random>

#include "kv_support.h"

namespace scholia::kv_test {
namespace {

struct Options {
  uint32_t seed;
  int chunk_tokens;
  int step_chunks;
  size_t n_pages;
  bool on_disk;
  int n_steps;
};

class History {
 public:
  explicit History(const Options& options)
      : options_(options),
        random_(options.seed),
        profile_(HeadProfile::uniform(kSmallShape.n_layers, kSmallShape.n_kv_heads)) {
    profile_.block_tokens = {16, 128, 64, 32};
    layout_.emplace(kSmallShape, profile_);
    start();
  }

  void run() {
    for (int step = 0; step < options_.n_steps && !testing::Test::HasFailure(); ++step) {
      SCOPED_TRACE("seed " + std::to_string(options_.seed) + ", step " + std::to_string(step) +
                   ": " + take_step());
      check_all();
    }
    while (!sequences_.empty()) release(0);
    EXPECT_EQ(cache_->pages_in_use(), 0U);
  }

 private:
  struct Sequence {
    SequenceId id;
    Expected expected;
  };

  int below(int n) { return int(random_() % uint32_t(std::max(n, 1))); }
  bool chance(int percent) { return below(100) < percent; }
  Sequence& any() { return sequences_[size_t(below(int(sequences_.size())))]; }

  // A new process on the same folder.
  void start() {
    sequences_.clear();
    cache_.reset();
    cache_ =
        make_cache(options_.n_pages, options_.on_disk ? dir_.path() : "", options_.chunk_tokens);
  }

  void release(size_t index) {
    cache_->release(sequences_[index].id);
    sequences_.erase(sequences_.begin() + std::ptrdiff_t(index));
  }

  std::string take_step() {
    const int choice = below(100);
    if (sequences_.empty() || choice < 12) return create();
    if (choice < 42) return prompt();
    if (choice < 62) return answer();
    if (choice < 72) return fork();
    if (choice < 82) return truncate();
    if (choice < 90) return release_one();
    if (choice < 94) return digest();
    if (choice < 96) return persist();
    if (!options_.on_disk) return digest();
    if (choice < 98) return damage();
    start();
    return "restart";
  }

  std::string create() {
    if (sequences_.size() >= 8) release(size_t(below(8)));
    sequences_.push_back({cache_->create_sequence(), {}});
    return "create";
  }

  // Texts begin alike and part at one of a few places, so that histories meet again.
  std::vector<Token> some_text(int position) {
    const int lengths[] = {1, 5, 15, 16, 17, 64, 100, 300, 1024, 1500, 2300};
    const int n = std::max(1, lengths[below(11)] + below(3) - 1);
    const int number = below(3);
    const std::vector<Token> whole = text(position + n, number, 200 * below(3));
    return {whole.begin() + position, whole.end()};
  }

  std::string prompt() {
    Sequence& sequence = any();
    const std::vector<Token> tokens = some_text(chance(70) ? 0 : sequence.expected.n_tokens());
    const int n = int(tokens.size());
    const int limit = chance(50) ? n : chance(50) ? n - 1 : below(n + 1);
    const int stop_after = chance(80) ? 1 << 30 : below(4);
    const bool persists = options_.on_disk && chance(50);
    const int before = sequence.expected.n_tokens();
    const PrefillResult result =
        prefill(*cache_, sequence.id, sequence.expected, tokens, persists, limit, stop_after,
                options_.step_chunks * options_.chunk_tokens);
    expect_room_error_only(result.status);
    EXPECT_LE(result.cached.total(), limit);
    EXPECT_TRUE(options_.on_disk || result.cached.disk_tokens == 0);
    EXPECT_GE(sequence.expected.n_tokens(), before);
    if (before == 0 && sequence.expected.n_tokens() == n) {
      EXPECT_EQ(cache_->find_cached(tokens), n) << "what is held is found";
    }
    return "prompt of " + std::to_string(n) + " at " + std::to_string(before) + ", limit " +
           std::to_string(limit) + ", " + std::to_string(result.cached.memory_tokens) + " + " +
           std::to_string(result.cached.disk_tokens) + " cached";
  }

  SegmentKind some_kind() {
    SegmentKind kind{.generated = true};
    if (chance(70)) {
      kind.mode = Mode::kAbSparse;
      kind.budget_tokens = chance(50) ? 512 : 1024;
      kind.profile_id = uint64_t(below(2));
    }
    return kind;
  }

  std::string answer() {
    Sequence& sequence = any();
    const SegmentKind kind = some_kind();
    std::vector<Token> tokens = text(1 + below(60), below(2), 10 * below(3));
    const int before = sequence.expected.n_tokens();
    if (chance(30)) take_answer(sequence, kind, tokens);
    expect_room_error_only(generate(*cache_, sequence.id, sequence.expected, kind, tokens));
    if (chance(60)) {
      EXPECT_TRUE(cache_->end_segment(sequence.id, false).ok());
    }
    return "answer of " + std::to_string(tokens.size()) + " at " + std::to_string(before);
  }

  // What was generated before under the same kind is taken instead of generated again.
  void take_answer(Sequence& sequence, const SegmentKind& kind, std::vector<Token>& tokens) {
    ASSERT_TRUE(cache_->begin_segment(sequence.id, kind).ok());
    const int taken = cache_->take_cached(sequence.id, tokens, int(tokens.size())).total();
    for (int i = 0; i < taken; ++i) sequence.expected.add_generated(tokens[size_t(i)], kind);
    tokens.erase(tokens.begin(), tokens.begin() + taken);
  }

  std::string fork() {
    if (sequences_.size() >= 8) release(size_t(below(8)));
    const Sequence& from = any();
    const auto copy = cache_->fork(from.id);
    EXPECT_TRUE(copy.ok());
    if (copy.ok()) sequences_.push_back({copy.value(), from.expected});
    return "fork";
  }

  std::string truncate() {
    Sequence& sequence = any();
    const int n = sequence.expected.n_tokens();
    const int wanted = chance(50) ? below(n + 1) : std::max(0, n - below(40));
    const auto kept = cache_->truncate(sequence.id, wanted);
    EXPECT_TRUE(kept.ok());
    if (!kept.ok()) return "truncate";
    EXPECT_LE(kept.value(), wanted);
    sequence.expected.cut(kept.value());
    return "truncate from " + std::to_string(n) + " to " + std::to_string(wanted) + ", kept " +
           std::to_string(kept.value());
  }

  std::string release_one() {
    release(size_t(below(int(sequences_.size()))));
    return "release";
  }

  std::string persist() {
    EXPECT_TRUE(cache_->persist(any().id).ok());
    return "persist";
  }

  std::string damage() {
    const auto files = dir_.files();
    if (files.empty()) return "damage nothing";
    const auto& path = files[size_t(below(int(files.size())))];
    const auto size = std::filesystem::file_size(path);
    if (chance(30)) {
      std::filesystem::resize_file(path, random_() % (size + 1));
    } else if (size > 0) {
      std::fstream file(path, std::ios::binary | std::ios::in | std::ios::out);
      const auto at = std::streamoff(random_() % size);
      file.seekg(at);
      const char byte = char(file.get() ^ 4);
      file.seekp(at);
      file.put(byte);
    }
    return "damage " + path.filename().string();
  }

  // Some sequence's digests equal those of a straight run, bit for bit.
  std::string digest() {
    const SequenceId id = any().id;
    const KvView view = cache_->view(id);
    Digests& digests = cache_->digests(id);
    digests.update(*layout_, cache_->pages(), view);
    Digests fresh;
    fresh.update(*layout_, cache_->pages(), view);
    EXPECT_EQ(digests.n_tokens(), fresh.n_tokens());
    EXPECT_EQ(digests.closed().size(), fresh.closed().size());
    for (size_t g = 0; g < std::min(digests.closed().size(), fresh.closed().size()); ++g) {
      EXPECT_EQ(*digests.closed()[g], *fresh.closed()[g]) << "group " << g;
    }
    for (int head = 0; head < kSmallShape.n_heads(); ++head) {
      const size_t offset = layout_->open_offset[size_t(head)];
      const size_t n_blocks =
          size_t(view.n_tokens % kDigestGroupTokens / layout_->block_tokens[size_t(head)]);
      EXPECT_TRUE(std::equal(
          fresh.open().begin() + std::ptrdiff_t(offset),
          fresh.open().begin() + std::ptrdiff_t(offset + n_blocks * layout_->open_record_bytes()),
          digests.open().begin() + std::ptrdiff_t(offset)))
          << "head " << head;
    }
    return "digest of " + std::to_string(view.n_tokens);
  }

  void expect_room_error_only(const Status& status) {
    if (status.ok()) return;
    EXPECT_EQ(status.error().code, ErrorCode::kOutOfMemory) << status.error().message;
  }

  void check_all() {
    for (const Sequence& sequence : sequences_) {
      ASSERT_TRUE(holds(*cache_, sequence.id, sequence.expected));
      // Equal names mean equal bits, now and in every process before; and equal bits equal names.
      const ChainHash name = cache_->chain(sequence.id);
      const uint64_t state = sequence.expected.states.empty() ? 1 : sequence.expected.states.back();
      ASSERT_EQ(states_.emplace(name, state).first->second, state);
      ASSERT_EQ(names_.emplace(state, name).first->second, name);
    }
    ASSERT_LE(cache_->pages_in_use(), options_.n_pages);
  }

  Options options_;
  std::mt19937 random_;
  HeadProfile profile_;
  std::optional<DigestLayout> layout_;
  TestDir dir_;
  std::unique_ptr<KvCache> cache_;
  std::vector<Sequence> sequences_;
  std::map<ChainHash, uint64_t> states_;
  std::map<uint64_t, ChainHash> names_;
};

class KvHistory : public testing::TestWithParam<Options> {};

TEST_P(KvHistory, HoldsWhatTheNaiveRecordHolds) { History(GetParam()).run(); }

std::vector<Options> histories() {
  std::vector<Options> all;
  for (uint32_t seed = 1; seed <= 24; ++seed) {
    const int chunk_tokens = std::array{64, 16, 512, 48, 2048, 1024}[seed % 6];
    const size_t n_pages =
        std::array{120U, 400U, 900U}[seed % 3];  // mostly full, now and then, never
    const int step_chunks = std::array{1, 3, 8, 1, 2}[seed % 5];
    all.push_back({seed, chunk_tokens, step_chunks, n_pages, seed % 4 != 0, 150});
  }
  return all;
}

INSTANTIATE_TEST_SUITE_P(Seeds, KvHistory, testing::ValuesIn(histories()),
                         [](const auto& info) { return "Seed" + std::to_string(info.param.seed); });

}  // namespace
}  // namespace scholia::kv_test
