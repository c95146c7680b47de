#include "engine/kv/digests.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "engine/kv/f16.h"

namespace scholia {
namespace {

constexpr int kLloydRounds = 4;  // blocks are small: later rounds hardly move a token

// One head's stored K: where its rows lie.
struct HeadKeys {
  const f16* k;  // of the head's layer and KV head, page 0
  const PageId* pages;
  size_t page_elements;  // from a KV page to the next
  int head_dim;
};

// --- one kv_block ---------------------------------------------------------------------------

// c = mean, r = standard deviation, two passes: the mean of a key channel can be far larger than
// its spread.
void mean_std(const float* __restrict k, int n_tokens, int head_dim, float* __restrict c,
              float* __restrict r) {
  const float inverse = 1.0F / float(n_tokens);  // exact: block sizes are powers of two
  for (int d = 0; d < head_dim; ++d) c[d] = r[d] = 0;
  for (int t = 0; t < n_tokens; ++t) {
    for (int d = 0; d < head_dim; ++d) c[d] += k[size_t(t) * head_dim + d];
  }
  for (int d = 0; d < head_dim; ++d) c[d] *= inverse;
  for (int t = 0; t < n_tokens; ++t) {
    for (int d = 0; d < head_dim; ++d) {
      const float x = k[size_t(t) * head_dim + d] - c[d];
      r[d] += x * x;
    }
  }
  for (int d = 0; d < head_dim; ++d) r[d] = std::sqrt(r[d] * inverse);
}

// c = the middle of the bounding box, r = half its width.
void middle_and_half_width(const float* __restrict k, int n_tokens, int head_dim,
                           float* __restrict c, float* __restrict r) {
  for (int d = 0; d < head_dim; ++d) c[d] = r[d] = k[d];
  for (int t = 1; t < n_tokens; ++t) {
    for (int d = 0; d < head_dim; ++d) {
      const float x = k[size_t(t) * head_dim + d];
      c[d] = x < c[d] ? x : c[d];
      r[d] = x > r[d] ? x : r[d];
    }
  }
  for (int d = 0; d < head_dim; ++d) {
    const float least = c[d];
    const float most = r[d];
    c[d] = (most + least) * 0.5F;
    r[d] = (most - least) * 0.5F;
  }
}

void mean_distance(const float* __restrict k, int n_tokens, int head_dim, const float* __restrict c,
                   float* __restrict r) {
  const float inverse = 1.0F / float(n_tokens);
  for (int d = 0; d < head_dim; ++d) r[d] = 0;
  for (int t = 0; t < n_tokens; ++t) {
    for (int d = 0; d < head_dim; ++d) r[d] += std::fabs(k[size_t(t) * head_dim + d] - c[d]);
  }
  for (int d = 0; d < head_dim; ++d) r[d] *= inverse;
}

float squared_distance(const float* a, const float* b, int head_dim) {
  float sum = 0;
  for (int d = 0; d < head_dim; ++d) sum += (a[d] - b[d]) * (a[d] - b[d]);
  return sum;
}

// The first of the tokens that are farthest from x.
int farthest_token(const float* k, int n_tokens, int head_dim, const float* x) {
  int farthest = 0;
  float most = -1;
  for (int t = 0; t < n_tokens; ++t) {
    const float distance = squared_distance(k + size_t(t) * head_dim, x, head_dim);
    if (distance > most) {
      most = distance;
      farthest = t;
    }
  }
  return farthest;
}

// c = the middle of two centroids a and b, r = half of b - a: two means after a few rounds (Lloyd
// 1982) from the token farthest from the mean and the one farthest from that. r = 0 where all tokens
// are one.
void middle_and_half_between(const float* k, int n_tokens, int head_dim, float* c, float* r) {
  std::vector<float> centroids(2 * size_t(head_dim)), sums(2 * size_t(head_dim));
  float* const a = centroids.data();
  float* const b = a + head_dim;
  mean_std(k, n_tokens, head_dim, c, r);
  std::copy_n(k + size_t(farthest_token(k, n_tokens, head_dim, c)) * head_dim, head_dim, a);
  std::copy_n(k + size_t(farthest_token(k, n_tokens, head_dim, a)) * head_dim, head_dim, b);
  for (int round = 0; round < kLloydRounds; ++round) {
    std::fill(sums.begin(), sums.end(), 0.0F);
    int n_of[2] = {0, 0};
    for (int t = 0; t < n_tokens; ++t) {
      const float* token = k + size_t(t) * head_dim;
      const int side =
          squared_distance(token, b, head_dim) < squared_distance(token, a, head_dim) ? 1 : 0;
      ++n_of[side];
      for (int d = 0; d < head_dim; ++d) sums[size_t(side) * head_dim + d] += token[d];
    }
    if (n_of[0] == 0 || n_of[1] == 0) break;
    for (int d = 0; d < head_dim; ++d) {
      a[d] = sums[size_t(d)] / float(n_of[0]);
      b[d] = sums[size_t(head_dim) + d] / float(n_of[1]);
    }
  }
  for (int d = 0; d < head_dim; ++d) {
    c[d] = (a[d] + b[d]) * 0.5F;
    r[d] = (b[d] - a[d]) * 0.5F;
  }
}

// c and r of one block, [D] each.
void digest_block(DigestKind kind, const float* block_k, int n_tokens, int head_dim, float* c,
                  float* r) {
  switch (kind) {
    case DigestKind::kMeanStd:
      return mean_std(block_k, n_tokens, head_dim, c, r);
    case DigestKind::kQuest:
      return middle_and_half_width(block_k, n_tokens, head_dim, c, r);
    case DigestKind::kArkVale:
      middle_and_half_width(block_k, n_tokens, head_dim, c, r);
      return mean_distance(block_k, n_tokens, head_dim, c, r);
    case DigestKind::kMean:
      mean_std(block_k, n_tokens, head_dim, c, r);
      std::fill_n(r, head_dim, 0.0F);
      return;
    case DigestKind::kCentroids:
      return middle_and_half_between(block_k, n_tokens, head_dim, c, r);
  }
}

// Digests of the blocks [first_block, end_block): c and r of block i at out + i * 2 D.
// block_k: room for a block, [block_tokens][D].
void build_blocks(DigestKind kind, const HeadKeys& keys, int block_tokens, int first_block,
                  int end_block, float* block_k, float* out) {
  const int head_dim = keys.head_dim;
  const size_t page_floats = size_t(kKvPageTokens) * head_dim;
  const int n_pages = block_tokens / kKvPageTokens;
  for (int block = first_block; block < end_block; ++block) {
    for (int page = 0; page < n_pages; ++page) {
      const f16* __restrict from =
          keys.k + keys.pages[size_t(block) * n_pages + page] * keys.page_elements;
      float* __restrict to = block_k + page * page_floats;
      for (size_t i = 0; i < page_floats; ++i) to[i] = f32_from_f16(from[i]);
    }
    float* c = out + size_t(block - first_block) * 2 * head_dim;
    float* r = c + head_dim;
    digest_block(kind, block_k, block_tokens, head_dim, c, r);
  }
}

// --- one closed group of a head -------------------------------------------------------------

// Room that quantising needs, for n_blocks blocks.
struct QuantiseRoom {
  QuantiseRoom(int n_blocks, int head_dim)
      : floats(4 * size_t(head_dim)), levels(size_t(n_blocks) * head_dim) {}
  std::vector<float> floats;    // [4][D]
  std::vector<uint8_t> levels;  // [n_blocks][D]
};

// Quantises one of the two vectors of n_blocks digests: values [n_blocks][2 D], of which the first
// D of each row count, to scale and zero [D] and levels 0..top in room.levels.
void quantise_channels(const float* __restrict values, int n_blocks, int head_dim, int top,
                       f16* __restrict scale, f16* __restrict zero, QuantiseRoom& room) {
  float* __restrict most = room.floats.data();
  float* __restrict least = most + head_dim;
  float* __restrict s = least + head_dim;
  float* __restrict z = s + head_dim;
  for (int d = 0; d < head_dim; ++d) most[d] = least[d] = values[d];
  for (int block = 1; block < n_blocks; ++block) {
    for (int d = 0; d < head_dim; ++d) {
      const float x = values[size_t(block) * 2 * head_dim + d];
      least[d] = x < least[d] ? x : least[d];
      most[d] = x > most[d] ? x : most[d];
    }
  }
  // Levels are found with the scale and zero as stored, so that rounding those costs little.
  for (int d = 0; d < head_dim; ++d) {
    scale[d] = f16_from_f32((most[d] - least[d]) / float(top));
    zero[d] = f16_from_f32(least[d]);
    s[d] = f32_from_f16(scale[d]);
    z[d] = f32_from_f16(zero[d]);
  }
  for (int block = 0; block < n_blocks; ++block) {
    uint8_t* __restrict u = room.levels.data() + size_t(block) * head_dim;
    for (int d = 0; d < head_dim; ++d) {
      const float x = (values[size_t(block) * 2 * head_dim + d] - z[d]) / s[d] + 0.5F;
      // A constant channel and a key that is not finite end at level 0: s > 0 fails, or x > 0 does.
      const float level = s[d] > 0 && x > 0 ? x : 0;
      u[d] = uint8_t(int(level < float(top) + 0.5F ? level : float(top)));
    }
  }
}

// Levels of one vector, [D], to its bytes.
void pack_levels(const uint8_t* __restrict u, int bits, size_t n_bytes, uint8_t* __restrict packed) {
  for (size_t i = 0; i < n_bytes; ++i) packed[i] = u[i];
  for (int part = 1; part < 8 / bits; ++part) {
    const uint8_t* of_part = u + size_t(part) * n_bytes;
    for (size_t i = 0; i < n_bytes; ++i) {
      packed[i] = uint8_t(packed[i] | (of_part[i] << (part * bits)));
    }
  }
}

// A head's closed group from its digests in f32, values [n_blocks][c[D], r[D]], to its place.
void quantise_head(const DigestLayout& layout, const float* values, int n_blocks, uint8_t* place) {
  const int head_dim = layout.shape.head_dim;
  const int bits = layout.digest.bits;
  QuantiseRoom room(n_blocks, head_dim);
  f16* scales = reinterpret_cast<f16*>(place);
  uint8_t* records = place + layout.scale_bytes();
  for (int vector = 0; vector < layout.digest.n_vectors(); ++vector) {
    f16* scale = scales + size_t(vector) * 2 * head_dim;
    quantise_channels(values + size_t(vector) * head_dim, n_blocks, head_dim, (1 << bits) - 1, scale,
                      scale + head_dim, room);
    for (int block = 0; block < n_blocks; ++block) {
      pack_levels(room.levels.data() + size_t(block) * head_dim, bits, layout.vector_bytes(),
                  records + size_t(block) * layout.closed_record_bytes() +
                      size_t(vector) * layout.vector_bytes());
    }
  }
}

// The records of the open group, and of a closed one that stays f16.
void store_halves(const DigestLayout& layout, const float* values, int n_blocks, uint8_t* place) {
  f16* to = reinterpret_cast<f16*>(place);
  const size_t n = size_t(layout.digest.n_vectors()) * layout.shape.head_dim;
  for (int block = 0; block < n_blocks; ++block) {
    const float* from = values + size_t(block) * 2 * layout.shape.head_dim;
    for (size_t i = 0; i < n; ++i) to[size_t(block) * n + i] = f16_from_f32(from[i]);
  }
}

// --- all heads ------------------------------------------------------------------------------

// Builds digests of one sequence; holds the room that the kernels need.
class Builder {
 public:
  Builder(const DigestLayout& layout, const KvPages& pages, const KvView& view)
      : layout_(layout), pages_(pages), view_(view), head_dim_(size_t(layout.shape.head_dim)) {
    block_k_.resize(size_t(*std::rbegin(kBlockSizes)) * head_dim_);
  }

  // The blocks of head h in [first_token, end_token), as f16 records at `records`.
  void build_open(int head, int first_token, int end_token, uint8_t* records) {
    const int block_tokens = layout_.block_tokens[size_t(head)];
    const int n_blocks = end_token / block_tokens - first_token / block_tokens;
    if (n_blocks <= 0) return;
    const float* values = build(head, first_token / block_tokens, end_token / block_tokens);
    store_halves(layout_, values, n_blocks, records);
  }

  std::shared_ptr<const DigestGroup> build_closed(int group) {
    auto closed = std::make_shared<DigestGroup>(layout_.closed_offset.back());
    for (int head = 0; head < layout_.shape.n_heads(); ++head) {
      const int n_blocks = layout_.blocks_per_group(head);
      const float* values = build(head, group * n_blocks, (group + 1) * n_blocks);
      const auto close = layout_.digest.bits == 16 ? store_halves : quantise_head;
      close(layout_, values, n_blocks, closed->data() + layout_.closed_offset[size_t(head)]);
    }
    return closed;
  }

 private:
  const float* build(int head, int first_block, int end_block) {
    const KvShape& shape = layout_.shape;
    const int layer = head / shape.n_kv_heads;
    const int kv_head = head % shape.n_kv_heads;
    const HeadKeys keys{pages_.k(layer) + size_t(kv_head) * kKvPageTokens * head_dim_, view_.pages,
                        shape.page_elements(), shape.head_dim};
    values_.resize(size_t(end_block - first_block) * 2 * head_dim_);
    build_blocks(layout_.digest.kind, keys, layout_.block_tokens[size_t(head)], first_block, end_block,
                 block_k_.data(), values_.data());
    return values_.data();
  }

  const DigestLayout& layout_;
  const KvPages& pages_;
  const KvView& view_;
  const size_t head_dim_;
  std::vector<float> block_k_;  // [tokens of the largest block][D]
  std::vector<float> values_;   // [blocks][c[D], r[D]]
};

}  // namespace

void reference_digest(DigestKind kind, const float* block_k, int n_tokens, int head_dim, float* c,
                      float* r) {
  // Sums in other orders would move tokens from one centroid to the other.
  if (kind == DigestKind::kCentroids) {
    return middle_and_half_between(block_k, n_tokens, head_dim, c, r);
  }
  const bool around_mean = kind == DigestKind::kMeanStd || kind == DigestKind::kMean;
  for (int d = 0; d < head_dim; ++d) {
    float sum = 0;
    float least = block_k[d];
    float most = block_k[d];
    for (int t = 0; t < n_tokens; ++t) {
      const float x = block_k[size_t(t) * head_dim + d];
      sum += x;
      if (x < least) least = x;
      if (x > most) most = x;
    }
    c[d] = around_mean ? sum / float(n_tokens) : (most + least) / 2;
    float squares = 0;
    float distances = 0;
    for (int t = 0; t < n_tokens; ++t) {
      const float x = block_k[size_t(t) * head_dim + d] - c[d];
      squares += x * x;
      distances += std::fabs(x);
    }
    r[d] = 0;
    if (kind == DigestKind::kMeanStd) r[d] = std::sqrt(squares / float(n_tokens));
    if (kind == DigestKind::kQuest) r[d] = (most - least) / 2;
    if (kind == DigestKind::kArkVale) r[d] = distances / float(n_tokens);
  }
}

DigestLayout::DigestLayout(const KvShape& kv_shape, const HeadProfile& profile)
    : shape(kv_shape), digest(profile.digest), block_tokens(profile.block_tokens) {
  closed_offset.push_back(0);
  open_offset.push_back(0);
  for (int head = 0; head < int(block_tokens.size()); ++head) {
    const size_t n_blocks = size_t(blocks_per_group(head));
    closed_offset.push_back(closed_offset.back() + scale_bytes() +
                            n_blocks * closed_record_bytes());
    open_offset.push_back(open_offset.back() + n_blocks * open_record_bytes());
  }
}

size_t DigestLayout::read_bytes(int head_block_tokens, int first_block, int end_block,
                                int n_tokens) const {
  if (first_block >= end_block) return 0;
  const int blocks_per_group = kDigestGroupTokens / head_block_tokens;
  const int closed_blocks =
      std::clamp(n_tokens / kDigestGroupTokens * blocks_per_group, first_block, end_block);
  const int first_group = first_block / blocks_per_group;
  const int end_group = (closed_blocks + blocks_per_group - 1) / blocks_per_group;
  const int n_groups = closed_blocks > first_block ? end_group - first_group : 0;
  return size_t(n_groups) * scale_bytes() +
         size_t(closed_blocks - first_block) * closed_record_bytes() +
         size_t(end_block - closed_blocks) * open_record_bytes();
}

void Digests::update(const DigestLayout& layout, const KvPages& pages, const KvView& view) {
  truncate(view.n_tokens);
  // The smallest block is a KV page: between two page ends no block closes.
  if (view.n_tokens / kKvPageTokens == n_tokens_ / kKvPageTokens && !open_.empty()) {
    n_tokens_ = view.n_tokens;
    return;
  }
  Builder builder(layout, pages, view);
  const int n_groups = view.n_tokens / kDigestGroupTokens;
  while (int(closed_.size()) < n_groups) {
    closed_.push_back(builder.build_closed(int(closed_.size())));
  }
  const int first_open = n_groups * kDigestGroupTokens;
  const int built = std::max(n_tokens_, first_open);
  open_.resize(layout.open_offset.back());
  for (int head = 0; head < layout.shape.n_heads(); ++head) {
    const int done_blocks = (built - first_open) / layout.block_tokens[size_t(head)];
    builder.build_open(head, built, view.n_tokens,
                       open_.data() + layout.open_offset[size_t(head)] +
                           size_t(done_blocks) * layout.open_record_bytes());
  }
  n_tokens_ = view.n_tokens;
}

void Digests::truncate(int n_tokens) {
  if (n_tokens >= n_tokens_) return;
  const size_t n_groups = size_t(n_tokens / kDigestGroupTokens);
  // A cut into a closed group leaves an open one of which no f16 digest is kept.
  n_tokens_ = n_groups < closed_.size() ? int(n_groups) * kDigestGroupTokens : n_tokens;
  closed_.resize(std::min(n_groups, closed_.size()));
}

void Digests::clear() {
  n_tokens_ = 0;
  closed_.clear();
  open_.clear();
}

size_t Digests::bytes() const {
  size_t n_bytes = open_.size();
  for (const auto& group : closed_) n_bytes += group->size();
  return n_bytes;
}

}  // namespace scholia
