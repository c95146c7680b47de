#include "engine/kv/kv_pages.h"

#include <cstring>
#include <limits>
#include <string>
#include <utility>

#ifdef _WIN32
#define NOMINMAX
#include <windows.h>
#else
#include <sys/mman.h>
#endif

namespace scholia {
namespace {

// Far beyond any model; keeps every product below within 64 bits.
constexpr int kMaxDimension = 1 << 16;

// Zeroed address space that takes memory only where it is touched; null when there is none.
void* reserve_bytes(size_t n_bytes) {
#ifdef _WIN32
  return VirtualAlloc(nullptr, n_bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
#else
  void* p = mmap(nullptr, n_bytes, PROT_READ | PROT_WRITE,
                 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return p == MAP_FAILED ? nullptr : p;
#endif
}

void release_bytes(void* p, size_t n_bytes) {
  if (p == nullptr) return;
#ifdef _WIN32
  (void)n_bytes;
  VirtualFree(p, 0, MEM_RELEASE);
#else
  munmap(p, n_bytes);
#endif
}

bool is_dimension(int n) { return n >= 1 && n <= kMaxDimension; }

}  // namespace

Result<KvPages> KvPages::reserve(const KvShape& shape, size_t n_pages) {
  if (!is_dimension(shape.n_layers) || !is_dimension(shape.n_kv_heads) ||
      !is_dimension(shape.head_dim) || shape.head_dim % 2 != 0) {
    return Error{ErrorCode::kInvalidArgument,
                 "KV shape: layers, KV heads and an even head dimension of 1 to 65536 are "
                 "expected, got " +
                     std::to_string(shape.n_layers) + " x " + std::to_string(shape.n_kv_heads) +
                     " x " + std::to_string(shape.head_dim)};
  }
  if (n_pages == 0 || n_pages >= std::numeric_limits<PageId>::max()) {
    return Error{ErrorCode::kInvalidArgument,
                 "KV pool: 1 to 2^32 - 2 KV pages are expected, got " + std::to_string(n_pages)};
  }
  const bool overflows = shape.page_bytes() > std::numeric_limits<size_t>::max() / n_pages;
  void* base = overflows ? nullptr : reserve_bytes(shape.page_bytes() * n_pages);
  if (base == nullptr) {
    return Error{ErrorCode::kOutOfMemory,
                 "no address space for a KV pool of " + std::to_string(n_pages) + " KV pages of " +
                     std::to_string(shape.page_bytes()) + " bytes; choose a smaller pool"};
  }
  KvPages pages;
  pages.shape_ = shape;
  pages.n_pages_ = n_pages;
  pages.base_ = static_cast<f16*>(base);
  return pages;
}

KvPages::KvPages(KvPages&& other) noexcept
    : shape_(other.shape_),
      n_pages_(std::exchange(other.n_pages_, 0)),
      base_(std::exchange(other.base_, nullptr)) {}

KvPages& KvPages::operator=(KvPages&& other) noexcept {
  std::swap(shape_, other.shape_);
  std::swap(n_pages_, other.n_pages_);
  std::swap(base_, other.base_);
  return *this;
}

KvPages::~KvPages() { release_bytes(base_, shape_.page_bytes() * n_pages_); }

void KvPages::copy_page(PageId from, PageId to) {
  const size_t n = shape_.page_elements();
  for (int layer = 0; layer < shape_.n_layers; ++layer) {
    std::memcpy(k(layer) + to * n, k(layer) + from * n, n * sizeof(f16));
    std::memcpy(v(layer) + to * n, v(layer) + from * n, n * sizeof(f16));
  }
}

}  // namespace scholia
