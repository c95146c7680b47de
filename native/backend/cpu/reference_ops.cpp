#include "backend/cpu/reference_ops.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace scholia::reference {
namespace {
constexpr double kInfinity = std::numeric_limits<double>::infinity();
}

double f32_from_f16(f16 bits) {
  const double sign = bits & 0x8000 ? -1.0 : 1.0;
  const int exponent = (bits >> 10) & 31;
  const int fraction = bits & 1023;
  if (exponent == 31) return fraction ? std::nan("") : sign * kInfinity;
  if (exponent == 0) return sign * std::ldexp(fraction, -24);
  return sign * std::ldexp(1024 + fraction, exponent - 25);
}

f16 f16_from_f32(float x) {
  const f16 sign = std::signbit(x) ? 0x8000 : 0;
  if (std::isnan(x)) return sign | 0x7E00;
  const double magnitude = std::fabs(double(x));
  // The step between neighbouring halves at this magnitude.
  const int exponent = std::max(magnitude > 0 ? std::ilogb(magnitude) : -14, -14);
  if (exponent > 15) return sign | 0x7C00;
  const long steps = std::lrint(std::ldexp(magnitude, 10 - exponent));  // ties to even
  // A normal number has 1024 <= steps <= 2048, where 2048 carries into the exponent; 16 + 15 is
  // infinity, as it should be.
  return f16(sign + (steps < 1024 ? steps : (long(exponent + 15) << 10) + steps - 1024));
}

std::vector<float> gather(const KvLayer& kv, const f16* pool, int kv_head,
                          const std::vector<int>& tokens) {
  std::vector<float> rows;
  for (int token : tokens) {
    const size_t page = kv.pages[token / 16];
    const f16* row = pool + ((page * kv.n_kv_heads + kv_head) * 16 + token % 16) * kv.head_dim;
    for (int d = 0; d < kv.head_dim; d++) rows.push_back(float(f32_from_f16(row[d])));
  }
  return rows;
}

double attend(const float* q, const float* k, const float* v, int n, int head_dim, double* out) {
  std::fill(out, out + head_dim, 0.0);
  if (n == 0) return -kInfinity;
  std::vector<double> score(n);
  for (int t = 0; t < n; t++) {
    double dot = 0;
    for (int d = 0; d < head_dim; d++) dot += double(q[d]) * k[size_t(t) * head_dim + d];
    score[t] = dot / std::sqrt(double(head_dim));
  }
  const double top = *std::max_element(score.begin(), score.end());
  double sum = 0;
  for (int t = 0; t < n; t++) {
    const double weight = std::exp(score[t] - top);
    sum += weight;
    for (int d = 0; d < head_dim; d++) out[d] += weight * v[size_t(t) * head_dim + d];
  }
  for (int d = 0; d < head_dim; d++) out[d] /= sum;
  return top + std::log(sum);
}

void attend_tokens(const KvLayer& kv, int kv_head, const float* q, int n_q_heads_per_kv,
                   const std::vector<int>& tokens, float* out, float* lse) {
  const std::vector<float> k = gather(kv, kv.k, kv_head, tokens);
  const std::vector<float> v = gather(kv, kv.v, kv_head, tokens);
  std::vector<double> row(kv.head_dim);
  for (int g = 0; g < n_q_heads_per_kv; g++) {
    const double log_sum = attend(q + size_t(g) * kv.head_dim, k.data(), v.data(),
                                  int(tokens.size()), kv.head_dim, row.data());
    std::copy(row.begin(), row.end(), out + size_t(g) * kv.head_dim);
    if (lse) lse[g] = float(log_sum);
  }
}

void prefill_attend(const KvLayer& kv, int kv_head, const float* q, size_t q_stride,
                    int n_q_heads_per_kv, int first_position, int row_begin, int row_end,
                    float* out, size_t out_stride) {
  const int head_dim = kv.head_dim;
  std::vector<int> tokens(first_position + row_end);
  for (size_t t = 0; t < tokens.size(); t++) tokens[t] = int(t);
  const std::vector<float> k = gather(kv, kv.k, kv_head, tokens);
  const std::vector<float> v = gather(kv, kv.v, kv_head, tokens);
  std::vector<double> one(head_dim);
  for (int row = row_begin; row < row_end; row++) {
    for (int g = 0; g < n_q_heads_per_kv; g++) {
      const size_t head = (size_t(kv_head) * n_q_heads_per_kv + g) * head_dim;
      attend(q + row * q_stride + head, k.data(), v.data(), first_position + row + 1, head_dim,
             one.data());
      std::copy(one.begin(), one.end(), out + row * out_stride + head);
    }
  }
}

double score_digest(const double* c, const double* r, const float* q, int head_dim,
                    DigestKind kind) {
  double middle = 0, spread = 0;
  for (int d = 0; d < head_dim; d++) {
    middle += c[d] * q[d];
    spread += kind == DigestKind::kCentroids ? r[d] * q[d] : r[d] * std::fabs(q[d]);
  }
  if (kind == DigestKind::kCentroids) spread = std::fabs(spread);
  return (middle + spread) / std::sqrt(double(head_dim));
}

void read_record(DigestFormat format, const f16* scale, const uint8_t* record, int head_dim,
                 double* c, double* r) {
  for (int vector = 0; vector < 2; vector++) {
    double* x = vector == 0 ? c : r;
    for (int d = 0; d < head_dim; d++) {
      if (vector >= format.n_vectors()) {
        x[d] = 0;
      } else if (!scale) {
        x[d] = f32_from_f16(reinterpret_cast<const f16*>(record)[vector * head_dim + d]);
      } else {
        // Channel d lies in part d / n of byte d % n of its vector's n bytes.
        const int n = head_dim * format.bits / 8;
        const int level =
            (record[vector * n + d % n] >> (d / n * format.bits)) & ((1 << format.bits) - 1);
        x[d] = f32_from_f16(scale[2 * vector * head_dim + d]) * level +
               f32_from_f16(scale[(2 * vector + 1) * head_dim + d]);
      }
    }
  }
}

void reduce_scores(const float* scores, size_t score_stride, int n_q_heads_per_kv, int n_blocks,
                   double* out) {
  std::fill(out, out + n_blocks, 0.0);
  for (int g = 0; g < n_q_heads_per_kv; g++) {
    const float* s = scores + g * score_stride;
    const double top = n_blocks ? *std::max_element(s, s + n_blocks) : 0.0;
    double sum = 0;
    for (int b = 0; b < n_blocks; b++) sum += std::exp(s[b] - top);
    for (int b = 0; b < n_blocks; b++) out[b] += std::exp(s[b] - top) / sum / n_q_heads_per_kv;
  }
}

std::vector<int> select_kv_blocks(const float* reduced, int n_blocks, int n_selected) {
  std::vector<int> order(n_blocks);
  for (int b = 0; b < n_blocks; b++) order[b] = b;
  auto rank = [&](int b) {
    return std::isnan(reduced[b]) ? -std::numeric_limits<float>::infinity() : reduced[b];
  };
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    const bool a_nan = std::isnan(reduced[a]), b_nan = std::isnan(reduced[b]);
    return a_nan == b_nan ? rank(a) > rank(b) : b_nan;
  });
  order.resize(n_selected);
  std::sort(order.begin(), order.end());
  return order;
}

void merge_states(const float* m, const float* l, const float* o, int n_pieces,
                  int n_q_heads_per_kv, int head_dim, float* out, float* lse) {
  const int n_heads = n_q_heads_per_kv;
  for (int g = 0; g < n_heads; g++) {
    double top = -kInfinity;
    for (int i = 0; i < n_pieces; i++) top = std::max(top, double(m[i * n_heads + g]));
    double sum = 0;
    std::vector<double> row(head_dim, 0.0);
    for (int i = 0; i < n_pieces; i++) {
      if (l[i * n_heads + g] == 0) continue;
      const double weight = std::exp(m[i * n_heads + g] - top);
      sum += weight * l[i * n_heads + g];
      for (int d = 0; d < head_dim; d++) {
        row[d] += weight * o[(size_t(i) * n_heads + g) * head_dim + d];
      }
    }
    for (int d = 0; d < head_dim; d++) {
      out[size_t(g) * head_dim + d] = sum == 0 ? 0.0F : float(row[d] / sum);
    }
    if (lse)
      lse[g] = sum == 0 ? -std::numeric_limits<float>::infinity() : float(top + std::log(sum));
  }
}

int sample_token(const float* logits, int n_vocab, float temperature, int top_k, float top_p,
                 float min_p, double random) {
  std::vector<int> ids(static_cast<size_t>(n_vocab));
  for (int i = 0; i < n_vocab; ++i) ids[static_cast<size_t>(i)] = i;
  std::stable_sort(ids.begin(), ids.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  if (temperature <= 0) return ids[0];
  const double best = logits[ids[0]];
  if (top_k > 0) ids.resize(std::min(ids.size(), static_cast<size_t>(top_k)));
  const auto sum_at = [&](double t) {
    double sum = 0;
    for (const int id : ids) sum += std::exp((logits[id] - best) / t);
    return sum;
  };
  // How many it takes, from the best on, to reach a share of the sum.
  const auto n_for = [&](double share, double t) {
    const double target = share * sum_at(t);
    double sum = 0;
    for (size_t n = 0; n < ids.size(); ++n) {
      sum += std::exp((logits[ids[n]] - best) / t);
      if (sum >= target) return n + 1;
    }
    return ids.size();
  };
  if (top_p < 1) ids.resize(n_for(top_p, 1));
  while (min_p > 0 && ids.size() > 1 && logits[ids.back()] < best + std::log(min_p)) ids.pop_back();
  return ids[n_for(random, temperature) - 1];
}

}  // namespace scholia::reference
