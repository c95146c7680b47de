// A backend has two verbs, prefill and decode, each with its own loop over the layers and the same
// stage names: embed, attention_in (norm, QKV, rotary, KV append), attend, attention_out,
// feed_forward, logits.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/decode/plan.h"
#include "engine/engine.h"
#include "engine/kv/digests.h"
#include "engine/kv/kv_pages.h"

namespace scholia {

// Which positions of a prefill step yield logits.
enum class LogitRows : uint8_t { kNone, kLast, kAll };

// What of a prompt is computed at once: one chunk of it or several, which follow each other. Its tokens
// attend densely; a plan of what each head leaves out would be a field here, as in DecodeStep
// (native/README.md, "Where the next steps go").
struct PrefillStep {
  std::span<const Token> tokens;   // at positions [view.n_tokens, view.n_tokens + tokens.size())
  KvView view;                     // pages for the step's own positions are in the table
  LogitRows logits = LogitRows::kNone;
  // Calibration: called after the step's K and V of a layer are stored, with the rotated queries
  // q [tokens][n_q_heads][head_dim] f32. Empty otherwise.
  std::function<void(int layer, const float* q)> on_queries;
};

// How the next token is drawn from a step's logits: by libllama's chain (engine/answer/sampler.h). The
// random number, in [0, 1), comes from the host, so that a seed gives the same answer everywhere.
struct TokenDraw {
  SamplingOptions options;
  double random = 0;
};

// One token of one sequence, with all that is to be known of that sequence. Several chats at once would
// be a span of these.
struct DecodeStep {
  Token token = 0;                 // at position view.n_tokens
  KvView view;
  uint64_t lineage = 0;            // steps of the same lineage only append to one another
  const DecodePlan* plan = nullptr;
  const DigestLayout* digest_layout = nullptr;  // null when the plan reads all
  const Digests* digests = nullptr;             // null too where the backend keeps its own
  StepTrace* trace = nullptr;      // blocks per head always; masses when trace_mass
  bool trace_mass = false;
  bool trace_kept = false;         // the mass kept too
  const TokenDraw* draw = nullptr; // how to draw the next token, where the device can; null: logits
};

// What a step yields: logits [n_vocab], valid until the next call, or where the device has drawn the
// next token that alone, so that logits need not travel.
struct Decoded {
  std::span<const float> logits;
  std::optional<Token> next;
};

class Backend {
 public:
  virtual ~Backend() = default;
  virtual std::string device_name() const = 0;
  virtual uint64_t weights_bytes() const = 0;
  virtual uint64_t workspace_bytes() const = 0;
  // Free memory where the backend keeps weights and pages: the host's or its device's.
  virtual uint64_t free_bytes() const = 0;
  // What a pool of KV pages may take at most if nobody says; 0: unknown.
  virtual uint64_t pool_limit_bytes() const = 0;
  // Zeroed pages where the backend wants them. Errors as KvPages::reserve.
  virtual Result<KvPages> reserve_pages(const KvShape& shape, size_t n_pages) {
    return KvPages::reserve(shape, n_pages);
  }
  // The profile's layout for steps to come; out_of_memory. Where a backend keeps digests of its own
  // it builds them from the pages during decode, and steps bring none.
  virtual Status set_digest_layout(const DigestLayout&) { return {}; }
  virtual bool keeps_digests() const { return false; }
  virtual uint64_t digest_bytes() const { return 0; }  // of those it keeps
  // How much of a prompt suits it at once, and has room reserved; 0: no more than a chunk.
  virtual int prefill_step_tokens() const { return 0; }
  // Computes the step, writing K and V into the pages. kCancelled when the flag was seen: then
  // nothing of the step counts. Logits: [rows][n_vocab], valid until the next call.
  virtual Result<std::span<const float>> prefill(const PrefillStep& step, KvPages& pages,
                                                 const CancelFlag* cancel) = 0;
  // One token: appends its K and V, attends by the plan.
  virtual Result<Decoded> decode(const DecodeStep& step, KvPages& pages) = 0;
  // The same with a look at the clock between the stages: their times, and the bytes of weights that
  // each reads. No logits.
  virtual Result<std::vector<StageTime>> time_decode(const DecodeStep& step, KvPages& pages) = 0;
  // What its memory gives at most, measured; 0: unknown.
  virtual double bytes_per_second() const { return 0; }
};

}  // namespace scholia
