#include "engine/kv/kv_pages.h"

#include <algorithm>
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

class HostMemory final : public KvMemory {
 public:
  HostMemory(void* base, size_t n_bytes) : base_(static_cast<f16*>(base)), n_bytes_(n_bytes) {}
  ~HostMemory() override { release_bytes(base_, n_bytes_); }
  HostMemory(const HostMemory&) = delete;
  HostMemory& operator=(const HostMemory&) = delete;

  f16* base() override { return base_; }
  bool is_on_host() const override { return true; }
  bool read(const f16* from, size_t n, f16* to_host) const override {
    std::copy_n(from, n, to_host);
    return true;
  }
  bool write(f16* to, size_t n, const f16* from_host) override {
    std::copy_n(from_host, n, to);
    return true;
  }
  bool copy(const f16* from, f16* to, size_t n) override {
    std::copy_n(from, n, to);
    return true;
  }

 private:
  f16* base_;
  size_t n_bytes_;
};

bool is_dimension(int n) { return n >= 1 && n <= kMaxDimension; }

Status check_pool(const KvShape& shape, size_t n_pages) {
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
  return {};
}

}  // namespace

Result<KvPages> KvPages::reserve(const KvShape& shape, size_t n_pages) {
  if (Status status = check_pool(shape, n_pages); !status.ok()) return status.error();
  const bool overflows = shape.page_bytes() > std::numeric_limits<size_t>::max() / n_pages;
  void* base = overflows ? nullptr : reserve_bytes(shape.page_bytes() * n_pages);
  if (base == nullptr) {
    return Error{ErrorCode::kOutOfMemory,
                 "no address space for a KV pool of " + std::to_string(n_pages) + " KV pages of " +
                     std::to_string(shape.page_bytes()) + " bytes; choose a smaller pool"};
  }
  return over(shape, n_pages, std::make_unique<HostMemory>(base, shape.page_bytes() * n_pages));
}

Result<KvPages> KvPages::over(const KvShape& shape, size_t n_pages,
                              std::unique_ptr<KvMemory> memory) {
  if (Status status = check_pool(shape, n_pages); !status.ok()) return status.error();
  KvPages pages;
  pages.shape_ = shape;
  pages.n_pages_ = n_pages;
  pages.base_ = memory->base();
  pages.memory_ = std::move(memory);
  return pages;
}

void KvPages::copy_page(PageId from, PageId to) {
  const size_t n = shape_.page_elements();
  for (int layer = 0; layer < shape_.n_layers; ++layer) {
    memory_->copy(k(layer) + from * n, k(layer) + to * n, n);
    memory_->copy(v(layer) + from * n, v(layer) + to * n, n);
  }
}

Result<KvPages> KvPages::host_copy(const KvView& view) const {
  const size_t n_view = (size_t(view.n_tokens) + kKvPageTokens - 1) / kKvPageTokens;
  Result<KvPages> host = reserve(shape_, n_view);
  if (!host.ok()) return host;
  const size_t n = shape_.page_elements();
  for (int layer = 0; layer < shape_.n_layers; ++layer) {
    for (size_t page = 0; page < n_view; ++page) {
      const size_t from = view.pages[page] * n;
      if (!read(k(layer) + from, n, host.value().k(layer) + page * n) ||
          !read(v(layer) + from, n, host.value().v(layer) + page * n)) {
        return Error{ErrorCode::kEngineLost, "The device that holds the keys and values is lost."};
      }
    }
  }
  return host;
}

}  // namespace scholia
