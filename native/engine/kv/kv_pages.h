// The pool of KV pages: the only owner of K and V.
//
// Layout, per layer: K [page][kv_head][kKvPageTokens][head_dim] f16, and V the same. A page id is
// the same in all layers. The pool lies in the host's memory, where it reserves address space for
// its capacity and touches it as pages are used, or in the memory of a backend's device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "engine/config.h"
#include "engine/status.h"

namespace scholia {

using f16 = uint16_t;  // IEEE half, as bits
using PageId = uint32_t;

struct KvShape {
  int n_layers = 0;
  int n_kv_heads = 0;
  int head_dim = 0;

  int n_heads() const { return n_layers * n_kv_heads; }  // (layer, KV head) pairs
  // Elements of one KV page of K (or of V) in one layer.
  size_t page_elements() const { return size_t(n_kv_heads) * kKvPageTokens * head_dim; }
  // Bytes of one KV page, K and V, all layers.
  size_t page_bytes() const { return 2 * sizeof(f16) * page_elements() * n_layers; }
  // Bytes of K and V that one token takes in one head.
  size_t token_bytes_per_head() const { return 2 * sizeof(f16) * size_t(head_dim); }
};

// How one sequence sees its KV: token t lies in pages[t / kKvPageTokens], slot t % kKvPageTokens.
struct KvView {
  const PageId* pages = nullptr;
  int n_tokens = 0;
};

// Where a pool lies. Copies are done when a call returns; false: the device is lost.
class KvMemory {
 public:
  virtual ~KvMemory() = default;
  virtual f16* base() = 0;              // an address of the host or of the device
  virtual bool is_on_host() const = 0;  // may be read and written in place
  virtual bool read(const f16* from, size_t n, f16* to_host) const = 0;
  virtual bool write(f16* to, size_t n, const f16* from_host) = 0;
  virtual bool copy(const f16* from, f16* to, size_t n) = 0;
};

class KvPages {
 public:
  // Zeroed pages. invalid_argument for a shape that cannot be, out_of_memory without room for it.
  static Result<KvPages> reserve(const KvShape& shape, size_t n_pages);
  // Pages in memory that holds n_pages of this shape, zeroed.
  static Result<KvPages> over(const KvShape& shape, size_t n_pages,
                              std::unique_ptr<KvMemory> memory);

  const KvShape& shape() const { return shape_; }
  size_t n_pages() const { return n_pages_; }
  bool is_on_host() const { return memory_->is_on_host(); }
  // [n_pages][kv_head][kKvPageTokens][head_dim]; of a pool that is not on the host these are
  // addresses of the device, for read(), write() and the backend.
  f16* k(int layer) { return base_ + size_t(layer) * 2 * layer_elements(); }
  f16* v(int layer) { return k(layer) + layer_elements(); }
  const f16* k(int layer) const { return base_ + size_t(layer) * 2 * layer_elements(); }
  const f16* v(int layer) const { return k(layer) + layer_elements(); }
  // n elements at an address of the pool, to and from the host; false: the device is lost.
  bool read(const f16* from, size_t n, f16* to_host) const {
    return memory_->read(from, n, to_host);
  }
  bool write(f16* to, size_t n, const f16* from_host) { return memory_->write(to, n, from_host); }
  // Copies K and V of all layers. A lost device is for the backend's next call to report.
  void copy_page(PageId from, PageId to);
  // The pages of a view, in its order: page i holds what page view.pages[i] does.
  // out_of_memory, engine_lost.
  Result<KvPages> host_copy(const KvView& view) const;

 private:
  KvPages() = default;
  size_t layer_elements() const { return n_pages_ * shape_.page_elements(); }

  KvShape shape_{};
  size_t n_pages_ = 0;
  std::unique_ptr<KvMemory> memory_;
  f16* base_ = nullptr;
};

}  // namespace scholia
