// An Engine without a model: it sleeps where a real one computes, and records how it was used. It
// lets the queue be watched by the thread sanitizer, without ggml.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "engine/engine.h"

namespace scholia {

// What happened to the fake engines; shared with the test, which outlives them.
struct FakeRecord {
  std::atomic<int> alive{0};
  std::atomic<int> calls{0};
  std::atomic<int> layers{0};  // slept through so far, all calls
  std::atomic<int> cancels_seen{0};
  std::atomic<bool> overlapped{false};    // two calls ran at the same time
  std::atomic<bool> moved_thread{false};  // a call ran on another thread than the maker
};

class FakeEngine final : public Engine {
 public:
  static constexpr int kLayers = 24;
  static constexpr auto kLayerTime = std::chrono::microseconds(200);

  explicit FakeEngine(FakeRecord& record) : record_(record), thread_(std::this_thread::get_id()) {
    ++record_.alive;
    profile_.block_tokens.assign(2, 32);
    profile_.budget_share.assign(2, 1.0F);
    model_.name = "fake";
    model_.n_vocab = 8;
    logits_.assign(8, 0.5F);
  }
  ~FakeEngine() override {
    check_thread();
    --record_.alive;
  }

  const ModelInfo& model() const override { return model_; }
  const HeadProfile& profile() const override { return profile_; }
  std::string device_name() const override { return "fake"; }
  // All numbers are the layers run so far, so that a report that is half of another is seen.
  MemoryReport memory() const override {
    const auto layers = uint64_t(record_.layers);
    return {layers, layers, layers, layers, layers, layers, layers};
  }
  void on_memory(MemoryCallback callback) override {
    on_memory_ = std::move(callback);
    on_memory_(memory());
  }
  Status set_profile(HeadProfile profile) override {
    profile_ = std::move(profile);
    return {};
  }

  std::vector<Token> tokenize(std::string_view text, bool) const override {
    return {text.begin(), text.end()};
  }
  std::string detokenize(std::span<const Token> tokens) const override {
    return {tokens.begin(), tokens.end()};
  }
  Token bos_token() const override { return 1; }
  bool is_end_of_turn(Token token) const override { return token == 2; }

  SequenceId create_sequence() override { return n_sequences_++; }
  Result<SequenceId> fork(SequenceId) override { return n_sequences_++; }
  Result<int> truncate(SequenceId, int n_tokens) override { return n_tokens; }
  void release(SequenceId) override {}
  Result<std::vector<Token>> sequence_tokens(SequenceId) const override {
    return std::vector<Token>{};
  }
  Result<std::string> sequence_key(SequenceId) const override { return std::string("key"); }
  Result<std::vector<std::string>> stored_runs(SequenceId) const override {
    return std::vector<std::string>{};
  }
  int cached_tokens(std::span<const Token>) const override { return 0; }

  // One chunk a token; kLayers layers a chunk, the flag seen before each.
  Result<PrefillProgress> prefill(SequenceId, std::span<const Token> tokens, const PrefillOptions&,
                                  const PrefillCallback& on_progress,
                                  const CancelFlag* cancel) override {
    Call call(*this);
    PrefillProgress progress;
    progress.total_tokens = int(tokens.size());
    for (size_t i = 0; i < tokens.size(); ++i) {
      if (!run_layers(cancel)) return Error{ErrorCode::kCancelled, "cancelled"};
      ++progress.done_tokens;
      if (on_progress) on_progress(progress);
    }
    return progress;
  }

  Result<StepTrace> decode(SequenceId, Token, const DecodeOptions&) override {
    Call call(*this);
    run_layers(nullptr);
    return trace();
  }
  std::span<const float> logits() const override { return logits_; }
  Result<StepTiming> time_steps(SequenceId, const DecodeOptions&, int) override {
    return StepTiming{};
  }

  Result<GenerateReport> generate(SequenceId, const GenerateOptions& options,
                                  const TokenCallback& on_token,
                                  const CancelFlag* cancel) override {
    Call call(*this);
    GenerateReport report;
    report.stop = StopReason::kMaxTokens;
    for (int i = 0; i < options.max_tokens; ++i) {
      if (!run_layers(cancel)) {
        report.stop = StopReason::kCancelled;
        break;
      }
      const StepTrace step = trace();
      report.tokens.push_back('a' + i % 26);
      const std::string text(1, char(report.tokens.back()));
      report.text += text;
      if (on_token) on_token({report.tokens.back(), text, i == 0 ? nullptr : &step});
    }
    return report;
  }

  Result<std::vector<float>> prefill_logits(SequenceId, std::span<const Token> tokens) override {
    return std::vector<float>(tokens.size() * logits_.size());
  }
  Result<HeadErrors> measure_heads(std::span<const Token>, int, int, std::span<const int> blocks,
                                   std::span<const int> budgets, const PrefillCallback&,
                                   const CancelFlag*) override {
    HeadErrors errors;
    errors.block_tokens.assign(blocks.begin(), blocks.end());
    errors.budget_tokens.assign(budgets.begin(), budgets.end());
    errors.output_error.assign(2 * blocks.size() * budgets.size(), 0.25);
    errors.recall.assign(2 * blocks.size() * budgets.size(), 0.75);
    return errors;
  }

  Result<std::vector<double>> measure_retrieval(std::span<const Token>,
                                                std::span<const CopiedToken>,
                                                const PrefillCallback&,
                                                const CancelFlag*) override {
    return std::vector<double>(2, 0.5);
  }

  Result<std::vector<TailComparison>> compare_tail(SequenceId, std::span<const Token>,
                                                   std::span<const TailMode> modes,
                                                   const TailCallback&,
                                                   const CancelFlag*) override {
    return std::vector<TailComparison>(modes.size());
  }

 private:
  // Marks a call as running for as long as it lives.
  struct Call {
    explicit Call(FakeEngine& fake) : engine(fake) {
      engine.check_thread();
      ++engine.record_.calls;
      if (engine.busy_.exchange(true)) engine.record_.overlapped = true;
    }
    ~Call() { engine.busy_ = false; }
    FakeEngine& engine;
  };

  void check_thread() {
    if (std::this_thread::get_id() != thread_) record_.moved_thread = true;
  }

  bool run_layers(const CancelFlag* cancel) {
    for (int layer = 0; layer < kLayers; ++layer) {
      if (cancel && *cancel) {
        ++record_.cancels_seen;
        return false;
      }
      std::this_thread::sleep_for(kLayerTime);
      ++record_.layers;
      if (on_memory_) on_memory_(memory());
    }
    return true;
  }

  static StepTrace trace() {
    StepTrace step;
    step.depth_tokens = 100;
    step.block_tokens = {16, 32};
    step.n_blocks = {2, 1};
    step.tokens_read = {32, 32};
    step.kv_bytes = 4096;
    step.block_offset = {0, 2, 3};
    step.block_idx = {0, 5, 3};
    step.mass = {0.5F, 0.25F, 1.0F};
    return step;
  }

  FakeRecord& record_;
  const std::thread::id thread_;
  std::atomic<bool> busy_{false};
  ModelInfo model_;
  HeadProfile profile_;
  std::vector<float> logits_;
  SequenceId n_sequences_ = 0;
  MemoryCallback on_memory_;
};

}  // namespace scholia
