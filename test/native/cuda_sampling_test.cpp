// Sampling: the scalar truth against libllama's chain, the device against the scalar truth.
#include <cuda_runtime.h>

#include <algorithm>
#include <random>

#include "backend/cuda/device_buffer.h"
#include "backend/cuda/kernels/sampling.cuh"
#include "cuda_support.h"
#include "engine/answer/sampler.h"
#include "models.h"
#include "sampling_truth.h"

namespace scholia::test {
namespace {

using namespace cuda;

// With neither top-k nor top-p libllama draws in the order of ids, which is another token for the
// same random number; all of these draw from the best on.
constexpr SamplingOptions kSettings[] = {
    {.temperature = 0.8F},
    {.temperature = 0.1F},
    {.temperature = 1.5F, .top_k = 0, .top_p = 0.9F, .min_p = 0},
    {.temperature = 1, .top_k = 1},
    {.temperature = 1, .top_k = 1000, .top_p = 1, .min_p = 0},
    {.temperature = 1, .top_k = 7, .top_p = 0.5F, .min_p = 0},
    {.temperature = 2, .top_k = 0, .top_p = 0.999F, .min_p = 0.2F},
    {.temperature = 0.7F, .top_k = 100'000'000, .top_p = 1, .min_p = 1}};

// As of a model: most tokens far below a few. Multiples of 1/64 where ties are wanted.
std::vector<float> random_logits(size_t n, uint32_t seed, bool has_ties = false) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, 3);
  std::vector<float> logits(n);
  for (float& x : logits) {
    x = normal(random);
    if (has_ties) x = std::round(x * 64) / 64;
  }
  return logits;
}

TEST(CudaSamplingTruth, IsLibllamas) {
  load_libraries();
  for (SamplingOptions options : kSettings) {
    for (options.seed = 1; options.seed <= 20; ++options.seed) {
      SCOPED_TRACE(words(options) + ", seed " + std::to_string(options.seed));
      Sampler libllama(options);
      std::mt19937 random(options.seed);
      std::uniform_real_distribution<double> uniform(0, 1);
      for (uint32_t draw = 0; draw < 10; ++draw) {
        const auto logits = random_logits(2000, options.seed * 100 + draw);
        ASSERT_EQ(libllama.sample(logits), reference_of(logits, options, uniform(random)));
      }
    }
  }
}

TEST(CudaSamplingTruth, GreedyIsTheLowestIdAmongEquals) {
  const std::vector<float> logits{1, 5, 2, 5, 5};
  EXPECT_EQ(Sampler({}).sample(logits), 1);
  EXPECT_EQ(reference_of(logits, {}, 0.9), 1);
}

class CudaSampling : public ::testing::Test {
 protected:
  void SetUp() override {
    SCHOLIA_NEEDS_GPU();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  // The tokens that the device draws for each of the random numbers.
  std::vector<int> draw(const std::vector<float>& logits, const SamplingOptions& o,
                        const std::vector<double>& randoms) {
    std::vector<SamplingStep> steps;
    for (const double random : randoms) {
      steps.push_back({random, o.temperature, o.top_k, o.top_p, o.min_p});
    }
    DeviceBuffer d_logits, d_steps, d_tokens;
    const size_t step_bytes = steps.size() * sizeof(SamplingStep), n_bytes = steps.size() * 4;
    EXPECT_TRUE(d_logits.allocate(logits.size() * 4, "a test").ok());
    EXPECT_TRUE(d_steps.allocate(step_bytes, "a test").ok());
    EXPECT_TRUE(d_tokens.allocate(n_bytes, "a test").ok());
    cudaMemcpy(d_logits.as<void>(), logits.data(), logits.size() * 4, cudaMemcpyHostToDevice);
    cudaMemcpy(d_steps.as<void>(), steps.data(), step_bytes, cudaMemcpyHostToDevice);
    cudaMemset(d_tokens.as<void>(), 0xff, n_bytes);
    EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess);
    for (size_t i = 0; i < steps.size(); ++i) {
      const SampleParams p{d_logits.as<float>(), int(logits.size()), d_steps.as<SamplingStep>() + i,
                           d_tokens.as<int>() + i};
      EXPECT_EQ(launch_sample(p, false, stream_), cudaSuccess);
    }
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    std::vector<int> tokens(steps.size());
    cudaMemcpy(tokens.data(), d_tokens.as<void>(), n_bytes, cudaMemcpyDeviceToHost);
    return tokens;
  }

  cudaStream_t stream_ = nullptr;
};

TEST_F(CudaSampling, IsTheScalarTruths) {
  std::mt19937 random(5);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (const size_t n : {size_t(1), size_t(2), size_t(31), size_t(513), size_t(49'152), size_t(151'936)}) {
    for (const bool has_ties : {false, true}) {
      const auto logits = random_logits(n, uint32_t(n), has_ties);
      for (const SamplingOptions& options : kSettings) {
        SCOPED_TRACE(words(options) + ", " + std::to_string(n) + " tokens");
        std::vector<double> randoms{0, 1 - 1e-9};
        while (randoms.size() < 40) randoms.push_back(uniform(random));
        const std::vector<int> tokens = draw(logits, options, randoms);
        for (size_t i = 0; i < randoms.size(); ++i) {
          ASSERT_GE(tokens[i], 0);
          ASSERT_LT(size_t(tokens[i]), n);
          const int expected = reference_of(logits, options, randoms[i]);
          EXPECT_TRUE(tokens[i] == expected || is_at_edge(logits, options, randoms[i], tokens[i]))
              << tokens[i] << " instead of " << expected << " at " << randoms[i];
        }
      }
    }
  }
}

TEST_F(CudaSampling, GreedyIsTheLowestIdAmongEquals) {
  for (const size_t n : {size_t(1), size_t(5), size_t(1000), size_t(151'936)}) {
    std::vector<float> logits = random_logits(n, 3);
    for (const size_t at : {n / 2, n - 1, n / 3}) logits[at] = 50;
    EXPECT_EQ(draw(logits, {}, {0.5}), std::vector<int>{int(n / 3)});
  }
}

TEST_F(CudaSampling, Small) {
  const auto logits = random_logits(513, 11);
  for (const SamplingOptions& options : kSettings) {
    const std::vector<double> randoms{0, 0.37, 1 - 1e-9};
    const std::vector<int> tokens = draw(logits, options, randoms);
    for (size_t i = 0; i < randoms.size(); ++i) {
      EXPECT_TRUE(tokens[i] == reference_of(logits, options, randoms[i]) ||
                  is_at_edge(logits, options, randoms[i], tokens[i]))
          << words(options);
    }
  }
}

TEST_F(CudaSampling, IsTheSameAgain) {
  const auto logits = random_logits(151'936, 9, true);
  std::vector<double> randoms;
  for (int i = 0; i < 100; ++i) randoms.push_back(i / 100.0);
  for (const SamplingOptions& options : kSettings) {
    EXPECT_EQ(draw(logits, options, randoms), draw(logits, options, randoms)) << words(options);
  }
}

}  // namespace
}  // namespace scholia::test
