// The head profile: block size and share of the token budget for each (layer, KV head) pair.
// Found once by calibration (AB-Sparse, arXiv 2605.12110, section on calibration; our objective is
// the output error, see docs/). The file format is the host's business (host/models/headProfile.ts).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "engine/status.h"

namespace scholia {

// The block sizes a head may have, in tokens. All divide kDigestGroupTokens and are multiples of
// kKvPageTokens.
inline constexpr int kBlockSizes[] = {16, 32, 64, 128};
inline constexpr int kUniformBlockTokens = 32;

// Which two vectors (centroid c, spread r) summarise a kv_block; score = c.q + r.|q|.
enum class DigestKind : uint8_t {
  kMeanStd = 0,  // c = mean, r = standard deviation per channel
  kQuest = 1,    // c = (max + min) / 2, r = (max - min) / 2   (Quest, arXiv 2406.10774)
  kArkVale = 2,  // c = centre of the bounding box, r = mean |k - c|   (ArkVale, NeurIPS 2024)
};

struct HeadProfile {
  std::string model_fingerprint;        // of the model it was made for; empty for the uniform profile
  DigestKind digest = DigestKind::kMeanStd;
  std::vector<uint16_t> block_tokens;   // [n_layers * n_kv_heads], layer-major
  std::vector<float> budget_share;      // [n_layers * n_kv_heads], mean 1

  // Every head reads blocks of kUniformBlockTokens with the same budget.
  static HeadProfile uniform(int n_layers, int n_kv_heads, int block_tokens = kUniformBlockTokens);

  // profile_mismatch when shape or fingerprint do not fit; invalid_argument for a block size that
  // is not in kBlockSizes or shares that are not positive, finite and of mean 1 (within 1 %).
  Status check(int n_layers, int n_kv_heads, const std::string& model_fingerprint) const;
};

}  // namespace scholia
