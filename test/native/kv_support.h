// What the tests of KV share: a stand-in for a model whose K and V depend on all that a real
// model's depend on, and a naive record of what each sequence must hold.
//
// The state of a token is a hash of every token before it and of how each was computed: the chunk's
// two ends, or the kind of generated text. K and V of every layer follow from the state, so a page
// that is shared, kept or restored wrongly shows in the bytes.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include "engine/kv/kv_cache.h"

namespace scholia::kv_test {

inline uint64_t mix(uint64_t a, uint64_t b) {  // splitmix64's finaliser
  uint64_t x = a * 0x9e3779b97f4a7c15ULL + b + 0x632be59bd9b4e019ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}

// Tokens and their states.
struct Expected {
  std::vector<Token> tokens;
  std::vector<uint64_t> states;

  int n_tokens() const { return int(tokens.size()); }
  void add(Token token, uint64_t how) {
    const uint64_t before = states.empty() ? 1 : states.back();
    tokens.push_back(token);
    states.push_back(mix(mix(before, uint64_t(token)), how));
  }
  void add_chunk(std::span<const Token> chunk) {
    const uint64_t begin = tokens.size();
    const uint64_t end = begin + chunk.size();
    for (const Token token : chunk) add(token, mix(begin, end));
  }
  void add_generated(Token token, const SegmentKind& kind) {
    uint64_t how = kind.mode == Mode::kDense ? 3 : 5;
    if (kind.mode == Mode::kAbSparse) {
      how = mix(how, mix(uint64_t(kind.budget_tokens), kind.profile_id));
    }
    add(token, mix(how, 7));
  }
  // A prompt segment in the chunks in which it is computed.
  void add_prompt(std::span<const Token> prompt, int chunk_tokens) {
    while (!prompt.empty()) {
      const size_t to_boundary = size_t(chunk_tokens - n_tokens() % chunk_tokens);
      const size_t n = std::min(to_boundary, prompt.size());
      add_chunk(prompt.first(n));
      prompt = prompt.subspan(n);
    }
  }
  void cut(int n) {
    tokens.resize(size_t(n));
    states.resize(size_t(n));
  }
};

// One element of K (side 0) or V (side 1): a finite half.
inline f16 kv_element(uint64_t state, int layer, int side, int kv_head, int d) {
  const uint64_t where = uint64_t(((layer * 2 + side) * 64 + kv_head) * 1024 + d);
  return f16(mix(state, where) & 0xbfff);
}

inline f16* row_of(f16* layer, const KvShape& shape, PageId page, int kv_head, int position) {
  const size_t row = (size_t(page) * size_t(shape.n_kv_heads) + size_t(kv_head)) * kKvPageTokens +
                     size_t(position % kKvPageTokens);
  return layer + row * size_t(shape.head_dim);
}

// Writes K and V of the expected tokens [begin, end), as a backend does.
inline void write_kv(KvCache& cache, SequenceId sequence, const Expected& expected, int begin,
                     int end) {
  KvPages& pages = cache.pages();
  const KvShape& shape = pages.shape();
  const KvView view = cache.view(sequence);
  for (int p = begin; p < end; ++p) {
    const PageId page = view.pages[p / kKvPageTokens];
    for (int layer = 0; layer < shape.n_layers; ++layer) {
      for (int side = 0; side < 2; ++side) {
        f16* base = side == 0 ? pages.k(layer) : pages.v(layer);
        for (int kv_head = 0; kv_head < shape.n_kv_heads; ++kv_head) {
          f16* row = row_of(base, shape, page, kv_head, p);
          for (int d = 0; d < shape.head_dim; ++d) {
            row[d] = kv_element(expected.states[size_t(p)], layer, side, kv_head, d);
          }
        }
      }
    }
  }
}

// Tokens and every byte of K and V are the expected ones.
inline testing::AssertionResult holds(KvCache& cache, SequenceId sequence,
                                      const Expected& expected) {
  const KvView view = cache.view(sequence);
  if (view.n_tokens != expected.n_tokens()) {
    return testing::AssertionFailure()
           << view.n_tokens << " tokens, expected " << expected.n_tokens();
  }
  const auto tokens = cache.tokens(sequence);
  if (!std::equal(tokens.begin(), tokens.end(), expected.tokens.begin(), expected.tokens.end())) {
    return testing::AssertionFailure() << "other tokens";
  }
  KvPages& pages = cache.pages();
  const KvShape& shape = pages.shape();
  for (int p = 0; p < view.n_tokens; ++p) {
    const PageId page = view.pages[p / kKvPageTokens];
    if (page >= pages.n_pages()) return testing::AssertionFailure() << "no page " << page;
    for (int layer = 0; layer < shape.n_layers; ++layer) {
      for (int side = 0; side < 2; ++side) {
        f16* base = side == 0 ? pages.k(layer) : pages.v(layer);
        for (int kv_head = 0; kv_head < shape.n_kv_heads; ++kv_head) {
          const f16* row = row_of(base, shape, page, kv_head, p);
          for (int d = 0; d < shape.head_dim; ++d) {
            if (row[d] == kv_element(expected.states[size_t(p)], layer, side, kv_head, d)) continue;
            return testing::AssertionFailure()
                   << (side == 0 ? "K" : "V") << " differs at token " << p << " of "
                   << view.n_tokens << ", layer " << layer << ", KV head " << kv_head;
          }
        }
      }
    }
  }
  return testing::AssertionSuccess();
}

struct PrefillResult {
  CachedPrefix cached;
  Status status;
};

// A prompt segment as the engine prefills it: what is cached, then step by step.
// limit_tokens: of what may come from the cache. stop_after: steps to compute, then stop as a
// cancelled prefill does, with room reserved for a step that is never appended. step_tokens: 0 for
// steps of one chunk.
inline PrefillResult prefill(KvCache& cache, SequenceId sequence, Expected& expected,
                             std::span<const Token> prompt, bool persist = false,
                             int limit_tokens = 1 << 30, int stop_after = 1 << 30,
                             int step_tokens = 0) {
  PrefillResult result;
  const int begin = expected.n_tokens();
  const int end = begin + int(prompt.size());
  result.status = cache.begin_segment(sequence, {});
  if (!result.status.ok()) return result;
  result.cached = cache.take_cached(sequence, prompt, limit_tokens);
  Expected whole = expected;
  whole.add_prompt(prompt, cache.chunk_end(0, 1 << 30));
  const auto keep = [&](int position) {
    expected = whole;
    expected.cut(position);
  };
  int position = begin + result.cached.total();
  keep(position);
  while (position < end) {
    const int step_end = step_tokens == 0 ? cache.chunk_end(position, end)
                                          : next_chunk_end(position, end, step_tokens);
    result.status = cache.reserve(sequence, step_end - position);
    if (!result.status.ok() || stop_after-- == 0) return result;
    write_kv(cache, sequence, whole, position, step_end);
    cache.append(sequence,
                 std::span(whole.tokens).subspan(size_t(position), size_t(step_end - position)));
    position = step_end;
    keep(position);
    if (persist) result.status = cache.persist(sequence);
    if (!result.status.ok()) return result;
  }
  result.status = cache.end_segment(sequence, persist);
  return result;
}

// Generated tokens as decode appends them, one by one.
inline Status generate(KvCache& cache, SequenceId sequence, Expected& expected,
                       const SegmentKind& kind, std::span<const Token> tokens) {
  for (const Token token : tokens) {
    if (Status status = cache.begin_segment(sequence, kind); !status.ok()) return status;
    if (Status status = cache.reserve(sequence, 1); !status.ok()) return status;
    expected.add_generated(token, kind);
    write_kv(cache, sequence, expected, expected.n_tokens() - 1, expected.n_tokens());
    cache.append(sequence, {&token, 1});
  }
  return {};
}

// The n tokens of a text; texts of other numbers differ from the given position on.
inline std::vector<Token> text(int n, int number = 0, int differs_from = 0) {
  std::vector<Token> tokens;
  for (int p = 0; p < n; ++p) {
    tokens.push_back(Token(mix(p < differs_from ? 0 : uint64_t(number), uint64_t(p)) % 50000));
  }
  return tokens;
}

// An empty folder of its own for one test, removed with it.
class TestDir {
 public:
  TestDir() {
    const auto* test = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string(test->test_suite_name()) + "_" + test->name() + "_" +
                       std::to_string(reinterpret_cast<uintptr_t>(this));
    std::replace(name.begin(), name.end(), '/', '_');  // of tests with parameters
    path_ = std::filesystem::path(testing::TempDir()) / ("scholia_" + name);
    std::filesystem::remove_all(path_);
  }
  ~TestDir() { std::filesystem::remove_all(path_); }
  TestDir(const TestDir&) = delete;
  TestDir& operator=(const TestDir&) = delete;
  std::string path() const { return path_.string(); }
  std::vector<std::filesystem::path> files() const {
    std::vector<std::filesystem::path> paths;
    for (const auto& entry : std::filesystem::directory_iterator(path_)) {
      paths.push_back(entry.path());
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }

 private:
  std::filesystem::path path_;
};

inline constexpr KvShape kSmallShape{2, 2, 4};

inline std::unique_ptr<KvCache> make_cache(size_t n_pages, const std::string& store_dir = {},
                                           int chunk_tokens = 64,
                                           const KvShape& shape = kSmallShape,
                                           const std::string& fingerprint = std::string(64, 'f')) {
  auto cache = KvCache::create({shape, fingerprint, chunk_tokens, n_pages, store_dir});
  EXPECT_TRUE(cache.ok()) << (cache.ok() ? "" : cache.error().message);
  return cache.ok() ? std::move(cache.value()) : nullptr;
}

}  // namespace scholia::kv_test
