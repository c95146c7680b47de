// libllama on the same file, in the same process: the oracle for logits in tests, and the peer in
// benchmarks.
#pragma once

#include <llama.h>

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/status.h"

namespace scholia {

class LibllamaPeer {
 public:
  struct Options {
    int n_threads = 1;
    int context_tokens = 4096;
    bool flash_attention = true;
    bool on_gpu = false;  // needs has_gpu()
  };
  // Whether libllama's CUDA backend lies beside its other libraries and finds a GPU. None is fetched
  // by set-up: docs/benchmarks_cuda.md says how one is built.
  static bool has_gpu();
  static Result<LibllamaPeer> open(const std::string& model_path, const Options& options);

  int n_vocab() const { return n_vocab_; }
  int n_tokens() const { return n_tokens_; }

  // Appends tokens; with all_logits returns [tokens.size()][n_vocab], else the last row.
  Result<std::vector<float>> prefill(std::span<const Token> tokens, bool all_logits = false);
  // Appends one token; logits [n_vocab], valid until the next call.
  Result<std::span<const float>> decode(Token token);
  // Forgets what lies beyond n_tokens.
  void truncate(int n_tokens);

 private:
  struct ModelCloser {
    void operator()(llama_model* model) const { llama_model_free(model); }
  };
  struct ContextCloser {
    void operator()(llama_context* context) const { llama_free(context); }
  };
  std::unique_ptr<llama_model, ModelCloser> model_;
  std::unique_ptr<llama_context, ContextCloser> context_;
  int n_vocab_ = 0;
  int n_tokens_ = 0;
};

}  // namespace scholia
