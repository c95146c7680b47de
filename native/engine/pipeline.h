// The engine as one object: what it owns, and its methods in the order of the flow. pipeline.cpp has
// tokens → prefill → kv → decode → answer; measure.cpp what calibration and comparisons ask.
#pragma once

#include <array>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "engine/decode/head_errors.h"
#include "engine/decode/plan.h"
#include "engine/engine.h"
#include "engine/kv/kv_cache.h"
#include "engine/model/gguf_model.h"
#include "engine/tokens/vocabulary.h"

namespace scholia {

using Clock = std::chrono::steady_clock;
using TailRows = std::array<std::vector<float>, 2>;  // [rows][n_vocab], by turns

double seconds_since(Clock::time_point start);
// The step's tokens and time to what was read before.
void add_step(PrefillProgress& progress, int n_tokens, double seconds);

class Pipeline final : public Engine {
 public:
  static Result<std::unique_ptr<Engine>> open(const EngineConfig& config,
                                              const LoadProgress& progress);

  const ModelInfo& model() const override { return info_; }
  const HeadProfile& profile() const override { return profile_; }
  std::string device_name() const override {
    return backend_->device_name() + (device_reason_.empty() ? "" : "; " + device_reason_);
  }
  MemoryReport memory() const override;
  void on_memory(MemoryCallback callback) override;
  Status set_profile(HeadProfile profile) override;

  std::vector<Token> tokenize(std::string_view text, bool parse_special) const override {
    return vocabulary_->tokenize(text, parse_special);
  }
  std::string detokenize(std::span<const Token> tokens) const override {
    return vocabulary_->detokenize(tokens);
  }
  Token bos_token() const override { return vocabulary_->bos(); }
  bool is_end_of_turn(Token token) const override { return vocabulary_->is_end_of_turn(token); }

  SequenceId create_sequence() override { return kv_->create_sequence(); }
  Result<SequenceId> fork(SequenceId sequence) override { return kv_->fork(sequence); }
  Result<int> truncate(SequenceId sequence, int n_tokens) override {
    return kv_->truncate(sequence, n_tokens);
  }
  void release(SequenceId sequence) override { kv_->release(sequence); }
  Result<std::vector<Token>> sequence_tokens(SequenceId sequence) const override;
  Result<std::string> sequence_key(SequenceId sequence) const override;
  Result<std::vector<std::string>> stored_runs(SequenceId sequence) const override;
  int cached_tokens(std::span<const Token> tokens) const override {
    return kv_->find_cached(tokens);
  }

  Result<PrefillProgress> prefill(SequenceId sequence, std::span<const Token> tokens,
                                  const PrefillOptions& options, const PrefillCallback& on_progress,
                                  const CancelFlag* cancel) override;
  Result<StepTrace> decode(SequenceId sequence, Token token, const DecodeOptions& options) override;
  std::span<const float> logits() const override { return logits_; }
  Result<StepTiming> time_steps(SequenceId sequence, const DecodeOptions& options,
                                int n_steps) override;
  Result<GenerateReport> generate(SequenceId sequence, const GenerateOptions& options,
                                  const TokenCallback& on_token, const CancelFlag* cancel) override;

  Result<std::vector<float>> prefill_logits(SequenceId sequence,
                                            std::span<const Token> tokens) override;
  Result<HeadErrors> measure_heads(std::span<const Token> tokens, int tail_tokens, int n_queries,
                                   std::span<const int> block_tokens,
                                   std::span<const int> budget_tokens,
                                   const PrefillCallback& on_progress,
                                   const CancelFlag* cancel) override;
  Result<std::vector<double>> measure_retrieval(std::span<const Token> tokens,
                                                std::span<const CopiedToken> copies,
                                                const PrefillCallback& on_progress,
                                                const CancelFlag* cancel) override;
  Result<std::vector<TailComparison>> compare_tail(SequenceId sequence, std::span<const Token> tail,
                                                   std::span<const TailMode> modes,
                                                   const TailCallback& on_progress,
                                                   const CancelFlag* cancel) override;

 private:
  using QueryCallback = std::function<void(int layer, const float* q)>;
  using HostMeasurement = std::function<void(KvPages& pages, const KvView& view)>;

  Status check_prompt(SequenceId sequence, std::span<const Token> tokens) const;
  // Where the step ends that computes a prompt's tokens from this position on. Steps end at absolute
  // multiples, so that a read that was stopped takes the same steps as one that was not.
  int step_end(int position, int segment_end) const {
    return next_chunk_end(position, segment_end, config_.prefill_step_tokens);
  }
  // Computes the first n tokens of `rest` (the open segment's that are not yet there) and appends
  // them: they end with a chunk or with the segment.
  Status prefill_step(SequenceId sequence, std::span<const Token> rest, int n, LogitRows rows,
                      const QueryCallback& on_queries, const CancelFlag* cancel);
  void describe_step(const DecodePlan& plan, StepTrace& trace) const;
  uint64_t digest_bytes(const HeadPlan& head, int n_tokens) const;
  // draw: see DecodeStep.
  Result<StepTrace> decode_token(SequenceId sequence, Token token, const DecodeOptions& options,
                                 const TokenDraw* draw);
  // Lets `compute` run one decode step, then appends its token.
  Result<StepTrace> step(SequenceId sequence, Token token, const DecodeOptions& options,
                         const std::function<Status(DecodeStep&)>& compute);
  Result<std::vector<StageTime>> time_step(SequenceId sequence, const DecodeOptions& options);
  // Prefills tokens on a fresh sequence, keeping the queries of some positions (ascending), and
  // measures on what was read.
  Status measure_text(std::span<const Token> tokens, CapturedQueries& queries,
                      const PrefillCallback& on_progress, const CancelFlag* cancel,
                      const HostMeasurement& measure);
  Status measure_on_host(const KvView& view, const HostMeasurement& measure);
  // forks: one for dense reading, then one for each mode.
  Status compare_forks(std::span<const SequenceId> forks, std::span<const Token> tail,
                       std::span<const TailMode> modes, const TailCallback& on_progress,
                       const CancelFlag* cancel, std::vector<TailComparison>& comparisons);
  // truth: [piece][n_vocab], of dense reading. following: the tail's tokens after each of the piece's.
  // rows: room.
  Status compare_piece(SequenceId sequence, std::span<const Token> piece,
                       std::span<const Token> following, const DecodeOptions& options,
                       std::span<const float> truth, TailRows& rows, const CancelFlag* cancel,
                       TailComparison& comparison);
  // Decodes the tokens and keeps the logits of each, [tokens][n_vocab]; adds up what was read.
  Status read_rows(SequenceId sequence, std::span<const Token> tokens, const DecodeOptions& options,
                   const CancelFlag* cancel, std::vector<float>& rows, TailComparison& read);
  void tell_memory();

  EngineConfig config_;
  ModelInfo info_;
  KvShape shape_;
  HeadProfile profile_;
  uint64_t profile_id_ = 0;
  std::unique_ptr<GgufModel> model_;
  std::unique_ptr<Vocabulary> vocabulary_;
  std::unique_ptr<Backend> backend_;
  std::string device_reason_;     // why not a faster device, for the user; empty: nothing to say
  std::unique_ptr<KvCache> kv_;
  std::unique_ptr<DigestLayout> digest_layout_;
  std::vector<float> logits_;  // [n_vocab]; empty where the device drew the next token itself
  std::optional<Token> next_;  // that token
  MemoryCallback on_memory_;
  Clock::time_point memory_told_;
};

}  // namespace scholia
