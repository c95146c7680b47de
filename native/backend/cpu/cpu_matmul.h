// Matrix products of quantised weights in integers: AVX-512 VNNI, AVX-VNNI or AVX2, chosen once at
// run time.
// Weights are repacked once, without loss; activations are quantised to 8 bits with ggml's rounding,
// so only the order of summation differs from ggml's products.
// Where the processor or the type does not fit, the backend leaves the product to ggml.
//
// Every quantised type here is, per row and block of 32 (or 16) inputs: x = s * u + m, with u an
// unsigned integer of 4, 5, 6 or 8 bits. For the symmetric types (Q4_0, Q5_0, Q6_K, Q8_0)
// m = -2^(bits - 1) * s, so m is not stored. A dot product of a block with activations d * q is then
// d * s * sum(u q) + m * d * sum(q): sum(u q) is exact in integers.
//
// A column's bits depend on its own activations alone: not on how many columns are multiplied at
// once, and not on the threads.
//
// Packed layout: panels of 16 rows, in as many bytes as the file has (one in a hundred more for the
// K-quants). Per panel and block: scales f16 [16], offsets f16 [16] where there are some, then the
// bits. The K-quants have super-blocks of 256 inputs: a header of d f16 [16] (and -dmin f16 [16]) and
// for each block factors int8 [16] (and [16]) with s = d * factor, padded to 64 bytes; then the bits
// of all blocks. Inputs come in groups of 4, a group's 64 bytes are [row][4 inputs] as vpdpbusd wants
// them. u's low 4 bits: byte planes that hold two groups, one per nibble. The 5th bit: one plane for
// 8 groups, bit g of a byte for group g. Bits 5 and 6: one plane for 4 groups, 2 bits each. 8-bit u
// are stored as they are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>

#include "backend/cpu/aligned_bytes.h"
#include "engine/model/gguf_model.h"

namespace scholia {

// Does this processor have what the packed products need?
bool packed_matmul_available();
// Which instruction set was chosen: "avx512", "avxvnni", "avx2", or "none".
const char* cpu_matmul_variant();
// For tests: force a variant, or "none"; false when this machine does not have it.
bool force_cpu_matmul_variant(const char* name);

// How ggml quantises the activations that meet a weight type: Q8_0 and Q8_1 (a scale per 32, rounded
// to f16; Q8_1's total too) for the types with blocks of 32, Q8_K (a scale per 256) for the K-quants.
enum class ActivationKind : uint8_t { kQ8_0, kQ8_K };

// Columns of activations, quantised. One record per column, of activation_bytes(n_in) bytes: an
// ActivationBlock (cpu_matmul_table.h) per 32 inputs, padded to 64 bytes.
size_t activation_bytes(int64_t n_in);
// One column: x [n_in].
void quantise_activations(ActivationKind kind, const float* x, int64_t n_in, uint8_t* record);

// How one type is packed.
struct PackedFormat {
  int bits;          // of u: 4, 5, 6, 8
  int block;         // inputs per scale: 32 or 16
  bool has_offset;   // m is stored
  bool has_super;    // super-blocks: scales are factors of theirs
  ActivationKind activations;
  int blocks_per_super() const { return has_super ? 256 / block : 1; }
  // Of one panel:
  size_t header_bytes() const;  // of a super-block
  size_t scale_bytes() const;   // of a block that is in none
  size_t bits_bytes() const;    // of a block
  size_t panel_bytes(int64_t n_in) const;
};
std::optional<PackedFormat> packed_format(ggml_type type);

class PackedMatrix {
 public:
  // The type is known, n_in is a multiple of its block, n_out of 16.
  static bool fits(const WeightView& weight);
  // Repacks panels [first_panel, end_panel) on the calling thread.
  explicit PackedMatrix(const WeightView& weight);
  void pack(const WeightView& weight, int first_panel, int end_panel);

  ActivationKind activations() const { return format_.activations; }
  int64_t n_in() const { return n_in_; }
  int64_t n_out() const { return n_out_; }
  int n_panels() const { return static_cast<int>(n_out_ / 16); }
  uint64_t bytes() const { return data_.size(); }

  // The rows of the panels [first_panel, end_panel), for all columns. out is the place of the first
  // of these rows in the first column; columns are out_stride floats apart.
  void multiply(const uint8_t* records, int n_columns, int first_panel, int end_panel, float* out,
                size_t out_stride) const;

 private:
  PackedFormat format_;
  int64_t n_in_, n_out_;
  size_t panel_bytes_;
  AlignedBytes data_;
};

}  // namespace scholia
