#include <ggml-backend.h>
#include <llama.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "backend/choose_backend.h"
#include "engine/answer/sampler.h"
#include "engine/answer/text_stream.h"
#include "engine/pipeline.h"

namespace scholia {
namespace {

// How often a running call says what memory it holds, at most.
constexpr auto kMemoryEvery = std::chrono::milliseconds(100);

// Room for two full contexts (a document, and a branch of its chat), within what the backend can
// give: half of the host's memory, which others need too, or most of its device's.
size_t default_pool_bytes(const KvShape& shape, int context_tokens, const Backend& backend) {
  const size_t wanted = 2 * shape.page_bytes() * (size_t(context_tokens) / kKvPageTokens + 1);
  const uint64_t available = backend.pool_limit_bytes();
  return available == 0 ? wanted : std::min<size_t>(wanted, available);
}

ModelInfo complete_info(const GgufModel& model, const Vocabulary& vocabulary) {
  ModelInfo info = model.info();
  info.adds_bos = vocabulary.adds_bos();
  if (vocabulary.bos() >= 0) info.bos_piece = vocabulary.piece(vocabulary.bos(), true);
  if (vocabulary.eos() >= 0) info.eos_piece = vocabulary.piece(vocabulary.eos(), true);
  return info;
}

// Names a profile in the hash chain of generated segments.
uint64_t profile_id(const HeadProfile& profile) {
  uint64_t hash = 14695981039346656037ULL;  // FNV-1a
  const auto mix = [&hash](const void* data, size_t n) {
    for (size_t i = 0; i < n; ++i) {
      hash = (hash ^ static_cast<const uint8_t*>(data)[i]) * 1099511628211ULL;
    }
  };
  mix(&profile.digest.kind, sizeof profile.digest.kind);
  mix(&profile.digest.bits, sizeof profile.digest.bits);
  mix(profile.block_tokens.data(), profile.block_tokens.size() * sizeof(uint16_t));
  mix(profile.budget_share.data(), profile.budget_share.size() * sizeof(float));
  return hash;
}

// Stage by stage, of steps with the same stages.
std::vector<StageTime> median_times(const std::vector<std::vector<StageTime>>& steps) {
  std::vector<StageTime> medians = steps.back();
  std::vector<double> seconds(steps.size());
  for (size_t stage = 0; stage < medians.size(); ++stage) {
    for (size_t i = 0; i < steps.size(); ++i) seconds[i] = steps[i][stage].seconds;
    std::ranges::nth_element(seconds, seconds.begin() + long(seconds.size() / 2));
    medians[stage].seconds = seconds[seconds.size() / 2];
  }
  return medians;
}

Error no_sequence(SequenceId sequence) {
  return {ErrorCode::kInvalidArgument, "There is no sequence " + std::to_string(sequence) + "."};
}

}  // namespace

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

void add_step(PrefillProgress& progress, int n_tokens, double seconds) {
  progress.done_tokens += n_tokens;
  progress.depth_tokens += n_tokens;
  progress.seconds += seconds;
  progress.tokens_per_second = n_tokens / seconds;
}

// --- opening --------------------------------------------------------------------------------

Result<std::unique_ptr<Engine>> Pipeline::open(const EngineConfig& config,
                                               const LoadProgress& progress) {
  auto engine = std::make_unique<Pipeline>();
  engine->config_ = config;
  if (config.chunk_tokens <= 0 || config.chunk_tokens % kKvPageTokens != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "chunk_tokens must be a positive multiple of " + std::to_string(kKvPageTokens) +
                     ", not " + std::to_string(config.chunk_tokens) + "."};
  }
  if (config.prefill_step_tokens < 0 || config.prefill_step_tokens % config.chunk_tokens != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "prefill_step_tokens must be a multiple of chunk_tokens (" +
                     std::to_string(config.chunk_tokens) + "), not " +
                     std::to_string(config.prefill_step_tokens) + "."};
  }
  auto model = GgufModel::open(config.model_path);
  if (!model.ok()) return model.error();
  engine->model_ = std::move(model.value());
  auto vocabulary = Vocabulary::load(config.model_path);
  if (!vocabulary.ok()) return vocabulary.error();
  engine->vocabulary_ = std::make_unique<Vocabulary>(std::move(vocabulary.value()));
  engine->info_ = complete_info(*engine->model_, *engine->vocabulary_);
  if (progress) progress(0.3);

  const Hyperparameters& hp = engine->model_->hyperparameters();
  engine->shape_ = {hp.n_layers, hp.n_kv_heads, hp.head_dim};
  const int n_threads = config.n_threads > 0
                            ? config.n_threads
                            : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  engine->config_.n_threads = n_threads;
  auto chosen = choose_backend(config.device, *engine->model_,
                               {n_threads, hp.context_tokens, config.prefill_step_tokens});
  if (!chosen.ok()) return chosen.error();
  engine->backend_ = std::move(chosen.value().backend);
  engine->device_reason_ = std::move(chosen.value().reason);
  const Backend& backend = *engine->backend_;
  if (config.prefill_step_tokens == 0) {
    const int n_chunks = std::max(1, backend.prefill_step_tokens() / config.chunk_tokens);
    engine->config_.prefill_step_tokens = n_chunks * config.chunk_tokens;
  }
  const size_t pool_bytes = config.kv_pool_bytes != 0
                                ? config.kv_pool_bytes
                                : default_pool_bytes(engine->shape_, hp.context_tokens, backend);
  const size_t n_pages = pool_bytes / engine->shape_.page_bytes();
  auto pages = engine->backend_->reserve_pages(engine->shape_, n_pages);
  if (!pages.ok()) return pages.error();
  auto kv = KvCache::create({engine->shape_, engine->info_.fingerprint, config.chunk_tokens, n_pages,
                             config.store_dir},
                            std::move(pages.value()));
  if (!kv.ok()) return kv.error();
  engine->kv_ = std::move(kv.value());
  if (Status status = engine->set_profile(HeadProfile::uniform(hp.n_layers, hp.n_kv_heads));
      !status.ok()) {
    return status.error();
  }
  if (progress) progress(1);
  return std::unique_ptr<Engine>(std::move(engine));
}

Status Pipeline::set_profile(HeadProfile profile) {
  if (Status status = profile.check(shape_.n_layers, shape_.n_kv_heads, info_.fingerprint);
      !status.ok()) {
    return status;
  }
  auto layout = std::make_unique<DigestLayout>(shape_, profile);
  if (Status status = backend_->set_digest_layout(*layout); !status.ok()) return status;
  profile_ = std::move(profile);
  profile_id_ = profile_id(profile_);
  digest_layout_ = std::move(layout);
  kv_->clear_digests();
  return {};
}

MemoryReport Pipeline::memory() const {
  MemoryReport report;
  report.weights_bytes = backend_->weights_bytes();
  report.kv_bytes = kv_->pages_in_use() * shape_.page_bytes();
  report.kv_kept_bytes = kv_->pages_kept() * shape_.page_bytes();
  report.kv_pool_bytes = kv_->pages().n_pages() * shape_.page_bytes();
  report.digest_bytes = kv_->digest_bytes() + backend_->digest_bytes();
  report.workspace_bytes = backend_->workspace_bytes();
  report.free_bytes = backend_->free_bytes();
  return report;
}

void Pipeline::on_memory(MemoryCallback callback) {
  on_memory_ = std::move(callback);
  memory_told_ = {};
  tell_memory();
}

void Pipeline::tell_memory() {
  const auto now = Clock::now();
  if (!on_memory_ || now - memory_told_ < kMemoryEvery) return;
  memory_told_ = now;
  on_memory_(memory());
}

// --- kv -------------------------------------------------------------------------------------

Result<std::vector<Token>> Pipeline::sequence_tokens(SequenceId sequence) const {
  if (!kv_->contains(sequence)) return no_sequence(sequence);
  const auto tokens = kv_->tokens(sequence);
  return std::vector<Token>(tokens.begin(), tokens.end());
}

Result<std::string> Pipeline::sequence_key(SequenceId sequence) const {
  if (!kv_->contains(sequence)) return no_sequence(sequence);
  return to_hex(kv_->chain(sequence));
}

Result<std::vector<std::string>> Pipeline::stored_runs(SequenceId sequence) const {
  if (!kv_->contains(sequence)) return no_sequence(sequence);
  return kv_->stored_runs(sequence);
}

// --- prefill --------------------------------------------------------------------------------

Status Pipeline::check_prompt(SequenceId sequence, std::span<const Token> tokens) const {
  if (!kv_->contains(sequence)) return no_sequence(sequence);
  if (tokens.empty()) return Error{ErrorCode::kInvalidArgument, "A prompt needs tokens."};
  for (const Token token : tokens) {
    if (token < 0 || token >= info_.n_vocab) {
      return Error{ErrorCode::kInvalidArgument,
                   "The model has no token " + std::to_string(token) + "."};
    }
  }
  const size_t depth = static_cast<size_t>(kv_->view(sequence).n_tokens) + tokens.size();
  if (depth > static_cast<size_t>(info_.context_tokens)) {
    return Error{ErrorCode::kContextExceeded,
                 "The prompt needs " + std::to_string(depth) +
                     " tokens of context; the model holds " +
                     std::to_string(info_.context_tokens) + "."};
  }
  return {};
}

Status Pipeline::prefill_step(SequenceId sequence, std::span<const Token> rest, int n,
                              LogitRows rows, const QueryCallback& on_queries,
                              const CancelFlag* cancel) {
  // Only the segment's last step yields the last token's logits.
  if (rows == LogitRows::kLast && static_cast<size_t>(n) < rest.size()) rows = LogitRows::kNone;
  if (Status status = kv_->reserve(sequence, n); !status.ok()) return status;
  const PrefillStep step{rest.first(static_cast<size_t>(n)), kv_->view(sequence), rows, on_queries};
  auto logits = backend_->prefill(step, kv_->pages(), cancel);
  if (!logits.ok()) return logits.error();
  logits_.assign(logits.value().begin(), logits.value().end());
  next_.reset();
  kv_->append(sequence, step.tokens);
  tell_memory();
  return {};
}

Result<PrefillProgress> Pipeline::prefill(SequenceId sequence, std::span<const Token> tokens,
                                          const PrefillOptions& options,
                                          const PrefillCallback& on_progress,
                                          const CancelFlag* cancel) {
  if (Status status = check_prompt(sequence, tokens); !status.ok()) return status.error();
  if (Status status = kv_->begin_segment(sequence, {}); !status.ok()) return status.error();
  const int n_tokens = static_cast<int>(tokens.size());
  const CachedPrefix cached =
      kv_->take_cached(sequence, tokens, options.want_logits ? n_tokens - 1 : n_tokens);

  PrefillProgress progress;
  progress.total_tokens = n_tokens;
  progress.memory_tokens = cached.memory_tokens;
  progress.disk_tokens = cached.disk_tokens;
  progress.broken_tokens = cached.broken_tokens;
  progress.done_tokens = cached.total();
  progress.depth_tokens = kv_->view(sequence).n_tokens;
  if (on_progress) on_progress(progress);

  const auto save = [&](const Status& status) {
    if (!status.ok() && !progress.store_error) progress.store_error = status.error();
  };
  const LogitRows rows = options.want_logits ? LogitRows::kLast : LogitRows::kNone;
  while (progress.done_tokens < n_tokens) {
    const auto start = Clock::now();
    const auto rest = tokens.subspan(static_cast<size_t>(progress.done_tokens));
    const int position = progress.depth_tokens;
    const int n = step_end(position, position + static_cast<int>(rest.size())) - position;
    if (Status status = prefill_step(sequence, rest, n, rows, {}, cancel); !status.ok()) {
      return status.error();
    }
    add_step(progress, n, seconds_since(start));
    if (options.persist && !progress.store_error) save(kv_->persist(sequence));
    if (on_progress) on_progress(progress);
  }
  save(kv_->end_segment(sequence, options.persist && !progress.store_error));
  return progress;
}

// --- decode ---------------------------------------------------------------------------------

// Digests that a head's choice of blocks reads.
uint64_t Pipeline::digest_bytes(const HeadPlan& head, int n_tokens) const {
  if (head.n_selected == head.n_free()) return 0;
  return digest_layout_->read_bytes(head.block_tokens, head.sink_blocks, head.first_local_block,
                                    n_tokens);
}

// What the plan makes each head read, in blocks and bytes.
void Pipeline::describe_step(const DecodePlan& plan, StepTrace& trace) const {
  const size_t token_bytes = shape_.token_bytes_per_head();
  trace.depth_tokens = plan.n_tokens;
  trace.block_tokens = profile_.block_tokens;
  trace.n_blocks.clear();
  trace.tokens_read.clear();
  trace.kv_bytes = trace.digest_bytes = 0;
  for (const HeadPlan& head : plan.heads) {
    const int last_blocks =
        (plan.n_tokens + head.block_tokens - 1) / head.block_tokens - head.first_local_block;
    const int tokens = head.tokens_read(plan.n_tokens);
    trace.n_blocks.push_back(
        static_cast<uint32_t>(head.sink_blocks + head.n_selected + last_blocks));
    trace.tokens_read.push_back(static_cast<uint32_t>(tokens));
    trace.kv_bytes += static_cast<uint64_t>(tokens) * token_bytes;
    trace.digest_bytes += digest_bytes(head, plan.n_tokens);
  }
  trace.dense_bytes = static_cast<uint64_t>(plan.n_tokens) * token_bytes * plan.heads.size();
}

Result<StepTrace> Pipeline::decode(SequenceId sequence, Token token, const DecodeOptions& options) {
  return decode_token(sequence, token, options, nullptr);
}

Result<StepTrace> Pipeline::decode_token(SequenceId sequence, Token token,
                                         const DecodeOptions& options, const TokenDraw* draw) {
  return step(sequence, token, options, [&](DecodeStep& step) -> Status {
    step.draw = draw;
    auto decoded = backend_->decode(step, kv_->pages());
    if (!decoded.ok()) return decoded.error();
    logits_.assign(decoded.value().logits.begin(), decoded.value().logits.end());
    next_ = decoded.value().next;
    return {};
  });
}

Result<StepTrace> Pipeline::step(SequenceId sequence, Token token, const DecodeOptions& options,
                                 const std::function<Status(DecodeStep&)>& compute) {
  if (Status status = check_prompt(sequence, {&token, 1}); !status.ok()) return status.error();
  if (options.budget_tokens <= 0) {
    return Error{ErrorCode::kInvalidArgument, "The budget must be a positive number of tokens."};
  }
  if (options.only_head >= shape_.n_heads()) {
    return Error{ErrorCode::kInvalidArgument,
                 "The model has " + std::to_string(shape_.n_heads()) + " heads, none with the number " +
                     std::to_string(options.only_head) + "."};
  }
  SegmentKind kind{.generated = true, .mode = options.mode};
  if (options.mode == Mode::kAbSparse) {
    kind.budget_tokens = options.budget_tokens;
    kind.profile_id = profile_id_;
  }
  if (Status status = kv_->begin_segment(sequence, kind); !status.ok()) return status.error();
  if (Status status = kv_->reserve(sequence, 1); !status.ok()) return status.error();

  const KvView view = kv_->view(sequence);
  DecodePlan plan = make_decode_plan(profile_, shape_, options.mode, options.budget_tokens,
                                     view.n_tokens + 1);
  if (options.only_head >= 0) read_all_but(plan, options.only_head);
  StepTrace trace;
  DecodeStep step;
  step.token = token;
  step.view = view;
  step.plan = &plan;
  step.trace = &trace;
  step.trace_mass = options.trace_mass;
  step.trace_kept = options.trace_kept;
  step.lineage = kv_->lineage(sequence);
  if (!plan.reads_all) step.digest_layout = digest_layout_.get();
  if (!plan.reads_all && !backend_->keeps_digests()) {
    Digests& digests = kv_->digests(sequence);
    digests.update(*digest_layout_, kv_->pages(), view);
    step.digests = &digests;
  }
  describe_step(plan, trace);
  if (Status status = compute(step); !status.ok()) return status.error();
  kv_->append(sequence, {&token, 1});
  tell_memory();
  return trace;
}

Result<StepTiming> Pipeline::time_steps(SequenceId sequence, const DecodeOptions& options,
                                        int n_steps) {
  if (n_steps <= 0) {
    return Error{ErrorCode::kInvalidArgument, "Timing needs at least one step."};
  }
  auto copy = kv_->fork(sequence);
  if (!copy.ok()) return copy.error();
  StepTiming timing;
  timing.n_steps = n_steps;
  std::vector<std::vector<StageTime>> steps;
  for (int i = 0; i <= n_steps; ++i) {  // the first one builds digests and warms up
    auto stages = time_step(copy.value(), options);
    if (!stages.ok()) {
      kv_->release(copy.value());
      return stages.error();
    }
    if (i > 0) steps.push_back(std::move(stages.value()));
  }
  timing.depth_tokens = kv_->view(copy.value()).n_tokens;
  kv_->release(copy.value());
  timing.stages = median_times(steps);
  timing.bytes_per_second = backend_->bytes_per_second();
  return timing;
}

// One step more of the same token: what is computed does not matter, and its time depends on no
// token.
Result<std::vector<StageTime>> Pipeline::time_step(SequenceId sequence,
                                                   const DecodeOptions& options) {
  if (kv_->view(sequence).n_tokens == 0) {
    return Error{ErrorCode::kInvalidArgument, "Prefill a prompt before timing its steps."};
  }
  std::vector<StageTime> stages;
  const Token token = kv_->tokens(sequence).back();
  auto trace = step(sequence, token, options, [&](DecodeStep& step) -> Status {
    auto times = backend_->time_decode(step, kv_->pages());
    if (!times.ok()) return times.error();
    stages = std::move(times.value());
    for (StageTime& stage : stages) {
      if (stage.stage != DecodeStage::kAttend) continue;
      const size_t first = size_t(stage.layer) * shape_.n_kv_heads;
      for (int kv_head = 0; kv_head < shape_.n_kv_heads; ++kv_head) {
        const HeadPlan& head = step.plan->heads[first + kv_head];
        stage.bytes += head.tokens_read(step.plan->n_tokens) * shape_.token_bytes_per_head() +
                       digest_bytes(head, step.plan->n_tokens);
      }
    }
    return {};
  });
  if (!trace.ok()) return trace.error();
  return stages;
}

// --- answer ---------------------------------------------------------------------------------

Result<GenerateReport> Pipeline::generate(SequenceId sequence, const GenerateOptions& options,
                                          const TokenCallback& on_token,
                                          const CancelFlag* cancel) {
  if (!kv_->contains(sequence)) return no_sequence(sequence);
  if (logits_.empty() && !next_) {
    return Error{ErrorCode::kInvalidArgument, "Prefill a prompt before generating from it."};
  }
  Sampler sampler(options.sampling);
  DrawNumbers numbers(options.sampling.seed);
  numbers.next();  // the first token is the sampler's
  TextStream text;
  GenerateReport report;
  std::optional<StepTrace> trace;
  report.stop = StopReason::kMaxTokens;
  while (static_cast<int>(report.tokens.size()) < options.max_tokens) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      report.stop = StopReason::kCancelled;
      break;
    }
    const TokenDraw draw{options.sampling, numbers.next()};
    const Token token = next_ ? *next_ : sampler.sample(logits_);
    if (vocabulary_->is_end_of_turn(token)) {
      report.stop = StopReason::kEndOfTurn;
      break;
    }
    if (kv_->view(sequence).n_tokens >= info_.context_tokens) {
      report.stop = StopReason::kContextFull;
      break;
    }
    const std::string piece = text.push(vocabulary_->piece(token, /*special=*/false));
    report.tokens.push_back(token);
    report.text += piece;
    if (on_token) on_token({token, piece, trace ? &*trace : nullptr});

    const auto start = Clock::now();
    DecodeOptions step_options = options.decode;
    step_options.trace_kept =
        options.kept_every_steps > 0 && report.n_steps % options.kept_every_steps == 0;
    auto step = decode_token(sequence, token, step_options, &draw);
    if (!step.ok()) return step.error();
    report.seconds += seconds_since(start);
    report.n_steps += 1;
    trace = std::move(step.value());
    report.kv_bytes += trace->kv_bytes;
    report.digest_bytes += trace->digest_bytes;
    report.dense_bytes += trace->dense_bytes;
  }
  const std::string rest = text.finish();
  report.text += rest;
  if (on_token && !rest.empty()) on_token({report.tokens.back(), rest, nullptr});
  return report;
}

Result<std::unique_ptr<Engine>> Engine::open(const EngineConfig& config,
                                             const LoadProgress& progress) {
  return Pipeline::open(config, progress);
}

Result<ModelInfo> inspect_model(const std::string& path) {
  auto model = GgufModel::open(path);
  if (!model.ok()) return model.error();
  auto vocabulary = Vocabulary::load(path);
  if (!vocabulary.ok()) return vocabulary.error();
  return complete_info(*model.value(), vocabulary.value());
}

void initialise_libraries(const std::string& library_dir,
                          std::function<void(int level, std::string_view text)> log) {
  // libllama and ggml keep one log per process.
  static std::function<void(int, std::string_view)> process_log;
  process_log = std::move(log);
  const auto forward = [](ggml_log_level level, const char* text, void* /*data*/) {
    if (process_log) process_log(static_cast<int>(level), text);
  };
  llama_log_set(forward, nullptr);
  ggml_log_set(forward, nullptr);
  ggml_backend_load_all_from_path(library_dir.c_str());
  llama_backend_init();
}

}  // namespace scholia
