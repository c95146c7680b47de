#include "peer/libllama_peer.h"

#include <ggml-backend.h>

#include <algorithm>

namespace scholia {
namespace {

constexpr int kBatchTokens = 512;  // libllama's own default for a physical batch

struct BatchCloser {
  void operator()(llama_batch* batch) const {
    llama_batch_free(*batch);
    delete batch;
  }
};

}  // namespace

bool LibllamaPeer::has_gpu() {
  return ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_GPU) != nullptr;
}

Result<LibllamaPeer> LibllamaPeer::open(const std::string& model_path, const Options& options) {
  LibllamaPeer peer;
  llama_model_params model_params = llama_model_default_params();
  constexpr int kAllLayers = 1000;
  model_params.n_gpu_layers = options.on_gpu ? kAllLayers : 0;
  peer.model_.reset(llama_model_load_from_file(model_path.c_str(), model_params));
  if (!peer.model_) {
    return Error{ErrorCode::kModelBroken, "libllama cannot open " + model_path + "."};
  }
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(options.context_tokens);
  params.n_batch = kBatchTokens;
  params.n_ubatch = kBatchTokens;
  params.op_offload = options.on_gpu;  // else a GPU that is there takes the large products
  params.offload_kqv = options.on_gpu;
  params.n_threads = options.n_threads;
  params.n_threads_batch = options.n_threads;
  params.flash_attn_type =
      options.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  peer.context_.reset(llama_init_from_model(peer.model_.get(), params));
  if (!peer.context_) {
    return Error{ErrorCode::kOutOfMemory, "libllama cannot make a context of " +
                                              std::to_string(options.context_tokens) + " tokens."};
  }
  peer.n_vocab_ = llama_vocab_n_tokens(llama_model_get_vocab(peer.model_.get()));
  return peer;
}

Result<std::vector<float>> LibllamaPeer::prefill(std::span<const Token> tokens, bool all_logits) {
  const std::unique_ptr<llama_batch, BatchCloser> batch(
      new llama_batch(llama_batch_init(kBatchTokens, 0, 1)));
  std::vector<float> logits;
  for (size_t done = 0; done < tokens.size();) {
    const int n = static_cast<int>(std::min<size_t>(kBatchTokens, tokens.size() - done));
    batch->n_tokens = n;
    for (int i = 0; i < n; ++i) {
      const bool last = done + static_cast<size_t>(i) + 1 == tokens.size();
      batch->token[i] = tokens[done + static_cast<size_t>(i)];
      batch->pos[i] = n_tokens_ + i;
      batch->n_seq_id[i] = 1;
      batch->seq_id[i][0] = 0;
      batch->logits[i] = static_cast<int8_t>(all_logits || last);
    }
    if (llama_decode(context_.get(), *batch) != 0) {
      return Error{ErrorCode::kInternal, "libllama could not decode a batch."};
    }
    for (int i = 0; i < n; ++i) {
      if (batch->logits[i] == 0) continue;
      const float* row = llama_get_logits_ith(context_.get(), i);
      logits.insert(logits.end(), row, row + n_vocab_);
    }
    done += static_cast<size_t>(n);
    n_tokens_ += n;
  }
  return logits;
}

Result<std::span<const float>> LibllamaPeer::decode(Token token) {
  // llama_batch_get_one continues at the memory's end.
  if (llama_decode(context_.get(), llama_batch_get_one(&token, 1)) != 0) {
    return Error{ErrorCode::kInternal, "libllama could not decode a token."};
  }
  ++n_tokens_;
  return std::span<const float>(llama_get_logits_ith(context_.get(), -1),
                                static_cast<size_t>(n_vocab_));
}

void LibllamaPeer::truncate(int n_tokens) {
  llama_memory_seq_rm(llama_get_memory(context_.get()), 0, n_tokens, -1);
  n_tokens_ = std::min(n_tokens_, n_tokens);
}

}  // namespace scholia
