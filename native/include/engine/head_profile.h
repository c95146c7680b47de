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

// Which vectors (centroid c, spread r) summarise a kv_block; score = c.q + r.|q| unless said.
enum class DigestKind : uint8_t {
  kMeanStd = 0,    // c = mean, r = standard deviation per channel
  kQuest = 1,      // c = (max + min) / 2, r = (max - min) / 2   (Quest, arXiv 2406.10774)
  kArkVale = 2,    // c = centre of the bounding box, r = mean |k - c|   (ArkVale, NeurIPS 2024)
  kMean = 3,       // c = mean, no r; score = c.q   (MoBA, arXiv 2502.13189)
  kCentroids = 4,  // c = middle of two centroids, r = half of what lies between them;
                   // score = c.q + |r.q|, the larger of the centroids' products
};

// How kv_blocks are summarised. Decode's kernels are made for the first three kinds in INT4, on which
// every device agrees; the rest is there to be compared, on the CPU.
struct DigestFormat {
  DigestKind kind = DigestKind::kMeanStd;
  uint8_t bits = 4;  // of a number in a closed group: 2, 4, 8, or 16 for f16 (engine/kv/digests.h)

  bool operator==(const DigestFormat&) const = default;

  int n_vectors() const { return kind == DigestKind::kMean ? 1 : 2; }
  bool is_made_for_decode() const { return kind <= DigestKind::kArkVale && bits == 4; }
};

struct HeadProfile {
  std::string model_fingerprint;        // of the model it was made for; empty for the uniform profile
  DigestFormat digest;
  std::vector<uint16_t> block_tokens;   // [n_layers * n_kv_heads], layer-major
  std::vector<float> budget_share;      // [n_layers * n_kv_heads], mean 1

  bool operator==(const HeadProfile&) const = default;

  // Every head reads blocks of kUniformBlockTokens with the same budget.
  static HeadProfile uniform(int n_layers, int n_kv_heads, int block_tokens = kUniformBlockTokens);

  // profile_mismatch when shape or fingerprint do not fit; invalid_argument for a digest that is not
  // known, a block size that is not in kBlockSizes, or shares that are not positive, finite and of
  // mean 1 (within 1 %).
  Status check(int n_layers, int n_kv_heads, const std::string& model_fingerprint) const;
};

}  // namespace scholia
