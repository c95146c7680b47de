#include "engine/kv/run_store.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <system_error>
#include <utility>

#define XXH_INLINE_ALL
#include "hash/xxhash/xxhash.h"

#ifdef _WIN32
#include <io.h>
#include <process.h>
#else
#include <unistd.h>
#endif

namespace scholia {
namespace {

namespace fs = std::filesystem;

constexpr char kMagic[8] = {'S', 'C', 'H', 'O', 'L', 'I', 'K', 'V'};
constexpr uint32_t kFileVersion = 1;
constexpr char kKvType[8] = "f16";
constexpr size_t kHeaderAlignment = 4096;
constexpr std::string_view kFileEnding = ".kv";
constexpr std::string_view kUnfinishedEnding = ".unfinished";
// No run takes this long to write: an unfinished file this old has lost its process.
constexpr auto kUnfinishedAge = std::chrono::hours(1);

struct FixedHeader {
  char magic[8];
  uint32_t version;
  uint32_t header_bytes;
  char kv_type[8];
  uint32_t n_layers;
  uint32_t n_kv_heads;
  uint32_t head_dim;
  uint32_t page_tokens;
  uint32_t chunk_tokens;
  uint32_t first_token;
  uint32_t n_tokens;
  uint32_t n_pieces;
  uint32_t fingerprint_bytes;
  uint32_t n_spans;
  ChainHash hash_before;
  ChainHash hash_at_end;
};
static_assert(sizeof(FixedHeader) == 128);

size_t round_up(size_t n, size_t multiple) { return (n + multiple - 1) / multiple * multiple; }

void add_bytes(std::vector<uint8_t>& to, const void* data, size_t n_bytes) {
  const size_t at = to.size();
  to.resize(at + n_bytes);
  std::memcpy(to.data() + at, data, n_bytes);
}

// Checksum of what is given piece by piece.
class Checksum {
 public:
  Checksum() { XXH3_64bits_reset(&state_); }
  void add(const void* data, size_t n_bytes) { XXH3_64bits_update(&state_, data, n_bytes); }
  uint64_t value() const { return XXH3_64bits_digest(&state_); }

 private:
  XXH3_state_t state_;
};

// --- files ----------------------------------------------------------------------------------

#ifdef _WIN32
int open_to_read(const std::string& path) { return _open(path.c_str(), _O_RDONLY | _O_BINARY); }
int open_to_write(const std::string& path) {
  return _open(path.c_str(), _O_WRONLY | _O_CREAT | _O_TRUNC | _O_BINARY, _S_IREAD | _S_IWRITE);
}
int64_t read_some(int file, void* to, size_t n) {
  return _read(file, to, unsigned(std::min<size_t>(n, 1U << 30)));
}
int64_t write_some(int file, const void* from, size_t n) {
  return _write(file, from, unsigned(std::min<size_t>(n, 1U << 30)));
}
bool flush_file(int file) { return _commit(file) == 0; }
void flush_dir(const std::string&) {}
bool close_file(int file) { return _close(file) == 0; }
int process_id() { return _getpid(); }
#else
// Documents are their reader's own business: nobody else may read their keys and values.
int open_to_read(const std::string& path) { return ::open(path.c_str(), O_RDONLY | O_CLOEXEC); }
int open_to_write(const std::string& path) {
  return ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, S_IRUSR | S_IWUSR);
}
int64_t read_some(int file, void* to, size_t n) { return ::read(file, to, n); }
int64_t write_some(int file, const void* from, size_t n) { return ::write(file, from, n); }
bool flush_file(int file) { return ::fsync(file) == 0; }
// Best effort: without it a power cut may lose the file's name, never its content.
void flush_dir(const std::string& dir) {
  const int file = ::open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (file < 0) return;
  ::fsync(file);
  ::close(file);
}
bool close_file(int file) { return ::close(file) == 0; }
int process_id() { return ::getpid(); }
#endif

bool read_all(int file, void* to, size_t n_bytes) {
  auto* at = static_cast<uint8_t*>(to);
  while (n_bytes > 0) {
    const int64_t n = read_some(file, at, n_bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    at += n;
    n_bytes -= size_t(n);
  }
  return true;
}

bool write_all(int file, const void* from, size_t n_bytes) {
  const auto* at = static_cast<const uint8_t*>(from);
  while (n_bytes > 0) {
    const int64_t n = write_some(file, at, n_bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n == 0) errno = ENOSPC;
    if (n <= 0) return false;
    at += n;
    n_bytes -= size_t(n);
  }
  return true;
}

void remove_file(const std::string& path) {
  std::error_code ignored;
  fs::remove(path, ignored);
}

std::string megabytes(uint64_t n_bytes) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f MB", double(n_bytes) / 1e6);
  return text;
}

Error no_room(const std::string& dir, uint64_t needed_bytes) {
  std::error_code failed;
  const fs::space_info space = fs::space(dir, failed);
  const std::string free = failed ? "too little is" : megabytes(space.available) + " are";
  return {ErrorCode::kDiskFull, "saving the read needs " + megabytes(needed_bytes) + ", but " +
                                    free + " free in " + dir +
                                    "; make room or choose another folder"};
}

Error write_failed(const std::string& dir, uint64_t needed_bytes, int error_number) {
  bool is_full = error_number == ENOSPC || error_number == EFBIG;
#ifdef EDQUOT
  is_full = is_full || error_number == EDQUOT;
#endif
  if (is_full) return no_room(dir, needed_bytes);
  return {ErrorCode::kInvalidArgument,
          "store_dir: a folder that can be written is expected, but saving a read in " + dir +
              " failed: " + std::generic_category().message(error_number)};
}

void remove_unfinished(const std::string& dir) {
  std::error_code failed;
  const auto now = fs::file_time_type::clock::now();
  for (fs::directory_iterator entry(dir, failed), end; !failed && entry != end;
       entry.increment(failed)) {
    std::error_code ignored;
    if (!entry->path().string().ends_with(kUnfinishedEnding)) continue;
    if (!fs::is_regular_file(entry->symlink_status(ignored))) continue;
    const auto written = entry->last_write_time(ignored);
    if (!ignored && now - written > kUnfinishedAge) fs::remove(entry->path(), ignored);
  }
}

// --- spans: K or V of one layer, all pages of a run -----------------------------------------

// Calls visit(data, n_bytes) over a span in file order, neighbours in memory together. Of the last
// page only n_tokens % 16 slots are the run's; the others are given as zeros. False: the device is
// lost.
template <typename Visit>
bool visit_span(const KvPages& kv, const f16* layer, std::span<const PageId> pages, int last_slots,
                std::vector<f16>& room, const Visit& visit) {
  const KvShape& shape = kv.shape();
  const size_t elements = shape.page_elements();
  const size_t n_whole = pages.size() - (last_slots < kKvPageTokens ? 1 : 0);
  // The elements as the host sees them: in place, or fetched.
  const auto on_host = [&](const f16* data, size_t n) -> const f16* {
    if (kv.is_on_host()) return data;
    room.resize(n);
    return kv.read(data, n, room.data()) ? room.data() : nullptr;
  };
  for (size_t i = 0; i < n_whole;) {
    size_t n = 1;
    while (i + n < n_whole && pages[i + n] == pages[i] + n) ++n;
    const f16* data = on_host(layer + pages[i] * elements, n * elements);
    if (data == nullptr) return false;
    visit(data, n * elements * sizeof(f16));
    i += n;
  }
  if (n_whole == pages.size()) return true;
  const f16* page = on_host(layer + pages.back() * elements, elements);
  if (page == nullptr) return false;
  std::vector<f16> padded(elements);
  for (int kv_head = 0; kv_head < shape.n_kv_heads; ++kv_head) {
    const size_t row = size_t(kv_head) * kKvPageTokens * size_t(shape.head_dim);
    std::copy_n(page + row, size_t(last_slots) * size_t(shape.head_dim), padded.data() + row);
  }
  visit(padded.data(), elements * sizeof(f16));
  return true;
}

enum class SpanRead : uint8_t { kRead, kShort, kDeviceLost };

// Reads a span into the pages that are wanted, and its checksum.
SpanRead read_span(int file, KvPages& kv, f16* layer,
                   std::span<const std::optional<PageId>> pages, std::vector<f16>& room,
                   uint64_t& checksum) {
  const size_t elements = kv.shape().page_elements();
  Checksum sum;
  for (size_t i = 0; i < pages.size();) {
    size_t n = 1;
    f16* place = nullptr;  // of the pages; null: not wanted
    if (const std::optional<PageId> page = pages[i]) {
      place = layer + *page * elements;
      while (i + n < pages.size() && pages[i + n] == PageId(*page + n)) ++n;
    }
    const bool in_place = place != nullptr && kv.is_on_host();
    if (!in_place) room.resize(std::max(room.size(), n * elements));
    f16* to = in_place ? place : room.data();
    if (!read_all(file, to, n * elements * sizeof(f16))) return SpanRead::kShort;
    sum.add(to, n * elements * sizeof(f16));
    if (place != nullptr && !in_place && !kv.write(place, n * elements, to)) {
      return SpanRead::kDeviceLost;
    }
    i += n;
  }
  checksum = sum.value();
  return SpanRead::kRead;
}

}  // namespace

RunStore::RunStore(std::string dir, const KvShape& shape, std::string model_fingerprint)
    : dir_(std::move(dir)), shape_(shape), model_fingerprint_(std::move(model_fingerprint)) {}

Result<RunStore> RunStore::open(const std::string& dir, const KvShape& shape,
                                const std::string& model_fingerprint) {
  std::error_code failed;
  const bool made = fs::create_directories(dir, failed);
  if (failed || !fs::is_directory(dir, failed)) {
    return Error{ErrorCode::kInvalidArgument,
                 "store_dir: a folder that exists or can be made is expected, but " + dir +
                     " cannot: " + (failed ? failed.message() : "it is a file")};
  }
  if (made) fs::permissions(dir, fs::perms::owner_all, failed);
  remove_unfinished(dir);
  return RunStore(dir, shape, model_fingerprint);
}

std::string RunStore::path(const Run& run) const {
  return (fs::path(dir_) / (to_hex(run.chain->hash_at(run.end)) + std::string(kFileEnding)))
      .string();
}

RunFile RunStore::find(const Run& run) const {
  std::error_code failed;
  const uint64_t n_bytes = fs::file_size(path(run), failed);
  if (failed) return RunFile::kMissing;
  return n_bytes == file_bytes(run) ? RunFile::kWhole : RunFile::kBroken;
}

void RunStore::remove(const Run& run) const { remove_file(path(run)); }

// --- the header -----------------------------------------------------------------------------

// Fixed fields, fingerprint, pieces, tokens; all known from the chain. The checksums follow.
std::vector<uint8_t> RunStore::header_before_checksums(const Run& run) const {
  const std::vector<PieceRecord> pieces = run.chain->pieces(run.begin, run.end);
  FixedHeader fixed{};
  std::memcpy(fixed.magic, kMagic, sizeof kMagic);
  fixed.version = kFileVersion;
  fixed.header_bytes = uint32_t(header_bytes(run));
  std::memcpy(fixed.kv_type, kKvType, sizeof kKvType);
  fixed.n_layers = uint32_t(shape_.n_layers);
  fixed.n_kv_heads = uint32_t(shape_.n_kv_heads);
  fixed.head_dim = uint32_t(shape_.head_dim);
  fixed.page_tokens = kKvPageTokens;
  fixed.chunk_tokens = uint32_t(run.chain->chunk_tokens());
  fixed.first_token = uint32_t(run.begin);
  fixed.n_tokens = uint32_t(run.end - run.begin);
  fixed.n_pieces = uint32_t(pieces.size());
  fixed.fingerprint_bytes = uint32_t(model_fingerprint_.size());
  fixed.n_spans = uint32_t(n_spans());
  fixed.hash_before = run.chain->hash_at(run.begin);
  fixed.hash_at_end = run.chain->hash_at(run.end);

  const auto tokens = run.chain->tokens().subspan(size_t(run.begin), fixed.n_tokens);
  std::vector<uint8_t> header;
  add_bytes(header, &fixed, sizeof fixed);
  add_bytes(header, model_fingerprint_.data(), model_fingerprint_.size());
  header.resize(round_up(header.size(), 8));
  add_bytes(header, pieces.data(), pieces.size() * sizeof(PieceRecord));
  add_bytes(header, tokens.data(), tokens.size_bytes());
  header.resize(round_up(header.size(), 8));
  return header;
}

size_t RunStore::header_bytes(const Run& run) const {
  const size_t n_pieces = run.chain->pieces(run.begin, run.end).size();
  const size_t before = round_up(sizeof(FixedHeader) + model_fingerprint_.size(), 8) +
                        n_pieces * sizeof(PieceRecord) +
                        round_up(size_t(run.end - run.begin) * sizeof(Token), 8);
  return round_up(before + (n_spans() + 1) * sizeof(uint64_t), kHeaderAlignment);
}

uint64_t RunStore::file_bytes(const Run& run) const {
  const uint64_t n_pages = uint64_t(run.end_page() - run.first_page());
  return header_bytes(run) + n_pages * shape_.page_bytes();
}

// --- saving ---------------------------------------------------------------------------------

Status RunStore::save(const Run& run, const KvPages& kv, std::span<const PageId> pages) const {
  const uint64_t n_bytes = file_bytes(run);
  std::error_code failed;
  const fs::space_info space = fs::space(dir_, failed);
  if (!failed && space.available < n_bytes) return no_room(dir_, n_bytes);

  const std::string whole = path(run);
  const std::string unfinished = whole + "." + std::to_string(process_id()) + "-" +
                                 std::to_string(reinterpret_cast<uintptr_t>(this)) +
                                 std::string(kUnfinishedEnding);
  const auto written = write(unfinished, run, kv, pages);
  if (!written.ok()) {
    remove_file(unfinished);
    return written.error();
  }
  int error_number = written.value();
  if (error_number == 0) {
    fs::rename(unfinished, whole, failed);
    error_number = failed.value();
  }
  if (error_number != 0) {
    remove_file(unfinished);
    return write_failed(dir_, n_bytes, error_number);
  }
  flush_dir(dir_);
  return {};
}

// Calls visit(data, n_bytes) over all spans in file order; end_span after each. False: the device
// is lost.
template <typename Visit, typename EndSpan>
bool RunStore::visit_spans(const Run& run, const KvPages& kv, std::span<const PageId> pages,
                           const Visit& visit, const EndSpan& end_span) const {
  const int last_slots = (run.end - 1) % kKvPageTokens + 1;
  std::vector<f16> room;
  for (int layer = 0; layer < shape_.n_layers; ++layer) {
    for (const f16* elements : {kv.k(layer), kv.v(layer)}) {
      if (!visit_span(kv, elements, pages, last_slots, room, visit)) return false;
      end_span();
    }
  }
  return true;
}

// nullopt: the device is lost.
std::optional<std::vector<uint8_t>> RunStore::header(const Run& run, const KvPages& kv,
                                                     std::span<const PageId> pages) const {
  std::vector<uint8_t> header = header_before_checksums(run);
  Checksum checksum;
  const bool read = visit_spans(
      run, kv, pages, [&](const f16* data, size_t n) { checksum.add(data, n); },
      [&] {
        const uint64_t value = checksum.value();
        add_bytes(header, &value, sizeof value);
        checksum = {};
      });
  if (!read) return std::nullopt;
  header.resize(header_bytes(run) - sizeof(uint64_t));
  const uint64_t header_checksum = XXH3_64bits(header.data(), header.size());
  add_bytes(header, &header_checksum, sizeof header_checksum);
  return header;
}

// Writes and flushes a whole file; returns errno, 0 for success. engine_lost.
Result<int> RunStore::write(const std::string& file_path, const Run& run, const KvPages& kv,
                            std::span<const PageId> pages) const {
  const Error lost{ErrorCode::kEngineLost, "The device that holds the keys and values is lost."};
  const auto head = header(run, kv, pages);
  if (!head) return lost;
  const int file = open_to_write(file_path);
  if (file < 0) return errno;
  bool written = write_all(file, head->data(), head->size());
  const bool read = visit_spans(
      run, kv, pages,
      [&](const f16* data, size_t n) { written = written && write_all(file, data, n); }, [] {});
  written = written && flush_file(file);
  const int error_number = written ? 0 : errno;
  const bool closed = close_file(file);
  if (!read) return lost;
  return written && !closed ? errno : error_number;
}

// --- loading --------------------------------------------------------------------------------

RunFile RunStore::load(const Run& run, KvPages& kv,
                       std::span<const std::optional<PageId>> pages) const {
  const int file = open_to_read(path(run));
  if (file < 0) return RunFile::kMissing;
  const RunFile found = read(file, run, kv, pages);
  close_file(file);
  return found;
}

RunFile RunStore::read(int file, const Run& run, KvPages& kv,
                       std::span<const std::optional<PageId>> pages) const {
  std::vector<uint8_t> header(header_bytes(run));
  if (!read_all(file, header.data(), header.size())) return RunFile::kBroken;
  const std::vector<uint8_t> expected = header_before_checksums(run);
  if (!std::equal(expected.begin(), expected.end(), header.begin())) return RunFile::kBroken;
  uint64_t header_checksum;
  const size_t checksum_at = header.size() - sizeof header_checksum;
  std::memcpy(&header_checksum, header.data() + checksum_at, sizeof header_checksum);
  if (XXH3_64bits(header.data(), checksum_at) != header_checksum) return RunFile::kBroken;

  std::vector<f16> room(shape_.page_elements());
  for (size_t span = 0; span < n_spans(); ++span) {
    f16* layer = span % 2 == 0 ? kv.k(int(span / 2)) : kv.v(int(span / 2));
    uint64_t checksum;
    const SpanRead outcome = read_span(file, kv, layer, pages, room, checksum);
    // The file is not to blame for a lost device, and is kept.
    if (outcome == SpanRead::kDeviceLost) return RunFile::kMissing;
    uint64_t stored;
    std::memcpy(&stored, header.data() + expected.size() + span * sizeof stored, sizeof stored);
    if (outcome == SpanRead::kShort || checksum != stored) return RunFile::kBroken;
  }
  return RunFile::kWhole;
}

}  // namespace scholia
