#include "addon/js_queue.h"

#include <memory>
#include <utility>

namespace scholia {

JsQueue::JsQueue(Napi::Env env)
    : channel_(Channel::New(env, "scholia", 0 /* no limit: post() must not wait or fail */, 1)) {
  channel_.Unref(env);
}

void JsQueue::post(Event event) {
  auto owned = std::make_unique<Event>(std::move(event));
  std::lock_guard lock(mutex_);
  if (closed_) return;
  Event* const given = owned.release();  // run() frees it, unless the channel is closing
  if (channel_.NonBlockingCall(given) != napi_ok) owned.reset(given);
}

void JsQueue::hold(Napi::Env env) {
  if (holds_++ == 0) channel_.Ref(env);
}

void JsQueue::release(Napi::Env env) {
  if (--holds_ == 0) channel_.Unref(env);
}

void JsQueue::close() {
  std::lock_guard lock(mutex_);
  if (std::exchange(closed_, true)) return;
  channel_.Abort();
}

void JsQueue::run(Napi::Env env, Napi::Function, std::nullptr_t*, Event* event) {
  const std::unique_ptr<Event> owned(event);
  if (env == nullptr) return;  // the environment is gone; only the memory is left to free
  try {
    (*owned)(env);
  } catch (const Napi::Error& error) {
    // Thrown out of here it would only be a deprecation warning (Node's DEP0168).
    napi_fatal_exception(env, error.Value());
  } catch (const std::exception& error) {
    napi_fatal_exception(env, Napi::Error::New(env, error.what()).Value());
  }
}

}  // namespace scholia
