#include "engine/decode/compare_logits.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdint>
#include <thread>
#include <vector>

namespace scholia {
namespace {

// Sums of a row are kept in so many lanes, which the compiler lays into vector registers.
constexpr int kLanes = 16;

// e^x for x <= 0, within 1e-14 of it and without a branch, so that loops over it vectorise: x = n log 2 +
// r, and e^r by its series. Below e^-700 nothing adds up to anything.
inline double exp_of_negative(double x) {
  constexpr double kLogOf2High = 0x1.62e42fee00000p-1, kLogOf2Low = 0x1.a39ef35793c76p-33;
  constexpr double kLog2E = 0x1.71547652b82fep+0;
  constexpr double kRounder = 0x1.8p52;  // adding it leaves a whole number in the low bits
  x = x < -700 ? -700 : x;
  const double shifted = x * kLog2E + kRounder;
  const double n = shifted - kRounder;
  const double r = (x - n * kLogOf2High) - n * kLogOf2Low;
  double series = 1.0 / 479001600;
  series = series * r + 1.0 / 39916800;
  series = series * r + 1.0 / 3628800;
  series = series * r + 1.0 / 362880;
  series = series * r + 1.0 / 40320;
  series = series * r + 1.0 / 5040;
  series = series * r + 1.0 / 720;
  series = series * r + 1.0 / 120;
  series = series * r + 1.0 / 24;
  series = series * r + 1.0 / 6;
  series = series * r + 0.5;
  series = series * r + 1;
  series = series * r + 1;
  const auto power = std::bit_cast<uint64_t>(shifted) << 52;
  return std::bit_cast<double>(std::bit_cast<uint64_t>(series) + power);
}

int top_of(std::span<const float> row) {
  return static_cast<int>(std::max_element(row.begin(), row.end()) - row.begin());
}

double sum_of(const double (&lanes)[kLanes]) {
  double sum = 0;
  for (const double lane : lanes) sum += lane;
  return sum;
}

}  // namespace

// With p = e^(t - max t) / P and q = e^(o - max o) / Q, KL is the mean under p of
// (t - max t) - (o - max o), less log P, plus log Q: one pass for all three sums.
LogitDifference compare_logits(std::span<const float> truth, std::span<const float> other) {
  LogitDifference difference;
  difference.truth_top = top_of(truth);
  difference.other_top = top_of(other);
  const double most = truth[difference.truth_top], other_most = other[difference.other_top];
  double truth_sums[kLanes] = {}, other_sums[kLanes] = {}, product_sums[kLanes] = {};
  const auto add = [&](size_t i, int lane) {
    const double t = truth[i] - most, o = other[i] - other_most;
    const double weight = exp_of_negative(t);
    truth_sums[lane] += weight;
    other_sums[lane] += exp_of_negative(o);
    product_sums[lane] += weight * (t - o);
  };
  const size_t whole = truth.size() / kLanes * kLanes;
  for (size_t i = 0; i < whole; i += kLanes) {
    for (int lane = 0; lane < kLanes; ++lane) add(i + lane, lane);
  }
  for (size_t i = whole; i < truth.size(); ++i) add(i, 0);
  const double truth_sum = sum_of(truth_sums), other_sum = sum_of(other_sums);
  difference.kl =
      sum_of(product_sums) / truth_sum - std::log(truth_sum) + std::log(other_sum);
  difference.truth_log_sum = most + std::log(truth_sum);
  difference.other_log_sum = other_most + std::log(other_sum);
  return difference;
}

Status compare_rows(std::span<const float> truth, std::span<const float> other, int n_vocab,
                    std::span<const Token> following, int n_threads, TailComparison& into) {
  const int n_rows = static_cast<int>(truth.size() / n_vocab);
  std::vector<LogitDifference> differences(n_rows);
  std::atomic<int> next_row{0};
  const auto row_of = [&](std::span<const float> rows, int row) {
    return rows.subspan(size_t(row) * n_vocab, n_vocab);
  };
  const auto compare = [&] {
    for (int row = next_row++; row < n_rows; row = next_row++) {
      differences[row] = compare_logits(row_of(truth, row), row_of(other, row));
    }
  };
  std::vector<std::thread> helpers;
  for (int i = 1; i < std::min(n_threads, n_rows); ++i) helpers.emplace_back(compare);
  compare();
  for (std::thread& helper : helpers) helper.join();

  for (int row = 0; row < n_rows; ++row) {
    const LogitDifference& difference = differences[row];
    if (!std::isfinite(difference.kl)) {
      return Error{ErrorCode::kInternal, "The logits of this text are not finite."};
    }
    into.kl.push_back(difference.kl);
    into.same_top.push_back(difference.truth_top == difference.other_top);
    if (size_t(row) == following.size()) continue;
    const Token next = following[row];
    into.loss_increase.push_back(
        (difference.other_log_sum - row_of(other, row)[next]) -
        (difference.truth_log_sum - row_of(truth, row)[next]));
  }
  return {};
}

}  // namespace scholia
