// The module: what it exports, and what one environment (the main thread or a worker) holds.
#include <napi.h>

#include <memory>
#include <string>

#include "addon/arguments.h"
#include "addon/engine_object.h"
#include "addon/js_error.h"
#include "addon/js_queue.h"
#include "addon/js_values.h"
#include "addon/log_router.h"
#include "engine/engine.h"

namespace scholia {
namespace {

// Reads a model's header on libuv's pool: short work that needs no engine.
class InspectWorker final : public Napi::AsyncWorker {
 public:
  InspectWorker(Napi::Env env, std::string path)
      : AsyncWorker(env, "scholia"), deferred_(env), path_(std::move(path)) {}
  Napi::Promise promise() const { return deferred_.Promise(); }

 protected:
  void Execute() override { result_ = inspect_model(path_); }
  void OnOK() override {
    if (result_.ok()) {
      deferred_.Resolve(to_js(Env(), result_.value()));
    } else {
      deferred_.Reject(js_error(Env(), result_.error()).Value());
    }
  }
  void OnError(const Napi::Error& error) override {  // Execute threw
    deferred_.Reject(js_error(Env(), {ErrorCode::kInternal, error.Message()}).Value());
  }

 private:
  const Napi::Promise::Deferred deferred_;
  const std::string path_;
  Result<ModelInfo> result_ = Error{ErrorCode::kInternal, "not inspected"};
};

class ScholiaAddon final : public Napi::Addon<ScholiaAddon> {
 public:
  ScholiaAddon(Napi::Env env, Napi::Object exports)
      : shared_(std::make_shared<EngineObject::Shared>()) {
    shared_->queue = std::make_shared<JsQueue>(env);
    DefineAddon(
        exports,
        {InstanceMethod<&ScholiaAddon::initialise>("initialise", napi_enumerable),
         InstanceMethod<&ScholiaAddon::inspect_model>("inspectModel", napi_enumerable),
         InstanceMethod<&ScholiaAddon::error_codes>("errorCodes", napi_enumerable),
         InstanceMethod<&ScholiaAddon::version>("version", napi_enumerable),
         InstanceMethod<&ScholiaAddon::cuda>("cudaSupport", napi_enumerable),
         InstanceValue("Engine", EngineObject::define(env, shared_.get()), napi_enumerable)});
    end_engines_on_exit(env);
    // Last: whatever throws before (a worker that is told to stop while it loads the module) frees
    // this object, and the hook must not find it gone.
    env.AddCleanupHook([](ScholiaAddon* addon) { addon->end(); }, this);
  }

 private:
  // process.exit() on the main thread runs no cleanup hook, and must not find an engine computing.
  void end_engines_on_exit(Napi::Env env) {
    const auto process = env.Global().Get("process").As<Napi::Object>();
    const auto listener = Napi::Function::New(
        env, [shared = shared_](const Napi::CallbackInfo&) { end_engines(*shared); });
    process.Get("once").As<Napi::Function>().Call(process,
                                                  {Napi::String::New(env, "exit"), listener});
  }

  static void end_engines(const EngineObject::Shared& shared) {
    for (EngineObject* engine : shared.engines) engine->begin_to_end();
    for (EngineObject* engine : shared.engines) engine->end();
  }

  // The environment ends.
  void end() {
    end_engines(*shared_);
    for (EngineObject* engine : shared_->engines) engine->forget_jobs();
    log_sink_.reset();
    on_log_.Reset();
    shared_->queue->close();
  }

  Napi::Value initialise(const Napi::CallbackInfo& info) {
    const Arguments arguments(info, "initialise");
    const std::string library_dir = arguments.get(0, "libraryDir").path();
    auto on_log = arguments.get(1, "onLog").optional_function();
    auto sink = on_log.IsEmpty() ? nullptr : make_log_sink();
    if (sink) add_log_sink(sink);  // before loading, which logs
    const Status loaded = load_libraries(library_dir);
    if (!loaded.ok()) throw js_error(info.Env(), loaded.error());
    on_log_ = std::move(on_log);
    log_sink_ = std::move(sink);
    return info.Env().Undefined();
  }

  std::shared_ptr<const LogSink> make_log_sink() {
    // Other threads may still be in here when this object goes: they touch the queue only.
    return std::make_shared<const LogSink>(
        [this, queue = shared_->queue](int level, std::string_view text) {
          queue->post([this, level, text = std::string(text)](Napi::Env env) {
            if (on_log_.IsEmpty()) return;
            on_log_.Call({Napi::Number::New(env, level), Napi::String::New(env, text)});
          });
        });
  }

  Napi::Value inspect_model(const Napi::CallbackInfo& info) {
    const Arguments arguments(info, "inspectModel");
    auto* worker = new InspectWorker(info.Env(), arguments.get(0, "path").path());
    worker->Queue();  // it frees itself
    return worker->promise();
  }

  Napi::Value error_codes(const Napi::CallbackInfo& info) {
    std::vector<std::string> names;
    for (int code = 0; code <= int(ErrorCode::kInternal); ++code) {
      names.emplace_back(error_code_name(ErrorCode(code)));
    }
    return to_js(info.Env(), names);
  }

  Napi::Value version(const Napi::CallbackInfo& info) {
    return to_js(info.Env(), std::string(SCHOLIA_VERSION));
  }

  Napi::Value cuda(const Napi::CallbackInfo& info) {
    const CudaSupport support = cuda_support();
    auto object = Napi::Object::New(info.Env());
    object.Set("isUsable", Napi::Boolean::New(info.Env(), support.is_usable));
    object.Set("detail", Napi::String::New(info.Env(), support.detail));
    return object;
  }

  const std::shared_ptr<EngineObject::Shared> shared_;
  Napi::FunctionReference on_log_;
  std::shared_ptr<const LogSink> log_sink_;
};

}  // namespace

NODE_API_ADDON(ScholiaAddon)

}  // namespace scholia
