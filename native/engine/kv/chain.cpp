#include "engine/kv/chain.h"

#include <algorithm>
#include <bit>
#include <string_view>

extern "C" {
#include "hash/sha256/sha256.h"
}

namespace scholia {
namespace {

// Hashed and stored as they lie in memory.
static_assert(std::endian::native == std::endian::little);

// Changes whenever the same tokens get another name or other bytes in a file.
constexpr uint32_t kChainVersion = 1;
constexpr std::string_view kChainLabel = "scholia kv chain";
constexpr char kKvType[8] = "f16";

class Sha256 {
 public:
  Sha256() { sha256_init(&state_); }
  void add(const void* data, size_t n_bytes) {
    sha256_update(&state_, static_cast<const unsigned char*>(data), n_bytes);
  }
  template <typename T>
  void add_value(const T& value) {
    add(&value, sizeof value);
  }
  ChainHash finish() {
    ChainHash hash;
    sha256_final(&state_, hash.data());
    return hash;
  }

 private:
  sha256_t state_;
};

uint32_t kind_code(const SegmentKind& kind) {
  if (!kind.generated) return 0;
  return kind.mode == Mode::kDense ? 1 : 2;
}

}  // namespace

std::string to_hex(const ChainHash& hash) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * hash.size());
  for (const uint8_t byte : hash) {
    hex += kDigits[byte >> 4];
    hex += kDigits[byte & 15];
  }
  return hex;
}

ChainHash chain_root(const std::string& model_fingerprint, int chunk_tokens) {
  Sha256 sha;
  sha.add(kChainLabel.data(), kChainLabel.size());
  sha.add_value(kChainVersion);
  sha.add(kKvType, sizeof kKvType);
  sha.add_value(uint32_t(chunk_tokens));
  sha.add_value(uint32_t(model_fingerprint.size()));
  sha.add(model_fingerprint.data(), model_fingerprint.size());
  return sha.finish();
}

int next_chunk_end(int position, int segment_end, int chunk_tokens) {
  const int64_t whole = (int64_t(position) / chunk_tokens + 1) * chunk_tokens;
  return int(std::min<int64_t>(whole, segment_end));
}

void Chain::append_piece(const SegmentKind& kind, std::span<const Token> tokens) {
  const int begin = n_tokens();
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
  const bool continues = kind.generated && !pieces_.empty() && pieces_.back().kind == kind;
  if (continues) {
    pieces_.back().end = n_tokens();
  } else {
    pieces_.push_back({begin, n_tokens(), kind});
  }
  for (int page = int(page_hashes_.size()); page < n_tokens() / kKvPageTokens; ++page) {
    page_hashes_.push_back(hash_page(page * kKvPageTokens, (page + 1) * kKvPageTokens));
  }
}

void Chain::append(const SegmentKind& kind, std::span<const Token> tokens) {
  const int segment_end = n_tokens() + int(tokens.size());
  while (!tokens.empty()) {
    const int end =
        kind.generated ? segment_end : next_chunk_end(n_tokens(), segment_end, chunk_tokens_);
    const size_t n = size_t(end - n_tokens());
    append_piece(kind, tokens.first(n));
    tokens = tokens.subspan(n);
  }
}

size_t Chain::piece_at(int position) const {
  const auto after = std::upper_bound(pieces_.begin(), pieces_.end(), position,
                                      [](int p, const Piece& piece) { return p < piece.begin; });
  return size_t(after - pieces_.begin()) - 1;
}

int Chain::boundary(int n_tokens) const {
  if (n_tokens >= this->n_tokens()) return this->n_tokens();
  if (n_tokens <= 0) return 0;
  const Piece& piece = pieces_[piece_at(n_tokens)];
  return piece.kind.generated ? n_tokens : piece.begin;
}

int Chain::cut(int n_tokens) {
  const int kept = boundary(n_tokens);
  tokens_.resize(size_t(kept));
  page_hashes_.resize(size_t(kept / kKvPageTokens));
  while (!pieces_.empty() && pieces_.back().begin >= kept) pieces_.pop_back();
  if (!pieces_.empty()) pieces_.back().end = kept;
  return kept;
}

ChainHash Chain::hash_at(int n_tokens) const {
  if (n_tokens == 0) return root_;
  const int page = n_tokens / kKvPageTokens;
  if (n_tokens % kKvPageTokens == 0) return page_hashes_[size_t(page) - 1];
  return hash_page(page * kKvPageTokens, n_tokens);
}

std::vector<PieceRecord> Chain::pieces(int begin, int end) const {
  std::vector<PieceRecord> records;
  for (size_t i = piece_at(begin); i < pieces_.size() && pieces_[i].begin < end; ++i) {
    const Piece& piece = pieces_[i];
    const bool is_short = !piece.kind.generated && piece.end % chunk_tokens_ != 0;
    records.push_back({.first_token = uint32_t(std::max(0, piece.begin - begin)),
                       .short_end = is_short ? uint32_t(piece.end) : 0,
                       .kind = kind_code(piece.kind),
                       .budget_tokens = uint32_t(piece.kind.budget_tokens),
                       .profile_id = piece.kind.profile_id});
  }
  return records;
}

std::vector<int> Chain::piece_ends() const {
  std::vector<int> ends;
  ends.reserve(pieces_.size());
  for (const Piece& piece : pieces_) ends.push_back(piece.end);
  return ends;
}

ChainHash Chain::hash_page(int begin, int end) const {
  const ChainHash before = hash_at(begin);
  const std::vector<PieceRecord> records = pieces(begin, end);
  Sha256 sha;
  sha.add(before.data(), before.size());
  sha.add_value(uint32_t(end - begin));
  sha.add_value(uint32_t(records.size()));
  sha.add(records.data(), records.size() * sizeof(PieceRecord));
  sha.add(tokens_.data() + begin, size_t(end - begin) * sizeof(Token));
  return sha.finish();
}

}  // namespace scholia
