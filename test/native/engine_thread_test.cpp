// The engine thread and its queue, with a fake Engine. Built once more without ggml as
// engine_thread_tests, which runs under the thread sanitizer.
#include "engine/engine_thread.h"

#include <gtest/gtest.h>

#include <future>
#include <stdexcept>

#include "fake_engine.h"

namespace scholia {
namespace {

using std::chrono::steady_clock;

constexpr auto kPatience = std::chrono::seconds(20);  // a hang fails here instead of blocking

// A `done` that fills a future; a second call would throw out of the engine thread and end the
// test.
template <typename T>
struct Outcome {
  std::shared_ptr<std::promise<Result<T>>> promise = std::make_shared<std::promise<Result<T>>>();
  std::future<Result<T>> future = promise->get_future();

  EngineThread::Done<T> done() const {
    return [promise = promise](Result<T> result) { promise->set_value(std::move(result)); };
  }
  Result<T> get() {
    if (future.wait_for(kPatience) != std::future_status::ready) {
      return Error{ErrorCode::kInternal, "the job did not end"};
    }
    return future.get();
  }
};

class EngineThreadTest : public ::testing::Test {
 protected:
  ~EngineThreadTest() override {
    EXPECT_FALSE(record.overlapped);
    EXPECT_FALSE(record.moved_thread);
  }

  void open(EngineThread& thread) {
    Outcome<Engine*> opened;
    thread.open(next_id++, opener(), opened.done());
    ASSERT_TRUE(opened.get().ok());
  }
  EngineThread::Opener opener() {
    return [this]() -> Result<std::unique_ptr<Engine>> {
      return std::unique_ptr<Engine>(std::make_unique<FakeEngine>(record));
    };
  }
  // Prefills n_tokens, counting progress; returns the job's id.
  EngineThread::JobId prefill(EngineThread& thread, int n_tokens,
                              const Outcome<PrefillProgress>& out) {
    const auto id = next_id++;
    thread.submit<PrefillProgress>(
        id,
        [this, n_tokens](Engine& engine, const CancelFlag& cancel) {
          ++started;
          const std::vector<Token> tokens(size_t(n_tokens), 7);
          return engine.prefill(0, tokens, {}, [this](const auto&) { ++progressed; }, &cancel);
        },
        out.done());
    return id;
  }
  void wait_until_running() {
    const auto deadline = steady_clock::now() + kPatience;
    while (record.layers == 0 && steady_clock::now() < deadline) std::this_thread::yield();
    ASSERT_GT(record.layers, 0);
  }

  FakeRecord record;
  std::atomic<int> started{0};
  std::atomic<int> progressed{0};
  EngineThread::JobId next_id = 1;
};

TEST_F(EngineThreadTest, RunsJobsInOrderOnOneThread) {
  EngineThread thread;
  open(thread);
  std::vector<int> order;  // written on the engine thread only
  std::vector<Outcome<int>> outcomes(50);
  for (int i = 0; i < 50; ++i) {
    thread.submit<int>(
        next_id++,
        [&order, i](Engine&, const CancelFlag&) -> Result<int> {
          order.push_back(i);
          return i * i;
        },
        outcomes[size_t(i)].done());
  }
  for (int i = 0; i < 50; ++i) EXPECT_EQ(outcomes[size_t(i)].get().value(), i * i);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(order[size_t(i)], i);
}

TEST_F(EngineThreadTest, TellsMemoryWhileAJobRuns) {
  EngineThread thread;
  EXPECT_FALSE(thread.memory());
  open(thread);
  ASSERT_TRUE(thread.memory());
  Outcome<PrefillProgress> out;
  const auto id = prefill(thread, 1'000'000, out);
  wait_until_running();
  uint64_t last = 0;
  int n_changes = 0;
  const auto deadline = steady_clock::now() + kPatience;
  while (n_changes < 50 && steady_clock::now() < deadline) {
    const auto report = thread.memory();
    ASSERT_TRUE(report);
    ASSERT_EQ(report->weights_bytes, report->free_bytes) << "half of one report, half of another";
    ASSERT_GE(report->kv_bytes, last);
    n_changes += report->kv_bytes > last;
    last = report->kv_bytes;
  }
  EXPECT_EQ(n_changes, 50);
  EXPECT_EQ(out.future.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  thread.cancel(id);
  thread.close_and_wait();
  EXPECT_FALSE(thread.memory());
}

TEST_F(EngineThreadTest, FreesTheEngineOnItsThread) {
  {
    EngineThread thread;
    open(thread);
    EXPECT_EQ(record.alive, 1);
  }
  EXPECT_EQ(record.alive, 0);
}

TEST_F(EngineThreadTest, RefusesWorkWithoutAModelAndASecondOpen) {
  EngineThread thread;
  Outcome<PrefillProgress> early;
  prefill(thread, 1, early);
  EXPECT_EQ(early.get().error().code, ErrorCode::kInvalidArgument);

  Outcome<Engine*> broken;
  thread.open(
      next_id++,
      []() -> Result<std::unique_ptr<Engine>> {
        return Error{ErrorCode::kModelBroken, "cut short"};
      },
      broken.done());
  EXPECT_EQ(broken.get().error().code, ErrorCode::kModelBroken);

  open(thread);  // a failed open leaves room for another
  Outcome<Engine*> second;
  thread.open(next_id++, opener(), second.done());
  EXPECT_EQ(second.get().error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(record.alive, 1);
}

TEST_F(EngineThreadTest, TurnsExceptionsIntoErrors) {
  EngineThread thread;
  open(thread);
  const auto throwing = [&](auto thrown) {
    Outcome<int> out;
    thread.submit<int>(
        next_id++, [thrown](Engine&, const CancelFlag&) -> Result<int> { throw thrown; },
        out.done());
    return out.get().error();
  };
  EXPECT_EQ(throwing(std::runtime_error("odd")).message, "odd");
  EXPECT_EQ(throwing(std::runtime_error("odd")).code, ErrorCode::kInternal);
  EXPECT_EQ(throwing(std::bad_alloc()).code, ErrorCode::kOutOfMemory);
  EXPECT_EQ(throwing(42).code, ErrorCode::kInternal);

  Outcome<Engine*> opened;
  EngineThread other;
  other.open(
      next_id++, []() -> Result<std::unique_ptr<Engine>> { throw std::bad_alloc(); },
      opened.done());
  EXPECT_EQ(opened.get().error().code, ErrorCode::kOutOfMemory);
}

TEST_F(EngineThreadTest, TheRunningJobSeesCancelWithinALayer) {
  EngineThread thread;
  open(thread);
  Outcome<PrefillProgress> out;
  const auto id = prefill(thread, 1'000'000, out);
  wait_until_running();
  EXPECT_TRUE(thread.cancel(id));
  const int layers_at_cancel = record.layers;
  EXPECT_EQ(out.get().error().code, ErrorCode::kCancelled);
  // One layer may have been under way, and one may have ended between flag and count.
  EXPECT_LE(record.layers, layers_at_cancel + 2);
  EXPECT_EQ(record.cancels_seen, 1);

  Outcome<PrefillProgress> next;  // once it has begun, the thread has let go of the cancelled one
  prefill(thread, 1, next);
  EXPECT_TRUE(next.get().ok());
  EXPECT_FALSE(thread.cancel(id));
}

TEST_F(EngineThreadTest, ACancelledQueuedJobNeverRuns) {
  EngineThread thread;
  open(thread);
  Outcome<PrefillProgress> first, second, third;
  const auto first_id = prefill(thread, 1'000'000, first);
  wait_until_running();
  const auto second_id = prefill(thread, 1, second);
  prefill(thread, 1, third);
  EXPECT_TRUE(thread.cancel(second_id));
  EXPECT_EQ(second.get().error().code, ErrorCode::kCancelled);  // at once: the first still runs
  EXPECT_EQ(first.future.wait_for(std::chrono::seconds(0)), std::future_status::timeout);
  EXPECT_TRUE(thread.cancel(first_id));
  EXPECT_EQ(first.get().error().code, ErrorCode::kCancelled);
  EXPECT_TRUE(third.get().ok());
  EXPECT_EQ(started, 2);
  EXPECT_FALSE(thread.cancel(12345));
}

TEST_F(EngineThreadTest, CloseCancelsTheRunningAndDropsTheQueued) {
  EngineThread thread;
  open(thread);
  std::vector<Outcome<PrefillProgress>> outcomes(5);
  for (const auto& out : outcomes) prefill(thread, 1'000'000, out);
  wait_until_running();
  std::promise<int> closed;
  thread.close([&] { closed.set_value(record.alive); });
  for (auto& out : outcomes) EXPECT_EQ(out.get().error().code, ErrorCode::kCancelled);
  auto alive = closed.get_future();
  ASSERT_EQ(alive.wait_for(kPatience), std::future_status::ready);
  EXPECT_EQ(alive.get(), 0);  // `closed` comes after the Engine is gone
  EXPECT_EQ(started, 1);
}

TEST_F(EngineThreadTest, CloseIsIdempotentAndLaterJobsAreRefused) {
  EngineThread thread;
  open(thread);
  std::atomic<int> closed{0};
  for (int i = 0; i < 3; ++i) thread.close([&] { ++closed; });
  thread.close_and_wait();
  thread.close([&] { ++closed; });  // after the end: called at once
  thread.close_and_wait();
  EXPECT_EQ(closed, 4);

  Outcome<PrefillProgress> late;
  prefill(thread, 1, late);
  EXPECT_EQ(late.get().error().code, ErrorCode::kCancelled);
  Outcome<Engine*> reopened;
  thread.open(next_id++, opener(), reopened.done());
  EXPECT_EQ(reopened.get().error().code, ErrorCode::kCancelled);
  EXPECT_EQ(started, 0);
}

TEST_F(EngineThreadTest, ClosingWhileTheModelLoadsFreesIt) {
  Outcome<Engine*> opened;
  std::promise<void> loading;
  {
    EngineThread thread;
    thread.open(
        next_id++,
        [&]() -> Result<std::unique_ptr<Engine>> {
          loading.set_value();
          std::this_thread::sleep_for(std::chrono::milliseconds(20));
          return std::unique_ptr<Engine>(std::make_unique<FakeEngine>(record));
        },
        opened.done());
    loading.get_future().wait();
  }
  EXPECT_TRUE(opened.get().ok());
  EXPECT_EQ(record.alive, 0);
}

// Submitters, cancellers and a closer at once: every job ends exactly once (Outcome throws on a
// second end, out of a thread, which ends the test program), and nothing runs after the close.
TEST_F(EngineThreadTest, EveryJobEndsOnceUnderContention) {
  constexpr int kThreads = 4, kJobs = 60;
  for (int round = 0; round < 5; ++round) {
    std::vector<std::vector<Outcome<int>>> outcomes(kThreads);
    for (auto& mine : outcomes) mine.resize(kJobs);
    std::atomic<int> ran{0};
    {
      EngineThread thread;
      open(thread);
      std::vector<std::thread> submitters;
      for (int t = 0; t < kThreads; ++t) {
        submitters.emplace_back([&, t] {
          for (int j = 0; j < kJobs; ++j) {
            const EngineThread::JobId id = 1000U + unsigned(t * kJobs + j);
            thread.submit<int>(
                id,
                [&ran](Engine& engine, const CancelFlag& cancel) -> Result<int> {
                  const Token tokens[] = {1};
                  auto result = engine.prefill(0, tokens, {}, {}, &cancel);
                  ++ran;
                  if (!result.ok()) return result.error();
                  return result.value().done_tokens;
                },
                outcomes[size_t(t)][size_t(j)].done());
            if (j % 3 == t % 3) thread.cancel(id);
            if (j % 7 == 0) thread.cancel(1000U + unsigned(((t + 1) % kThreads) * kJobs + j));
          }
        });
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(30));
      thread.close();
      for (auto& submitter : submitters) submitter.join();
    }
    const int ran_at_close = ran;
    int ended_by_work = 0;
    for (auto& mine : outcomes) {
      for (auto& out : mine) {
        const auto result = out.get();
        if (result.ok())
          ++ended_by_work;
        else
          EXPECT_EQ(result.error().code, ErrorCode::kCancelled) << result.error().message;
      }
    }
    EXPECT_LE(ended_by_work, ran_at_close);
    EXPECT_EQ(record.alive, 0);
  }
}

}  // namespace
}  // namespace scholia
