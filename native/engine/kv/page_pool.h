// Which KV pages are free, referenced, or merely findable; which of their slots may be written.
//
// A page is free, referenced by sequences, or unreferenced but findable by hash (a past read); the
// last kind makes room, least recently used first, when no page is free. A page is found under the
// chain's hash at its end, and under that of an unfinished page where a segment ended in it.
#pragma once

#include <cstdint>
#include <list>
#include <optional>
#include <unordered_map>
#include <vector>

#include "engine/kv/chain.h"
#include "engine/kv/kv_pages.h"

namespace scholia {

class PagePool {
 public:
  explicit PagePool(size_t n_pages);

  size_t n_pages() const { return pages_.size(); }
  size_t n_referenced() const { return pages_.size() - n_available(); }
  size_t n_available() const { return free_.size() + findable_.size(); }
  size_t n_findable() const { return findable_.size(); }  // in no use, but filled

  // A page with one reference. Precondition: n_available() > 0.
  PageId take();
  void retain(PageId page);
  // Without references a page that can be found is kept as the most recently used.
  void release(PageId page);

  // Whether the only holder of a reference, or the only one to have come so far, may write the
  // slots from first_slot on: nobody else sees them, by reference or by hash.
  bool writable(PageId page, int first_slot) const;
  // The slots before end_slot are now somebody's.
  void claim(PageId page, int end_slot);

  // Makes the first n_slots of the page findable. Several pages may have the same hash, and so the
  // same content: one that was computed again may outlive the first.
  void add(const ChainHash& hash, PageId page, int n_slots);
  std::optional<PageId> find(const ChainHash& hash) const;

 private:
  struct Page {
    uint32_t n_references = 0;
    int claimed_slots = 0;  // written or about to be, by whoever
    int findable_slots = 0;
    std::vector<ChainHash> hashes;      // under which it is found
    std::list<PageId>::iterator place;  // in findable_, while unreferenced and findable
  };
  struct FirstBytes {  // of a SHA-256: as good as any hash of it
    size_t operator()(const ChainHash& hash) const;
  };

  void forget_hashes(PageId id);

  std::vector<Page> pages_;
  std::vector<PageId> free_;    // a stack: the next one last
  std::list<PageId> findable_;  // unreferenced, least recently used first
  std::unordered_multimap<ChainHash, PageId, FirstBytes> by_hash_;
};

}  // namespace scholia
