// The one thread that owns an Engine, and its queue. Free of Node, so that the thread sanitizer can
// watch it with a fake Engine.
//
// Every job ends in exactly one call of its `done`: with its result; with kCancelled when it was
// cancelled, or the thread closed, before it began; with kInternal or kOutOfMemory when its work
// threw. `done` runs on the engine thread, or, for a job that never began, on the thread that
// cancelled or closed. It must neither throw nor destroy the EngineThread.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "engine/engine.h"

namespace scholia {

class EngineThread {
 public:
  // Chosen by the caller; unique among the jobs that have not ended.
  using JobId = uint64_t;

  template <typename T>
  using Done = std::function<void(Result<T>)>;
  // Runs on the engine thread. It sees the flag between layers when the job is cancelled or the
  // thread closes.
  template <typename T>
  using Work = std::function<Result<T>(Engine&, const CancelFlag&)>;
  using Opener = std::function<Result<std::unique_ptr<Engine>>()>;

  EngineThread();
  ~EngineThread();  // close(), then waits for the thread
  EngineThread(const EngineThread&) = delete;
  EngineThread& operator=(const EngineThread&) = delete;

  // Makes the Engine on its thread. A second open is refused with kInvalidArgument.
  void open(JobId id, Opener opener, Done<Engine*> done);

  // Queues work. Without an open Engine it ends in kInvalidArgument.
  template <typename T>
  void submit(JobId id, Work<T> work, Done<T> done);

  // A queued job ends at once and never runs; the running one sees its flag. False when no such job
  // is left; a job may still count as running for a moment after its `done`.
  bool cancel(JobId id);

  // What the Engine last said that it holds; while a call runs, some ten times a second. Any thread,
  // at once. Null without an open Engine.
  std::optional<MemoryReport> memory() const;

  // Cancels everything, frees the Engine on its thread, then calls `closed` there. Every call's
  // `closed` is called once; later jobs end in kCancelled.
  void close(std::function<void()> closed = {});

  // close(), then waits until the Engine is freed. Not on the engine thread.
  void close_and_wait();

 private:
  struct Job {
    explicit Job(JobId job_id) : id(job_id) {}
    virtual ~Job() = default;
    virtual void run(std::unique_ptr<Engine>& engine) = 0;
    virtual void refuse(Error error) = 0;
    const JobId id;
    CancelFlag cancel{false};
  };
  struct OpenJob;
  template <typename T>
  struct WorkJob;

  // Calls work and turns what it throws into an Error.
  template <typename T, typename Call>
  static Result<T> guarded(const Call& call);

  void enqueue(std::unique_ptr<Job> job);
  void run_jobs();
  std::unique_ptr<Job> next_job();  // waits; null when the thread is to end
  void set_memory(std::optional<MemoryReport> report);
  void finish_closing();

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::unique_ptr<Job>> queue_;
  Job* running_ = nullptr;
  bool closing_ = false;
  bool closed_ = false;
  std::vector<std::function<void()>> on_closed_;
  mutable std::mutex memory_mutex_;
  std::optional<MemoryReport> memory_;
  std::mutex join_mutex_;
  std::thread thread_;  // last: it starts in the constructor and uses all of the above
};

template <typename T, typename Call>
Result<T> EngineThread::guarded(const Call& call) {
  try {
    return call();
  } catch (const std::bad_alloc&) {
    return Error{ErrorCode::kOutOfMemory,
                 "The machine has no memory left for this: close other programs, or choose a "
                 "smaller model or "
                 "fewer pages."};
  } catch (const std::exception& error) {
    return Error{ErrorCode::kInternal, error.what()};
  } catch (...) {
    return Error{ErrorCode::kInternal, "The engine threw something that is no exception."};
  }
}

template <typename T>
struct EngineThread::WorkJob final : Job {
  WorkJob(JobId job_id, Work<T> job_work, Done<T> job_done)
      : Job(job_id), work(std::move(job_work)), done(std::move(job_done)) {}

  void run(std::unique_ptr<Engine>& engine) override {
    if (!engine) return refuse({ErrorCode::kInvalidArgument, "The engine has no open model."});
    done(guarded<T>([&] { return work(*engine, cancel); }));
  }
  void refuse(Error error) override { done(std::move(error)); }

  Work<T> work;
  Done<T> done;
};

template <typename T>
void EngineThread::submit(JobId id, Work<T> work, Done<T> done) {
  enqueue(std::make_unique<WorkJob<T>>(id, std::move(work), std::move(done)));
}

}  // namespace scholia
