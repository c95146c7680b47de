// Packed matrix products against a scalar sum over ggml's own dequantised weights, and against
// ggml's products.
#include "backend/cpu/cpu_matmul.h"

#include <ggml-alloc.h>
#include <ggml.h>

#include <cmath>
#include <cstring>
#include <memory>

#include "backend/cpu/cpu_backend_ggml.h"
#include "cpu_ops_support.h"
#include "models.h"

namespace scholia {
namespace {

constexpr ggml_type kTypes[] = {GGML_TYPE_Q4_0, GGML_TYPE_Q4_1, GGML_TYPE_Q5_0, GGML_TYPE_Q5_1,
                                GGML_TYPE_Q8_0, GGML_TYPE_Q4_K, GGML_TYPE_Q5_K, GGML_TYPE_Q6_K};

constexpr const char* kVariants[] = {"avx512", "avxvnni", "avx2"};

// Every type with every instruction set; skipped where the processor lacks it.
class CpuMatmul : public testing::TestWithParam<std::tuple<ggml_type, const char*>> {
 protected:
  void SetUp() override {
    if (!force_cpu_matmul_variant(variant())) {
      GTEST_SKIP() << "this processor has no " << variant();
    }
  }
  void TearDown() override { force_cpu_matmul_variant(chosen_.c_str()); }
  static ggml_type type() { return std::get<0>(GetParam()); }
  static const char* variant() { return std::get<1>(GetParam()); }

 private:
  const std::string chosen_ = cpu_matmul_variant();
};
INSTANTIATE_TEST_SUITE_P(Types, CpuMatmul,
                         testing::Combine(testing::ValuesIn(kTypes), testing::ValuesIn(kVariants)),
                         [](const auto& info) {
                           return std::string(ggml_type_name(std::get<0>(info.param))) + "_" +
                                  std::get<1>(info.param);
                         });

// A matrix of the type, quantised by ggml from rows whose blocks differ in size and mean.
struct Matrix {
  Matrix(Random& random, ggml_type type, int64_t n_in, int64_t n_out)
      : bytes(ggml_row_size(type, n_in) * n_out), values(n_in * n_out) {
    std::vector<float> source(values.size());
    for (size_t i = 0; i < source.size(); i++) {
      const auto block = float(i / 32 % 7);
      source[i] = random.normal(0.02F * (1 + block)) + 0.01F * (block - 3);
    }
    ggml_quantize_chunk(type, source.data(), bytes.data(), 0, n_out, n_in, nullptr);
    for (int64_t row = 0; row < n_out; row++) {
      ggml_get_type_traits(type)->to_float(bytes.data() + row * ggml_row_size(type, n_in),
                                           values.data() + row * n_in, n_in);
    }
    view.type = type;
    view.shape = {n_in, n_out, 1, 1};
    view.data = bytes.data();
    view.bytes = bytes.size();
  }
  std::vector<uint8_t> bytes;
  std::vector<float> values;  // [n_out][n_in], dequantised by ggml
  WeightView view;
};

PackedMatrix packed(const Matrix& matrix) {
  PackedMatrix result(matrix.view);
  result.pack(matrix.view, 0, result.n_panels());
  return result;
}

// Activations [columns][n_in] of very different sizes, a column of zeros among them.
std::vector<float> activations(Random& random, int n_columns, int64_t n_in) {
  std::vector<float> x(n_columns * n_in);
  for (int c = 0; c < n_columns; c++) {
    const float size = c == 1 ? 0 : std::pow(10.0F, float(c % 5 - 2));
    for (int64_t i = 0; i < n_in; i++) x[c * n_in + i] = random.normal(size);
  }
  return x;
}

std::vector<uint8_t> quantised(const PackedMatrix& matrix, const std::vector<float>& x,
                               int n_columns) {
  std::vector<uint8_t> records(activation_bytes(matrix.n_in()) * n_columns);
  for (int c = 0; c < n_columns; c++) {
    quantise_activations(matrix.activations(), x.data() + c * matrix.n_in(), matrix.n_in(),
                         records.data() + c * activation_bytes(matrix.n_in()));
  }
  return records;
}

// What ggml makes of a column, in scalar code: Q8_0 has a scale per 32, rounded to f16; Q8_K one
// per 256, from the value of the largest magnitude.
std::vector<double> quantised_values(ActivationKind kind, const float* x, int64_t n_in) {
  std::vector<double> values(n_in);
  const int64_t block = kind == ActivationKind::kQ8_0 ? 32 : 256;
  for (int64_t first = 0; first < n_in; first += block) {
    float largest = 0;
    for (int64_t i = first; i < first + block; i++) {
      if (std::fabs(x[i]) > std::fabs(largest)) largest = x[i];
    }
    if (largest == 0) continue;
    const float inverse =
        kind == ActivationKind::kQ8_0 ? 127.0F / std::fabs(largest) : -127.0F / largest;
    const double scale =
        kind == ActivationKind::kQ8_0
            ? reference::f32_from_f16(reference::f16_from_f32(std::fabs(largest) / 127.0F))
            : 1.0F / inverse;
    for (int64_t i = first; i < first + block; i++) {
      values[i] = scale * std::fmin(127.0F, std::nearbyint(x[i] * inverse));
    }
  }
  return values;
}

std::vector<int64_t> lengths(ggml_type type) {
  if (ggml_blck_size(type) == 256) return {256, 512, 4864};
  return {32, 64, 96, 256, 896, 1120};
}

// Sums of n_in products in f32: this share of the sum of their magnitudes.
constexpr double kRounding = 2e-6;

// For the types with offsets and blocks of 32, ggml and we round each block's sum of activations to
// f16 (Q8_1); the scalar sum does not. (An offset may be larger than the weights it shifts.)
double difference_from_scalar(ggml_type type) {
  const bool rounds_sums = type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q5_1;
  return rounds_sums ? 0x1p-9 : 8 * kRounding;
}

TEST_P(CpuMatmul, MultipliesLikeTheScalarSum) {
  uint32_t seed = 6000;
  for (int64_t n_in : lengths(type())) {
    for (int n_columns : {1, 2, 3, 4, 5, 11, 12, 13, 25, 97}) {
      const int64_t n_out = n_in > 1000 ? 16 : 48;
      SCOPED_TRACE(testing::Message() << n_in << " to " << n_out << ", columns " << n_columns);
      Random random(seed++);
      const Matrix matrix(random, type(), n_in, n_out);
      const PackedMatrix ours = packed(matrix);
      const std::vector<float> x = activations(random, n_columns, n_in);
      const std::vector<uint8_t> records = quantised(ours, x, n_columns);
      const size_t stride = n_out + 3;  // nothing between the columns is written
      Guarded out(n_columns * stride);
      ours.multiply(records.data(), n_columns, 0, ours.n_panels(), out.data(), stride);
      out.expect_intact("out");
      for (int c = 0; c < n_columns; c++) {
        const std::vector<double> values =
            quantised_values(ours.activations(), x.data() + c * n_in, n_in);
        for (int64_t row = 0; row < n_out; row++) {
          double want = 0, magnitudes = 0;
          for (int64_t i = 0; i < n_in; i++) {
            const double product = values[i] * matrix.values[row * n_in + i];
            want += product;
            magnitudes += std::fabs(product);
          }
          const float got = out.data()[c * stride + row];
          ASSERT_TRUE(std::isfinite(got)) << "column " << c << ", row " << row;
          // With an offset, s * sum(u q) and m * sum(q) cancel in part.
          ASSERT_NEAR(got, want, difference_from_scalar(type()) * magnitudes + 1e-30)
              << "column " << c << ", row " << row;
        }
        for (size_t i = n_out; i < stride; i++) {
          ASSERT_TRUE(std::isnan(out.data()[c * stride + i])) << "written between columns";
        }
      }
    }
  }
}

TEST_P(CpuMatmul, AgreesWithGgml) {
  test::load_libraries();
  auto cpu = GgmlCpu::open(1);
  ASSERT_TRUE(cpu.ok()) << cpu.error().message;
  uint32_t seed = 6100;
  for (int64_t n_in : lengths(type())) {
    for (int n_columns : {1, 7, 40}) {
      Random random(seed++);
      const int64_t n_out = 64;
      const Matrix matrix(random, type(), n_in, n_out);
      const std::vector<float> x = activations(random, n_columns, n_in);

      ggml_context* context = ggml_init({size_t(1) << 20, nullptr, true});
      ggml_tensor* weights = ggml_new_tensor_2d(context, type(), n_in, n_out);
      ggml_tensor* columns = ggml_new_tensor_2d(context, GGML_TYPE_F32, n_in, n_columns);
      ggml_tensor* product = ggml_mul_mat(context, weights, columns);
      ggml_cgraph* graph = ggml_new_graph(context);
      ggml_build_forward_expand(graph, product);
      ggml_backend_buffer_t buffer =
          ggml_backend_alloc_ctx_tensors_from_buft(context, cpu.value().buffer_type());
      std::memcpy(weights->data, matrix.bytes.data(), matrix.bytes.size());
      std::memcpy(columns->data, x.data(), x.size() * sizeof(float));
      ASSERT_TRUE(cpu.value().compute(graph, nullptr).ok());
      const auto* theirs = static_cast<const float*>(product->data);

      const PackedMatrix ours = packed(matrix);
      const std::vector<uint8_t> records = quantised(ours, x, n_columns);
      std::vector<float> got(n_columns * n_out);
      ours.multiply(records.data(), n_columns, 0, ours.n_panels(), got.data(), n_out);
      for (int c = 0; c < n_columns; c++) {
        for (int64_t row = 0; row < n_out; row++) {
          double magnitudes = 0;
          for (int64_t i = 0; i < n_in; i++) {
            magnitudes += std::fabs(double(x[c * n_in + i]) * matrix.values[row * n_in + i]);
          }
          ASSERT_NEAR(got[c * n_out + row], theirs[c * n_out + row],
                      8 * kRounding * magnitudes + 1e-30)
              << n_in << " inputs, column " << c << " of " << n_columns << ", row " << row;
        }
      }
      ggml_backend_buffer_free(buffer);
      ggml_free(context);
    }
  }
}

// A column's bits depend on its own activations, not on its neighbours; a panel's not on the range.
TEST_P(CpuMatmul, NeitherColumnsNorPanelsTouchEachOther) {
  Random random(6200);
  const int64_t n_in = lengths(type()).back(), n_out = 80;
  const int n_columns = 101;
  const Matrix matrix(random, type(), n_in, n_out);
  const PackedMatrix ours = packed(matrix);
  const std::vector<float> x = activations(random, n_columns, n_in);
  const std::vector<uint8_t> records = quantised(ours, x, n_columns);
  std::vector<float> all(n_columns * n_out);
  ours.multiply(records.data(), n_columns, 0, ours.n_panels(), all.data(), n_out);
  for (int c = 0; c < n_columns; c++) {
    std::vector<float> one(n_out);
    ours.multiply(records.data() + c * activation_bytes(n_in), 1, 0, ours.n_panels(), one.data(),
                  n_out);
    ASSERT_TRUE(same_bits(one, {all.begin() + c * n_out, all.begin() + (c + 1) * n_out})) << c;
  }
  for (int n : {2, 5, 13, 50}) {
    std::vector<float> some(n * n_out);
    ours.multiply(records.data(), n, 0, 2, some.data(), n_out);
    ours.multiply(records.data(), n, 2, 5, some.data() + 32, n_out);
    ASSERT_TRUE(same_bits(some, {all.begin(), all.begin() + n * n_out})) << n << " columns";
  }
}

TEST_P(CpuMatmul, PacksInAnyOrder) {
  Random random(6300);
  const int64_t n_in = lengths(type()).front(), n_out = 64;
  const Matrix matrix(random, type(), n_in, n_out);
  const PackedMatrix whole = packed(matrix);
  PackedMatrix parts(matrix.view);
  parts.pack(matrix.view, 3, 4);
  parts.pack(matrix.view, 0, 1);
  parts.pack(matrix.view, 1, 3);
  const std::vector<float> x = activations(random, 1, n_in);
  const std::vector<uint8_t> records = quantised(whole, x, 1);
  std::vector<float> a(n_out), b(n_out);
  whole.multiply(records.data(), 1, 0, 4, a.data(), n_out);
  parts.multiply(records.data(), 1, 0, 4, b.data(), n_out);
  EXPECT_TRUE(same_bits(a, b));
}

// The largest u against the largest q, where sums of 16 bits would overflow first.
TEST_P(CpuMatmul, TheLargestValuesDoNotOverflow) {
  Random random(6350);
  const int64_t n_in = lengths(type()).front(), n_out = 16;
  Matrix matrix(random, type(), n_in, n_out);
  const size_t block_bytes = ggml_type_size(type());
  for (size_t at = 0; at < matrix.bytes.size(); at += block_bytes) {
    uint8_t* block = matrix.bytes.data() + at;
    const auto put_f16 = [&](size_t offset, float x) {
      const f16 half = reference::f16_from_f32(x);
      std::memcpy(block + offset, &half, sizeof(half));
    };
    std::memset(block, type() == GGML_TYPE_Q8_0 ? 0x80 : 0xFF, block_bytes);  // int8 -128, or ones
    if (type() == GGML_TYPE_Q6_K) {
      std::memset(block + 192, 1, 16);
      put_f16(208, 1);
    } else {
      put_f16(0, 1);
    }
    if (ggml_blck_size(type()) == 32 && packed_format(type())->has_offset) put_f16(2, -1);
    if (type() == GGML_TYPE_Q4_K || type() == GGML_TYPE_Q5_K) put_f16(2, 1);
  }
  for (int64_t row = 0; row < n_out; row++) {
    ggml_get_type_traits(type())->to_float(matrix.bytes.data() + row * ggml_row_size(type(), n_in),
                                           matrix.values.data() + row * n_in, n_in);
  }
  const PackedMatrix ours = packed(matrix);
  for (float sign : {1.0F, -1.0F}) {
    const std::vector<float> x(n_in * 5, sign * 127);
    const std::vector<uint8_t> records = quantised(ours, x, 5);
    std::vector<float> got(5 * n_out);
    ours.multiply(records.data(), 5, 0, 1, got.data(), n_out);
    for (int i = 0; i < 5 * n_out; i++) {
      double want = 0;
      for (int64_t k = 0; k < n_in; k++) want += 127.0 * sign * matrix.values[k];
      ASSERT_NEAR(got[i], want, difference_from_scalar(type()) * std::fabs(want)) << i;
    }
  }
}

// Sums of integers are exact and floats are added in one order, so the instruction set does not
// show.
TEST(CpuMatmulVariants, GiveTheSameBits) {
  const std::string chosen = cpu_matmul_variant();
  for (ggml_type type : kTypes) {
    std::vector<float> first;
    for (const char* variant : kVariants) {
      if (!force_cpu_matmul_variant(variant)) continue;
      Random random(6400);
      const int64_t n_in = lengths(type).back();
      const Matrix matrix(random, type, n_in, 32);
      const PackedMatrix ours = packed(matrix);
      const std::vector<float> x = activations(random, 17, n_in);
      const std::vector<uint8_t> records = quantised(ours, x, 17);
      std::vector<float> got(17 * 32);
      ours.multiply(records.data(), 17, 0, 2, got.data(), 32);
      if (first.empty()) first = got;
      EXPECT_TRUE(same_bits(got, first)) << ggml_type_name(type) << ", " << variant;
    }
  }
  force_cpu_matmul_variant(chosen.c_str());
}

TEST(CpuMatmulFits, RefusesWhatItCannotPack) {
  WeightView weight;
  weight.type = GGML_TYPE_Q8_0;
  weight.shape = {64, 32, 1, 1};
  EXPECT_TRUE(PackedMatrix::fits(weight));
  weight.shape = {64, 33, 1, 1};
  EXPECT_FALSE(PackedMatrix::fits(weight)) << "rows that do not fill a panel";
  weight.shape = {64, 32, 1, 1};
  for (ggml_type type : {GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_IQ4_XS, GGML_TYPE_Q2_K}) {
    weight.type = type;
    EXPECT_FALSE(PackedMatrix::fits(weight)) << ggml_type_name(type);
  }
}

}  // namespace
}  // namespace scholia
