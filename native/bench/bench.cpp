#include "bench/bench.h"

#include <algorithm>
#include <chrono>
#include <optional>

#include "peer/libllama_peer.h"

namespace scholia {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

double median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

class Bench {
 public:
  Bench(Engine& engine, std::span<const Token> text, const BenchOptions& options,
        const std::function<void(const std::string&)>& on_progress, const CancelFlag* cancel)
      : engine_(engine), text_(text), options_(options), say_(on_progress), cancel_(cancel) {}

  Status open_peer(const EngineConfig& config, int context_tokens) {
    auto peer = LibllamaPeer::open(config.model_path,
                                   {.n_threads = config.n_threads, .context_tokens = context_tokens});
    if (!peer.ok()) return peer.error();
    peer_.emplace(std::move(peer.value()));
    return {};
  }

  Result<BenchRow> prefill(int depth) {
    std::vector<double> rates, peer_rates;
    for (int repetition = 0; repetition < options_.repetitions; ++repetition) {
      const std::vector<Token> tokens = rotated(repetition + 1, depth);
      const SequenceId sequence = engine_.create_sequence();
      const auto start = Clock::now();
      auto done = engine_.prefill(sequence, tokens, {}, {}, cancel_);
      const double seconds = seconds_since(start);
      engine_.release(sequence);
      if (!done.ok()) return done.error();
      rates.push_back(depth / seconds);
      if (peer_) {
        peer_->truncate(0);
        const auto peer_start = Clock::now();
        if (auto logits = peer_->prefill(tokens); !logits.ok()) return logits.error();
        peer_rates.push_back(depth / seconds_since(peer_start));
      }
      report("prefill " + std::to_string(depth), rates, peer_rates);
    }
    return BenchRow{true, Mode::kDense, depth, median(rates), median(peer_rates), 0,
                    options_.repetitions};
  }

  // All modes at one depth share the prefilled document, as chats do.
  Status decode(int depth, std::vector<BenchRow>& rows) {
    const std::span<const Token> document = text_.first(static_cast<size_t>(depth));
    const SequenceId sequence = engine_.create_sequence();
    auto filled = engine_.prefill(sequence, document, {}, {}, cancel_);
    if (!filled.ok()) return filled.error();
    if (peer_) {
      peer_->truncate(0);
      if (auto logits = peer_->prefill(document); !logits.ok()) return logits.error();
    }
    std::vector<std::vector<double>> rates(options_.modes.size());
    std::vector<double> peer_rates, bytes(options_.modes.size());
    for (int repetition = 0; repetition < options_.repetitions; ++repetition) {
      for (size_t mode = 0; mode < options_.modes.size(); ++mode) {
        if (Status status = decode_ours(sequence, depth, options_.modes[mode], rates[mode],
                                        bytes[mode]);
            !status.ok()) {
          return status;
        }
      }
      if (peer_) {
        if (Status status = decode_peer(depth, peer_rates); !status.ok()) return status;
      }
    }
    engine_.release(sequence);
    for (size_t mode = 0; mode < options_.modes.size(); ++mode) {
      report("decode " + std::to_string(depth), rates[mode], peer_rates);
      rows.push_back({false, options_.modes[mode], depth, median(rates[mode]), median(peer_rates),
                      bytes[mode], options_.repetitions});
    }
    return {};
  }

 private:
  std::vector<Token> rotated(int by, int n) const {
    std::vector<Token> tokens(static_cast<size_t>(n));
    for (size_t i = 0; i < tokens.size(); ++i) {
      tokens[i] = text_[(i + static_cast<size_t>(by) * 97) % text_.size()];
    }
    return tokens;
  }

  // One step outside the clock first: it builds digests and graphs.
  Status decode_ours(SequenceId document, int depth, Mode mode, std::vector<double>& rates,
                     double& bytes_per_token) {
    auto fork = engine_.fork(document);
    if (!fork.ok()) return fork.error();
    const DecodeOptions decode{mode, options_.budget_tokens, false};
    Clock::time_point start{};
    uint64_t bytes = 0;
    for (int i = 0; i <= options_.decode_tokens; ++i) {
      if (cancel_ != nullptr && cancel_->load()) return Error{ErrorCode::kCancelled, "Stopped."};
      auto step = engine_.decode(fork.value(), text_[static_cast<size_t>(depth + i)], decode);
      if (!step.ok()) return step.error();
      if (i == 0) start = Clock::now();
      bytes = step.value().kv_bytes + step.value().digest_bytes;
    }
    rates.push_back(options_.decode_tokens / seconds_since(start));
    bytes_per_token = static_cast<double>(bytes);
    engine_.release(fork.value());
    return {};
  }

  Status decode_peer(int depth, std::vector<double>& rates) {
    Clock::time_point start{};
    for (int i = 0; i <= options_.decode_tokens; ++i) {
      if (auto logits = peer_->decode(text_[static_cast<size_t>(depth + i)]); !logits.ok()) {
        return logits.error();
      }
      if (i == 0) start = Clock::now();
    }
    rates.push_back(options_.decode_tokens / seconds_since(start));
    peer_->truncate(depth);
    return {};
  }

  void report(const std::string& what, const std::vector<double>& rates,
              const std::vector<double>& peer_rates) const {
    if (!say_) return;
    std::string line = what + ": " + std::to_string(rates.back()) + " tokens/s";
    if (!peer_rates.empty()) line += ", libllama " + std::to_string(peer_rates.back());
    say_(line);
  }

  Engine& engine_;
  std::span<const Token> text_;
  const BenchOptions& options_;
  const std::function<void(const std::string&)>& say_;
  const CancelFlag* cancel_;
  std::optional<LibllamaPeer> peer_;
};

}  // namespace

Result<std::vector<BenchRow>> run_bench(Engine& engine, const EngineConfig& config,
                                        std::span<const Token> text, const BenchOptions& options,
                                        const std::function<void(const std::string&)>& on_progress,
                                        const CancelFlag* cancel) {
  if (options.depths.empty() || options.repetitions <= 0 || options.decode_tokens <= 0) {
    return Error{ErrorCode::kInvalidArgument, "A benchmark needs depths and repetitions."};
  }
  const int deepest = *std::max_element(options.depths.begin(), options.depths.end());
  const int needed = deepest + options.decode_tokens + 1;
  if (static_cast<size_t>(needed) > text.size() || needed > engine.model().context_tokens) {
    return Error{ErrorCode::kContextExceeded,
                 "A depth of " + std::to_string(deepest) + " needs " + std::to_string(needed) +
                     " tokens of text and of context."};
  }
  Bench bench(engine, text, options, on_progress, cancel);
  if (options.peer) {
    if (Status status = bench.open_peer(config, needed); !status.ok()) return status.error();
  }
  std::vector<BenchRow> rows;
  for (const int depth : options.depths) {
    if (options.prefill) {
      auto row = bench.prefill(depth);
      if (!row.ok()) return row.error();
      rows.push_back(row.value());
    }
    if (options.decode) {
      if (Status status = bench.decode(depth, rows); !status.ok()) return status.error();
    }
  }
  return rows;
}

}  // namespace scholia
