// Picks the next token from logits, by libllama's sampler chain.
#pragma once

#include <llama.h>

#include <memory>
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

}  // namespace scholia
