// The text of the CPU's attention, compiled once per instruction set (see simd.h). Prefill and
// decode are the same three steps over a tile of 64 keys:
//
//   tile_scores   S = Q K^T      register-blocked; K transposed, so that lanes are tokens
//   soften_rows   P = e^(S - m)  online softmax: running maximum m and sum l of each row
//   tile_values   O = O e^(m' - m) + P V
//
// (Online softmax: Milakov and Gimelshein, arXiv 1805.02867; tiles: FlashAttention-2,
// arXiv 2307.08691.) Prefill has 32 tokens x G rows for a tile, so it converts and transposes K
// and V to f32 once for all of them; decode has G rows and multiplies by f16 as it loads.
//
// Each row's arithmetic is the same sequence of operations whatever rows share its panel, and tiles
// lie at fixed places, so the bits of a row depend on neither threads nor chunk boundaries.
#pragma once

#include <math.h>
#include <string.h>

#include <utility>

#include "backend/cpu/cpu_ops_table.h"
#include "backend/cpu/simd.h"

namespace scholia {
namespace {

constexpr int kTilePages = kTileTokens / kKvPageTokens;
constexpr float kInfinity = __builtin_inff();

// Arrays of one float per panel row that vectors run over.
constexpr int kPaddedRows = (kPanelRows + kLanes - 1) / kLanes * kLanes;

static_assert(kKvPageTokens == 16, "transpose_16_rows turns one KV page");
static_assert(kPieceTokens % kTileTokens == 0 && kKvPageTokens % kLanes == 0);

// --- the two register-blocked products -------------------------------------------------------

// Decode reads f16 straight from KV pages, which lie anywhere, so the processor's own prefetchers
// stop at the end of each. With every line multiplied the products ask for the line at the same
// place of the next tile's page; asked for all at once they would fill the core's miss buffers and
// wait (8 instead of 19 GB/s at D 64, G 7 on one Zen 5 core).
template <class T>
constexpr bool kFetchesAhead = sizeof(T) == sizeof(f16);

// c[row][column + i] = sum over k of a[k][row] * b(k, column + i), for kVectors vectors of columns.
// a: [depth][kRows]. b: [page][depth][16], columns 16 to a page. c: row stride kTileTokens.
// ahead_pages: KV pages of K that the next tile will read.
template <int kRows, int kVectors, class T>
void dot_panel(const float* a, const T* b, int depth, int column, float* c,
               const f16* const* ahead_pages) {
  const T* columns[kVectors];
  [[maybe_unused]] const f16* ahead[kVectors];
  for (int v = 0; v < kVectors; v++) {
    const int at = column + v * kLanes;
    columns[v] = b + size_t(at / 16) * depth * 16 + at % 16;
    if constexpr (kFetchesAhead<T>) ahead[v] = ahead_pages[at / 16];
  }
  F32 acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; row++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) acc[row][v] = splat(0);
  }
  auto multiply = [&](int k) {
    F32 x[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) x[v] = load_f32(columns[v] + size_t(k) * 16);
#pragma GCC unroll 16
    for (int row = 0; row < kRows; row++) {
      const F32 y = splat(a[k * kRows + row]);
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) acc[row][v] = mul_add(y, x[v], acc[row][v]);
    }
  };
  for (int k = 0; k < depth; k += 2) {  // two rows of 16 f16 are a line
    multiply(k);
    multiply(k + 1);
    if constexpr (kFetchesAhead<T>) {
      for (int v = 0; v < kVectors; v++) prefetch(ahead[v] + size_t(k) * 16);
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; row++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) {
      store(c + row * kTileTokens + column + v * kLanes, acc[row][v]);
    }
  }
}

// o[row][channel + i] = keep[row] * o[row][channel + i] + sum over tokens of p[row][token] *
// v(token, channel + i). p: row stride kTileTokens. v: pages of [16][head_dim]. ahead_pages: KV
// pages of V that the next tile will read.
template <int kRows, int kVectors, class T>
void value_panel(const float* p, const T* const* v_pages, int n_tokens, int head_dim, int channel,
                 const float* keep, float* o, const f16* const* ahead_pages) {
  F32 acc[kRows][kVectors];
#pragma GCC unroll 16
  for (int row = 0; row < kRows; row++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) {
      acc[row][v] = mul(splat(keep[row]), load(o + size_t(row) * head_dim + channel + v * kLanes));
    }
  }
  for (int first = 0; first < n_tokens; first += kKvPageTokens) {
    const T* values = v_pages[first / kKvPageTokens] + channel;
    const int n = n_tokens - first < kKvPageTokens ? n_tokens - first : kKvPageTokens;
    [[maybe_unused]] const f16* ahead = nullptr;
    if constexpr (kFetchesAhead<T>) ahead = ahead_pages[first / kKvPageTokens] + channel;
    for (int t = 0; t < n; t++, values += head_dim) {
      if constexpr (kFetchesAhead<T>) prefetch(ahead + size_t(t) * head_dim);
      F32 x[kVectors];
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; v++) x[v] = load_f32(values + v * kLanes);
#pragma GCC unroll 16
      for (int row = 0; row < kRows; row++) {
        const F32 y = splat(p[row * kTileTokens + first + t]);
#pragma GCC unroll 4
        for (int v = 0; v < kVectors; v++) acc[row][v] = mul_add(y, x[v], acc[row][v]);
      }
    }
  }
#pragma GCC unroll 16
  for (int row = 0; row < kRows; row++) {
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; v++) {
      store(o + size_t(row) * head_dim + channel + v * kLanes, acc[row][v]);
    }
  }
}

// The instances of both for 1 .. kPanelRows rows, entry [rows - 1].
template <class T>
using DotPanel = void (*)(const float*, const T*, int, int, float*, const f16* const*);
template <class T>
using ValuePanel = void (*)(const float*, const T* const*, int, int, int, const float*, float*,
                            const f16* const*);

template <int kVectors, class T, int... kRow>
DotPanel<T> dot_panel_of(int n_rows, std::integer_sequence<int, kRow...>) {
  static constexpr DotPanel<T> panels[] = {dot_panel<kRow + 1, kVectors, T>...};
  return panels[n_rows - 1];
}
template <int kVectors, class T, int... kRow>
ValuePanel<T> value_panel_of(int n_rows, std::integer_sequence<int, kRow...>) {
  static constexpr ValuePanel<T> panels[] = {value_panel<kRow + 1, kVectors, T>...};
  return panels[n_rows - 1];
}
using PanelRowCounts = std::make_integer_sequence<int, kPanelRows>;

// --- the three steps of a tile ---------------------------------------------------------------

// s[row][column] for columns [0, n_columns), rounded up to whole vectors.
template <class T>
void tile_scores(const float* q, int n_rows, const T* k_columns, int depth, int n_columns, float* s,
                 const f16* const* ahead_pages) {
  const auto two = dot_panel_of<2, T>(n_rows, PanelRowCounts());
  const auto one = dot_panel_of<1, T>(n_rows, PanelRowCounts());
  for (int column = 0; column < n_columns; column += 2 * kLanes) {
    (n_columns - column > kLanes ? two : one)(q, k_columns, depth, column, s, ahead_pages);
  }
}

float row_maximum(const float* s, int n, float start) {
  F32 top = splat(start);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) top = max(load(s + i), top);
  if (i < n) top = max(load_first(s + i, n - i, -kInfinity), top);
  return max_lane(top);
}

// s becomes e^(s - shift) in columns [0, n) and 0 up to n_columns. Returns the sum.
float soften_row(float* s, int n, int n_columns, float shift) {
  F32 sum = splat(0);
  const F32 m = splat(shift);
  int i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32 p = exp(sub(load(s + i), m));
    store(s + i, p);
    sum = add(sum, p);
  }
  if (i < n) {
    const F32 p = exp(sub(load_first(s + i, n - i, -kInfinity), m));
    store(s + i, p);
    sum = add(sum, p);
    i += kLanes;
  }
  for (; i < n_columns; i += kLanes) store(s + i, splat(0));
  return sum_lanes(sum);
}

// What is subtracted in the exponent. Where nothing but -inf was seen it is 0, so that -inf - -inf
// is not computed.
float shift_of(float m) { return m == -kInfinity ? 0.0F : m; }

// Scores to weights for a panel: row r sees its first n_visible[r] columns. Updates m and l, and
// sets keep[r] = e^(m before - m after), the factor of what was summed so far.
void soften_rows(float* s, int n_rows, const int* n_visible, int n_columns, float* m, float* l,
                 float* keep) {
  float shift[kPaddedRows] = {}, before[kPaddedRows] = {};
  for (int row = 0; row < n_rows; row++) {
    before[row] = m[row];
    m[row] = row_maximum(s + row * kTileTokens, n_visible[row], m[row]);
    shift[row] = shift_of(m[row]);
  }
  for (int row = 0; row < n_rows; row += kLanes) {
    store(keep + row, exp(sub(load(before + row), load(shift + row))));
  }
  for (int row = 0; row < n_rows; row++) {
    l[row] = l[row] * keep[row] +
             soften_row(s + row * kTileTokens, n_visible[row], n_columns, shift[row]);
  }
}

template <class T>
void tile_values(const float* p, int n_rows, const T* const* v_pages, int n_tokens, int head_dim,
                 const float* keep, float* o, const f16* const* ahead_pages) {
  const auto two = value_panel_of<2, T>(n_rows, PanelRowCounts());
  const auto one = value_panel_of<1, T>(n_rows, PanelRowCounts());
  for (int channel = 0; channel < head_dim; channel += 2 * kLanes) {
    (head_dim - channel > kLanes ? two : one)(p, v_pages, n_tokens, head_dim, channel, keep, o,
                                              ahead_pages);
  }
}

// Rows dealt to panels of at most kPanelRows, as evenly as whole rows allow: panel i begins here.
int n_panels(int n_rows) { return (n_rows + kPanelRows - 1) / kPanelRows; }
int panel_begin(int n_rows, int i) { return int(int64_t(n_rows) * i / n_panels(n_rows)); }

// packed[k][row] = factor * q[row][k]: the layout that dot_panel broadcasts from.
void pack_queries(const float* q, size_t row_stride, int n_rows, int depth, float factor,
                  float* packed) {
  for (int row = 0; row < n_rows; row++) {
    for (int k = 0; k < depth; k++) packed[k * n_rows + row] = factor * q[row * row_stride + k];
  }
}

size_t page_offset(const KvLayer& kv, int kv_head, int page) {
  return (size_t(kv.pages[page]) * kv.n_kv_heads + kv_head) * kKvPageTokens * kv.head_dim;
}

// Asks for one KV page of K or of V.
void prefetch_page(const f16* page, int head_dim) {
  constexpr int kLine = 64 / sizeof(f16);
  for (int i = 0; i < kKvPageTokens * head_dim; i += kLine) prefetch(page + i);
}

// --- append ----------------------------------------------------------------------------------

void store_row_f16(f16* dst, const float* src, int n) {
  for (int i = 0; i < n; i += kLanes) store_f16(dst + i, load(src + i));
}

void append_kv(f16* k, f16* v, const PageId* pages, int n_kv_heads, int head_dim, int kv_head,
               int first_position, int n_tokens, const float* src_k, size_t k_stride,
               const float* src_v, size_t v_stride) {
  const KvLayer kv{k, v, pages, n_kv_heads, head_dim};
  for (int t = 0; t < n_tokens; t++) {
    const int position = first_position + t;
    const size_t at = page_offset(kv, kv_head, position / kKvPageTokens) +
                      size_t(position % kKvPageTokens) * head_dim;
    store_row_f16(k + at, src_k + t * k_stride, head_dim);
    store_row_f16(v + at, src_v + t * v_stride, head_dim);
  }
}

// --- decode: digests -------------------------------------------------------------------------

// Two vectors' worth of 16 records each, so that one step is a panel of 32 columns.
constexpr int kBatchBlocks = 32;
constexpr int kMaxDepth = 2 * kMaxHeadDim;  // c and r

// The queries against which digests are scored, for a panel of heads: the record's 2 D numbers
// times packed, plus constant.
struct DigestQueries {
  alignas(64) float packed[kMaxDepth * kPanelRows];  // [2 D][rows]
  float constant[kPanelRows];
};

// Closed groups hold u with x = s u + z, so s goes into the query and z into a constant, once for
// all blocks of the group: c.q + r.|q| = u_c.(s_c q) + u_r.(s_r |q|) + (z_c.q + z_r.|q|).
// scale null: the records hold the values themselves.
void fold_queries(const f16* scale, const float* q, int n_rows, int head_dim,
                  DigestQueries* folded) {
  const float inverse = 1.0F / sqrtf(float(head_dim));
  alignas(64) float s_c[kMaxHeadDim], z_c[kMaxHeadDim], s_r[kMaxHeadDim], z_r[kMaxHeadDim];
  float* const parts[] = {s_c, z_c, s_r, z_r};
  for (int part = 0; part < 4; part++) {
    for (int i = 0; i < head_dim; i += kLanes) {
      store(parts[part] + i,
            scale ? load_f16(scale + part * head_dim + i) : splat(part % 2 == 0 ? 1.0F : 0.0F));
    }
  }
  for (int row = 0; row < n_rows; row++) {
    float constant = 0;
    for (int d = 0; d < head_dim; d++) {
      const float x = q[size_t(row) * head_dim + d] * inverse;
      const float y = fabsf(x);
      folded->packed[d * n_rows + row] = x * s_c[d];
      folded->packed[(head_dim + d) * n_rows + row] = y * s_r[d];
      constant += x * z_c[d] + y * z_r[d];
    }
    folded->constant[row] = constant;
  }
}

// Sixteen records turned into columns [2 D][16].
struct ClosedRecords {
  static size_t elements(int head_dim) { return size_t(head_dim) / 2; }  // of 16 bits
  static void turn(const uint16_t* sixteen, int head_dim, float* columns) {
    alignas(64) uint16_t turned[kMaxHeadDim / 2 * 16];
    const int half = head_dim / 2;
    transpose_16_rows(sixteen, half, half, turned);
    // Element j of c holds the bytes 2 j and 2 j + 1, each with channel i low and i + D/2 high;
    // r follows c.
    for (int j = 0; j < half; j++) {
      const int channel = 2 * j < half ? 2 * j : head_dim + 2 * j - half;
      float* out = columns + size_t(channel) * 16;
      for (int i = 0; i < 16; i += kLanes) {
        const uint16_t* x = turned + size_t(j) * 16 + i;
        store(out + i, load_nibble(x, 0));
        store(out + size_t(half) * 16 + i, load_nibble(x, 4));
        store(out + 16 + i, load_nibble(x, 8));
        store(out + size_t(half + 1) * 16 + i, load_nibble(x, 12));
      }
    }
  }
};
struct OpenRecords {
  static size_t elements(int head_dim) { return size_t(head_dim) * 2; }
  static void turn(const uint16_t* sixteen, int head_dim, float* columns) {
    alignas(64) f16 turned[kMaxDepth * 16];
    transpose_16_rows(sixteen, 2 * size_t(head_dim), 2 * head_dim, turned);
    for (int i = 0; i < 2 * head_dim * 16; i += kLanes) store(columns + i, load_f16(turned + i));
  }
};

template <class Records>
void score_records(const f16* scale, const uint16_t* records, int n_blocks, int head_dim,
                   const float* q, int n_heads, float* scores, size_t score_stride) {
  const size_t elements = Records::elements(head_dim);
  alignas(64) float columns[kBatchBlocks * kMaxDepth];
  alignas(64) uint16_t padded[16 * kMaxDepth];
  alignas(64) float s[kPanelRows * kTileTokens];
  DigestQueries queries;
  for (int panel = 0; panel < n_panels(n_heads); panel++) {
    const int head = panel_begin(n_heads, panel);
    const int n_rows = panel_begin(n_heads, panel + 1) - head;
    fold_queries(scale, q + size_t(head) * head_dim, n_rows, head_dim, &queries);
    for (int first = 0; first < n_blocks; first += kBatchBlocks) {
      const int n = n_blocks - first < kBatchBlocks ? n_blocks - first : kBatchBlocks;
      for (int b = 0; b < n; b += 16) {
        const uint16_t* sixteen = records + (first + b) * elements;
        if (n - b < 16) {  // never read past the last record
          memset(padded, 0, 16 * elements * sizeof(uint16_t));
          memcpy(padded, sixteen, (n - b) * elements * sizeof(uint16_t));
          sixteen = padded;
        }
        Records::turn(sixteen, head_dim, columns + size_t(b) * 2 * head_dim);
      }
      tile_scores(queries.packed, n_rows, columns, 2 * head_dim, n, s, nullptr);
      for (int row = 0; row < n_rows; row++) {
        float* out = scores + (head + row) * score_stride + first;
        for (int i = 0; i < n; i += kLanes) {
          const F32 x = add(load(s + row * kTileTokens + i), splat(queries.constant[row]));
          store_first(out + i, x, n - i);
        }
      }
    }
  }
}

void score_closed_blocks(const f16* scale, const uint8_t* records, int n_blocks, int head_dim,
                         const float* q, int n_q_heads_per_kv, float* scores, size_t score_stride) {
  score_records<ClosedRecords>(scale, reinterpret_cast<const uint16_t*>(records), n_blocks,
                               head_dim, q, n_q_heads_per_kv, scores, score_stride);
}

void score_open_blocks(const f16* records, int n_blocks, int head_dim, const float* q,
                       int n_q_heads_per_kv, float* scores, size_t score_stride) {
  score_records<OpenRecords>(nullptr, records, n_blocks, head_dim, q, n_q_heads_per_kv, scores,
                             score_stride);
}

// One vector of a digest, [D]. scale: s [D], z [D]; null where the vector is f16.
void unpack_vector(const f16* scale, const uint8_t* packed, int bits, int head_dim, float* x) {
  if (!scale) {
    const f16* halves = reinterpret_cast<const f16*>(packed);
    for (int i = 0; i < head_dim; i += kLanes) store(x + i, load_f16(halves + i));
    return;
  }
  const int n_bytes = head_dim * bits / 8;
  for (int part = 0; part < 8 / bits; part++) {
    float* of_part = x + part * n_bytes;
    for (int i = 0; i < n_bytes; i++) {
      of_part[i] = float((packed[i] >> (part * bits)) & ((1 << bits) - 1));
    }
  }
  for (int i = 0; i < head_dim; i += kLanes) {
    store(x + i, mul_add(load_f16(scale + i), load(x + i), load_f16(scale + head_dim + i)));
  }
}

float dot(const float* x, const float* q, int n) {
  F32 sum = splat(0);
  for (int i = 0; i < n; i += kLanes) sum = mul_add(load(x + i), load(q + i), sum);
  return sum_lanes(sum);
}

float dot_magnitudes(const float* x, const float* q, int n) {
  F32 sum = splat(0);
  for (int i = 0; i < n; i += kLanes) {
    sum = mul_add(load(x + i), max(load(q + i), sub(splat(0), load(q + i))), sum);
  }
  return sum_lanes(sum);
}

void score_any_blocks(DigestFormat format, const f16* scale, const uint8_t* records, int n_blocks,
                      int head_dim, const float* q, int n_q_heads_per_kv, float* scores,
                      size_t score_stride) {
  const float inverse = 1.0F / sqrtf(float(head_dim));
  const size_t vector_bytes = size_t(head_dim) * (scale ? format.bits : 16) / 8;
  const bool has_spread = format.n_vectors() == 2;
  alignas(64) float c[kMaxHeadDim], r[kMaxHeadDim];
  for (int block = 0; block < n_blocks; block++) {
    const uint8_t* record = records + block * format.n_vectors() * vector_bytes;
    unpack_vector(scale, record, format.bits, head_dim, c);
    if (has_spread) {
      unpack_vector(scale ? scale + 2 * head_dim : nullptr, record + vector_bytes, format.bits,
                    head_dim, r);
    }
    for (int head = 0; head < n_q_heads_per_kv; head++) {
      const float* own = q + size_t(head) * head_dim;
      float score = dot(c, own, head_dim);
      if (format.kind == DigestKind::kCentroids) {
        score += fabsf(dot(r, own, head_dim));
      } else if (has_spread) {
        score += dot_magnitudes(r, own, head_dim);
      }
      scores[head * score_stride + block] = score * inverse;
    }
  }
}

// --- decode: selection -----------------------------------------------------------------------

void reduce_scores(const float* scores, size_t score_stride, int n_q_heads_per_kv, int n_blocks,
                   float* out) {
  for (int g = 0; g < n_q_heads_per_kv; g++) {
    const float* s = scores + g * score_stride;
    const F32 m = splat(shift_of(row_maximum(s, n_blocks, -kInfinity)));
    F32 sum = splat(0);
    for (int b = 0; b < n_blocks; b += kLanes) {
      sum = add(sum, exp(sub(load_first(s + b, n_blocks - b, -kInfinity), m)));
    }
    const F32 weight = splat(1.0F / (sum_lanes(sum) * float(n_q_heads_per_kv)));
    for (int b = 0; b < n_blocks; b += kLanes) {
      const int n = n_blocks - b;
      const F32 before = g == 0 ? splat(0) : load_first(out + b, n, 0);
      const F32 p = exp(sub(load_first(s + b, n, -kInfinity), m));
      store_first(out + b, mul_add(p, weight, before), n);
    }
  }
}

// An integer that orders as the float does; NaN comes first, -0 equals 0.
int32_t order_key(float x) {
  int32_t bits;
  x += 0.0F;
  memcpy(&bits, &x, sizeof(bits));
  const int32_t key = bits >= 0 ? bits : bits ^ INT32_MAX;
  return x == x ? key : INT32_MIN;
}

// The largest key that at least n_selected of the keys reach, found bit by bit from the top: 32
// counts at most, whatever the data, and fewer as soon as a count fits exactly.
int32_t threshold_key(const int32_t* keys, int n, int n_selected) {
  uint32_t threshold = 0;
  for (uint32_t bit = 1U << 31; bit != 0; bit >>= 1) {
    const int32_t candidate = int32_t((threshold | bit) ^ (1U << 31));
    int count = 0;
    for (int i = 0; i < n; i++) count += keys[i] >= candidate ? 1 : 0;
    if (count >= n_selected) threshold |= bit;
    if (count == n_selected) break;
  }
  return int32_t(threshold ^ (1U << 31));
}

void select_kv_blocks(const float* reduced, int n_blocks, int n_selected, int* selected,
                      int* scratch) {
  if (n_selected <= 0) return;
  for (int i = 0; i < n_blocks; i++) scratch[i] = order_key(reduced[i]);
  const int32_t threshold = threshold_key(scratch, n_blocks, n_selected);
  int n_above = 0;
  for (int i = 0; i < n_blocks; i++) n_above += scratch[i] > threshold ? 1 : 0;
  int n_ties = n_selected - n_above;
  int* end = selected;
  for (int i = 0; i < n_blocks && end < selected + n_selected; i++) {
    if (scratch[i] > threshold || (scratch[i] == threshold && n_ties-- > 0)) *end++ = i;
  }
}

// --- decode: attention -----------------------------------------------------------------------

// The KV pages of a piece, in order; all are full but the last.
struct PiecePages {
  // One tile more than a piece holds, which repeats the last page: what is fetched ahead of the
  // last tile.
  const f16* k[kPieceTokens / kKvPageTokens + kTilePages];
  const f16* v[kPieceTokens / kKvPageTokens + kTilePages];
  int n_pages = 0;
  int n_tokens = 0;
};

PiecePages pages_of(const KvLayer& kv, int kv_head, const TokenRun* runs, int n_runs) {
  PiecePages pages;
  for (int run = 0; run < n_runs; run++) {
    const int first_page = runs[run].first_token / kKvPageTokens;
    const int n = (runs[run].n_tokens + kKvPageTokens - 1) / kKvPageTokens;
    for (int i = 0; i < n; i++) {
      const size_t at = page_offset(kv, kv_head, first_page + i);
      pages.k[pages.n_pages] = kv.k + at;
      pages.v[pages.n_pages++] = kv.v + at;
    }
    pages.n_tokens += runs[run].n_tokens;
  }
  for (int i = pages.n_pages; i > 0 && i < pages.n_pages + kTilePages; i++) {
    pages.k[i] = pages.k[i - 1];
    pages.v[i] = pages.v[i - 1];
  }
  return pages;
}

// (maximum, sum) of each page of the tile for the rows of a panel; mass: [page][n_heads][2].
void measure_pages(const float* s, int n_rows, int n_tokens, int n_heads, float* mass) {
  for (int first = 0; first < n_tokens; first += kKvPageTokens, mass += 2 * n_heads) {
    const int n = n_tokens - first < kKvPageTokens ? n_tokens - first : kKvPageTokens;
    for (int row = 0; row < n_rows; row++) {
      alignas(64) float copy[kKvPageTokens];
      memcpy(copy, s + row * kTileTokens + first, n * sizeof(float));
      mass[2 * row] = row_maximum(copy, n, -kInfinity);
      mass[2 * row + 1] = soften_row(copy, n, n, shift_of(mass[2 * row]));
    }
  }
}

void attend_piece(const KvLayer& kv, int kv_head, const float* q, int n_q_heads_per_kv,
                  const TokenRun* runs, int n_runs, const PartialState& out, float* page_mass) {
  const int head_dim = kv.head_dim;
  const int n_heads = n_q_heads_per_kv;
  const PiecePages pages = pages_of(kv, kv_head, runs, n_runs);
  alignas(64) float packed[kMaxQueryHeadsPerKv * kMaxHeadDim];
  alignas(64) f16 k_columns[kTileTokens * kMaxHeadDim];  // [page][D][16]
  alignas(64) float s[kPanelRows * kTileTokens];
  float keep[kPaddedRows];

  for (int panel = 0; panel < n_panels(n_heads); panel++) {
    const int head = panel_begin(n_heads, panel);
    pack_queries(q + size_t(head) * head_dim, head_dim, panel_begin(n_heads, panel + 1) - head,
                 head_dim, 1.0F / sqrtf(float(head_dim)), packed + size_t(head) * head_dim);
  }
  for (int i = 0; i < n_heads; i++) {
    out.m[i] = -kInfinity;
    out.l[i] = 0;
  }
  memset(out.o, 0, size_t(n_heads) * head_dim * sizeof(float));

  for (int i = 0; i < kTilePages && i < pages.n_pages; i++) prefetch_page(pages.k[i], head_dim);
  for (int i = 0; i < kTilePages && i < pages.n_pages; i++) prefetch_page(pages.v[i], head_dim);
  for (int first = 0; first < pages.n_tokens; first += kTileTokens) {
    const int left = pages.n_tokens - first;
    const int n_tokens = left < kTileTokens ? left : kTileTokens;
    const int first_page = first / kKvPageTokens;
    const f16* const* k_ahead = pages.k + first_page + kTilePages;
    const f16* const* v_ahead = pages.v + first_page + kTilePages;
    for (int i = 0; i * kKvPageTokens < n_tokens; i++) {
      transpose_16_rows(pages.k[first_page + i], head_dim, head_dim,
                        k_columns + size_t(i) * head_dim * kKvPageTokens);
    }
    int n_visible[kPanelRows];
    for (int& n : n_visible) n = n_tokens;
    for (int panel = 0; panel < n_panels(n_heads); panel++) {
      const int head = panel_begin(n_heads, panel);
      const int n_rows = panel_begin(n_heads, panel + 1) - head;
      tile_scores(packed + size_t(head) * head_dim, n_rows, k_columns, head_dim, n_tokens, s,
                  k_ahead);
      if (page_mass) {
        measure_pages(s, n_rows, n_tokens, n_heads,
                      page_mass + 2 * (size_t(first_page) * n_heads + head));
      }
      soften_rows(s, n_rows, n_visible, n_tokens, out.m + head, out.l + head, keep);
      tile_values(s, n_rows, pages.v + first_page, n_tokens, head_dim, keep,
                  out.o + size_t(head) * head_dim, v_ahead);
    }
  }
}

void merge_states(const float* m, const float* l, const float* o, int n_pieces,
                  int n_q_heads_per_kv, int head_dim, float* out, float* lse) {
  const int n_heads = n_q_heads_per_kv;
  float top[kMaxQueryHeadsPerKv], shift[kMaxQueryHeadsPerKv], sum[kMaxQueryHeadsPerKv];
  for (int head = 0; head < n_heads; head++) {
    top[head] = -kInfinity;
    for (int i = 0; i < n_pieces; i++) {
      const float x = m[i * n_heads + head];
      top[head] = x > top[head] || x != x ? x : top[head];
    }
    shift[head] = shift_of(top[head]);
    sum[head] = 0;
  }
  memset(out, 0, size_t(n_heads) * head_dim * sizeof(float));
  for (int i = 0; i < n_pieces; i++, m += n_heads, l += n_heads, o += n_heads * head_dim) {
    alignas(64) float weight[kMaxQueryHeadsPerKv];
    for (int head = 0; head < n_heads; head += kLanes) {
      const int n = n_heads - head;
      store_first(weight + head,
                  exp(sub(load_first(m + head, n, -kInfinity), load_first(shift + head, n, 0))), n);
    }
    for (int head = 0; head < n_heads; head++) {
      sum[head] += weight[head] * l[head];
      const F32 w = splat(weight[head]);
      for (int d = 0; d < head_dim; d += kLanes) {
        float* at = out + size_t(head) * head_dim + d;
        store(at, mul_add(w, load(o + size_t(head) * head_dim + d), load(at)));
      }
    }
  }
  for (int head = 0; head < n_heads; head++) {
    const F32 inverse = splat(sum[head] == 0 ? 0.0F : 1.0F / sum[head]);
    for (int d = 0; d < head_dim; d += kLanes) {
      float* at = out + size_t(head) * head_dim + d;
      store(at, mul(load(at), inverse));
    }
    if (lse) lse[head] = sum[head] == 0 ? -kInfinity : top[head] + logf(sum[head]);
  }
}

// --- prefill ---------------------------------------------------------------------------------

// What prefill_attend cuts out of its workspace.
struct PrefillWorkspace {
  float* q;          // [panel][D][rows of the panel]
  float* o;          // [rows][D]
  float* m;          // [rows]
  float* l;          // [rows]
  float* k_columns;  // [page][D][16]
  float* v;          // [page][16][D]
};

PrefillWorkspace cut_workspace(float* at, int n_rows, int head_dim) {
  auto take = [&](size_t n) {
    float* const part = at;
    at += n;
    return part;
  };
  PrefillWorkspace w;
  w.k_columns = take(size_t(kTileTokens) * head_dim);
  w.v = take(size_t(kTileTokens) * head_dim);
  w.q = take(size_t(n_rows) * head_dim);
  w.o = take(size_t(n_rows) * head_dim);
  w.m = take(n_rows);
  w.l = take(n_rows);
  return w;
}

// K transposed and V plain, in f32, of the tokens [first, first + n_tokens). V's rows after the
// last token are zero: a weight of 0 times whatever lies in an unwritten slot could be NaN.
void unpack_tile(const KvLayer& kv, int kv_head, int first, int n_tokens,
                 const PrefillWorkspace& w) {
  const int head_dim = kv.head_dim;
  const size_t page_elements = size_t(kKvPageTokens) * head_dim;
  alignas(64) f16 turned[kKvPageTokens * kMaxHeadDim];
  for (int page = 0; page * kKvPageTokens < n_tokens; page++) {
    const size_t at = page_offset(kv, kv_head, first / kKvPageTokens + page);
    float* const k = w.k_columns + page * page_elements;
    float* const v = w.v + page * page_elements;
    const int left = n_tokens - page * kKvPageTokens;
    const size_t n_valid = size_t(left < kKvPageTokens ? left : kKvPageTokens) * head_dim;
    transpose_16_rows(kv.k + at, head_dim, head_dim, turned);
    for (size_t i = 0; i < page_elements; i += kLanes) store(k + i, load_f16(turned + i));
    for (size_t i = 0; i < n_valid; i += kLanes) store(v + i, load_f16(kv.v + at + i));
    for (size_t i = n_valid; i < page_elements; i += kLanes) store(v + i, splat(0));
  }
}

// The rows [row_begin, row_begin + n_tokens) of the chunk, at most kPrefillTileTokens; a "row" in
// here is a (token, query head) pair, heads innermost.
void prefill_tile(const KvLayer& kv, int kv_head, const float* q, size_t q_stride, int n_heads,
                  int position, int n_tokens, float* out, size_t out_stride, float* workspace) {
  const int head_dim = kv.head_dim;
  const int n_rows = n_tokens * n_heads;
  const float inverse = 1.0F / sqrtf(float(head_dim));
  const PrefillWorkspace w = cut_workspace(workspace, n_rows, head_dim);
  for (int panel = 0; panel < n_panels(n_rows); panel++) {
    const int begin = panel_begin(n_rows, panel), end = panel_begin(n_rows, panel + 1);
    float* packed = w.q + size_t(begin) * head_dim;
    for (int row = begin; row < end; row++) {
      const float* src = q + (row / n_heads) * q_stride + size_t(row % n_heads) * head_dim;
      for (int d = 0; d < head_dim; d++) packed[d * (end - begin) + row - begin] = inverse * src[d];
    }
  }
  for (int row = 0; row < n_rows; row++) {
    w.m[row] = -kInfinity;
    w.l[row] = 0;
  }
  memset(w.o, 0, size_t(n_rows) * head_dim * sizeof(float));

  alignas(64) float s[kPanelRows * kTileTokens];
  const int n_keys = position + n_tokens;
  for (int first = 0; first < n_keys; first += kTileTokens) {
    const int n_tile = n_keys - first < kTileTokens ? n_keys - first : kTileTokens;
    unpack_tile(kv, kv_head, first, n_tile, w);
    for (int next = first + kTileTokens; next < first + 2 * kTileTokens && next < n_keys;
         next += kKvPageTokens) {
      const size_t at = page_offset(kv, kv_head, next / kKvPageTokens);
      prefetch_page(kv.k + at, head_dim);
      prefetch_page(kv.v + at, head_dim);
    }
    const float* v_pages[kTilePages];
    for (int i = 0; i < kTilePages; i++) v_pages[i] = w.v + size_t(i) * kKvPageTokens * head_dim;
    for (int panel = 0; panel < n_panels(n_rows); panel++) {
      const int begin = panel_begin(n_rows, panel), end = panel_begin(n_rows, panel + 1);
      int n_visible[kPanelRows], n_columns = 0;
      for (int row = begin; row < end; row++) {
        int n = position + row / n_heads + 1 - first;
        n = n < 0 ? 0 : n < kTileTokens ? n : kTileTokens;
        n_visible[row - begin] = n;
        n_columns = n;
      }
      if (n_columns == 0) continue;
      float keep[kPaddedRows];
      float* const o = w.o + size_t(begin) * head_dim;
      tile_scores(w.q + size_t(begin) * head_dim, end - begin, w.k_columns, head_dim, n_columns, s,
                  nullptr);
      soften_rows(s, end - begin, n_visible, n_columns, w.m + begin, w.l + begin, keep);
      tile_values(s, end - begin, v_pages, n_columns, head_dim, keep, o, nullptr);
    }
  }

  for (int row = 0; row < n_rows; row++) {
    float* dst = out + (row / n_heads) * out_stride + size_t(row % n_heads) * head_dim;
    const F32 scale = splat(1.0F / w.l[row]);
    for (int d = 0; d < head_dim; d += kLanes) {
      store(dst + d, mul(scale, load(w.o + size_t(row) * head_dim + d)));
    }
  }
}

void prefill_attend(const KvLayer& kv, int kv_head, const float* q, size_t q_stride,
                    int n_q_heads_per_kv, int first_position, int row_begin, int row_end,
                    float* out, size_t out_stride, float* workspace) {
  const size_t group = size_t(kv_head) * n_q_heads_per_kv * kv.head_dim;
  for (int row = row_begin; row < row_end; row += kPrefillTileTokens) {
    const int n = row_end - row < kPrefillTileTokens ? row_end - row : kPrefillTileTokens;
    prefill_tile(kv, kv_head, q + row * q_stride + group, q_stride, n_q_heads_per_kv,
                 first_position + row, n, out + row * out_stride + group, out_stride, workspace);
  }
}

void exp_array(const float* x, float* y, int n) {
  for (int i = 0; i < n; i += kLanes) store_first(y + i, exp(load_first(x + i, n - i, 0)), n - i);
}

constexpr CpuOpsTable make_table(const char* name) {
  return {name,
          append_kv,
          score_closed_blocks,
          score_open_blocks,
          score_any_blocks,
          reduce_scores,
          select_kv_blocks,
          attend_piece,
          merge_states,
          prefill_attend,
          exp_array};
}

}  // namespace
}  // namespace scholia
