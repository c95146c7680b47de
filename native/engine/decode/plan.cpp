#include "engine/decode/plan.h"

#include <algorithm>
#include <cstdint>

namespace scholia {
namespace {

// What is read whatever the scores say; n_selected stays 0.
HeadPlan forced_reading(int block_tokens, int n_tokens) {
  const int local_tokens = std::max(2 * block_tokens, kLocalTokens);
  HeadPlan head;
  head.block_tokens = block_tokens;
  head.first_local_block = std::max(0, n_tokens - local_tokens) / block_tokens;
  const int sink_blocks = (kSinkTokens + block_tokens - 1) / block_tokens;
  head.sink_blocks = std::min(sink_blocks, head.first_local_block);
  return head;
}

// Splits total tokens in proportion to the shares, each head within [least, most]: the scale at
// which the clamped parts add up to the total. Each round fixes the heads that hit the bound with
// the larger excess, which no later round can undo (Bitran and Hax 1981), so a few rounds do.
// Precondition: sum(least) <= total <= most * heads.
std::vector<double> share_out(const std::vector<float>& share, const std::vector<int>& least,
                              int most, double total) {
  const size_t n_heads = share.size();
  std::vector<double> part(n_heads);
  std::vector<size_t> open(n_heads);
  for (size_t h = 0; h < n_heads; ++h) open[h] = h;
  while (!open.empty()) {
    double shares = 0;
    for (size_t h : open) shares += share[h];
    const double scale = total / shares;
    double lacking = 0;
    double excess = 0;
    for (size_t h : open) {
      part[h] = scale * share[h];
      lacking += std::max(0.0, least[h] - part[h]);
      excess += std::max(0.0, part[h] - most);
    }
    if (lacking == 0 && excess == 0) break;
    std::vector<size_t> still_open;
    for (size_t h : open) {
      const bool fixed = lacking >= excess ? part[h] < least[h] : part[h] > most;
      if (fixed) {
        part[h] = lacking >= excess ? least[h] : most;
        total -= part[h];
      } else {
        still_open.push_back(h);
      }
    }
    open = std::move(still_open);
  }
  return part;
}

}  // namespace

DecodePlan make_decode_plan(const HeadProfile& profile, const KvShape& shape, Mode mode,
                            int budget_tokens, int n_tokens) {
  const size_t n_heads = size_t(shape.n_heads());
  DecodePlan plan;
  plan.n_tokens = n_tokens;
  plan.heads.reserve(n_heads);
  for (size_t h = 0; h < n_heads; ++h) {
    plan.heads.push_back(forced_reading(profile.block_tokens[h], n_tokens));
  }

  plan.reads_all = mode == Mode::kDense || budget_tokens >= n_tokens;
  if (plan.reads_all) {
    for (HeadPlan& head : plan.heads) head.n_selected = head.n_free();
    return plan;
  }

  std::vector<int> least(n_heads);
  int64_t least_total = 0;
  for (size_t h = 0; h < n_heads; ++h) {
    const HeadPlan& head = plan.heads[h];
    least[h] = head.forced_tokens(n_tokens) + std::min(1, head.n_free()) * head.block_tokens;
    least_total += least[h];
  }
  const int64_t budget_total = int64_t(budget_tokens) * int64_t(n_heads);
  const double total = double(std::max(budget_total, least_total));
  const std::vector<double> part = share_out(profile.budget_share, least, n_tokens, total);

  // What is less than a block of one head goes to the next, so that the sum keeps to the budget.
  plan.reads_all = true;
  double left = 0;
  for (size_t h = 0; h < n_heads; ++h) {
    HeadPlan& head = plan.heads[h];
    const double selectable = part[h] + left - head.forced_tokens(n_tokens);
    const double rounded_away = 1e-3;  // more than the doubles lose, less than a token
    head.n_selected = std::min(int((selectable + rounded_away) / head.block_tokens), head.n_free());
    left = selectable - double(head.n_selected) * head.block_tokens;
    plan.reads_all = plan.reads_all && head.n_selected == head.n_free();
  }
  return plan;
}

void read_all_but(DecodePlan& plan, int head) {
  for (size_t h = 0; h < plan.heads.size(); ++h) {
    if (h != size_t(head)) plan.heads[h].n_selected = plan.heads[h].n_free();
  }
  const HeadPlan& sparse = plan.heads[head];
  plan.reads_all = sparse.n_selected == sparse.n_free();
}

}  // namespace scholia
