#include "engine/engine_thread.h"

#include <algorithm>

#ifdef __linux__
#include <pthread.h>
#endif

namespace scholia {

struct EngineThread::OpenJob final : Job {
  OpenJob(JobId job_id, EngineThread& engine_thread, Opener job_opener, Done<Engine*> job_done)
      : Job(job_id),
        thread(engine_thread),
        opener(std::move(job_opener)),
        done(std::move(job_done)) {}

  void run(std::unique_ptr<Engine>& engine) override {
    if (engine)
      return refuse({ErrorCode::kInvalidArgument, "The engine has a model open already."});
    auto opened = guarded<std::unique_ptr<Engine>>(opener);
    if (!opened.ok()) return done(opened.error());
    engine = std::move(opened.value());
    engine->on_memory([this_thread = &thread](const MemoryReport& report) {
      this_thread->set_memory(report);
    });
    done(engine.get());
  }
  void refuse(Error error) override { done(std::move(error)); }

  EngineThread& thread;
  Opener opener;
  Done<Engine*> done;
};

EngineThread::EngineThread() : thread_([this] { run_jobs(); }) {}

EngineThread::~EngineThread() { close_and_wait(); }

void EngineThread::open(JobId id, Opener opener, Done<Engine*> done) {
  enqueue(std::make_unique<OpenJob>(id, *this, std::move(opener), std::move(done)));
}

void EngineThread::enqueue(std::unique_ptr<Job> job) {
  {
    std::lock_guard lock(mutex_);
    if (!closing_) {
      queue_.push_back(std::move(job));
      changed_.notify_one();
      return;
    }
  }
  job->refuse({ErrorCode::kCancelled, "The engine is closed."});
}

bool EngineThread::cancel(JobId id) {
  std::unique_ptr<Job> dropped;
  {
    std::lock_guard lock(mutex_);
    if (running_ && running_->id == id) {
      running_->cancel = true;
      return true;
    }
    auto found = std::ranges::find_if(queue_, [id](const auto& job) { return job->id == id; });
    if (found == queue_.end()) return false;
    dropped = std::move(*found);
    queue_.erase(found);
  }
  dropped->refuse({ErrorCode::kCancelled, "Stopped before it began."});
  return true;
}

void EngineThread::close(std::function<void()> closed) {
  std::deque<std::unique_ptr<Job>> dropped;
  {
    std::lock_guard lock(mutex_);
    if (closed && !closed_) on_closed_.push_back(std::exchange(closed, {}));
    closing_ = true;
    if (running_) running_->cancel = true;
    dropped.swap(queue_);
    changed_.notify_one();
  }
  for (const auto& job : dropped) job->refuse({ErrorCode::kCancelled, "The engine was closed."});
  if (closed) closed();  // it was closed before this call
}

void EngineThread::close_and_wait() {
  close();
  std::lock_guard lock(join_mutex_);
  if (thread_.joinable()) thread_.join();
}

void EngineThread::run_jobs() {
#ifdef __linux__
  pthread_setname_np(pthread_self(), "scholia-engine");
#endif
  std::unique_ptr<Engine> engine;  // made, used and freed on this thread only
  while (auto job = next_job()) {
    job->run(engine);
    std::lock_guard lock(mutex_);
    running_ = nullptr;  // before the job goes: cancel() may be looking at its flag
  }
  engine.reset();
  set_memory(std::nullopt);
  finish_closing();
}

std::optional<MemoryReport> EngineThread::memory() const {
  std::lock_guard lock(memory_mutex_);
  return memory_;
}

void EngineThread::set_memory(std::optional<MemoryReport> report) {
  std::lock_guard lock(memory_mutex_);
  memory_ = report;
}

std::unique_ptr<EngineThread::Job> EngineThread::next_job() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
  if (queue_.empty()) return nullptr;  // closing: close() took what was queued
  auto job = std::move(queue_.front());
  queue_.pop_front();
  running_ = job.get();
  return job;
}

void EngineThread::finish_closing() {
  std::vector<std::function<void()>> callbacks;
  {
    std::lock_guard lock(mutex_);
    closed_ = true;
    callbacks.swap(on_closed_);
  }
  for (const auto& closed : callbacks) closed();
}

}  // namespace scholia
