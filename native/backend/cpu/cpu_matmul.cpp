#include "backend/cpu/cpu_matmul.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/cpu_matmul_table.h"
#include "backend/cpu/processor.h"

namespace scholia {
namespace {

constexpr int kRows = 16;   // of a panel: the lanes of a 512-bit register
constexpr int kGroup = 4;   // inputs that one dot-product instruction takes
// Columns are multiplied in runs whose activations stay in the second-level cache while the panels
// pass by. (Cutting the inputs into chunks too, so that a panel's chunk stays in the first-level
// cache, was slower: the sums are stored and loaded once more for each.)
constexpr size_t kRunBytes = size_t(384) << 10;
constexpr int kRunMultiple = 12;

// One block of one row as the file has it: x = scale * u + offset, in super-blocks
// x = scale * factor * u + offset * offset_factor.
struct RowBlock {
  uint8_t u[32];
  uint16_t scale, offset;  // f16, as bits
  uint8_t factor, offset_factor;
};

uint16_t read_u16(const uint8_t* bytes) {
  uint16_t x;
  std::memcpy(&x, bytes, sizeof x);
  return x;
}

// Nibbles of the 32-input types: inputs 0..15 low, 16..31 high.
void read_nibbles(const uint8_t* bytes, uint8_t* u) {
  for (int i = 0; i < 16; ++i) {
    u[i] = bytes[i] & 15;
    u[i + 16] = bytes[i] >> 4;
  }
}

void read_fifth_bits(const uint8_t* bytes, uint8_t* u) {
  uint32_t bits;
  std::memcpy(&bits, bytes, sizeof bits);
  for (int i = 0; i < 32; ++i) u[i] |= ((bits >> i) & 1) << 4;
}

// The 6-bit scale and minimum of sub-block j of a Q4_K or Q5_K super-block.
void read_k_scale(const uint8_t* packed, int j, uint8_t& scale, uint8_t& minimum) {
  if (j < 4) {
    scale = packed[j] & 63;
    minimum = packed[j + 4] & 63;
  } else {
    scale = static_cast<uint8_t>((packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4));
    minimum = static_cast<uint8_t>((packed[j + 4] >> 4) | ((packed[j] >> 6) << 4));
  }
}

// Reads block `index` of a row. The layouts are ggml's (ggml-common.h).
void read_block(ggml_type type, const uint8_t* row, int64_t index, RowBlock& block) {
  switch (type) {
    case GGML_TYPE_Q4_0: {
      const uint8_t* b = row + index * 18;
      block.scale = read_u16(b);
      read_nibbles(b + 2, block.u);
      return;
    }
    case GGML_TYPE_Q4_1: {
      const uint8_t* b = row + index * 20;
      block.scale = read_u16(b);
      block.offset = read_u16(b + 2);
      read_nibbles(b + 4, block.u);
      return;
    }
    case GGML_TYPE_Q5_0: {
      const uint8_t* b = row + index * 22;
      block.scale = read_u16(b);
      read_nibbles(b + 6, block.u);
      read_fifth_bits(b + 2, block.u);
      return;
    }
    case GGML_TYPE_Q5_1: {
      const uint8_t* b = row + index * 24;
      block.scale = read_u16(b);
      block.offset = read_u16(b + 2);
      read_nibbles(b + 8, block.u);
      read_fifth_bits(b + 4, block.u);
      return;
    }
    case GGML_TYPE_Q8_0: {
      const uint8_t* b = row + index * 34;
      block.scale = read_u16(b);
      for (int i = 0; i < 32; ++i) block.u[i] = b[2 + i] ^ 0x80;  // + 128
      return;
    }
    case GGML_TYPE_Q4_K:
    case GGML_TYPE_Q5_K: {
      const bool five = type == GGML_TYPE_Q5_K;
      const uint8_t* b = row + index / 8 * (five ? 176 : 144);
      const int j = static_cast<int>(index % 8);
      read_k_scale(b + 4, j, block.factor, block.offset_factor);
      block.scale = read_u16(b);
      block.offset = read_u16(b + 2) ^ 0x8000;  // the file's minimum is subtracted
      const uint8_t* nibbles = b + (five ? 48 : 16) + j / 2 * 32;
      for (int i = 0; i < 32; ++i) {
        block.u[i] = j % 2 == 0 ? nibbles[i] & 15 : nibbles[i] >> 4;
        if (five) block.u[i] |= ((b[16 + i] >> j) & 1) << 4;
      }
      return;
    }
    case GGML_TYPE_Q6_K: {  // blocks of 16
      const uint8_t* b = row + index / 16 * 210;
      const int j = static_cast<int>(index % 16);
      const int half = j / 8, quarter = j % 8 / 2, part = j % 2;
      const uint8_t* low = b + half * 64 + (quarter % 2) * 32 + part * 16;
      const uint8_t* high = b + 128 + half * 32 + part * 16;
      block.factor = b[192 + j];
      block.scale = read_u16(b + 208);
      for (int i = 0; i < 16; ++i) {
        const int nibble = quarter < 2 ? low[i] & 15 : low[i] >> 4;
        block.u[i] = static_cast<uint8_t>(nibble | (((high[i] >> (2 * quarter)) & 3) << 4));
      }
      return;
    }
    default: return;
  }
}

// Puts one row's u into a panel's block, a group of 4 inputs (32 bits) at a time.
void put_row(const PackedFormat& format, uint8_t* bits, int row, const uint8_t* u) {
  const int n_groups = format.block / kGroup;
  const auto add = [&](int plane, uint32_t value) {
    uint8_t* at = bits + plane * 64 + row * kGroup;
    uint32_t word;
    std::memcpy(&word, at, sizeof word);
    word |= value;
    std::memcpy(at, &word, sizeof word);
  };
  for (int group = 0; group < n_groups; ++group) {
    uint32_t four;
    std::memcpy(&four, u + group * kGroup, sizeof four);
    if (format.bits == 8) {
      add(group, four);
      continue;
    }
    add(group / 2, (four & 0x0F0F0F0FU) << (group % 2 * 4));
    if (format.bits > 4) {
      add(n_groups / 2, ((four >> 4) & 0x0F0F0F0FU) << (format.bits == 5 ? group : 2 * group));
    }
  }
}

}  // namespace

namespace {

// Best first.
const CpuMatmulTable* find_table(const char* name) {
  const CpuMatmulTable* const candidates[] = {
      processor_has_avx512() ? avx512_cpu_matmul() : nullptr,
      processor_has_avxvnni() ? avxvnni_cpu_matmul() : nullptr,
      processor_has_avx2() ? avx2_cpu_matmul() : nullptr,
  };
  for (const CpuMatmulTable* table : candidates) {
    if (table != nullptr && (name == nullptr || std::strcmp(table->name, name) == 0)) return table;
  }
  return nullptr;
}

const CpuMatmulTable*& table() {
  static const CpuMatmulTable* chosen = find_table(nullptr);
  return chosen;
}

}  // namespace

bool packed_matmul_available() { return table() != nullptr; }

const char* cpu_matmul_variant() { return table() != nullptr ? table()->name : "none"; }

bool force_cpu_matmul_variant(const char* name) {
  if (std::strcmp(name, "none") == 0) {
    table() = nullptr;
    return true;
  }
  const CpuMatmulTable* found = find_table(name);
  if (found != nullptr) table() = found;
  return found != nullptr;
}

size_t PackedFormat::header_bytes() const {
  if (!has_super) return 0;
  const size_t n_arrays = has_offset ? 2 : 1;
  const size_t bytes = n_arrays * kRows * (2 + static_cast<size_t>(blocks_per_super()));
  return (bytes + 63) / 64 * 64;
}

size_t PackedFormat::scale_bytes() const {
  return has_super ? 0 : size_t(kRows) * (has_offset ? 4 : 2);
}

size_t PackedFormat::bits_bytes() const {
  return static_cast<size_t>(block) * kRows * static_cast<size_t>(bits) / 8;
}

size_t PackedFormat::panel_bytes(int64_t n_in) const {
  const auto n_blocks = static_cast<size_t>(n_in / block);
  return n_blocks / static_cast<size_t>(blocks_per_super()) * header_bytes() +
         n_blocks * (scale_bytes() + bits_bytes());
}

std::optional<PackedFormat> packed_format(ggml_type type) {
  constexpr auto k8_0 = ActivationKind::kQ8_0, k8_K = ActivationKind::kQ8_K;
  switch (type) {
    case GGML_TYPE_Q4_0: return PackedFormat{4, 32, false, false, k8_0};
    case GGML_TYPE_Q4_1: return PackedFormat{4, 32, true, false, k8_0};
    case GGML_TYPE_Q5_0: return PackedFormat{5, 32, false, false, k8_0};
    case GGML_TYPE_Q5_1: return PackedFormat{5, 32, true, false, k8_0};
    case GGML_TYPE_Q8_0: return PackedFormat{8, 32, false, false, k8_0};
    case GGML_TYPE_Q4_K: return PackedFormat{4, 32, true, true, k8_K};
    case GGML_TYPE_Q5_K: return PackedFormat{5, 32, true, true, k8_K};
    case GGML_TYPE_Q6_K: return PackedFormat{6, 16, false, true, k8_K};
    default: return std::nullopt;
  }
}

size_t activation_bytes(int64_t n_in) {
  return (static_cast<size_t>(n_in / 32) * sizeof(ActivationBlock) + 63) / 64 * 64;
}

void quantise_activations(ActivationKind kind, const float* x, int64_t n_in, uint8_t* record) {
  table()->quantise_column(kind, x, n_in, reinterpret_cast<ActivationBlock*>(record));
}

bool PackedMatrix::fits(const WeightView& weight) {
  return packed_format(weight.type).has_value() && weight.shape[0] % ggml_blck_size(weight.type) == 0 &&
         weight.shape[1] % kRows == 0;
}

PackedMatrix::PackedMatrix(const WeightView& weight)
    : format_(*packed_format(weight.type)),
      n_in_(weight.shape[0]),
      n_out_(weight.shape[1]),
      panel_bytes_(format_.panel_bytes(n_in_)),
      data_(panel_bytes_ * static_cast<size_t>(n_out_ / kRows)) {}

void PackedMatrix::pack(const WeightView& weight, int first_panel, int end_panel) {
  const auto* source = static_cast<const uint8_t*>(weight.data);
  const size_t row_bytes = ggml_row_size(weight.type, n_in_);
  const int n_arrays = format_.has_offset ? 2 : 1;
  for (int panel = first_panel; panel < end_panel; ++panel) {
    uint8_t* at = data_.data() + panel_bytes_ * static_cast<size_t>(panel);
    std::memset(at, 0, panel_bytes_);
    uint8_t* scales = nullptr;   // f16 [n_arrays][16]
    uint8_t* factors = nullptr;  // int8 [n_arrays][16]
    for (int64_t index = 0; index < n_in_ / format_.block; ++index) {
      if (!format_.has_super || index % format_.blocks_per_super() == 0) {
        scales = at;
        factors = scales + n_arrays * kRows * 2;
        at += format_.header_bytes() + format_.scale_bytes();
      }
      for (int row = 0; row < kRows; ++row) {
        RowBlock values{};
        read_block(weight.type, source + row_bytes * (size_t(panel) * kRows + row), index, values);
        std::memcpy(scales + row * 2, &values.scale, 2);
        if (format_.has_offset) std::memcpy(scales + (kRows + row) * 2, &values.offset, 2);
        if (format_.has_super) {
          factors[row] = values.factor;
          if (format_.has_offset) factors[kRows + row] = values.offset_factor;
        }
        put_row(format_, at, row, values.u);
      }
      factors += n_arrays * kRows;
      at += format_.bits_bytes();
    }
  }
}

void PackedMatrix::multiply(const uint8_t* records, int n_columns, int first_panel, int end_panel,
                            float* out, size_t out_stride) const {
  const size_t record_bytes = activation_bytes(n_in_);
  const auto fitting = static_cast<int>(kRunBytes / record_bytes);
  const int run = std::max(fitting / kRunMultiple * kRunMultiple, kRunMultiple);
  for (int column = 0; column < n_columns; column += run) {
    const int n = std::min(run, n_columns - column);
    for (int panel = first_panel; panel < end_panel; ++panel) {
      table()->multiply_panel({&format_, data_.data() + panel_bytes_ * static_cast<size_t>(panel),
                               n_in_, records + column * record_bytes, record_bytes, n,
                               out + column * out_stride + size_t(panel - first_panel) * kRows,
                               out_stride});
    }
  }
}

}  // namespace scholia
