// Picks the next token from logits, by libllama's sampler chain.
#pragma once

#include <llama.h>

#include <memory>
#include <random>
#include <span>
#include <vector>

#include "engine/engine.h"

namespace scholia {

class Sampler {
 public:
  explicit Sampler(const SamplingOptions& options);
  // logits [n_vocab]. Greedy picks the lowest id among equals.
  Token sample(std::span<const float> logits);

 private:
  struct Closer {
    void operator()(llama_sampler* sampler) const { llama_sampler_free(sampler); }
  };
  std::unique_ptr<llama_sampler, Closer> chain_;  // null: greedy
  std::vector<llama_token_data> candidates_;
};

// The random numbers that a Sampler of this seed draws with, for a device that draws by itself.
class DrawNumbers {
 public:
  explicit DrawNumbers(uint32_t seed) : random_(seed) {}
  double next() { return uniform_(random_); }  // in [0, 1)

 private:
  std::mt19937 random_;
  std::uniform_real_distribution<double> uniform_{0, 1};
};

}  // namespace scholia
