// Events from any thread to the JS thread of one environment (the main thread or a worker), in
// order.
#pragma once

#include <napi.h>

#include <functional>
#include <mutex>

namespace scholia {

class JsQueue {
 public:
  // Runs on the JS thread. What it throws becomes an uncaught exception.
  using Event = std::function<void(Napi::Env)>;

  explicit JsQueue(Napi::Env env);

  // Any thread. After close() events are dropped.
  void post(Event event);

  // JS thread. While somebody holds the queue, the environment does not end by itself.
  void hold(Napi::Env env);
  void release(Napi::Env env);

  // JS thread, when the environment ends.
  void close();

 private:
  static void run(Napi::Env env, Napi::Function unused, std::nullptr_t* context, Event* event);
  using Channel = Napi::TypedThreadSafeFunction<std::nullptr_t, Event, run>;

  Channel channel_;
  std::mutex mutex_;  // guards closed_, and with it channel_ against use after its end
  bool closed_ = false;
  int holds_ = 0;
};

}  // namespace scholia
