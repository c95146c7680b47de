// The scalar truth of drawing a token, and how near to it the device must come.
#pragma once

#include <algorithm>
#include <span>
#include <string>

#include "backend/cpu/reference_ops.h"
#include "engine/engine.h"

namespace scholia::test {

inline std::string words(const SamplingOptions& o) {
  return "temperature " + std::to_string(o.temperature) + ", top_k " + std::to_string(o.top_k) +
         ", top_p " + std::to_string(o.top_p) + ", min_p " + std::to_string(o.min_p);
}

inline int reference_of(std::span<const float> logits, const SamplingOptions& o, double random) {
  return reference::sample_token(logits.data(), int(logits.size()), o.temperature, o.top_k, o.top_p,
                                 o.min_p, random);
}

// Weights in f32 part from the truth's in f64 where a random number or top-p meets the edge between two
// tokens.
inline bool is_at_edge(std::span<const float> logits, const SamplingOptions& o, double random, int token) {
  constexpr double kEdge = 2e-5;
  const auto rank_of = [&](int id) {
    int rank = 0;
    for (int i = 0; i < int(logits.size()); ++i) {
      rank += logits[i] > logits[id] || (logits[i] == logits[id] && i < id);
    }
    return rank;
  };
  SamplingOptions fewer = o, more = o;
  fewer.top_p -= float(kEdge);
  more.top_p = std::min(o.top_p + float(kEdge), 1.0F);
  const int rank = rank_of(token);
  return rank >= rank_of(reference_of(logits, fewer, std::max(random - kEdge, 0.0))) &&
         rank <= rank_of(reference_of(logits, more, std::min(random + kEdge, 1.0)));
}

}  // namespace scholia::test
