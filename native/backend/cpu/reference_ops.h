// The scalar truth for cpu_ops.h, for tests: sums in double, no tiles, no tricks, never optimised,
// and no code shared with what it checks. Letters and layouts as in cpu_ops.h.
#pragma once

#include <vector>

#include "backend/cpu/cpu_ops.h"

namespace scholia::reference {

double f32_from_f16(f16 bits);
// To nearest, ties to even; beyond the range infinity; NaN stays NaN.
f16 f16_from_f32(float x);

// K (or V) rows of one KV head in the order of `tokens`, gathered from the pages: [tokens][D].
// pool: kv.k or kv.v.
std::vector<float> gather(const KvLayer& kv, const f16* pool, int kv_head,
                          const std::vector<int>& tokens);

// Attention of one query over n keys: out [D]; returns the natural log-sum-exp of the scores. No
// keys: 0 and -inf.
double attend(const float* q, const float* k, const float* v, int n, int head_dim, double* out);

// Decode: G queries [G][D] over an explicit list of tokens, out [G][D], lse [G] (may be null).
void attend_tokens(const KvLayer& kv, int kv_head, const float* q, int n_q_heads_per_kv,
                   const std::vector<int>& tokens, float* out, float* lse);

// Prefill: the same arguments as prefill_attend without a workspace.
void prefill_attend(const KvLayer& kv, int kv_head, const float* q, size_t q_stride,
                    int n_q_heads_per_kv, int first_position, int row_begin, int row_end,
                    float* out, size_t out_stride);

// c . q + r . |q|, divided by sqrt(D); of two centroids c . q + |r . q|.
double score_digest(const double* c, const double* r, const float* q, int head_dim,
                    DigestKind kind = DigestKind::kMeanStd);

// The digest that a record stands for: c and r [D], r = 0 where there is one vector. scale null where
// the record is f16.
void read_record(DigestFormat format, const f16* scale, const uint8_t* record, int head_dim,
                 double* c, double* r);

// scores [G][score_stride], out [NB].
void reduce_scores(const float* scores, size_t score_stride, int n_q_heads_per_kv, int n_blocks,
                   double* out);

// By sorting all of them.
std::vector<int> select_kv_blocks(const float* reduced, int n_blocks, int n_selected);

void merge_states(const float* m, const float* l, const float* o, int n_pieces,
                  int n_q_heads_per_kv, int head_dim, float* out, float* lse);

// The next token: the best by logit (the lowest id among equals) for a temperature of 0; else of the
// top_k best (0: all) the fewest whose probability reaches top_p, without those less probable than
// min_p times the best, drawn at the temperature by random in [0, 1), the best first.
int sample_token(const float* logits, int n_vocab, float temperature, int top_k, float top_p,
                 float min_p, double random);

}  // namespace scholia::reference
