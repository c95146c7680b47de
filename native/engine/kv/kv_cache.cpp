#include "engine/kv/kv_cache.h"

#include <algorithm>
#include <optional>
#include <ranges>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "engine/kv/page_pool.h"
#include "engine/kv/run_store.h"

namespace scholia {
namespace {

constexpr int kRunPages = kRunTokens / kKvPageTokens;
static_assert(kRunTokens % kKvPageTokens == 0);

int pages_for(int n_tokens) { return (n_tokens + kKvPageTokens - 1) / kKvPageTokens; }

// Fields that mean nothing for a kind do not tell two segments apart.
SegmentKind canonical(const SegmentKind& kind) {
  if (!kind.generated) return {};
  if (kind.mode == Mode::kDense) return {.generated = true};
  return kind;
}

struct Sequence {
  Chain chain;
  std::vector<PageId> table;        // those of the tokens, then reserved ones
  std::optional<SegmentKind> open;  // the segment being filled
  Digests digests;
  uint64_t lineage;
};

// A page on the way into a sequence; holds a reference.
struct FoundPage {
  PageId id;
  bool from_disk;
};

}  // namespace

struct KvCache::State {
  State(const KvCacheConfig& cache_config, KvPages kv_pages, std::unique_ptr<RunStore> run_store)
      : config(cache_config),
        root(chain_root(cache_config.model_fingerprint, cache_config.chunk_tokens)),
        pages(std::move(kv_pages)),
        pool(cache_config.n_pages),
        store(std::move(run_store)) {}

  Sequence& at(SequenceId id) { return sequences.at(id); }
  const Sequence& at(SequenceId id) const { return sequences.at(id); }
  Status check(SequenceId id) const;

  Run run_of_page(const Chain& chain, int page) const;
  ChainHash hash_at_page_end(const Chain& chain, int page) const;
  void drop_reserved(Sequence& sequence);
  Status save_if_missing(const Sequence& sequence, const Run& run);
  bool find_in_memory(const Chain& chain, int page, std::vector<FoundPage>& found);
  bool find_on_disk(const Chain& chain, int page, int end_page, std::vector<FoundPage>& found,
                    CachedPrefix& taken);

  KvCacheConfig config;
  ChainHash root;
  KvPages pages;
  PagePool pool;
  std::unique_ptr<RunStore> store;  // null: nothing on disk
  std::unordered_map<SequenceId, Sequence> sequences;
  SequenceId next_id = 1;
  uint64_t next_lineage = 1;
};

Status KvCache::State::check(SequenceId id) const {
  if (sequences.contains(id)) return {};
  return Error{ErrorCode::kInvalidArgument, "there is no sequence " + std::to_string(id)};
}

// The run that holds a page, as far as the chain goes.
Run KvCache::State::run_of_page(const Chain& chain, int page) const {
  const int begin = page / kRunPages * kRunTokens;
  return {&chain, begin, std::min(begin + kRunTokens, chain.n_tokens())};
}

ChainHash KvCache::State::hash_at_page_end(const Chain& chain, int page) const {
  return chain.hash_at(std::min((page + 1) * kKvPageTokens, chain.n_tokens()));
}

void KvCache::State::drop_reserved(Sequence& sequence) {
  const size_t n_used = size_t(pages_for(sequence.chain.n_tokens()));
  while (sequence.table.size() > n_used) {
    pool.release(sequence.table.back());
    sequence.table.pop_back();
  }
}

// --- opening --------------------------------------------------------------------------------

KvCache::KvCache(std::unique_ptr<State> state) : state_(std::move(state)) {}
KvCache::~KvCache() = default;

Result<std::unique_ptr<KvCache>> KvCache::create(const KvCacheConfig& config) {
  Result<KvPages> pages = KvPages::reserve(config.shape, config.n_pages);
  if (!pages.ok()) return pages.error();
  return create(config, std::move(pages.value()));
}

Result<std::unique_ptr<KvCache>> KvCache::create(const KvCacheConfig& config, KvPages pages) {
  if (config.chunk_tokens <= 0 || config.chunk_tokens % kKvPageTokens != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "chunk_tokens: a positive multiple of " + std::to_string(kKvPageTokens) +
                     " is expected, got " + std::to_string(config.chunk_tokens)};
  }
  std::unique_ptr<RunStore> store;
  if (!config.store_dir.empty()) {
    Result<RunStore> opened =
        RunStore::open(config.store_dir, config.shape, config.model_fingerprint);
    if (!opened.ok()) return opened.error();
    store = std::make_unique<RunStore>(std::move(opened.value()));
  }
  auto state = std::make_unique<State>(config, std::move(pages), std::move(store));
  return std::unique_ptr<KvCache>(new KvCache(std::move(state)));
}

// --- sequences ------------------------------------------------------------------------------

SequenceId KvCache::create_sequence() {
  const SequenceId id = state_->next_id++;
  state_->sequences.emplace(
      id, Sequence{Chain(state_->root, state_->config.chunk_tokens), {}, std::nullopt, {},
                   state_->next_lineage++});
  return id;
}

Result<SequenceId> KvCache::fork(SequenceId id) {
  if (Status status = state_->check(id); !status.ok()) return status.error();
  const Sequence& from = state_->at(id);
  Sequence copy = from;
  copy.lineage = state_->next_lineage++;
  copy.table.resize(size_t(pages_for(copy.chain.n_tokens())));
  for (const PageId page : copy.table) state_->pool.retain(page);
  const SequenceId copy_id = state_->next_id++;
  state_->sequences.emplace(copy_id, std::move(copy));
  return copy_id;
}

Result<int> KvCache::truncate(SequenceId id, int n_tokens) {
  if (Status status = state_->check(id); !status.ok()) return status.error();
  if (n_tokens < 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "n_tokens: a length of 0 or more is expected, got " + std::to_string(n_tokens)};
  }
  Sequence& sequence = state_->at(id);
  if (n_tokens >= sequence.chain.n_tokens()) return sequence.chain.n_tokens();
  const int kept = sequence.chain.cut(n_tokens);
  state_->drop_reserved(sequence);
  sequence.digests.truncate(kept);
  sequence.lineage = state_->next_lineage++;
  sequence.open.reset();
  return kept;
}

void KvCache::release(SequenceId id) {
  const auto found = state_->sequences.find(id);
  if (found == state_->sequences.end()) return;
  // Last pages first: they are of no use without the ones before and make room before them.
  std::vector<PageId>& table = found->second.table;
  for (const PageId page : std::views::reverse(table)) state_->pool.release(page);
  state_->sequences.erase(found);
}

bool KvCache::contains(SequenceId id) const { return state_->sequences.contains(id); }

// --- reading --------------------------------------------------------------------------------

KvView KvCache::view(SequenceId id) const {
  const Sequence& sequence = state_->at(id);
  return {sequence.table.data(), sequence.chain.n_tokens()};
}

std::span<const Token> KvCache::tokens(SequenceId id) const {
  return state_->at(id).chain.tokens();
}

ChainHash KvCache::chain(SequenceId id) const {
  const Chain& chain = state_->at(id).chain;
  return chain.hash_at(chain.n_tokens());
}

Digests& KvCache::digests(SequenceId id) { return state_->at(id).digests; }

uint64_t KvCache::lineage(SequenceId id) const { return state_->at(id).lineage; }

void KvCache::clear_digests() {
  for (auto& [id, sequence] : state_->sequences) sequence.digests.clear();
}

KvPages& KvCache::pages() { return state_->pages; }

// --- growing --------------------------------------------------------------------------------

Status KvCache::begin_segment(SequenceId id, const SegmentKind& kind) {
  if (Status status = state_->check(id); !status.ok()) return status;
  Sequence& sequence = state_->at(id);
  const SegmentKind wanted = canonical(kind);
  if (sequence.open && wanted.generated && *sequence.open == wanted) return {};
  if (Status status = end_segment(id, false); !status.ok()) return status;
  sequence.open = wanted;
  return {};
}

Status KvCache::reserve(SequenceId id, int n_tokens) {
  if (Status status = state_->check(id); !status.ok()) return status;
  if (n_tokens < 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "n_tokens: 0 or more are expected, got " + std::to_string(n_tokens)};
  }
  Sequence& sequence = state_->at(id);
  PagePool& pool = state_->pool;
  const int begin = sequence.chain.n_tokens();
  const size_t last = size_t(begin) / kKvPageTokens;  // the page that the next token goes to
  const int first_slot = begin % kKvPageTokens;
  const bool copies =
      n_tokens > 0 && first_slot > 0 && !pool.writable(sequence.table[last], first_slot);
  const size_t end_page = (size_t(begin) + size_t(n_tokens) + kKvPageTokens - 1) / kKvPageTokens;
  const size_t n_new = end_page - std::min(end_page, sequence.table.size());
  if (n_new + (copies ? 1 : 0) > pool.n_available()) {
    return Error{ErrorCode::kOutOfMemory,
                 "the KV pool is full: " + std::to_string(n_tokens) + " more tokens need " +
                     std::to_string(n_new + (copies ? 1 : 0)) + " KV pages, but of " +
                     std::to_string(pool.n_pages()) + " only " +
                     std::to_string(pool.n_available()) +
                     " are not in use; close another read or open the model with a larger pool"};
  }
  if (copies) {
    const PageId fresh = pool.take();
    state_->pages.copy_page(sequence.table[last], fresh);
    pool.release(sequence.table[last]);
    sequence.table[last] = fresh;
  }
  for (size_t i = 0; i < n_new; ++i) sequence.table.push_back(pool.take());
  for (size_t page = last; page < end_page; ++page) {
    const size_t end_slot = size_t(begin) + size_t(n_tokens) - page * kKvPageTokens;
    pool.claim(sequence.table[page], int(std::min<size_t>(end_slot, kKvPageTokens)));
  }
  return {};
}

void KvCache::append(SequenceId id, std::span<const Token> tokens) {
  Sequence& sequence = state_->at(id);
  const int first_page = sequence.chain.n_tokens() / kKvPageTokens;
  sequence.chain.append(sequence.open.value_or(SegmentKind{}), tokens);
  const int end_page = sequence.chain.n_tokens() / kKvPageTokens;  // of the full ones
  for (int page = first_page; page < end_page; ++page) {
    state_->pool.add(state_->hash_at_page_end(sequence.chain, page), sequence.table[size_t(page)],
                     kKvPageTokens);
  }
}

Status KvCache::end_segment(SequenceId id, bool persist_runs) {
  if (Status status = state_->check(id); !status.ok()) return status;
  Sequence& sequence = state_->at(id);
  const int end = sequence.chain.n_tokens();
  if (sequence.open && end % kKvPageTokens != 0) {
    state_->pool.add(sequence.chain.hash_at(end), sequence.table[size_t(end / kKvPageTokens)],
                     end % kKvPageTokens);
  }
  sequence.open.reset();
  if (!persist_runs) return {};
  if (Status status = persist(id); !status.ok()) return status;
  if (end % kRunTokens == 0) return {};
  return state_->save_if_missing(sequence,
                                 state_->run_of_page(sequence.chain, (end - 1) / kKvPageTokens));
}

int KvCache::chunk_end(int position, int segment_end) const {
  return next_chunk_end(position, segment_end, state_->config.chunk_tokens);
}

// --- finding what was computed before -------------------------------------------------------

bool KvCache::State::find_in_memory(const Chain& chain, int page, std::vector<FoundPage>& found) {
  const std::optional<PageId> id = pool.find(hash_at_page_end(chain, page));
  if (!id) return false;
  pool.retain(*id);
  found.push_back({*id, false});
  return true;
}

// Loads the run of `page`; its pages [page, end_page) that are not in memory become found.
bool KvCache::State::find_on_disk(const Chain& chain, int page, int end_page,
                                  std::vector<FoundPage>& found, CachedPrefix& taken) {
  if (!store) return false;
  const Run run = run_of_page(chain, page);
  RunFile file = store->find(run);
  std::vector<FoundPage> wanted;
  if (file == RunFile::kWhole) {
    std::vector<std::optional<PageId>> destinations(size_t(run.end_page() - run.first_page()));
    for (int p = page; p < std::min(end_page, run.end_page()); ++p) {
      if (find_in_memory(chain, p, wanted)) continue;
      if (pool.n_available() == 0) break;
      wanted.push_back({pool.take(), true});
      destinations[size_t(p - run.first_page())] = wanted.back().id;
    }
    if (wanted.empty()) return false;  // no room for any of it
    file = store->load(run, pages, destinations);
  }
  if (file != RunFile::kWhole) {
    for (const FoundPage& p : wanted) pool.release(p.id);
    if (file == RunFile::kBroken) {
      store->remove(run);
      taken.broken_tokens += run.end - run.begin;
    }
    return false;
  }
  for (const FoundPage& p : wanted) {
    const int index = page + int(&p - wanted.data());
    const int n_slots = std::min(kKvPageTokens, chain.n_tokens() - index * kKvPageTokens);
    pool.claim(p.id, n_slots);
    pool.add(hash_at_page_end(chain, index), p.id, n_slots);
    found.push_back(p);
  }
  return true;
}

CachedPrefix KvCache::take_cached(SequenceId id, std::span<const Token> upcoming,
                                  int limit_tokens) {
  CachedPrefix taken;
  Sequence& sequence = state_->at(id);
  if (!sequence.open || upcoming.empty() || limit_tokens <= 0) return taken;
  PagePool& pool = state_->pool;
  state_->drop_reserved(sequence);

  // The names of what would be computed, and how far it may be taken.
  const int begin = sequence.chain.n_tokens();
  Chain chain = sequence.chain;
  chain.append(*sequence.open, upcoming);
  const int limit = begin + int(std::min<size_t>(size_t(limit_tokens), upcoming.size()));
  const int first_page = begin / kKvPageTokens;  // an unfinished one is found whole
  const int end_page = pages_for(chain.boundary(limit));
  std::vector<FoundPage> found;
  for (int page = first_page; page < end_page; page = first_page + int(found.size())) {
    if (!state_->find_in_memory(chain, page, found) &&
        !state_->find_on_disk(chain, page, end_page, found, taken)) {
      break;
    }
  }

  // Keep what ends at a boundary within whole pages, or with the segment.
  int end = std::min(limit, (first_page + int(found.size())) * kKvPageTokens);
  if (end < chain.n_tokens()) end = chain.boundary(end / kKvPageTokens * kKvPageTokens);
  const size_t n_kept = end > begin ? size_t(pages_for(end) - first_page) : 0;
  while (found.size() > n_kept) {
    pool.release(found.back().id);
    found.pop_back();
  }
  if (n_kept == 0) return taken;
  if (sequence.table.size() > size_t(first_page)) {
    pool.release(sequence.table.back());
    sequence.table.pop_back();
  }
  for (const FoundPage& page : found) {
    const int page_begin = std::max(begin, int(sequence.table.size()) * kKvPageTokens);
    const int page_end = std::min(end, int(sequence.table.size() + 1) * kKvPageTokens);
    (page.from_disk ? taken.disk_tokens : taken.memory_tokens) += page_end - page_begin;
    sequence.table.push_back(page.id);
  }
  chain.cut(end);
  sequence.chain = std::move(chain);
  return taken;
}

int KvCache::find_cached(std::span<const Token> upcoming) const {
  Chain chain(state_->root, state_->config.chunk_tokens);
  chain.append({}, upcoming);
  const int end_page = pages_for(chain.n_tokens());
  int page = 0;
  while (page < end_page) {
    if (state_->pool.find(state_->hash_at_page_end(chain, page))) {
      ++page;
      continue;
    }
    const Run run = state_->run_of_page(chain, page);
    if (!state_->store || state_->store->find(run) != RunFile::kWhole) break;
    page = run.end_page();
  }
  return chain.boundary(page * kKvPageTokens);
}

// --- saving ---------------------------------------------------------------------------------

Status KvCache::State::save_if_missing(const Sequence& sequence, const Run& run) {
  if (!store || store->find(run) == RunFile::kWhole) return {};
  const auto table =
      std::span(sequence.table)
          .subspan(size_t(run.first_page()), size_t(run.end_page() - run.first_page()));
  return store->save(run, pages, table);
}

Status KvCache::persist(SequenceId id) {
  if (Status status = state_->check(id); !status.ok()) return status;
  const Sequence& sequence = state_->at(id);
  const int n_whole = sequence.chain.n_tokens() / kRunTokens;
  for (int run = 0; run < n_whole; ++run) {
    Status status =
        state_->save_if_missing(sequence, state_->run_of_page(sequence.chain, run * kRunPages));
    if (!status.ok()) return status;
  }
  return {};
}

std::vector<std::string> KvCache::stored_runs(SequenceId id) const {
  std::vector<std::string> paths;
  if (!state_->store || !contains(id)) return paths;
  const Chain& chain = state_->at(id).chain;
  std::vector<int> ends = chain.piece_ends();  // where a segment may have ended
  for (int end = kRunTokens; end <= chain.n_tokens(); end += kRunTokens) ends.push_back(end);
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  for (const int end : ends) {
    const Run run{&chain, (end - 1) / kRunTokens * kRunTokens, end};
    if (state_->store->find(run) == RunFile::kWhole) paths.push_back(state_->store->path(run));
  }
  return paths;
}

// --- memory ---------------------------------------------------------------------------------

size_t KvCache::pages_in_use() const { return state_->pool.n_referenced(); }
size_t KvCache::pages_kept() const { return state_->pool.n_findable(); }

size_t KvCache::digest_bytes() const {
  std::unordered_set<const DigestGroup*> groups;
  size_t n_bytes = 0;
  for (const auto& [id, sequence] : state_->sequences) {
    n_bytes += sequence.digests.open().size();
    for (const auto& group : sequence.digests.closed()) {
      if (groups.insert(group.get()).second) n_bytes += group->size();
    }
  }
  return n_bytes;
}

}  // namespace scholia
