#include "engine/kv/page_pool.h"

#include <algorithm>
#include <cstring>

namespace scholia {

size_t PagePool::FirstBytes::operator()(const ChainHash& hash) const {
  size_t value;
  std::memcpy(&value, hash.data(), sizeof value);
  return value;
}

PagePool::PagePool(size_t n_pages) : pages_(n_pages) {
  free_.reserve(n_pages);
  for (size_t page = n_pages; page > 0; --page) free_.push_back(PageId(page - 1));
}

PageId PagePool::take() {
  PageId id;
  if (!free_.empty()) {
    id = free_.back();
    free_.pop_back();
  } else {
    id = findable_.front();
    findable_.pop_front();
    forget_hashes(id);
  }
  Page& page = pages_[id];
  page.claimed_slots = 0;
  page.n_references = 1;
  return id;
}

void PagePool::forget_hashes(PageId id) {
  Page& page = pages_[id];
  for (const ChainHash& hash : page.hashes) {
    const auto [begin, end] = by_hash_.equal_range(hash);
    by_hash_.erase(
        std::find_if(begin, end, [id](const auto& entry) { return entry.second == id; }));
  }
  page.hashes.clear();
  page.findable_slots = 0;
}

void PagePool::retain(PageId id) {
  Page& page = pages_[id];
  if (page.n_references == 0) findable_.erase(page.place);
  ++page.n_references;
}

void PagePool::release(PageId id) {
  Page& page = pages_[id];
  if (--page.n_references > 0) return;
  if (page.hashes.empty()) {
    free_.push_back(id);
  } else {
    page.place = findable_.insert(findable_.end(), id);
  }
}

bool PagePool::writable(PageId id, int first_slot) const {
  const Page& page = pages_[id];
  const int others = page.n_references == 1 ? page.findable_slots : page.claimed_slots;
  return first_slot >= others;
}

void PagePool::claim(PageId id, int end_slot) {
  pages_[id].claimed_slots = std::max(pages_[id].claimed_slots, end_slot);
}

void PagePool::add(const ChainHash& hash, PageId id, int n_slots) {
  Page& page = pages_[id];
  if (std::find(page.hashes.begin(), page.hashes.end(), hash) != page.hashes.end()) return;
  by_hash_.emplace(hash, id);
  page.hashes.push_back(hash);
  page.findable_slots = std::max(page.findable_slots, n_slots);
}

std::optional<PageId> PagePool::find(const ChainHash& hash) const {
  const auto found = by_hash_.find(hash);
  if (found == by_hash_.end()) return std::nullopt;
  return found->second;
}

}  // namespace scholia
