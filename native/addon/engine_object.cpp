#include "addon/engine_object.h"

#include <utility>

#include "addon/arguments.h"
#include "addon/js_error.h"

namespace scholia {
namespace {

// Marks the objects this class made (random, as napi_type_tag wants it).
constexpr napi_type_tag kEngineTag = {0x9b1f2c64d07e4a35, 0xa3d85e7719c04bf2};

SequenceId sequence(const Arguments& arguments, size_t index) {
  return SequenceId(arguments.get(index, "sequence").integer(0, kMaxInt));
}

std::optional<TraceValue> trace_value(const StepTrace* trace, TraceDetail detail) {
  if (!trace || detail == TraceDetail::kNone) return std::nullopt;
  const bool with_mass = detail == TraceDetail::kMass;
  TraceValue value{*trace, with_mass};
  return value;
}

// For the calls that cannot answer with an Error themselves.
Status check_tokens(const Engine& engine, std::span<const Token> tokens) {
  for (const Token token : tokens) {
    if (token < 0 || token >= engine.model().n_vocab) {
      return Error{ErrorCode::kInvalidArgument,
                   "The model has no token " + std::to_string(token) + "."};
    }
  }
  return {};
}

Result<std::monostate> as_result(const Status& status) {
  if (!status.ok()) return status.error();
  return std::monostate{};
}

}  // namespace

Napi::Function EngineObject::define(Napi::Env env, Shared* shared) {
  return DefineClass(env, "Engine",
                     {
                         InstanceMethod<&EngineObject::open>("open"),
                         InstanceMethod<&EngineObject::close>("close"),
                         InstanceMethod<&EngineObject::cancel>("cancel"),
                         InstanceMethod<&EngineObject::memory>("memory"),
                         InstanceMethod<&EngineObject::memory_now>("memoryNow"),
                         InstanceMethod<&EngineObject::profile>("profile"),
                         InstanceMethod<&EngineObject::set_profile>("setProfile"),
                         InstanceMethod<&EngineObject::tokenize>("tokenize"),
                         InstanceMethod<&EngineObject::detokenize>("detokenize"),
                         InstanceMethod<&EngineObject::is_end_of_turn>("isEndOfTurn"),
                         InstanceMethod<&EngineObject::create_sequence>("createSequence"),
                         InstanceMethod<&EngineObject::fork>("fork"),
                         InstanceMethod<&EngineObject::truncate>("truncate"),
                         InstanceMethod<&EngineObject::release>("release"),
                         InstanceMethod<&EngineObject::sequence_tokens>("sequenceTokens"),
                         InstanceMethod<&EngineObject::sequence_key>("sequenceKey"),
                         InstanceMethod<&EngineObject::stored_runs>("storedRuns"),
                         InstanceMethod<&EngineObject::cached_tokens>("cachedTokens"),
                         InstanceMethod<&EngineObject::prefill>("prefill"),
                         InstanceMethod<&EngineObject::decode>("decode"),
                         InstanceMethod<&EngineObject::logits>("logits"),
                         InstanceMethod<&EngineObject::generate>("generate"),
                         InstanceMethod<&EngineObject::prefill_logits>("prefillLogits"),
                         InstanceMethod<&EngineObject::time_steps>("timeSteps"),
                         InstanceMethod<&EngineObject::measure_heads>("measureHeads"),
                         InstanceMethod<&EngineObject::measure_retrieval>("measureRetrieval"),
                         InstanceMethod<&EngineObject::compare_tail>("compareTail"),
                         InstanceMethod<&EngineObject::bench>("bench"),
                     },
                     shared);
}

EngineObject* EngineObject::Unwrap(Napi::Object object) {
  if (!object.CheckTypeTag(&kEngineTag)) {
    throw js_error(object.Env(), {ErrorCode::kInvalidArgument, "this must be an Engine"});
  }
  return ObjectWrap::Unwrap(object);
}

EngineObject::EngineObject(const Napi::CallbackInfo& info)
    : ObjectWrap(info),
      shared_(static_cast<Shared*>(info.Data())->shared_from_this()),
      queue_(shared_->queue) {
  info.This().As<Napi::Object>().TypeTag(&kEngineTag);
  shared_->engines.insert(this);
}

EngineObject::~EngineObject() {
  thread_.close_and_wait();
  shared_->engines.erase(this);
}

// --- jobs ---------------------------------------------------------------------------------------

EngineObject::JobId EngineObject::begin_job(Napi::Env env, const char* method,
                                            Napi::FunctionReference callback) {
  if (closing_) {
    throw js_error(env, {ErrorCode::kInvalidArgument,
                         "Engine." + std::string(method) + ": the engine is closed"});
  }
  return add_job(env, std::move(callback));
}

EngineObject::JobId EngineObject::add_job(Napi::Env env, Napi::FunctionReference callback) {
  const JobId id = next_id_++;
  pending_.emplace(id, PendingJob{Napi::Promise::Deferred::New(env), std::move(callback), {}});
  queue_->hold(env);
  Ref();
  return id;
}

template <typename T>
Napi::Value EngineObject::queue_job(Napi::Env env, const char* method, Work<T> work) {
  const JobId id = begin_job(env, method);
  thread_.submit<T>(id, std::move(work), settler<T>(id));
  return job_object(env, id);
}

Napi::Value EngineObject::job_object(Napi::Env env, JobId id) {
  auto object = Napi::Object::New(env);
  object.Set("id", Napi::Number::New(env, double(id)));
  object.Set("promise", pending_.at(id).deferred.Promise());
  return object;
}

template <typename T>
void EngineObject::emit(JobId id, T value) {
  queue_->post([this, id, value = std::move(value)](Napi::Env env) {
    call_back(env, id, [&](Napi::Env callback_env) { return to_js(callback_env, value); });
  });
}

template <typename Event, typename Value>
std::function<void(const Value&)> EngineObject::teller(JobId id, bool is_heard) {
  if (!is_heard) return nullptr;
  return [this, id](const Value& value) { emit(id, Event{value}); };
}

template <typename T>
EngineThread::Done<T> EngineObject::settler(JobId id) {
  return [this, id](Result<T> result) {
    queue_->post([this, id, result = std::move(result)](Napi::Env env) {
      end_job(env, id, [&](Napi::Env settle_env, const PendingJob& job) {
        if (!result.ok()) throw js_error(settle_env, result.error());
        job.deferred.Resolve(to_js(settle_env, result.value()));
      });
    });
  };
}

void EngineObject::call_back(Napi::Env env, JobId id,
                             const std::function<Napi::Value(Napi::Env)>& make_value) {
  const auto found = pending_.find(id);
  if (found == pending_.end() || found->second.thrown) return;
  try {
    found->second.callback.Call({make_value(env)});
  } catch (const Napi::Error& error) {
    const auto still = pending_.find(id);  // gone when the callback ended the environment
    if (still != pending_.end()) still->second.thrown = error;
    thread_.cancel(id);
  }
}

void EngineObject::end_job(Napi::Env env, JobId id,
                           const std::function<void(Napi::Env, const PendingJob&)>& settle) {
  auto found = pending_.find(id);
  const PendingJob job = std::move(found->second);
  pending_.erase(found);
  try {
    if (job.thrown) throw *job.thrown;
    settle(env, job);
  } catch (const Napi::Error& error) {
    job.deferred.Reject(error.Value());
  }
  queue_->release(env);
  Unref();  // the object may be collected from here on
}

// --- the life of an engine ----------------------------------------------------------------------

Napi::Value EngineObject::open(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.open");
  const EngineConfig config = engine_config(arguments.get(0, "config"));
  auto callback = arguments.get(1, "onProgress").optional_function();
  const bool reports = !callback.IsEmpty();
  const JobId id = begin_job(info.Env(), "open", std::move(callback));
  config_ = config;
  const auto opener = [this, id, config, reports] {
    return Engine::open(config, teller<LoadProgress, double>(id, reports));
  };
  thread_.open(id, opener, [settle = settler<EngineInfo>(id)](Result<Engine*> opened) {
    if (!opened.ok()) return settle(opened.error());
    const Engine& engine = *opened.value();
    settle(EngineInfo{engine.model(), engine.device_name(), engine.bos_token()});
  });
  return job_object(info.Env(), id);
}

Napi::Value EngineObject::close(const Napi::CallbackInfo& info) {
  closing_ = true;
  const JobId id = add_job(info.Env());
  const auto promise = pending_.at(id).deferred.Promise();
  thread_.close([settle = settler<std::monostate>(id)] { settle(std::monostate{}); });
  return promise;
}

Napi::Value EngineObject::cancel(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.cancel");
  const auto id = JobId(arguments.get(0, "id").integer(0, kMaxSafeInteger));
  // A job that JS has seen the end of may not have left the thread yet.
  return Napi::Boolean::New(info.Env(), pending_.contains(id) && thread_.cancel(id));
}

Napi::Value EngineObject::memory(const Napi::CallbackInfo& info) {
  return queue_job<MemoryReport>(info.Env(), "memory",
                                 [](Engine& engine, const CancelFlag&) { return engine.memory(); });
}

Napi::Value EngineObject::memory_now(const Napi::CallbackInfo& info) {
  const auto report = thread_.memory();
  return report ? to_js(info.Env(), *report) : info.Env().Null();
}

Napi::Value EngineObject::profile(const Napi::CallbackInfo& info) {
  return queue_job<HeadProfile>(info.Env(), "profile",
                                [](Engine& engine, const CancelFlag&) { return engine.profile(); });
}

Napi::Value EngineObject::set_profile(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.setProfile");
  return queue_job<std::monostate>(
      info.Env(), "setProfile",
      [profile = head_profile(arguments.get(0, "profile"))](Engine& engine, const CancelFlag&) {
        return as_result(engine.set_profile(profile));
      });
}

// --- tokens -------------------------------------------------------------------------------------

Napi::Value EngineObject::tokenize(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.tokenize");
  const bool parse_special = arguments.get(1, "parseSpecial").boolean();
  return queue_job<std::vector<Token>>(
      info.Env(), "tokenize",
      [text = arguments.get(0, "text").text(), parse_special](Engine& engine, const CancelFlag&) {
        return engine.tokenize(text, parse_special);
      });
}

Napi::Value EngineObject::detokenize(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.detokenize");
  return queue_job<std::string>(info.Env(), "detokenize",
                                [tokens = arguments.get(0, "tokens").int32s()](
                                    Engine& engine, const CancelFlag&) -> Result<std::string> {
                                  if (Status status = check_tokens(engine, tokens); !status.ok())
                                    return status.error();
                                  return engine.detokenize(tokens);
                                });
}

Napi::Value EngineObject::is_end_of_turn(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.isEndOfTurn");
  const auto token = Token(arguments.get(0, "token").integer(0, kMaxInt));
  return queue_job<bool>(info.Env(), "isEndOfTurn",
                         [token](Engine& engine, const CancelFlag&) -> Result<bool> {
                           const Token tokens[] = {token};
                           if (Status status = check_tokens(engine, tokens); !status.ok()) {
                             return status.error();
                           }
                           return engine.is_end_of_turn(token);
                         });
}

// --- kv -----------------------------------------------------------------------------------------

Napi::Value EngineObject::create_sequence(const Napi::CallbackInfo& info) {
  return queue_job<SequenceId>(info.Env(), "createSequence", [](Engine& engine, const CancelFlag&) {
    return engine.create_sequence();
  });
}

Napi::Value EngineObject::fork(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.fork");
  return queue_job<SequenceId>(
      info.Env(), "fork",
      [id = sequence(arguments, 0)](Engine& engine, const CancelFlag&) { return engine.fork(id); });
}

Napi::Value EngineObject::truncate(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.truncate");
  const int n_tokens = int(arguments.get(1, "tokens").integer(0, kMaxInt));
  return queue_job<int>(info.Env(), "truncate",
                        [id = sequence(arguments, 0), n_tokens](Engine& engine, const CancelFlag&) {
                          return engine.truncate(id, n_tokens);
                        });
}

Napi::Value EngineObject::release(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.release");
  return queue_job<std::monostate>(
      info.Env(), "release", [id = sequence(arguments, 0)](Engine& engine, const CancelFlag&) {
        engine.release(id);
        return std::monostate{};
      });
}

Napi::Value EngineObject::sequence_tokens(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.sequenceTokens");
  return queue_job<std::vector<Token>>(
      info.Env(), "sequenceTokens",
      [id = sequence(arguments, 0)](Engine& engine, const CancelFlag&) {
        return engine.sequence_tokens(id);
      });
}

Napi::Value EngineObject::sequence_key(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.sequenceKey");
  return queue_job<std::string>(info.Env(), "sequenceKey",
                                [id = sequence(arguments, 0)](Engine& engine, const CancelFlag&) {
                                  return engine.sequence_key(id);
                                });
}

Napi::Value EngineObject::stored_runs(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.storedRuns");
  return queue_job<std::vector<std::string>>(
      info.Env(), "storedRuns", [id = sequence(arguments, 0)](Engine& engine, const CancelFlag&) {
        return engine.stored_runs(id);
      });
}

Napi::Value EngineObject::cached_tokens(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.cachedTokens");
  return queue_job<int>(
      info.Env(), "cachedTokens",
      [tokens = arguments.get(0, "tokens").int32s()](Engine& engine, const CancelFlag&) {
        return engine.cached_tokens(tokens);
      });
}

// --- prefill, decode, answer --------------------------------------------------------------------

Napi::Value EngineObject::prefill(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.prefill");
  const SequenceId into = sequence(arguments, 0);
  auto tokens = arguments.get(1, "tokens").int32s();
  const PrefillOptions options = prefill_options(arguments.get(2, "options"));
  auto callback = arguments.get(3, "onProgress").optional_function();
  const bool reports = !callback.IsEmpty();
  const JobId id = begin_job(info.Env(), "prefill", std::move(callback));
  thread_.submit<PrefillProgress>(
      id,
      [=, this, tokens = std::move(tokens)](Engine& engine, const CancelFlag& cancel) {
        return engine.prefill(into, tokens, options, teller<PrefillProgress>(id, reports), &cancel);
      },
      settler<PrefillProgress>(id));
  return job_object(info.Env(), id);
}

Napi::Value EngineObject::decode(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.decode");
  const SequenceId into = sequence(arguments, 0);
  const auto token = Token(arguments.get(1, "token").integer(0, kMaxInt));
  const DecodeRequest request = decode_request(arguments.get(2, "options"));
  return queue_job<std::optional<TraceValue>>(
      info.Env(), "decode",
      [=](Engine& engine, const CancelFlag&) -> Result<std::optional<TraceValue>> {
        const auto trace = engine.decode(into, token, request.options);
        if (!trace.ok()) return trace.error();
        return trace_value(&trace.value(), request.trace);
      });
}

Napi::Value EngineObject::logits(const Napi::CallbackInfo& info) {
  return queue_job<std::vector<float>>(info.Env(), "logits", [](Engine& engine, const CancelFlag&) {
    const auto logits = engine.logits();
    return std::vector<float>(logits.begin(), logits.end());
  });
}

Napi::Value EngineObject::generate(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.generate");
  const SequenceId into = sequence(arguments, 0);
  const GenerateRequest request = generate_request(arguments.get(1, "options"));
  auto callback = arguments.get(2, "onToken").optional_function();
  const bool reports = !callback.IsEmpty();
  const JobId id = begin_job(info.Env(), "generate", std::move(callback));
  thread_.submit<GenerateReport>(
      id,
      [=, this](Engine& engine, const CancelFlag& cancel) {
        Engine::TokenCallback on_token;
        if (reports) {
          on_token = [=, this](const GeneratedToken& token) {
            emit(id, TokenValue{token.token, std::string(token.text),
                                trace_value(token.trace, request.trace)});
          };
        }
        return engine.generate(into, request.options, on_token, &cancel);
      },
      settler<GenerateReport>(id));
  return job_object(info.Env(), id);
}

Napi::Value EngineObject::time_steps(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.timeSteps");
  const SequenceId of = sequence(arguments, 0);
  const TimingRequest request = timing_request(arguments.get(1, "options"));
  return queue_job<StepTiming>(info.Env(), "timeSteps", [=](Engine& engine, const CancelFlag&) {
    return engine.time_steps(of, request.options, request.n_steps);
  });
}

// --- calibration and tests ----------------------------------------------------------------------

Napi::Value EngineObject::prefill_logits(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.prefillLogits");
  const SequenceId into = sequence(arguments, 0);
  return queue_job<std::vector<float>>(
      info.Env(), "prefillLogits",
      [into, tokens = arguments.get(1, "tokens").int32s()](Engine& engine, const CancelFlag&) {
        return engine.prefill_logits(into, tokens);
      });
}

Napi::Value EngineObject::measure_heads(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.measureHeads");
  auto tokens = arguments.get(0, "tokens").int32s();
  auto request = measure_request(arguments.get(1, "options"));
  auto callback = arguments.get(2, "onProgress").optional_function();
  const bool reports = !callback.IsEmpty();
  const JobId id = begin_job(info.Env(), "measureHeads", std::move(callback));
  thread_.submit<HeadErrors>(
      id,
      [=, this, tokens = std::move(tokens), request = std::move(request)](
          Engine& engine, const CancelFlag& cancel) {
        return engine.measure_heads(tokens, request.tail_tokens, request.n_queries,
                                    request.block_tokens, request.budget_tokens,
                                    teller<PrefillProgress>(id, reports), &cancel);
      },
      settler<HeadErrors>(id));
  return job_object(info.Env(), id);
}

Napi::Value EngineObject::measure_retrieval(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.measureRetrieval");
  auto tokens = arguments.get(0, "tokens").int32s();
  auto copies = copied_tokens(arguments.get(1, "options"));
  auto callback = arguments.get(2, "onProgress").optional_function();
  const bool reports = !callback.IsEmpty();
  const JobId id = begin_job(info.Env(), "measureRetrieval", std::move(callback));
  thread_.submit<std::vector<double>>(
      id,
      [=, this, tokens = std::move(tokens), copies = std::move(copies)](Engine& engine,
                                                                      const CancelFlag& cancel) {
        return engine.measure_retrieval(tokens, copies, teller<PrefillProgress>(id, reports), &cancel);
      },
      settler<std::vector<double>>(id));
  return job_object(info.Env(), id);
}

Napi::Value EngineObject::compare_tail(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.compareTail");
  const SequenceId after = sequence(arguments, 0);
  auto tail = arguments.get(1, "tail").int32s();
  auto modes = tail_modes(arguments.get(2, "modes"));
  auto callback = arguments.get(3, "onProgress").optional_function();
  const bool reports = !callback.IsEmpty();
  const JobId id = begin_job(info.Env(), "compareTail", std::move(callback));
  thread_.submit<std::vector<TailComparison>>(
      id,
      [=, this, tail = std::move(tail), modes = std::move(modes)](Engine& engine,
                                                                const CancelFlag& cancel) {
        return engine.compare_tail(after, tail, modes, teller<TailProgress, int>(id, reports), &cancel);
      },
      settler<std::vector<TailComparison>>(id));
  return job_object(info.Env(), id);
}

Napi::Value EngineObject::bench(const Napi::CallbackInfo& info) {
  const Arguments arguments(info, "Engine.bench");
  auto text = arguments.get(0, "text").int32s();
  auto options = bench_options(arguments.get(1, "options"));
  auto callback = arguments.get(2, "onProgress").optional_function();
  const bool reports = !callback.IsEmpty();
  const JobId id = begin_job(info.Env(), "bench", std::move(callback));
  thread_.submit<std::vector<BenchRow>>(
      id,
      [=, this, text = std::move(text), options = std::move(options), config = config_](
          Engine& engine, const CancelFlag& cancel) {
        return run_bench(engine, config, text, options,
                         teller<BenchProgress, std::string>(id, reports), &cancel);
      },
      settler<std::vector<BenchRow>>(id));
  return job_object(info.Env(), id);
}

}  // namespace scholia
