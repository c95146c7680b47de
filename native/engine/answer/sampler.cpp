#include "engine/answer/sampler.h"

#include <algorithm>

namespace scholia {

Sampler::Sampler(const SamplingOptions& options) {
  if (options.temperature <= 0) return;
  chain_.reset(llama_sampler_chain_init(llama_sampler_chain_default_params()));
  llama_sampler* chain = chain_.get();
  if (options.top_k > 0) llama_sampler_chain_add(chain, llama_sampler_init_top_k(options.top_k));
  llama_sampler_chain_add(chain, llama_sampler_init_top_p(options.top_p, 1));
  llama_sampler_chain_add(chain, llama_sampler_init_min_p(options.min_p, 1));
  llama_sampler_chain_add(chain, llama_sampler_init_temp(options.temperature));
  llama_sampler_chain_add(chain, llama_sampler_init_dist(options.seed));
}

Token Sampler::sample(std::span<const float> logits) {
  if (!chain_) {
    return static_cast<Token>(std::max_element(logits.begin(), logits.end()) - logits.begin());
  }
  candidates_.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates_[i] = {static_cast<llama_token>(i), logits[i], 0};
  }
  llama_token_data_array array{candidates_.data(), candidates_.size(), -1, false};
  llama_sampler_apply(chain_.get(), &array);
  return array.data[array.selected].id;
}

}  // namespace scholia
