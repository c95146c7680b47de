// The JS class Engine. Each method reads its arguments, queues a job on the engine's thread and
// returns { id, promise }; the result comes back through the JsQueue.
//
// All members but thread_ and queue_ are used on the JS thread only. A job that has not ended holds
// the object, so events may carry `this`.
#pragma once

#include <napi.h>

#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <unordered_map>

#include "addon/js_queue.h"
#include "addon/js_values.h"
#include "engine/engine_thread.h"

namespace scholia {

class EngineObject final : public Napi::ObjectWrap<EngineObject> {
 public:
  // The engines of one environment that may still have a thread.
  using Registry = std::set<EngineObject*>;
  struct Shared : std::enable_shared_from_this<Shared> {
    std::shared_ptr<JsQueue> queue;
    Registry engines;
  };

  // `shared` must live for as long as engines can be made.
  static Napi::Function define(Napi::Env env, Shared* shared);
  // Of an object that this class made; anything else is refused.
  static EngineObject* Unwrap(Napi::Object object);

  explicit EngineObject(const Napi::CallbackInfo& info);
  ~EngineObject() override;

  // Closes the engine without waiting for its thread, so that several end side by side.
  void begin_to_end() { thread_.close(); }
  // Waits until the engine is freed.
  void end() { thread_.close_and_wait(); }
  // Lets go of the jobs' JS values; their promises never settle. The environment ends.
  void forget_jobs() { pending_.clear(); }

 private:
  using JobId = EngineThread::JobId;
  struct PendingJob {
    Napi::Promise::Deferred deferred;
    Napi::FunctionReference callback;   // progress or token; may be empty
    std::optional<Napi::Error> thrown;  // by the callback
  };
  template <typename T>
  using Work = EngineThread::Work<T>;
  class EndOfJob;

  Napi::Value open(const Napi::CallbackInfo& info);
  Napi::Value close(const Napi::CallbackInfo& info);
  Napi::Value cancel(const Napi::CallbackInfo& info);
  Napi::Value memory(const Napi::CallbackInfo& info);
  Napi::Value memory_now(const Napi::CallbackInfo& info);
  Napi::Value profile(const Napi::CallbackInfo& info);
  Napi::Value set_profile(const Napi::CallbackInfo& info);
  Napi::Value tokenize(const Napi::CallbackInfo& info);
  Napi::Value detokenize(const Napi::CallbackInfo& info);
  Napi::Value is_end_of_turn(const Napi::CallbackInfo& info);
  Napi::Value create_sequence(const Napi::CallbackInfo& info);
  Napi::Value fork(const Napi::CallbackInfo& info);
  Napi::Value truncate(const Napi::CallbackInfo& info);
  Napi::Value release(const Napi::CallbackInfo& info);
  Napi::Value sequence_tokens(const Napi::CallbackInfo& info);
  Napi::Value sequence_key(const Napi::CallbackInfo& info);
  Napi::Value stored_runs(const Napi::CallbackInfo& info);
  Napi::Value cached_tokens(const Napi::CallbackInfo& info);
  Napi::Value prefill(const Napi::CallbackInfo& info);
  Napi::Value decode(const Napi::CallbackInfo& info);
  Napi::Value logits(const Napi::CallbackInfo& info);
  Napi::Value generate(const Napi::CallbackInfo& info);
  Napi::Value prefill_logits(const Napi::CallbackInfo& info);
  Napi::Value time_steps(const Napi::CallbackInfo& info);
  Napi::Value measure_heads(const Napi::CallbackInfo& info);
  Napi::Value measure_retrieval(const Napi::CallbackInfo& info);
  Napi::Value compare_tail(const Napi::CallbackInfo& info);
  Napi::Value bench(const Napi::CallbackInfo& info);

  // Registers a job, which holds the object and the environment until it ends.
  JobId add_job(Napi::Env env, Napi::FunctionReference callback = {});
  // The same, unless the engine is closed.
  JobId begin_job(Napi::Env env, const char* method, Napi::FunctionReference callback = {});
  // Begins and queues a job without callback and returns its { id, promise }.
  template <typename T>
  Napi::Value queue_job(Napi::Env env, const char* method, Work<T> work);
  Napi::Value job_object(Napi::Env env, JobId id);

  // Any thread: gives the job's callback a value.
  template <typename T>
  void emit(JobId id, T value);
  // What a job tells its progress to: gives the callback an Event made of each value; empty where
  // nobody listens.
  template <typename Event, typename Value = Event>
  std::function<void(const Value&)> teller(JobId id, bool is_heard);
  // What ends a job: settles its promise with the result.
  template <typename T>
  EngineThread::Done<T> settler(JobId id);
  void call_back(Napi::Env env, JobId id, const std::function<Napi::Value(Napi::Env)>& make_value);
  // Takes the job off the list, settles it and lets go of the object.
  void end_job(Napi::Env env, JobId id,
               const std::function<void(Napi::Env, const PendingJob&)>& settle);

  const std::shared_ptr<Shared> shared_;
  const std::shared_ptr<JsQueue> queue_;
  std::unordered_map<JobId, PendingJob> pending_;
  JobId next_id_ = 1;
  EngineConfig config_;  // of the last open()
  bool closing_ = false;
  EngineThread thread_;
};

}  // namespace scholia
