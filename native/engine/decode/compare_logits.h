// How far next-token distributions are from those of another reading of the same tokens.
#pragma once

#include <span>

#include "engine/engine.h"

namespace scholia {

struct LogitDifference {
  double kl = 0;               // KL(softmax(truth) || softmax(other)), nats
  double truth_log_sum = 0;    // log of the sum of the exponentials: less a token's logit, its loss
  double other_log_sum = 0;
  int truth_top = 0;           // likeliest token; of equal ones, the first
  int other_top = 0;
};

// Rows of the same length. Not finite where a logit is not.
LogitDifference compare_logits(std::span<const float> truth, std::span<const float> other);

// Adds a piece of a tail to what was compared before it.
// truth, other: [tokens][n_vocab]. following: the tail's own next tokens, one for each position or, at
// the tail's end, one less. kInternal for logits that are not finite.
Status compare_rows(std::span<const float> truth, std::span<const float> other, int n_vocab,
                    std::span<const Token> following, int n_threads, TailComparison& into);

}  // namespace scholia
