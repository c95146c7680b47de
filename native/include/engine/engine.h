// The engine: document → tokens → prefill → kv → decode → answer. The only header that the addon,
// the tests and the benchmarks include (with config.h, head_profile.h and status.h).
//
// An Engine is used by one thread at a time, except cancel(), which any thread may call.
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/config.h"
#include "engine/head_profile.h"
#include "engine/status.h"

namespace scholia {

// Asks a running call to stop. It is seen between layers; work done in whole steps is kept.
using CancelFlag = std::atomic<bool>;

struct PrefillProgress {
  int done_tokens = 0;      // of this call, cached ones included
  int total_tokens = 0;
  int memory_tokens = 0;    // found in memory
  int disk_tokens = 0;      // found on disk, checksums verified
  int broken_tokens = 0;    // found damaged on disk: that file is gone, they are computed again
  int depth_tokens = 0;     // length of the sequence so far
  double seconds = 0;       // spent computing, cached tokens not counted
  double tokens_per_second = 0;  // of the last step
  // Saving failed (disk_full …): the prefill went on, but the read is in memory only.
  std::optional<Error> store_error;
};

struct PrefillOptions {
  bool persist = false;     // save the KV of whole runs to the store as the prefill goes
  bool want_logits = true;  // the last token's logits are needed (so its chunk is computed)
};

struct DecodeOptions {
  Mode mode = Mode::kAbSparse;
  int budget_tokens = 2048;  // average of tokens read per KV head, forced ones included
  bool trace_mass = false;   // also measure the attention mass of every block read
  bool trace_kept = false;   // also measure the mass kept, at the price of a dense step
  int only_head = -1;        // kAbSparse: all other heads read everything; -1: every head is sparse
};

struct SamplingOptions {
  float temperature = 0;     // 0: greedy
  int top_k = 40;            // 0: off
  float top_p = 0.95F;
  float min_p = 0.05F;
  uint32_t seed = 0;
};

// What one decode step read. Head h = layer * n_kv_heads + kv_head.
struct StepTrace {
  int depth_tokens = 0;                  // context length of the step, the new token included
  std::vector<uint16_t> block_tokens;    // [heads] block size
  std::vector<uint32_t> n_blocks;        // [heads] kv_blocks read, a last unfinished one included
  std::vector<uint32_t> tokens_read;     // [heads]
  uint64_t kv_bytes = 0;                 // keys and values read, all heads
  uint64_t digest_bytes = 0;             // digests read, all heads
  uint64_t dense_bytes = 0;              // what dense decode would have read
  // With trace_mass only; ragged over heads: head h owns [block_offset[h], block_offset[h + 1]).
  std::vector<uint32_t> block_offset;    // [heads + 1]
  std::vector<uint32_t> block_idx;       // kv_block index within the head's own block size
  std::vector<float> mass;               // share of attention, mean over the group's query heads
  // With trace_kept only: of the attention that dense decode would give to the whole context, the
  // share that falls on what was read. [heads]
  std::vector<float> mass_kept;
};

struct GenerateOptions {
  DecodeOptions decode;
  SamplingOptions sampling;
  int max_tokens = 512;
  // The mass kept is measured at the first step and at every so many-th after it; 0: never.
  int kept_every_steps = 0;
};

struct GeneratedToken {
  Token token = 0;
  std::string_view text;            // UTF-8 completed by this token; may be empty
  const StepTrace* trace = nullptr; // of the step that produced its logits; null for the first
};

enum class StopReason : uint8_t { kEndOfTurn, kMaxTokens, kContextFull, kCancelled };

struct GenerateReport {
  std::vector<Token> tokens;
  std::string text;
  StopReason stop = StopReason::kEndOfTurn;
  double seconds = 0;       // decode steps only
  int n_steps = 0;
  uint64_t kv_bytes = 0, digest_bytes = 0, dense_bytes = 0;  // summed over the steps
};

// How well a (block size, budget) pair serves one head: the calibration's raw table.
struct HeadErrors {
  std::vector<int> block_tokens;     // candidates
  std::vector<int> budget_tokens;    // candidates
  // [head][block candidate][budget candidate], means over the query positions
  std::vector<double> output_error;  // |o_dense - o_sparse| / |o_dense|, over the group's outputs
  std::vector<double> recall;        // mass of the selection / mass of the best tokens of its size
  int n_queries = 0;
};

// A token that a text copies: the one after `position` is that at `source`.
struct CopiedToken {
  int position = 0;
  int source = 0;
};

// A way of reading that is compared with dense reading.
struct TailMode {
  HeadProfile profile;
  DecodeOptions options;
};

// A tail of tokens, read one by one in one mode, beside the same tail read densely.
struct TailComparison {
  std::vector<double> kl;             // [tokens] KL(dense || mode) of the next token, nats
  std::vector<uint8_t> same_top;      // [tokens] 1: both hold the same token for the likeliest
  std::vector<double> loss_increase;  // [tokens - 1] what the tail's own next token costs more, nats
  uint64_t n_blocks = 0;              // kv_blocks read, all heads and tokens
  uint64_t kv_bytes = 0, digest_bytes = 0, dense_bytes = 0;  // summed over the tokens
};

// The stages of a decode step, in order; embed and logits once, the others in each layer.
enum class DecodeStage : uint8_t {
  kEmbed,
  kAttentionIn,
  kAttend,
  kAttentionOut,
  kFeedForward,
  kLogits,
};

struct StageTime {
  DecodeStage stage = DecodeStage::kEmbed;
  int layer = 0;        // 0 for embed and logits
  double seconds = 0;   // median over the steps
  uint64_t bytes = 0;   // weights, keys, values and digests that it reads
};

struct StepTiming {
  int depth_tokens = 0;  // of the last step
  int n_steps = 0;
  std::vector<StageTime> stages;
  double bytes_per_second = 0;  // what this machine's memory gives its threads: the floor
};

class Engine {
 public:
  using MemoryCallback = std::function<void(const MemoryReport&)>;
  using LoadProgress = std::function<void(double fraction)>;
  using PrefillCallback = std::function<void(const PrefillProgress&)>;
  using TokenCallback = std::function<void(const GeneratedToken&)>;
  using TailCallback = std::function<void(int done_tokens)>;

  // Opens a model. Reads the GGUF's header first and refuses what cannot be run.
  static Result<std::unique_ptr<Engine>> open(const EngineConfig& config,
                                              const LoadProgress& progress = {});
  virtual ~Engine() = default;

  virtual const ModelInfo& model() const = 0;
  virtual const HeadProfile& profile() const = 0;
  virtual std::string device_name() const = 0;      // e.g. "cpu (zen4, 2 threads)"
  virtual MemoryReport memory() const = 0;
  // Calls back at once, and from then on while a prefill, an answer or a measurement runs, some ten
  // times a second: on the thread that runs it.
  virtual void on_memory(MemoryCallback callback) = 0;
  // Digests of existing sequences are rebuilt on their next decode step.
  virtual Status set_profile(HeadProfile profile) = 0;

  // tokens. parse_special: special-token text (e.g. "<|im_end|>") becomes the special token;
  // without it the same characters are plain text (for documents and questions).
  virtual std::vector<Token> tokenize(std::string_view text, bool parse_special) const = 0;
  virtual std::string detokenize(std::span<const Token> tokens) const = 0;
  virtual Token bos_token() const = 0;
  virtual bool is_end_of_turn(Token token) const = 0;

  // kv. A sequence is a prefix of tokens; sequences share KV pages.
  virtual SequenceId create_sequence() = 0;
  virtual Result<SequenceId> fork(SequenceId sequence) = 0;
  // Shortens to at most n_tokens and returns the length kept: a prompt can be cut only at chunk
  // boundaries and segment ends, generated text anywhere.
  virtual Result<int> truncate(SequenceId sequence, int n_tokens) = 0;
  virtual void release(SequenceId sequence) = 0;
  virtual Result<std::vector<Token>> sequence_tokens(SequenceId sequence) const = 0;
  // The hash chain's key at the end of the sequence: names the read (hex).
  virtual Result<std::string> sequence_key(SequenceId sequence) const = 0;
  // The files of the store that hold this sequence's persisted KV.
  virtual Result<std::vector<std::string>> stored_runs(SequenceId sequence) const = 0;
  // How many of these tokens, as one prompt segment at the start of a sequence, need no prefill.
  virtual int cached_tokens(std::span<const Token> tokens) const = 0;

  // prefill: appends one prompt segment. Cached KV (in memory, then on disk) is taken first.
  // After kCancelled the whole steps done stay findable: release the sequence and prefill the same
  // segments on a new one to continue.
  virtual Result<PrefillProgress> prefill(SequenceId sequence, std::span<const Token> tokens,
                                          const PrefillOptions& options,
                                          const PrefillCallback& on_progress,
                                          const CancelFlag* cancel) = 0;

  // decode: appends one token and returns its trace; logits() then holds the next-token logits.
  virtual Result<StepTrace> decode(SequenceId sequence, Token token,
                                   const DecodeOptions& options) = 0;
  // [n_vocab] of the last prefill or decode; empty after an answer whose tokens the device drew.
  virtual std::span<const float> logits() const = 0;
  // Times the stages of n_steps decode steps on a copy of the sequence, which stays as it is.
  virtual Result<StepTiming> time_steps(SequenceId sequence, const DecodeOptions& options,
                                        int n_steps) = 0;

  // answer: samples from the current logits and decodes until the turn ends.
  virtual Result<GenerateReport> generate(SequenceId sequence, const GenerateOptions& options,
                                          const TokenCallback& on_token,
                                          const CancelFlag* cancel) = 0;

  // calibration and tests
  // Appends tokens as prompt and returns log-probabilities' inputs: logits of every position,
  // [tokens.size()][n_vocab].
  virtual Result<std::vector<float>> prefill_logits(SequenceId sequence,
                                                    std::span<const Token> tokens) = 0;
  // Prefills tokens on a fresh sequence and measures, for n_queries of the last
  // tail_tokens positions, what every candidate would have cost each head.
  virtual Result<HeadErrors> measure_heads(std::span<const Token> tokens, int tail_tokens,
                                           int n_queries, std::span<const int> block_tokens,
                                           std::span<const int> budget_tokens,
                                           const PrefillCallback& on_progress,
                                           const CancelFlag* cancel) = 0;
  // Prefills tokens on a fresh sequence and measures for each query head how often its heaviest
  // token is the one that is copied (retrieval heads: Wu et al., arXiv 2404.15574):
  // [n_layers * n_q_heads], shares of the copies. The copies' positions ascend.
  virtual Result<std::vector<double>> measure_retrieval(std::span<const Token> tokens,
                                                        std::span<const CopiedToken> copies,
                                                        const PrefillCallback& on_progress,
                                                        const CancelFlag* cancel) = 0;
  // Decodes the tail, teacher forced, on forks of the sequence: densely, and in each mode. The
  // sequence and the engine's profile stay as they are. Errors as set_profile and decode; kCancelled
  // at the next token.
  virtual Result<std::vector<TailComparison>> compare_tail(SequenceId sequence,
                                                           std::span<const Token> tail,
                                                           std::span<const TailMode> modes,
                                                           const TailCallback& on_progress,
                                                           const CancelFlag* cancel) = 0;
};

// What can be said of a GGUF without loading its weights. May crash the process on strange files
// (libllama asserts), so call it in one that may die.
Result<ModelInfo> inspect_model(const std::string& path);

// Whether this build can compute on a GPU of this machine: the GPU's name, or why not.
struct CudaSupport {
  bool is_usable = false;
  std::string detail;
};
CudaSupport cuda_support();

// Directory of the shared libraries with the CPU backends (libggml-cpu-*.so); call once per
// process before open(). Routes libllama's and ggml's log to the given function.
void initialise_libraries(const std::string& library_dir,
                          std::function<void(int level, std::string_view text)> log);

}  // namespace scholia
