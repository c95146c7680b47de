// What calibration and comparisons ask of the engine: the errors of heads, where they look, and how far
// sparse reading's next token is from dense reading's.
#include <algorithm>
#include <future>
#include <numeric>

#include "engine/decode/compare_logits.h"
#include "engine/decode/retrieval.h"
#include "engine/pipeline.h"

namespace scholia {
namespace {

// A tail is compared in pieces of so many tokens, whose dense logits are held: 156 MB for a vocabulary
// of 152,000. They are f32: rounded to f16, logits of 16 to 32 move by up to 0.008, which is a
// divergence of its own and makes ties of likeliest tokens. Shorter pieces would change the mode more
// often, and a change builds its digests anew.
constexpr size_t kTailPieceTokens = 256;
// Of a mode's own logits so many rows, for as many threads, are held until they are compared, and as many
// are read meanwhile.
constexpr size_t kTailRowsAtOnce = 32;

}  // namespace

Result<std::vector<float>> Pipeline::prefill_logits(SequenceId sequence,
                                                    std::span<const Token> tokens) {
  if (Status status = check_prompt(sequence, tokens); !status.ok()) return status.error();
  if (Status status = kv_->begin_segment(sequence, {}); !status.ok()) return status.error();
  std::vector<float> all;
  // Chunk by chunk: a longer step's rows of logits would take gigabytes.
  const int first = kv_->view(sequence).n_tokens, end = first + static_cast<int>(tokens.size());
  for (int position = first; position < end;) {
    const int n = kv_->chunk_end(position, end) - position;
    const auto rest = tokens.subspan(static_cast<size_t>(position - first));
    if (Status status = prefill_step(sequence, rest, n, LogitRows::kAll, {}, nullptr);
        !status.ok()) {
      return status.error();
    }
    all.insert(all.end(), logits_.begin(), logits_.end());
    position += n;
  }
  logits_.assign(all.end() - info_.n_vocab, all.end());
  if (Status status = kv_->end_segment(sequence, false); !status.ok()) return status.error();
  return all;
}

Result<HeadErrors> Pipeline::measure_heads(std::span<const Token> tokens, int tail_tokens,
                                           int n_queries, std::span<const int> block_tokens,
                                           std::span<const int> budget_tokens,
                                           const PrefillCallback& on_progress,
                                           const CancelFlag* cancel) {
  const int n_tokens = static_cast<int>(tokens.size());
  if (tail_tokens <= 0 || tail_tokens > n_tokens || n_queries <= 0 || n_queries > tail_tokens) {
    return Error{ErrorCode::kInvalidArgument,
                 "The queries must fit the tail, and the tail the text."};
  }
  // Evenly spaced over the tail, the last position included.
  CapturedQueries queries;
  for (int i = 1; i <= n_queries; ++i) {
    queries.positions.push_back(n_tokens - tail_tokens +
                                static_cast<int>(int64_t(tail_tokens) * i / n_queries) - 1);
  }
  std::optional<Result<HeadErrors>> errors;
  const Status status = measure_text(
      tokens, queries, on_progress, cancel, [&](KvPages& pages, const KvView& view) {
        errors = measure_head_errors(pages, view, info_.n_q_heads, profile_.digest, queries,
                                     block_tokens, budget_tokens, config_.n_threads, {}, cancel);
      });
  if (!status.ok()) return status.error();
  return *errors;
}

Result<std::vector<double>> Pipeline::measure_retrieval(std::span<const Token> tokens,
                                                        std::span<const CopiedToken> copies,
                                                        const PrefillCallback& on_progress,
                                                        const CancelFlag* cancel) {
  CapturedQueries queries;
  std::vector<int> sources;
  int last = -1;
  for (const CopiedToken& copy : copies) {
    if (copy.position <= last || copy.position >= static_cast<int>(tokens.size()) ||
        copy.source < 0 || copy.source > copy.position) {
      return Error{ErrorCode::kInvalidArgument,
                   "Copies must ascend within the text, and come after their sources."};
    }
    last = copy.position;
    queries.positions.push_back(copy.position);
    sources.push_back(copy.source);
  }
  if (copies.empty()) {
    return Error{ErrorCode::kInvalidArgument, "Measuring retrieval needs copies."};
  }
  std::optional<Result<std::vector<double>>> scores;
  const Status status = measure_text(
      tokens, queries, on_progress, cancel, [&](KvPages& pages, const KvView& view) {
        scores = retrieval_scores(pages, view, info_.n_q_heads, queries, sources,
                                  config_.n_threads, cancel);
      });
  if (!status.ok()) return status.error();
  return *scores;
}

Status Pipeline::measure_text(std::span<const Token> tokens, CapturedQueries& queries,
                              const PrefillCallback& on_progress, const CancelFlag* cancel,
                              const HostMeasurement& measure) {
  const int n_tokens = static_cast<int>(tokens.size());
  const SequenceId sequence = kv_->create_sequence();
  const auto release = [&](Status status) {
    kv_->release(sequence);
    return status;
  };
  if (Status status = check_prompt(sequence, tokens); !status.ok()) return release(status);
  if (Status status = kv_->begin_segment(sequence, {}); !status.ok()) return release(status);
  const size_t row = size_t(info_.n_q_heads) * info_.head_dim;
  queries.q.assign(info_.n_layers, std::vector<float>(row * queries.positions.size()));

  // Only the steps with queries have to be computed here.
  const CachedPrefix cached = kv_->take_cached(sequence, tokens, queries.positions.front());
  PrefillProgress progress;
  progress.total_tokens = n_tokens;
  progress.memory_tokens = cached.memory_tokens;
  progress.disk_tokens = cached.disk_tokens;
  progress.broken_tokens = cached.broken_tokens;
  progress.done_tokens = progress.depth_tokens = cached.total();
  while (progress.done_tokens < n_tokens) {
    const int first = progress.done_tokens;
    const int end = step_end(first, n_tokens);
    const auto capture = [&](int layer, const float* q) {
      for (size_t i = 0; i < queries.positions.size(); ++i) {
        if (queries.positions[i] < first || queries.positions[i] >= end) continue;
        std::copy_n(q + size_t(queries.positions[i] - first) * row, row,
                    queries.q[layer].data() + i * row);
      }
    };
    const auto start = Clock::now();
    const Status status = prefill_step(sequence, tokens.subspan(static_cast<size_t>(first)),
                                       end - first, LogitRows::kNone, capture, cancel);
    if (!status.ok()) return release(status);
    add_step(progress, end - first, seconds_since(start));
    if (on_progress) on_progress(progress);
  }
  return release(measure_on_host(kv_->view(sequence), measure));
}

Result<std::vector<TailComparison>> Pipeline::compare_tail(SequenceId sequence,
                                                           std::span<const Token> tail,
                                                           std::span<const TailMode> modes,
                                                           const TailCallback& on_progress,
                                                           const CancelFlag* cancel) {
  if (Status status = check_prompt(sequence, tail); !status.ok()) return status.error();
  std::vector<SequenceId> forks;
  std::vector<TailComparison> comparisons(modes.size());
  Status status;
  while (status.ok() && forks.size() <= modes.size()) {
    auto copy = kv_->fork(sequence);
    if (copy.ok()) {
      forks.push_back(copy.value());
    } else {
      status = copy.error();
    }
  }
  const HeadProfile own = profile_;
  if (status.ok()) status = compare_forks(forks, tail, modes, on_progress, cancel, comparisons);
  for (const SequenceId fork : forks) kv_->release(fork);
  if (Status restored = set_profile(own); status.ok()) status = restored;
  if (!status.ok()) return status.error();
  return comparisons;
}

Status Pipeline::compare_forks(std::span<const SequenceId> forks, std::span<const Token> tail,
                               std::span<const TailMode> modes, const TailCallback& on_progress,
                               const CancelFlag* cancel,
                               std::vector<TailComparison>& comparisons) {
  std::vector<float> truth;
  TailRows rows;
  for (size_t at = 0; at < tail.size(); at += kTailPieceTokens) {
    const size_t end = std::min(tail.size(), at + kTailPieceTokens);
    const auto piece = tail.subspan(at, end - at);
    const auto following = tail.subspan(at + 1, std::min(end, tail.size() - 1) - at);
    TailComparison dense;
    if (Status status = read_rows(forks[0], piece, {.mode = Mode::kDense}, cancel, truth, dense);
        !status.ok()) {
      return status;
    }
    for (size_t i = 0; i < modes.size(); ++i) {
      // Taking a profile drops the digests of another.
      if (modes[i].profile != profile_) {
        if (Status status = set_profile(modes[i].profile); !status.ok()) return status;
      }
      if (Status status = compare_piece(forks[i + 1], piece, following, modes[i].options, truth,
                                        rows, cancel, comparisons[i]);
          !status.ok()) {
        return status;
      }
    }
    if (on_progress) on_progress(static_cast<int>(end));
  }
  return {};
}

// A device reads the next rows while the processor compares these. Where the processor reads them, too,
// one comes after the other.
Status Pipeline::compare_piece(SequenceId sequence, std::span<const Token> piece,
                               std::span<const Token> following, const DecodeOptions& options,
                               std::span<const float> truth, TailRows& rows,
                               const CancelFlag* cancel, TailComparison& comparison) {
  const auto when = kv_->pages().is_on_host() ? std::launch::deferred : std::launch::async;
  std::future<Status> compared;
  for (size_t at = 0; at < piece.size(); at += kTailRowsAtOnce) {
    const size_t n_rows = std::min(kTailRowsAtOnce, piece.size() - at);
    std::vector<float>& own = rows[at / kTailRowsAtOnce % 2];
    const Status read = read_rows(sequence, piece.subspan(at, n_rows), options, cancel, own,
                                  comparison);
    if (!read.ok()) return read;
    if (compared.valid()) {
      if (Status before = compared.get(); !before.ok()) return before;
    }
    const auto next = following.subspan(std::min(at, following.size()));
    compared = std::async(when, [=, this, &own, &comparison] {  // adds what read_rows doesn't
      return compare_rows(truth.subspan(at * info_.n_vocab, own.size()), own, info_.n_vocab,
                          next.first(std::min(n_rows, next.size())), config_.n_threads, comparison);
    });
  }
  return compared.get();
}

Status Pipeline::read_rows(SequenceId sequence, std::span<const Token> tokens,
                           const DecodeOptions& options, const CancelFlag* cancel,
                           std::vector<float>& rows, TailComparison& read) {
  rows.clear();
  for (const Token token : tokens) {
    if (cancel != nullptr && cancel->load(std::memory_order_relaxed)) {
      return Error{ErrorCode::kCancelled, "Comparing the readings was cancelled."};
    }
    const auto trace = decode(sequence, token, options);
    if (!trace.ok()) return trace.error();
    rows.insert(rows.end(), logits_.begin(), logits_.end());
    const auto& n_blocks = trace.value().n_blocks;
    read.n_blocks += std::accumulate(n_blocks.begin(), n_blocks.end(), uint64_t{0});
    read.kv_bytes += trace.value().kv_bytes;
    read.digest_bytes += trace.value().digest_bytes;
    read.dense_bytes += trace.value().dense_bytes;
  }
  return {};
}

// What is measured is measured by the processor, on a copy of the pages where they are not its own.
Status Pipeline::measure_on_host(const KvView& view, const HostMeasurement& measure) {
  if (kv_->pages().is_on_host()) {
    measure(kv_->pages(), view);
    return {};
  }
  auto copy = kv_->pages().host_copy(view);
  if (!copy.ok()) return copy.error();
  std::vector<PageId> in_order(copy.value().n_pages());
  std::iota(in_order.begin(), in_order.end(), PageId{0});
  measure(copy.value(), {in_order.data(), view.n_tokens});
  return {};
}

}  // namespace scholia
