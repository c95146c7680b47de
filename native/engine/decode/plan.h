// The plan of one decode step: how many kv_blocks each head reads at this depth.
#pragma once

#include <vector>

#include "engine/config.h"
#include "engine/head_profile.h"
#include "engine/kv/kv_pages.h"

namespace scholia {

// Always read: the first kSinkTokens tokens (at least one block) and the last
// max(2 B, kLocalTokens) tokens, from the start of the block in which they begin to the end of the
// unfinished one. They count in the budget.
inline constexpr int kSinkTokens = 64;
inline constexpr int kLocalTokens = 128;

// One head's reading: blocks [0, sink_blocks) and tokens from first_local_block * block_tokens on
// are forced; of the free blocks in between, the n_selected best are read.
struct HeadPlan {
  int block_tokens = 0;
  int sink_blocks = 0;
  int first_local_block = 0;
  int n_selected = 0;  // of n_free(); equal to n_free() means everything is read
  int n_free() const { return first_local_block - sink_blocks; }
  int forced_tokens(int n_tokens) const { return n_tokens - n_free() * block_tokens; }
  int tokens_read(int n_tokens) const {
    return forced_tokens(n_tokens) + n_selected * block_tokens;
  }
};

struct DecodePlan {
  int n_tokens = 0;             // context length, the new token included
  std::vector<HeadPlan> heads;  // [heads]
  bool reads_all = false;       // every head reads everything: the dense path
};

// Shares out budget_tokens * n_heads tokens: head h gets its share, at least its forced tokens plus
// one block, at most the context; what a head cannot use goes to the others in proportion to their
// shares. Whole blocks; what is left of a head's last one goes to the next head. So the sum stays
// within the budget, and less than one block below it, unless the forced tokens and one block per
// head are more than the budget. Mode::kDense reads all. The profile has passed HeadProfile::check
// for this shape. O(heads).
DecodePlan make_decode_plan(const HeadProfile& profile, const KvShape& shape, Mode mode,
                            int budget_tokens, int n_tokens);

// All heads but one read everything: what that one misses shows alone.
void read_all_but(DecodePlan& plan, int head);

}  // namespace scholia
