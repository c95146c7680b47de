// A block of memory aligned to cache lines and vector registers.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

namespace scholia {

class AlignedBytes {
 public:
  static constexpr size_t kAlignment = 64;

  AlignedBytes() = default;
  explicit AlignedBytes(size_t size)
      : data_(static_cast<uint8_t*>(::operator new(size, std::align_val_t(kAlignment)))),
        size_(size) {}

  uint8_t* data() { return data_.get(); }
  const uint8_t* data() const { return data_.get(); }
  size_t size() const { return size_; }

 private:
  struct Deleter {
    void operator()(uint8_t* data) const { ::operator delete(data, std::align_val_t(kAlignment)); }
  };
  std::unique_ptr<uint8_t[], Deleter> data_;
  size_t size_ = 0;
};

}  // namespace scholia
