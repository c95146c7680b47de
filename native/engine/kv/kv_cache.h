// Sequences over KV pages: page tables, reference counts, the hash chain, and saved reads.
//
// A sequence is a list of segments. A prompt segment was prefilled in chunks whose boundaries lie
// at absolute multiples of the chunk size and at segment ends; a generated segment was decoded
// token by token with a mode, a profile and a budget. The hash chain starts from the model's
// fingerprint, the KV type and the chunk size; each KV page hashes the page before it, its tokens,
// where segments begin and what kind they are. So equal hashes mean equal bits, and a generated
// page is never taken for a prefilled one.
//
// A page is written only past what it already holds for others: a slot that somebody else can see
// is never overwritten; the page is copied first.
//
// On disk a read is a row of run files of kRunTokens tokens each (the last one of a persisted
// segment may be shorter), found by the chain's hash at the run's end, so a killed read continues
// from the last whole run, and reads that begin alike share files. File: see docs/kv_files.md.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/kv/digests.h"
#include "engine/kv/kv_pages.h"
#include "engine/status.h"

namespace scholia {

using ChainHash = std::array<uint8_t, 32>;
std::string to_hex(const ChainHash& hash);

inline constexpr int kRunTokens = 1024;

// What a segment is; part of the hash chain.
struct SegmentKind {
  bool generated = false;
  Mode mode = Mode::kDense;      // generated only
  int budget_tokens = 0;         // generated, AB-Sparse only
  uint64_t profile_id = 0;       // generated, AB-Sparse only: hash of block sizes and shares
  bool operator==(const SegmentKind&) const = default;
};

struct KvCacheConfig {
  KvShape shape;
  std::string model_fingerprint;
  int chunk_tokens = 512;
  size_t n_pages = 0;
  std::string store_dir;         // empty: nothing on disk
};

struct CachedPrefix {
  int memory_tokens = 0;
  int disk_tokens = 0;
  int total() const { return memory_tokens + disk_tokens; }
};

class KvCache {
 public:
  static Result<std::unique_ptr<KvCache>> create(const KvCacheConfig& config);
  ~KvCache();

  // sequences
  SequenceId create_sequence();
  Result<SequenceId> fork(SequenceId sequence);
  // Returns the length kept: a prompt is cut at its chunk boundaries and segment ends only.
  Result<int> truncate(SequenceId sequence, int n_tokens);
  // The pages stay findable by hash until their room is needed (least recently used first).
  void release(SequenceId sequence);
  bool contains(SequenceId sequence) const;

  // reading
  KvView view(SequenceId sequence) const;
  std::span<const Token> tokens(SequenceId sequence) const;
  ChainHash chain(SequenceId sequence) const;
  Digests& digests(SequenceId sequence);
  // Of all sequences: the profile changed. They are built again when needed.
  void clear_digests();
  KvPages& pages();

  // growing. A segment is opened, filled and closed; generated segments may stay open.
  // begin_segment closes an open one of another kind, continues an open generated one of the same
  // kind (so decode may call it for every token), and always starts a new prompt segment.
  Status begin_segment(SequenceId sequence, const SegmentKind& kind);
  // Appends what is already known of `upcoming` (the whole rest of the open prompt segment): pages
  // found in memory, then runs found on disk (checksums verified; a damaged or short run is deleted
  // and counts as not found). Ends at a boundary where prefill can go on with equal bits. At most
  // limit_tokens are taken.
  CachedPrefix take_cached(SequenceId sequence, std::span<const Token> upcoming, int limit_tokens);
  // How much take_cached would find for `upcoming` as the first segment of an empty sequence.
  int find_cached(std::span<const Token> upcoming) const;
  // Makes room for n_tokens more (allocates, evicts, copies shared pages): out_of_memory if the
  // pool is full of pages in use. The view then has valid page ids for positions up to
  // n_tokens() + n_tokens.
  Status reserve(SequenceId sequence, int n_tokens);
  // The K and V of these tokens are now written at the sequence's end.
  void append(SequenceId sequence, std::span<const Token> tokens);
  // Ends the open segment; persist saves its last, shorter run too.
  Status end_segment(SequenceId sequence, bool persist);
  // Saves whole runs not yet on disk. disk_full or an I/O message otherwise.
  Status persist(SequenceId sequence);
  std::vector<std::string> stored_runs(SequenceId sequence) const;

  // The next position > n at which a prompt chunk must end, given the segment ends at segment_end.
  int chunk_end(int position, int segment_end) const;

  size_t pages_in_use() const;
  size_t digest_bytes() const;

 private:
  explicit KvCache(const KvCacheConfig& config);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace scholia
