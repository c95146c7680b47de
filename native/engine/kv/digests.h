// Digests: a centroid vector c and a spread vector r for each kv_block, per (layer, KV head).
// A pure function of the stored K (after rotary), summed over ascending tokens in f32: no running
// accumulators, so truncate, fork, save and restore are one code path.
//
// Groups of kDigestGroupTokens tokens close together. A closed group is quantised to INT4,
// asymmetric, per channel: x = s * u + z with u in 0..15, z = min, s = (max - min) / 15 over the
// group's blocks, separately for c and r, s and z stored as f16 (AB-Sparse, arXiv 2605.12110);
// u = floor((x - z) / s + 1/2), with s and z as stored, clamped; a constant channel has s = 0 and
// u = 0. Quantised from f32 digests, computed again from K. The open group stays f16. Blocks that
// are not full have no digest. For comparison there are INT2 and INT8, with 3 and 255 in place of
// 15, and closed groups that stay f16.
//
// Layout of a group, one contiguous buffer. Head h (layer-major) with block size B has
// n = kDigestGroupTokens / B blocks:
//   closed: f16 scale[4][D] in the order s_c, z_c, s_r, z_r; then n records of
//           uint8 c[D / 2], uint8 r[D / 2]; byte i holds channel i (low nibble) and i + D/2 (high)
//   open:   n records of f16 c[D], f16 r[D]
// With b bits instead of 4, a vector takes D b / 8 bytes, and byte i holds the channels i,
// i + D b / 8, … from the lowest bits up (D is a multiple of 8 / b). Closed groups in f16 hold records
// as the open one. A digest of one vector has neither r nor s_r, z_r.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/head_profile.h"
#include "engine/kv/kv_pages.h"

namespace scholia {

inline constexpr int kDigestGroupTokens = 2048;

// Where each head's digests lie in a group: prefix sums over ragged heads.
struct DigestLayout {
  DigestLayout(const KvShape& shape, const HeadProfile& profile);

  KvShape shape;
  DigestFormat digest;
  std::vector<uint16_t> block_tokens;  // [heads]
  std::vector<size_t> closed_offset;   // [heads + 1] bytes
  std::vector<size_t> open_offset;     // [heads + 1] bytes

  int blocks_per_group(int head) const { return kDigestGroupTokens / block_tokens[head]; }
  size_t vector_bytes() const { return size_t(shape.head_dim) * digest.bits / 8; }
  size_t scale_bytes() const {
    return digest.bits == 16 ? 0 : 2 * sizeof(f16) * digest.n_vectors() * size_t(shape.head_dim);
  }
  size_t closed_record_bytes() const { return digest.n_vectors() * vector_bytes(); }
  size_t open_record_bytes() const {
    return digest.n_vectors() * sizeof(f16) * size_t(shape.head_dim);
  }
  // Bytes that scoring one head's blocks [first_block, end_block) reads at a depth of n_tokens:
  // records, and the scales of each closed group touched.
  size_t read_bytes(int head_block_tokens, int first_block, int end_block, int n_tokens) const;
};

// One closed group of all heads; immutable, shared by the sequences whose pages it summarises.
using DigestGroup = std::vector<uint8_t>;

// The digests of one sequence: closed groups, then the open one.
class Digests {
 public:
  // Brings the digests up to view.n_tokens, building what is missing from the stored K. Costs next
  // to nothing when no block closed since. Forgets what lies beyond view.n_tokens.
  void update(const DigestLayout& layout, const KvPages& pages, const KvView& view);
  // Forgets what lies beyond n_tokens: needed when tokens there are replaced by others before the
  // next update sees the shorter sequence.
  void truncate(int n_tokens);
  void clear();

  int n_tokens() const { return n_tokens_; }
  const std::vector<std::shared_ptr<const DigestGroup>>& closed() const { return closed_; }
  const std::vector<uint8_t>& open() const { return open_; }
  size_t bytes() const;

 private:
  int n_tokens_ = 0;
  std::vector<std::shared_ptr<const DigestGroup>> closed_;
  std::vector<uint8_t> open_;
};

// The digest of one kv_block, before any rounding. block_k: [n_tokens][D] gathered f32.
// c, r: [D]; r = 0 where the kind has none. The scalar truth; digests.cpp may be vectorised but rounds
// to the same f16.
void reference_digest(DigestKind kind, const float* block_k, int n_tokens, int head_dim, float* c,
                      float* r);

}  // namespace scholia
