// Sequences over KV pages: page tables, reference counts, the hash chain, and saved reads.
//
// A sequence is a row of segments. A prompt segment is prefilled in chunks whose boundaries lie at
// absolute multiples of the chunk size and at segment ends, one or several of them at once; a
// generated segment is decoded token by token with a mode, a profile and a budget. Each KV page has a
// name, the hash chain's at its end (chain.h): pages of equal names stand for one another, and a
// generated page is never taken for a prefilled one.
//
// A page is written only past what it already holds for others: a slot that somebody else can see
// is never overwritten; the page is copied first.
//
// On disk a read is a row of run files of kRunTokens tokens each (the last one of a persisted
// segment may be shorter), found by the chain's hash at the run's end, so a killed read continues
// from the last whole run, and reads that begin alike share files. File: see docs/kv_files.md.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "engine/config.h"
#include "engine/kv/chain.h"
#include "engine/kv/digests.h"
#include "engine/kv/kv_pages.h"
#include "engine/status.h"

namespace scholia {

struct KvCacheConfig {
  KvShape shape;
  std::string model_fingerprint;
  int chunk_tokens = 512;  // a multiple of kKvPageTokens
  size_t n_pages = 0;
  std::string store_dir;  // empty: nothing on disk
};

struct CachedPrefix {
  int memory_tokens = 0;
  int disk_tokens = 0;
  // Of a run whose file was damaged or cut short, or another's under its name: the file is deleted,
  // these tokens have to be read again.
  int broken_tokens = 0;
  int total() const { return memory_tokens + disk_tokens; }
};

class KvCache {
 public:
  // invalid_argument for a shape, chunk size or folder that cannot be; out_of_memory.
  static Result<std::unique_ptr<KvCache>> create(const KvCacheConfig& config);
  // The same with pages of a backend's; config.n_pages is theirs.
  static Result<std::unique_ptr<KvCache>> create(const KvCacheConfig& config, KvPages pages);
  ~KvCache();

  // sequences
  SequenceId create_sequence();
  Result<SequenceId> fork(SequenceId sequence);
  // Returns the length kept: a prompt is cut at its chunk boundaries and segment ends only. When
  // something was cut, no segment is open.
  Result<int> truncate(SequenceId sequence, int n_tokens);
  // The pages stay findable by hash until their room is needed (least recently used first).
  void release(SequenceId sequence);
  bool contains(SequenceId sequence) const;

  // reading. The sequence exists. A view is valid until the sequence changes.
  KvView view(SequenceId sequence) const;
  std::span<const Token> tokens(SequenceId sequence) const;
  ChainHash chain(SequenceId sequence) const;
  Digests& digests(SequenceId sequence);
  // Names how the sequence came about: while it stays the same, tokens were only appended. No two
  // sequences ever have the same one.
  uint64_t lineage(SequenceId sequence) const;
  // Of all sequences: the profile changed. They are built again when needed.
  void clear_digests();
  KvPages& pages();

  // growing. A segment is opened, filled and closed; generated segments may stay open.
  // begin_segment closes an open one of another kind, continues an open generated one of the same
  // kind (so decode may call it for every token), and always starts a new prompt segment. (A prompt
  // that goes on at a chunk boundary, in the same or in a new segment, has the same names.)
  Status begin_segment(SequenceId sequence, const SegmentKind& kind);
  // Appends what is already known of `upcoming` (the whole rest of the open segment): pages found
  // in memory, then runs found on disk (checksums verified; a damaged or short run is deleted and
  // counts as not found). Ends at a chunk boundary or with the segment, so that prefill goes on
  // there. At most limit_tokens are taken.
  CachedPrefix take_cached(SequenceId sequence, std::span<const Token> upcoming, int limit_tokens);
  // How much take_cached would find for `upcoming` as the first segment of an empty sequence;
  // files are found by name and size.
  int find_cached(std::span<const Token> upcoming) const;
  // Makes room for n_tokens more (allocates, evicts, copies shared pages): out_of_memory if the
  // pool is full of pages in use, and then nothing changed. The view then has valid page ids for
  // positions up to n_tokens() + n_tokens.
  Status reserve(SequenceId sequence, int n_tokens);
  // The K and V of these tokens are now written at the sequence's end, where reserve() made room.
  // Of a prompt segment: what ends with a chunk or with the segment.
  void append(SequenceId sequence, std::span<const Token> tokens);
  // Ends the open segment; persist saves whole runs and its last, shorter one. On an error of the
  // disk the segment is ended all the same.
  Status end_segment(SequenceId sequence, bool persist);
  // Saves whole runs not yet on disk. disk_full, or invalid_argument for a folder that cannot be
  // written. The sequence in memory stays usable.
  Status persist(SequenceId sequence);
  // The files that hold this sequence's saved KV, in order.
  std::vector<std::string> stored_runs(SequenceId sequence) const;

  // The next position > n at which a prompt chunk must end, given the segment ends at segment_end.
  int chunk_end(int position, int segment_end) const;

  size_t pages_in_use() const;  // referenced by sequences, shared ones once
  size_t pages_kept() const;    // of past reads, still findable
  size_t digest_bytes() const;  // shared groups once

 private:
  struct State;
  explicit KvCache(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace scholia
