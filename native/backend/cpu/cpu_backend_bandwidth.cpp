#include "backend/cpu/cpu_backend_bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <thread>
#include <vector>

namespace scholia {
namespace {

constexpr size_t kWords = size_t(32) << 20;  // 256 MiB
constexpr int kPasses = 12;

// Reads at four places at a time: the processor fetches ahead at each, which gave 7 % more than one
// place did (two threads of an EPYC; fetching ahead by instruction gave less).
constexpr size_t kPlaces = 4;

// Several sums side by side, so that no addition waits for the one before.
uint64_t sum_of(const uint64_t* words, size_t n) {
  uint64_t sums[16] = {};
  const size_t stretch = n / kPlaces;
  for (size_t i = 0; i + 16 <= stretch; i += 16) {
    for (size_t place = 0; place < kPlaces; ++place) {
      for (size_t lane = 0; lane < 16; ++lane) sums[lane] += words[place * stretch + i + lane];
    }
  }
  uint64_t sum = 0;
  for (const uint64_t lane : sums) sum += lane;
  return sum;
}

}  // namespace

double read_bandwidth(int n_threads) {
  const std::vector<uint64_t> words(kWords, 1);
  const size_t share = kWords / size_t(n_threads);
  std::atomic<uint64_t> sum{0};  // used, so that the reading is not left out
  double best_seconds = 0;
  for (int pass = 0; pass < kPasses; ++pass) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (int thread = 0; thread < n_threads; ++thread) {
      threads.emplace_back(
          [&, thread] { sum += sum_of(words.data() + share * size_t(thread), share); });
    }
    for (std::thread& thread : threads) thread.join();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    best_seconds = pass == 0 ? seconds : std::min(best_seconds, seconds);
  }
  return sum > 0 ? double(share * size_t(n_threads) * sizeof(uint64_t)) / best_seconds : 0;
}

}  // namespace scholia
