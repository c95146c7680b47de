// Speed of prefill and decode at given depths, interleaved with libllama on the same file, threads
// and tokens.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace scholia {

struct BenchOptions {
  std::vector<int> depths;             // tokens in context
  std::vector<Mode> modes;             // of decode
  int budget_tokens = 1024;            // AB-Sparse
  int repetitions = 5;                 // the median is reported
  int decode_tokens = 32;              // per repetition
  bool peer = false;                   // measure libllama too
  bool prefill = true, decode = true;  // which rows
};

struct BenchRow {
  bool is_prefill = false;
  Mode mode = Mode::kDense;            // prefill is dense always
  int depth = 0;                       // prefill: tokens read from an empty context
  double tokens_per_second = 0;        // median
  double peer_tokens_per_second = 0;   // median; 0: not measured
  double bytes_per_token = 0;          // decode: K, V and digests read
  int repetitions = 0;
};

// text: tokens to read, at least the largest depth + decode_tokens; rotated for each repetition so
// that no prefill is found in the cache.
Result<std::vector<BenchRow>> run_bench(Engine& engine, const EngineConfig& config,
                                        std::span<const Token> text, const BenchOptions& options,
                                        const std::function<void(const std::string&)>& on_progress,
                                        const CancelFlag* cancel);

}  // namespace scholia
