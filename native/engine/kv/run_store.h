// Saved reads: files that hold the K and V of a run of tokens, named by the hash chain at the run's
// end. File format: docs/kv_files.md.
//
// A file is written under another name, flushed and renamed, so it is whole or absent whenever the
// process dies. Nothing in a file is trusted: everything but the keys and values is known before it
// is opened and compared, and keys and values are checked against their checksums.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "engine/kv/chain.h"
#include "engine/kv/kv_pages.h"
#include "engine/status.h"

namespace scholia {

inline constexpr int kRunTokens = 1024;

// The tokens [begin, end) of a chain: begin is a multiple of kRunTokens, end the next one or a
// segment's end before it.
struct Run {
  const Chain* chain;
  int begin;
  int end;
  int first_page() const { return begin / kKvPageTokens; }
  int end_page() const { return (end + kKvPageTokens - 1) / kKvPageTokens; }
};

enum class RunFile : uint8_t {
  kWhole,  // a file of the right size; load() then says whether its content is right
  kMissing,
  kBroken,  // cut short, damaged, or another's under this name
};

class RunStore {
 public:
  // Makes the folder and removes what killed processes left in it. invalid_argument when it cannot
  // be made.
  static Result<RunStore> open(const std::string& dir, const KvShape& shape,
                               const std::string& model_fingerprint);

  std::string path(const Run& run) const;
  // By name and size alone.
  RunFile find(const Run& run) const;
  // pages: those of the run, in order. disk_full when there is no room, invalid_argument when the
  // folder cannot be written, engine_lost; then nothing is left behind.
  Status save(const Run& run, const KvPages& kv, std::span<const PageId> pages) const;
  // Reads the file into the given pages, those of the run in order; nullopt where the page is not
  // wanted. Unless kWhole is returned, what the pages hold is not to be used.
  RunFile load(const Run& run, KvPages& kv, std::span<const std::optional<PageId>> pages) const;
  void remove(const Run& run) const;

 private:
  RunStore(std::string dir, const KvShape& shape, std::string model_fingerprint);
  std::vector<uint8_t> header_before_checksums(const Run& run) const;
  std::optional<std::vector<uint8_t>> header(const Run& run, const KvPages& kv,
                                             std::span<const PageId> pages) const;
  size_t header_bytes(const Run& run) const;
  uint64_t file_bytes(const Run& run) const;
  template <typename Visit, typename EndSpan>
  bool visit_spans(const Run& run, const KvPages& kv, std::span<const PageId> pages,
                   const Visit& visit, const EndSpan& end_span) const;
  Result<int> write(const std::string& file_path, const Run& run, const KvPages& kv,
                    std::span<const PageId> pages) const;
  RunFile read(int file, const Run& run, KvPages& kv,
               std::span<const std::optional<PageId>> pages) const;
  size_t n_spans() const { return 2 * size_t(shape_.n_layers); }

  std::string dir_;
  KvShape shape_;
  std::string model_fingerprint_;
};

}  // namespace scholia
