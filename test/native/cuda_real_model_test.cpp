// The real models on the GPU: logits against libllama's, and what a long run, a change of models and
// a cancelled prefill leave behind.
#include <cuda_runtime.h>

#include <chrono>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

#include "cuda_support.h"
#include "engine/answer/sampler.h"
#include "logits_judge.h"
#include "models.h"
#include "peer/libllama_peer.h"
#include "sampling_truth.h"

namespace scholia::test {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;

class CudaRealModels : public ::testing::Test {
 protected:
  void SetUp() override {
    SCHOLIA_NEEDS_GPU();
    load_libraries();
  }

  std::unique_ptr<Engine> open(const std::string& id) {
    auto engine = Engine::open({.model_path = model_path(id), .device = Device::kCuda});
    EXPECT_TRUE(engine.ok()) << (engine.ok() ? "" : engine.error().message);
    return engine.ok() ? std::move(engine.value()) : nullptr;
  }

  // real_text is too short for 24K tokens; the next header is of the same kind.
  std::vector<Token> tokens_of(const Engine& engine, size_t n) {
    std::ifstream in(std::string(SCHOLIA_LIBRARY_DIR) + "/../include/ggml.h");
    std::stringstream more;
    more << in.rdbuf();
    std::vector<Token> tokens = engine.tokenize(real_text() + more.str(), false);
    // Filled up with zeros it would say something about a text that nobody writes.
    if (tokens.size() < n) throw std::runtime_error("The headers of ggml and llama are not there.");
    tokens.resize(n);
    return tokens;
  }

  void compare_decode(const std::string& id, int depth);
  uint64_t free_after(const std::string& id);
};

// 64 steps of dense decode after a prompt: as close to libllama, on the GPU where its backend is there,
// as it is to itself.
void CudaRealModels::compare_decode(const std::string& id, int depth) {
  constexpr int kSteps = 64;
  const auto engine = open(id);
  ASSERT_NE(engine, nullptr);
  const auto tokens = tokens_of(*engine, size_t(depth + kSteps));
  const auto document = std::span(tokens).first(size_t(depth));
  const int n_threads = int(std::thread::hardware_concurrency());
  const bool on_gpu = LibllamaPeer::has_gpu();
  const auto peer = [&](bool flash_attention) {
    auto opened =
        LibllamaPeer::open(model_path(id), {n_threads, depth + kSteps, flash_attention, on_gpu});
    EXPECT_TRUE(opened.ok());
    return std::move(opened.value());
  };
  LibllamaPeer plain = peer(false), flash = peer(true);
  ASSERT_TRUE(plain.prefill(document).ok() && flash.prefill(document).ok());
  const SequenceId sequence = engine->create_sequence();
  ASSERT_TRUE(engine->prefill(sequence, document, {}, {}, nullptr).ok());
  Judge judge;
  for (int step = 0; step < kSteps; ++step) {
    const Token token = tokens[size_t(depth + step)];
    ASSERT_TRUE(engine->decode(sequence, token, {.mode = Mode::kDense}).ok());
    const auto p = plain.decode(token), f = flash.decode(token);
    ASSERT_TRUE(p.ok() && f.ok());
    judge.add(engine->logits(), p.value(), f.value());
  }
  judge.verdict(id + " on the GPU, libllama on the " + (on_gpu ? "GPU" : "processor") +
                ", decode at " + std::to_string(depth));
}

TEST_F(CudaRealModels, LogitsOfTheSmallOneAt4K) { compare_decode(kSmall, 4064); }

TEST_F(CudaRealModels, LogitsOfTheMediumOneAt4K) { compare_decode(kMedium, 4064); }

TEST_F(CudaRealModels, LogitsOfTheMediumOneAt24K) {
  load_libraries();
  if (!LibllamaPeer::has_gpu() && environment("SCHOLIA_TEST_FULL").empty()) {
    GTEST_SKIP() << "libllama reads 24K tokens twice on the processor: npm run test:full runs it";
  }
  compare_decode(kMedium, 23968);
}

TEST_F(CudaRealModels, TenThousandTokensTakeNoMoreMemory) {
  const auto engine = open(kMedium);
  ASSERT_NE(engine, nullptr);
  const auto tokens = tokens_of(*engine, 10'512);
  const SequenceId sequence = engine->create_sequence();
  ASSERT_TRUE(engine->prefill(sequence, std::span(tokens).first(512), {}, {}, nullptr).ok());
  const auto decode = [&](size_t at) {
    return engine->decode(sequence, tokens[at], {Mode::kAbSparse, 2048}).ok();
  };
  // Both graphs, and every kernel's code, are there after the first step that selects.
  size_t at = 512;
  while (at < 2600) ASSERT_TRUE(decode(at++));
  const uint64_t free_bytes = engine->memory().free_bytes;
  const auto start = steady_clock::now();
  while (at < tokens.size()) ASSERT_TRUE(decode(at++));
  const double seconds = std::chrono::duration<double>(steady_clock::now() - start).count();
  std::cout << "tokens 2,600 to 10,512 of " << kMedium << ", budget 2,048: "
            << double(tokens.size() - 2600) / seconds << " tokens/s with the host\n";
  EXPECT_EQ(engine->memory().free_bytes, free_bytes);
}

// The truth, not libllama, whose f32 sums over a whole vocabulary are off by more than the edges of a
// flat distribution are apart.
TEST_F(CudaRealModels, DrawsWhatTheTruthDraws) {
  for (const SamplingOptions& sampling :
       {SamplingOptions{}, SamplingOptions{.temperature = 0.8F, .seed = 5},
        SamplingOptions{.temperature = 1.5F, .top_k = 0, .top_p = 0.9F, .min_p = 0, .seed = 6}}) {
    SCOPED_TRACE(words(sampling));
    constexpr int kTokens = 60;
    const DecodeOptions decode{Mode::kAbSparse, 512};
    const auto host = open(kSmall), engine = open(kSmall);
    ASSERT_TRUE(host != nullptr && engine != nullptr);
    const auto document = tokens_of(*engine, 2000);
    const SequenceId sequence = engine->create_sequence(), on_host = host->create_sequence();
    ASSERT_TRUE(host->prefill(on_host, document, {}, {}, nullptr).ok());
    ASSERT_TRUE(engine->prefill(sequence, document, {}, {}, nullptr).ok());
    const auto drawn = engine->generate(
        sequence, {.decode = decode, .sampling = sampling, .max_tokens = kTokens}, {}, nullptr);
    ASSERT_TRUE(drawn.ok()) << drawn.error().message;
    const auto& tokens = drawn.value().tokens;  // fewer than asked for where one ends the turn
    ASSERT_GT(tokens.size(), 3U);
    EXPECT_TRUE(engine->logits().empty()) << "they stay on the device";
    DrawNumbers numbers(sampling.seed);
    numbers.next();  // the first token is libllama's, from the prompt's logits
    ASSERT_TRUE(host->decode(on_host, tokens[0], decode).ok());
    for (size_t i = 1; i < tokens.size(); ++i) {
      const auto logits = host->logits();
      const double random = numbers.next();
      const Token expected = reference_of(logits, sampling, random);
      ASSERT_TRUE(tokens[i] == expected || is_at_edge(logits, sampling, random, tokens[i]))
          << "token " << i << ": " << tokens[i] << " instead of " << expected;
      ASSERT_TRUE(host->decode(on_host, tokens[i], decode).ok());
    }
  }
}

// Opens a model, uses both verbs, closes it: the GPU's free memory then.
uint64_t CudaRealModels::free_after(const std::string& id) {
  {
    const auto engine = open(id);
    if (engine == nullptr) return 0;
    const auto tokens = tokens_of(*engine, 3000);
    const SequenceId sequence = engine->create_sequence();
    EXPECT_TRUE(engine->prefill(sequence, tokens, {}, {}, nullptr).ok());
    EXPECT_TRUE(engine->decode(sequence, 1, {Mode::kDense}).ok());
    EXPECT_TRUE(engine->decode(sequence, 1, {Mode::kAbSparse, 512}).ok());
  }
  size_t free = 0, total = 0;
  EXPECT_EQ(cudaMemGetInfo(&free, &total), cudaSuccess);
  return free;
}

TEST_F(CudaRealModels, TwoModelsOneAfterAnotherLeaveNoMemoryBehind) {
  // The runtime's own share, kernels' code among it, is taken with their first use and stays.
  free_after(kSmall);
  const uint64_t before = free_after(kMedium);
  free_after(kSmall);
  EXPECT_GE(free_after(kMedium), before);
}

TEST_F(CudaRealModels, ACancelledPrefillEndsSoon) {
  const auto engine = open(kMedium);
  ASSERT_NE(engine, nullptr);
  const auto tokens = tokens_of(*engine, 24'000);
  for (const int delay_ms : {20, 40, 60}) {
    CancelFlag cancel{false};
    steady_clock::time_point asked;
    std::jthread asker([&] {
      std::this_thread::sleep_for(milliseconds(delay_ms));
      asked = steady_clock::now();
      cancel = true;
    });
    // Another first token each time, so that nothing of it is known.
    auto document = tokens;
    document[0] = Token(delay_ms);
    const auto done = engine->prefill(engine->create_sequence(), document, {}, {}, &cancel);
    const auto ended = steady_clock::now();
    asker.join();
    ASSERT_FALSE(done.ok()) << "24,000 tokens were read in " << delay_ms << " ms";
    EXPECT_EQ(done.error().code, ErrorCode::kCancelled);
    std::cout << "cancel to end: " << std::chrono::duration<double, std::milli>(ended - asked).count()
              << " ms\n";
  }
}

}  // namespace
}  // namespace scholia::test
