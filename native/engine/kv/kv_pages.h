// The pool of KV pages: the only owner of K and V.
//
// Layout, per layer: K [page][kv_head][kKvPageTokens][head_dim] f16, and V the same. A page id is
// the same in all layers. The pool reserves address space for its capacity and touches it as pages
// are used.
#pragma once

#include <cstddef>
#include <cstdint>

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

class KvPages {
 public:
  // Zeroed pages. invalid_argument for a shape that cannot be, out_of_memory without room for it.
  static Result<KvPages> reserve(const KvShape& shape, size_t n_pages);
  KvPages(KvPages&&) noexcept;
  KvPages& operator=(KvPages&&) noexcept;
  ~KvPages();

  const KvShape& shape() const { return shape_; }
  size_t n_pages() const { return n_pages_; }
  // [n_pages][kv_head][kKvPageTokens][head_dim]
  f16* k(int layer) { return base_ + size_t(layer) * 2 * layer_elements(); }
  f16* v(int layer) { return k(layer) + layer_elements(); }
  const f16* k(int layer) const { return base_ + size_t(layer) * 2 * layer_elements(); }
  const f16* v(int layer) const { return k(layer) + layer_elements(); }
  // Copies K and V of all layers.
  void copy_page(PageId from, PageId to);

 private:
  KvPages() = default;
  size_t layer_elements() const { return n_pages_ * shape_.page_elements(); }

  KvShape shape_{};
  size_t n_pages_ = 0;
  f16* base_ = nullptr;
};

// How one sequence sees its KV: token t lies in pages[t / kKvPageTokens], slot t % kKvPageTokens.
struct KvView {
  const PageId* pages = nullptr;
  int n_tokens = 0;
};

}  // namespace scholia
