#include "engine/answer/text_stream.h"

#include <cstdint>

namespace scholia {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD

// Length a character has by its first byte; 0 for a byte that cannot be first.
int expected_length(uint8_t first) {
  if (first < 0x80) return 1;
  if (first >= 0xC2 && first <= 0xDF) return 2;
  if (first >= 0xE0 && first <= 0xEF) return 3;
  if (first >= 0xF0 && first <= 0xF4) return 4;
  return 0;
}

// Second bytes are restricted after E0, ED, F0 and F4 (no overlong forms, no surrogates).
bool valid_continuation(uint8_t first, int index, uint8_t byte) {
  if ((byte & 0xC0) != 0x80) return false;
  if (index != 1) return true;
  if (first == 0xE0) return byte >= 0xA0;
  if (first == 0xED) return byte <= 0x9F;
  if (first == 0xF0) return byte >= 0x90;
  if (first == 0xF4) return byte <= 0x8F;
  return true;
}

}  // namespace

std::string TextStream::push(std::string_view bytes) {
  pending_ += bytes;
  std::string out;
  size_t at = 0;
  while (at < pending_.size()) {
    const auto first = static_cast<uint8_t>(pending_[at]);
    const int length = expected_length(first);
    int have = 1;
    while (have < length && at + have < pending_.size() &&
           valid_continuation(first, have, static_cast<uint8_t>(pending_[at + have]))) {
      ++have;
    }
    if (length != 0 && have == length) {
      out.append(pending_, at, length);
      at += length;
    } else if (length != 0 && at + have == pending_.size()) {
      break;  // may still become a character
    } else {
      out += kReplacement;
      at += have;
    }
  }
  pending_.erase(0, at);
  return out;
}

std::string TextStream::finish() {
  std::string out = pending_.empty() ? "" : std::string(kReplacement);
  pending_.clear();
  return out;
}

}  // namespace scholia
