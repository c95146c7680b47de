// The CUDA kernels against the scalar truth, through their launchers and on a stream of their own.
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cstring>
#include <numeric>

#include "backend/cpu/cpu_ops.h"
#include "backend/cpu/reference_ops.h"
#include "backend/cuda/device_buffer.h"
#include "backend/cuda/input_buffer.h"
#include "backend/cuda/kernels/attention.cuh"
#include "backend/cuda/kernels/digests.cuh"
#include "backend/cuda/kernels/matvec.cuh"
#include "backend/cuda/kernels/prefill.cuh"
#include "backend/cuda/kernels/prefill_attention.cuh"
#include "backend/cuda/kernels/weights.cuh"
#include "cuda_support.h"
#include "engine/decode/plan.h"
#include "engine/kv/digests.h"
#include "engine/kv/f16.h"

namespace scholia::test {
namespace {

using namespace cuda;

class CudaKernels : public ::testing::Test {
 protected:
  void SetUp() override {
    SCHOLIA_NEEDS_GPU();
    ASSERT_EQ(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), cudaSuccess);
  }
  void TearDown() override {
    if (stream_ != nullptr) cudaStreamDestroy(stream_);
  }

  template <typename T>
  DeviceBuffer upload(const std::vector<T>& from) {
    DeviceBuffer buffer;
    EXPECT_TRUE(buffer.allocate(std::max<size_t>(from.size() * sizeof(T), 16), "a test").ok());
    EXPECT_EQ(cudaMemcpy(buffer.as<void>(), from.data(), from.size() * sizeof(T),
                         cudaMemcpyHostToDevice),
              cudaSuccess);
    settle();
    return buffer;
  }
  // A copy from pageable memory and a memset return before they are done, and this stream does not
  // wait for the default one.
  static void settle() { EXPECT_EQ(cudaDeviceSynchronize(), cudaSuccess); }
  template <typename T>
  std::vector<T> download(const DeviceBuffer& from, size_t n) {
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    std::vector<T> to(n);
    EXPECT_EQ(cudaMemcpy(to.data(), from.as<void>(), n * sizeof(T), cudaMemcpyDeviceToHost),
              cudaSuccess);
    return to;
  }
  // Poisoned, so that what is not written shows.
  DeviceBuffer room(size_t n_bytes) {
    DeviceBuffer buffer;
    EXPECT_TRUE(buffer.allocate(n_bytes, "a test").ok());
    EXPECT_EQ(cudaMemset(buffer.as<void>(), 0xff, n_bytes), cudaSuccess);
    settle();
    return buffer;
  }
  std::vector<float> normal(size_t n, float deviation = 1) {
    std::normal_distribution<float> distribution(0, deviation);
    std::vector<float> values(n);
    for (float& x : values) x = distribution(random_);
    return values;
  }

  std::mt19937 random_{1234};
  cudaStream_t stream_ = nullptr;
};

// --- weights and products -------------------------------------------------------------------

// A matrix on both sides: planes on the device, f32 as ggml unpacks it.
struct TestMatrix {
  DeviceBuffer planes;
  DeviceMatrix device;
  std::vector<float> values;
};

class CudaProducts : public CudaKernels {
 protected:
  TestMatrix make_matrix(const Format& of, int n_rows, int n_cols) {
    const auto [type, format] = of;
    const std::vector<float> from = normal(size_t(n_rows) * n_cols, 0.1F);
    std::vector<uint8_t> file(ggml_row_size(type, n_cols) * size_t(n_rows));
    ggml_quantize_chunk(type, from.data(), file.data(), 0, n_rows, n_cols, nullptr);
    TestMatrix m;
    m.values.resize(from.size());
    if (type == GGML_TYPE_F32) {
      m.values = from;
    } else {
      ggml_get_type_traits(type)->to_float(file.data(), m.values.data(), int64_t(from.size()));
    }
    const PlaneBytes b = plane_bytes(format);
    m.device.format = format;
    m.device.n_rows = n_rows;
    m.device.n_cols = n_cols;
    const size_t units = size_t(n_rows) * m.device.n_units();
    const auto aligned = [](size_t n) { return (n + 255) / 256 * 256; };
    const size_t codes = aligned(units * b.codes), high = aligned(units * b.high);
    const size_t scales = aligned(units * b.scales);
    m.planes = room(codes + high + scales + aligned(units / 8 * b.supers) + 256);
    m.device.codes = m.planes.as<uint8_t>();
    m.device.high = m.device.codes + codes;
    m.device.scales = m.device.high + high;
    m.device.supers = m.device.scales + scales;
    const DeviceBuffer uploaded = upload(file);
    RepackParams repack;
    repack.file_rows = uploaded.as<uint8_t>();
    repack.to = m.device;
    repack.n_rows = n_rows;
    EXPECT_EQ(launch_repack(repack, stream_), cudaSuccess);
    EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
    return m;
  }
};

class CudaFormats : public CudaProducts, public ::testing::WithParamInterface<Format> {
 protected:
  TestMatrix make(int n_rows, int n_cols) { return make_matrix(GetParam(), n_rows, n_cols); }
};

// Around 2048 columns, from which on rows of Q4_K and Q6_K are kept in another order.
TEST_P(CudaFormats, UnpackToGgmlsValues) {
  for (const auto& [n_rows, n_cols] :
       {std::pair{1, 256}, {7, 512}, {130, 1280}, {3, 1792}, {5, 2048}, {3, 2304}, {9, 6144}}) {
    const TestMatrix m = make(n_rows, n_cols);
    const DeviceBuffer out = room(m.values.size() * 2);
    ASSERT_EQ(launch_dequantise({m.device, 0, n_rows, out.as<__half>()}, stream_), cudaSuccess);
    const auto got = download<f16>(out, m.values.size());
    for (size_t i = 0; i < got.size(); ++i) {
      // Our d * u + m is one rounding more or less than ggml's.
      ASSERT_NEAR(f32_from_f16(got[i]), m.values[i], 1e-6 + std::abs(m.values[i]) * 1.2e-3)
          << "at " << i;
    }
  }
}

// x with each 16 rounded to 8 bits, as leave_value does.
std::vector<float> rounded_16s(const std::vector<float>& x) {
  std::vector<float> out(x.size());
  for (size_t i = 0; i < x.size(); i += 16) {
    float most = 0;
    for (size_t j = i; j < i + 16; ++j) most = std::max(most, std::abs(x[j]));
    const float d = most / 127.0F, inverse = most > 0 ? 127.0F / most : 0;
    for (size_t j = i; j < i + 16; ++j) out[j] = d * std::nearbyint(x[j] * inverse);
  }
  return out;
}

// What a product makes of x before it multiplies: normalised where there is a weight.
std::vector<float> read_input(std::vector<float> x, const std::vector<float>* norm_weight,
                              float eps, bool rounded) {
  double squares = 0;
  for (const float v : x) squares += double(v) * v;
  const float factor = norm_weight == nullptr ? 1 : float(1 / std::sqrt(squares / double(x.size()) + eps));
  if (norm_weight != nullptr) {
    for (size_t i = 0; i < x.size(); ++i) x[i] *= (*norm_weight)[i];
  }
  if (rounded) x = rounded_16s(x);
  for (float& v : x) v *= factor;
  return x;
}

// y = W x of one row, and how far rounding may take it.
struct Truth {
  double y, tolerance;
};
Truth multiply(const TestMatrix& m, int row, const std::vector<float>& x) {
  double y = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double term = double(m.values[size_t(row) * x.size() + i]) * x[i];
    y += term;
    size += term * term;
  }
  // A value on the edge between two integers may round the other way: one step of one term.
  return {y, 1e-4 + 0.02 * std::sqrt(size / double(x.size())) + 2e-5 * std::sqrt(size)};
}

TEST_P(CudaFormats, Product) {
  for (const auto& [n_rows, n_cols] :
       {std::pair{1, 256}, {2, 768}, {33, 1024}, {1000, 4096}, {96, 14336}, {1, 2048}, {40, 1792},
        {333, 2048}, {40, 2304}, {3300, 2048}, {1700, 6144}}) {
    const TestMatrix m = make(n_rows, n_cols);
    const std::vector<float> x = normal(size_t(n_cols)), weight = normal(size_t(n_cols)),
                             bias = normal(size_t(n_rows));
    const DeviceBuffer d_x = upload(x), d_weight = upload(weight), d_bias = upload(bias);
    const DeviceBuffer d_y = upload(bias);
    InputBuffer input;
    ASSERT_TRUE(input.allocate(n_cols, true, stream_, "a test").ok());
    MatvecParams p;
    p.parts[p.n_parts++] = {m.device, d_bias.as<float>(), d_y.as<float>()};
    p.x = input.of({&m.device});
    p.norm_eps = 1e-5F;
    p.out = MatvecOut::kAdd;
    ASSERT_EQ(launch_leave_input(d_x.as<float>(), d_weight.as<float>(), n_cols, p.x, false, stream_),
              cudaSuccess);
    ASSERT_EQ(launch_matvec(p, 100, false, stream_), cudaSuccess);
    const auto got = download<float>(d_y, size_t(n_rows));
    const auto read = read_input(x, &weight, 1e-5F, !is_float(m.device.format));
    for (int row = 0; row < n_rows; ++row) {
      const Truth truth = multiply(m, row, read);
      ASSERT_NEAR(got[size_t(row)], truth.y + 2.0 * bias[size_t(row)], truth.tolerance)
          << "row " << row << " of " << n_rows << " x " << n_cols;
    }
  }
}

// Three matrices of one input, as Q, K and V are, on grids from the least to more than rows.
TEST_P(CudaFormats, ThreeMatrices) {
  const TestMatrix q = make(130, 512), k = make(34, 512), v = make(33, 512);
  const std::vector<float> x = normal(512);
  const DeviceBuffer d_x = upload(x);
  InputBuffer input;
  ASSERT_TRUE(input.allocate(512, false, stream_, "a test").ok());
  const auto read = read_input(x, nullptr, 0, !is_float(q.device.format));
  for (const int n_ctas : {1, 7, 132, 300}) {
    const DeviceBuffer d_q = room(130 * 4), d_k = room(34 * 4), d_v = room(33 * 4);
    MatvecParams p;
    p.parts[p.n_parts++] = {q.device, nullptr, d_q.as<float>()};
    p.parts[p.n_parts++] = {k.device, nullptr, d_k.as<float>()};
    p.parts[p.n_parts++] = {v.device, nullptr, d_v.as<float>()};
    p.x = input.of({&q.device, &k.device, &v.device});
    ASSERT_EQ(launch_leave_input(d_x.as<float>(), nullptr, 512, p.x, false, stream_), cudaSuccess);
    ASSERT_EQ(launch_matvec(p, n_ctas, false, stream_), cudaSuccess);
    for (const auto& [m, out] : {std::pair{&q, &d_q}, {&k, &d_k}, {&v, &d_v}}) {
      const auto got = download<float>(*out, size_t(m->device.n_rows));
      for (int row = 0; row < m->device.n_rows; ++row) {
        const Truth truth = multiply(*m, row, read);
        ASSERT_NEAR(got[size_t(row)], truth.y, truth.tolerance) << "row " << row << ", " << n_ctas;
      }
    }
  }
}

// What a product leaves is what leave_input makes of its results.
TEST_P(CudaFormats, LeavesTheNextInput) {
  const bool is_rounded = !is_float(GetParam().format);
  for (const auto& [n_rows, n_cols] :
       {std::pair{32, 256}, {96, 512}, {1056, 768}, {96, 2048}, {1056, 6144}}) {
    const TestMatrix m = make(n_rows, n_cols);
    const std::vector<float> x = normal(size_t(n_cols)), weight = normal(size_t(n_rows)),
                             old = normal(size_t(n_rows));
    const DeviceBuffer d_x = upload(x), d_weight = upload(weight);
    InputBuffer input;
    ASSERT_TRUE(input.allocate(n_cols, false, stream_, "a test").ok());
    MatvecParams p;
    p.x = input.of({&m.device});
    ASSERT_EQ(launch_leave_input(d_x.as<float>(), nullptr, n_cols, p.x, false, stream_), cudaSuccess);
    for (const MatvecOut out : {MatvecOut::kAdd, MatvecOut::kGatePairs, MatvecOut::kGateWith}) {
      const bool pairs = out == MatvecOut::kGatePairs;
      const int n_out = pairs ? n_rows / 2 : n_rows;
      const DeviceBuffer d_y = upload(old);
      InputBuffer left, wanted;
      ASSERT_TRUE(left.allocate(n_out, true, stream_, "a test").ok());
      ASSERT_TRUE(wanted.allocate(n_out, true, stream_, "a test").ok());
      p.n_parts = 0;
      p.parts[p.n_parts++] = {m.device, nullptr, d_y.as<float>()};
      p.out = out;
      p.next = left.of({&m.device});
      p.next_norm = pairs ? nullptr : d_weight.as<float>();
      ASSERT_EQ(launch_matvec(p, 7, false, stream_), cudaSuccess);
      const ProductInput again = wanted.of({&m.device});
      ASSERT_EQ(launch_leave_input(d_y.as<float>(), p.next_norm, n_out, again, false, stream_),
                cudaSuccess);
      const size_t n_bytes = is_rounded ? ProductInput::rounded_bytes(again.n_units)
                                        : ProductInput::floats_bytes(again.n_units);
      const auto download_left = [&](const ProductInput& from) {
        EXPECT_EQ(cudaStreamSynchronize(stream_), cudaSuccess);
        std::vector<uint8_t> bytes(n_bytes);
        const void* at = is_rounded ? static_cast<const void*>(from.rounded) : from.floats;
        EXPECT_EQ(cudaMemcpy(bytes.data(), at, n_bytes, cudaMemcpyDeviceToHost), cudaSuccess);
        std::vector<float> squares(size_t(from.n_units) * 2);
        EXPECT_EQ(cudaMemcpy(squares.data(), from.squares, squares.size() * 4, cudaMemcpyDeviceToHost),
                  cudaSuccess);
        return std::pair{bytes, squares};
      };
      EXPECT_EQ(download_left(p.next), download_left(again)) << n_rows << ", " << int(out);
    }
  }
}

TEST_P(CudaFormats, GatedPairsAndApart) {
  for (const int n_cols : {512, 2048}) {
    const TestMatrix m = make(64, n_cols);
    const std::vector<float> x = normal(size_t(n_cols));
    const DeviceBuffer d_x = upload(x), d_y = room(64 * 4), d_pairs = room(32 * 4);
    InputBuffer input;
    ASSERT_TRUE(input.allocate(n_cols, false, stream_, "a test").ok());
    MatvecParams p;
    p.parts[p.n_parts++] = {m.device, nullptr, d_y.as<float>()};
    p.x = input.of({&m.device});
    ASSERT_EQ(launch_leave_input(d_x.as<float>(), nullptr, n_cols, p.x, false, stream_), cudaSuccess);
    ASSERT_EQ(launch_matvec(p, 7, false, stream_), cudaSuccess);
    const auto y = download<float>(d_y, 64);
    p.out = MatvecOut::kGatePairs;
    p.parts[0].out = d_pairs.as<float>();
    ASSERT_EQ(launch_matvec(p, 7, false, stream_), cudaSuccess);
    const auto pairs = download<float>(d_pairs, 32);
    p.out = MatvecOut::kGateWith;
    p.parts[0].out = d_y.as<float>();
    ASSERT_EQ(launch_matvec(p, 7, false, stream_), cudaSuccess);
    const auto gated = download<float>(d_y, 64);
    for (size_t i = 0; i < 64; ++i) {
      const double silu = y[i] / (1 + std::exp(-double(y[i])));
      ASSERT_NEAR(gated[i], silu * y[i], 1e-5 + 1e-5 * std::abs(silu * y[i]));
      if (i % 2 != 0) continue;
      const double pair = silu * y[i + 1];
      ASSERT_NEAR(pairs[i / 2], pair, 1e-5 + 1e-5 * std::abs(pair));
    }
  }
}

INSTANTIATE_TEST_SUITE_P(All, CudaFormats, ::testing::ValuesIn(kFormats), [](const auto& info) {
  return std::string(ggml_type_name(info.param.type));
});

// Two formats in one kernel, as Q and K are of Q4_K and V of Q6_K: both orders of rows, and grids from
// the least to more than rows.
TEST_F(CudaProducts, MixedFormats) {
  const auto format = [](ggml_type type) {
    return *std::find_if(std::begin(kFormats), std::end(kFormats),
                         [&](const Format& f) { return f.type == type; });
  };
  for (const int n_cols : {1792, 2048, 4096}) {
    const TestMatrix q = make_matrix(format(GGML_TYPE_Q4_K), 640, n_cols),
                     k = make_matrix(format(GGML_TYPE_Q4_K), 34, n_cols),
                     v = make_matrix(format(GGML_TYPE_Q6_K), 130, n_cols);
    const std::vector<float> x = normal(size_t(n_cols)), weight = normal(size_t(n_cols));
    const DeviceBuffer d_x = upload(x), d_weight = upload(weight);
    InputBuffer input;
    ASSERT_TRUE(input.allocate(n_cols, true, stream_, "a test").ok());
    const auto read = read_input(x, &weight, 1e-5F, true);
    for (const int n_ctas : {1, 7, 132, 1000}) {
      const DeviceBuffer d_q = room(640 * 4), d_k = room(34 * 4), d_v = room(130 * 4);
      MatvecParams p;
      p.parts[p.n_parts++] = {q.device, nullptr, d_q.as<float>()};
      p.parts[p.n_parts++] = {k.device, nullptr, d_k.as<float>()};
      p.parts[p.n_parts++] = {v.device, nullptr, d_v.as<float>()};
      p.x = input.of({&q.device, &k.device, &v.device});
      p.norm_eps = 1e-5F;
      ASSERT_EQ(launch_leave_input(d_x.as<float>(), d_weight.as<float>(), n_cols, p.x, false, stream_),
                cudaSuccess);
      ASSERT_EQ(launch_matvec(p, n_ctas, false, stream_), cudaSuccess);
      for (const auto& [m, out] : {std::pair{&q, &d_q}, {&k, &d_k}, {&v, &d_v}}) {
        const auto got = download<float>(*out, size_t(m->device.n_rows));
        for (int row = 0; row < m->device.n_rows; ++row) {
          const Truth truth = multiply(*m, row, read);
          ASSERT_NEAR(got[size_t(row)], truth.y, truth.tolerance)
              << "row " << row << ", " << n_cols << " columns, " << n_ctas;
        }
      }
    }
  }
}

// --- attention ------------------------------------------------------------------------------

// One layer's KV on both sides, its pages shuffled; queries and a new token.
struct AttentionCase {
  int head_dim, n_kv_heads, group, n_tokens;
  Mode mode = Mode::kAbSparse;
  int budget_tokens = 0;
  bool has_ties = false;  // all keys of a head are the same
};

class CudaAttention : public CudaKernels {
 protected:
  void check(const AttentionCase& c, DigestKind kind = DigestKind::kMeanStd);

  int max_team_ = 16;
};

void CudaAttention::check(const AttentionCase& c, DigestKind kind) {
  SCOPED_TRACE("D " + std::to_string(c.head_dim) + ", G " + std::to_string(c.group) + ", " +
               std::to_string(c.n_tokens) + " tokens, budget " + std::to_string(c.budget_tokens));
  const int D = c.head_dim, n_heads = c.n_kv_heads;
  const KvShape shape{1, c.n_kv_heads, D};
  const int n_pages = (c.n_tokens + 15) / 16;
  auto reserved = KvPages::reserve(shape, size_t(n_pages) + 3);
  ASSERT_TRUE(reserved.ok());
  KvPages& pages = reserved.value();
  std::vector<PageId> table(pages.n_pages());
  std::iota(table.begin(), table.end(), PageId{0});
  std::shuffle(table.begin(), table.end(), random_);
  const size_t elements = pages.n_pages() * shape.page_elements();
  const std::vector<float> k = normal(elements, 1.5F), v = normal(elements);
  for (size_t i = 0; i < elements; ++i) {
    const size_t of = c.has_ties ? i / (16 * D) % n_heads * D + i % D : i;
    pages.k(0)[i] = f16_from_f32(k[of]);
    pages.v(0)[i] = f16_from_f32(v[i]);
  }
  const DeviceBuffer d_kv =
      upload(std::vector<f16>(pages.k(0), pages.k(0) + 2 * elements));
  const DeviceBuffer d_table = upload(table);
  auto* d_k = d_kv.as<__half>();

  // Mixed block sizes and budgets.
  HeadProfile profile = HeadProfile::uniform(1, n_heads);
  profile.digest.kind = kind;
  for (int h = 0; h < n_heads; ++h) profile.block_tokens[h] = uint16_t(kBlockSizes[(h + 1) % 4]);
  const DecodePlan plan =
      make_decode_plan(profile, shape, c.mode, std::max(c.budget_tokens, 1), c.n_tokens);
  const DigestLayout layout(shape, profile);
  Digests digests;
  const KvView before{table.data(), c.n_tokens - 1};
  digests.update(layout, pages, before);

  // Digests on the device, in two goes.
  const size_t n_groups = size_t(c.n_tokens) / kDigestGroupTokens + 1;
  std::vector<DeviceBuffer> digest_rooms;
  std::vector<DigestPlanes> planes;
  for (int h = 0; h < n_heads; ++h) {
    const size_t n_blocks = size_t(layout.blocks_per_group(h));
    digest_rooms.push_back(room(n_groups * n_blocks * D));
    digest_rooms.push_back(room(n_groups * 8 * D));
    digest_rooms.push_back(room(n_blocks * 4 * D));
    const auto* three = &digest_rooms[digest_rooms.size() - 3];
    planes.push_back({three[0].as<uint8_t>(), three[1].as<__half>(), three[2].as<__half>()});
  }
  const DeviceBuffer d_planes = upload(planes), d_blocks = upload(layout.block_tokens);
  DigestParams dp;
  dp.kind = int(kind);
  dp.head_dim = D;
  dp.n_layers = 1;
  dp.n_kv_heads = n_heads;
  dp.pool = d_k;
  dp.layer_elements = elements;
  dp.pages = d_table.as<uint32_t>();
  dp.block_tokens = d_blocks.as<uint16_t>();
  dp.planes = d_planes.as<DigestPlanes>();
  dp.to_tokens = (c.n_tokens - 1) / 2 + 5 < c.n_tokens ? (c.n_tokens - 1) / 2 + 5 : 0;
  ASSERT_EQ(launch_build_digests(dp, stream_), cudaSuccess);
  dp.from_tokens = dp.to_tokens;
  dp.to_tokens = c.n_tokens - 1;
  ASSERT_EQ(launch_build_digests(dp, stream_), cudaSuccess);
  const size_t n_closed = digests.closed().size();
  for (int h = 0; h < n_heads; ++h) {
    const size_t n_blocks = size_t(layout.blocks_per_group(h));
    const auto records = download<uint8_t>(digest_rooms[h * 3], n_groups * n_blocks * D);
    const auto scales = download<uint8_t>(digest_rooms[h * 3 + 1], n_groups * 8 * D);
    const auto open = download<uint8_t>(digest_rooms[h * 3 + 2], n_blocks * 4 * D);
    for (size_t g = 0; g < n_closed; ++g) {
      const uint8_t* expected = digests.closed()[g]->data() + layout.closed_offset[h];
      ASSERT_EQ(std::memcmp(expected, scales.data() + g * 8 * D, size_t(8) * D), 0)
          << "scales of group " << g << ", head " << h;
      ASSERT_EQ(std::memcmp(expected + 8 * D, records.data() + g * n_blocks * D, n_blocks * D), 0)
          << "records of group " << g << ", head " << h;
    }
    const size_t n_open = (size_t(c.n_tokens - 1) % kDigestGroupTokens) / layout.block_tokens[h];
    ASSERT_EQ(std::memcmp(digests.open().data() + layout.open_offset[h], open.data(),
                          n_open * 4 * D),
              0)
        << "open records, head " << h;
  }

  // Queries as they come out of the product; no rotation, so that the truth is simple.
  const int n_q = n_heads * c.group * D, n_kv = n_heads * D;
  const std::vector<float> qkv = normal(size_t(n_q) + 2 * n_kv, 1.5F);
  const std::vector<float2> angles(size_t(D) / 2, float2{1, 0});
  const DeviceBuffer d_qkv = upload(qkv), d_angles = upload(angles);
  const DeviceBuffer d_n = upload(std::vector<int>{c.n_tokens}), d_heads = upload(plan.heads);
  const DeviceBuffer d_out = room(size_t(n_q) * 4), d_again = room(size_t(n_q) * 4);
  const int max_pages = n_pages + 5;
  const DeviceBuffer d_state = room(size_t(n_heads) * max_pages * c.group * 8),
                     d_lse = room(size_t(n_heads) * c.group * 4),
                     d_read = room(size_t(n_heads) * max_pages * 4),
                     d_mass = room(size_t(n_heads) * max_pages * 4);
  AttentionParams p;
  p.head_dim = D;
  p.n_kv_heads = n_heads;
  p.group = c.group;
  p.qkv = d_qkv.as<float>();
  p.n_rotary_dims = D;
  p.angles = d_angles.as<float2>();
  p.k = d_k;
  p.v = d_k + elements;
  p.pages = d_table.as<uint32_t>();
  p.n_tokens = d_n.as<int>();
  p.heads = d_heads.as<HeadStep>();
  p.digests = d_planes.as<DigestPlanes>();
  p.out = d_again.as<float>();
  AttentionLaunch hows[2];
  ASSERT_TRUE(choose_attention(D, n_heads, c.group, c.n_tokens + 1000, 37, &hows[0], &hows[1],
                               max_team_));
  const AttentionLaunch& how = hows[plan.reads_all];
  const DeviceBuffer d_parts = room(size_t(how.parts) * (size_t(n_q) + 2 * n_heads * c.group) * 4);
  const DeviceBuffer d_done = upload(std::vector<int>(size_t(n_heads)));
  p.part_states = d_parts.as<float>();
  p.parts_done = d_done.as<int>();
  ASSERT_EQ(launch_attention(p, how, false, stream_), cudaSuccess);
  p.out = d_out.as<float>();
  p.trace = {d_state.as<float2>(), d_lse.as<float>(), d_read.as<uint32_t>(), max_pages};
  ASSERT_EQ(launch_attention(p, how, false, stream_), cudaSuccess);
  std::vector<int> lengths;
  for (const HeadPlan& head : plan.heads) {
    lengths.push_back((head.tokens_read(c.n_tokens) + 15) / 16);
  }
  const DeviceBuffer d_lengths = upload(lengths);
  ASSERT_EQ(launch_trace_masses(p.trace, d_lengths.as<int>(),
                                *std::max_element(lengths.begin(), lengths.end()), n_heads,
                                c.group, d_mass.as<float>(), stream_),
            cudaSuccess);
  const auto out = download<float>(d_out, size_t(n_q));
  ASSERT_EQ(out, download<float>(d_again, size_t(n_q))) << "a repeated run";
  auto read = download<uint32_t>(d_read, size_t(n_heads) * max_pages);
  const auto mass = download<float>(d_mass, size_t(n_heads) * max_pages);

  for (int h = 0; h < n_heads; ++h) {
    append_kv(pages.k(0), pages.v(0), table.data(), n_heads, D, h, c.n_tokens - 1, 1,
              qkv.data() + n_q + h * D, 0, qkv.data() + n_q + n_kv + h * D, 0);
  }
  const auto stored = download<f16>(d_kv, 2 * elements);
  ASSERT_EQ(std::memcmp(stored.data(), pages.k(0), 2 * elements * sizeof(f16)), 0)
      << "the pages with the new token";

  const KvLayer kv{pages.k(0), pages.v(0), table.data(), n_heads, D};
  for (int h = 0; h < n_heads; ++h) {
    const HeadPlan& head = plan.heads[h];
    const float* q = qkv.data() + size_t(h) * c.group * D;
    const int per_block = head.block_tokens / 16;
    // The list: pages, each once, forced ones among them. Those of the blocks selected last come in
    // the order of their scores.
    const auto list = std::span(read).subspan(size_t(h) * max_pages, size_t(lengths[h]));
    std::sort(list.begin(), list.end());
    ASSERT_TRUE(std::adjacent_find(list.begin(), list.end(), std::greater_equal<>()) == list.end());
    if (head.n_selected < head.n_free()) {
      std::vector<float> scores(size_t(c.group) * head.n_free()), reduced(size_t(head.n_free()));
      score_kv_blocks(layout, digests, h, q, c.group, head.sink_blocks, head.n_free(),
                      scores.data(), size_t(head.n_free()));
      reduce_scores(scores.data(), size_t(head.n_free()), c.group, head.n_free(), reduced.data());
      std::vector<float> sorted = reduced;
      std::sort(sorted.begin(), sorted.end(), std::greater<>());
      const float threshold = head.n_selected > 0 ? sorted[size_t(head.n_selected) - 1] : 1;
      std::vector<bool> chosen(size_t(head.n_free()));
      int n_chosen = 0;
      for (const uint32_t page : list) {
        const int block = int(page) / per_block - head.sink_blocks;
        if (block < 0 || block >= head.n_free()) continue;
        n_chosen += !chosen[size_t(block)];
        chosen[size_t(block)] = true;
      }
      ASSERT_EQ(n_chosen, head.n_selected) << "head " << h;
      for (int b = 0; b < head.n_free(); ++b) {
        // Only blocks within rounding of the threshold may differ.
        const bool is_near = std::abs(reduced[b] - threshold) <= threshold * 2e-4F;
        EXPECT_TRUE(is_near || chosen[b] == (reduced[b] > threshold)) << "head " << h << ", " << b;
        if (c.has_ties) {
          EXPECT_EQ(chosen[b], b < head.n_selected) << "head " << h << ", " << b;
        }
      }
    }
    std::vector<int> tokens;
    for (const uint32_t page : list) {
      for (int t = int(page) * 16; t < std::min(int(page) * 16 + 16, c.n_tokens); ++t) {
        tokens.push_back(t);
      }
    }
    ASSERT_EQ(int(tokens.size()), head.tokens_read(c.n_tokens)) << "head " << h;
    ASSERT_EQ(tokens.back(), c.n_tokens - 1);
    std::vector<float> expected(size_t(c.group) * D);
    reference::attend_tokens(kv, h, q, c.group, tokens, expected.data(), nullptr);
    // f32 sums of f16 products; with more than 4 queries, queries and weights are rounded to f16.
    const double tolerance = c.group <= 4 ? 2e-5 : 4e-3;
    for (size_t i = 0; i < expected.size(); ++i) {
      ASSERT_NEAR(out[size_t(h) * c.group * D + i], expected[i], tolerance) << "head " << h;
    }
    double total = 0;
    for (int i = 0; i < lengths[h]; ++i) total += mass[size_t(h) * max_pages + i];
    EXPECT_NEAR(total, 1, 1e-4) << "the trace's masses of head " << h;
  }
}

TEST_F(CudaAttention, DenseAtEveryBoundary) {
  for (const int D : {64, 128}) {
    for (const int group : {1, 3, 4, 7, 8}) {
      for (const int n : {1, 2, 15, 16, 17, 127, 128, 129, 255, 257, 1000}) {
        check({D, 2, group, n, Mode::kDense});
      }
    }
  }
}

TEST_F(CudaAttention, SparseAtEveryBoundary) {
  for (const int D : {64, 128}) {
    for (const int group : {1, 3, 4, 7, 8}) {
      for (const int n : {400, 511, 513, 2047, 2048, 2049, 2065, 4095, 4097, 6000}) {
        check({D, 4, group, n, Mode::kAbSparse, 384});
      }
    }
  }
}

TEST_F(CudaAttention, SparseBudgets) {
  for (const int budget : {200, 256, 300, 1000, 4000, 4999, 5000}) {
    check({128, 4, 4, 5000, Mode::kAbSparse, budget});
    check({64, 3, 3, 5000, Mode::kAbSparse, budget});
  }
}

// No free block is in the open group, so their scores are the same bits. Few enough for their whole
// scores to be compared, and too many.
TEST_F(CudaAttention, TiesGoToTheFirst) {
  for (const int n : {4096 + 130, 8192 + 130}) {
    check({128, 4, 4, n, Mode::kAbSparse, 1024, true});
    check({64, 4, 7, n, Mode::kAbSparse, 1024, true});
  }
}

// As on GPUs before Hopper, which have no clusters.
TEST_F(CudaAttention, SparseWithoutATeam) {
  max_team_ = 1;
  for (const int n : {513, 2049, 6000}) {
    check({64, 4, 7, n, Mode::kAbSparse, 384});
    check({128, 4, 4, n, Mode::kAbSparse, 384});
  }
}
TEST_F(CudaAttention, OtherDigests) {
  check({128, 4, 4, 5000, Mode::kAbSparse, 512}, DigestKind::kQuest);
  check({64, 4, 7, 5000, Mode::kAbSparse, 512}, DigestKind::kArkVale);
}

TEST_F(CudaAttention, LongContext) { check({128, 8, 4, 40000, Mode::kAbSparse, 2048}); }

// Tests named Small are for compute-sanitizer (CONTRIBUTING.md): one case of each kind.
TEST_F(CudaAttention, Small) {
  check({64, 2, 3, 129, Mode::kDense});
  check({128, 2, 4, 600, Mode::kAbSparse, 384});
  check({64, 2, 7, 2065, Mode::kAbSparse, 384}, DigestKind::kQuest);
}

// --- a prompt's attention -------------------------------------------------------------------

struct PrefillCase {
  int head_dim, n_kv_heads, group, first, n;
};

class CudaPrefillAttention : public CudaKernels,
                             public ::testing::WithParamInterface<PrefillKernel> {
 protected:
  void SetUp() override {
    CudaKernels::SetUp();
    if (IsSkipped()) return;
    const bool has_hopper = choose_prefill_kernel() == PrefillKernel::kHopper;
    if (GetParam() == PrefillKernel::kHopper && !has_hopper) GTEST_SKIP() << "no Hopper GPU here";
  }

  void check(const PrefillCase& c) {
    const int D = c.head_dim, n_tokens = c.first + c.n;
    SCOPED_TRACE("D " + std::to_string(D) + ", group " + std::to_string(c.group) + ": " +
                 std::to_string(c.first) + " + " + std::to_string(c.n));
    const KvShape shape{1, c.n_kv_heads, D};
    auto reserved = KvPages::reserve(shape, size_t(n_tokens + 15) / 16 + 2);
    ASSERT_TRUE(reserved.ok());
    KvPages& pages = reserved.value();
    std::vector<PageId> table(pages.n_pages());
    std::iota(table.begin(), table.end(), PageId{0});
    std::shuffle(table.begin(), table.end(), random_);
    fill(pages, table, n_tokens);

    const size_t row = size_t(c.n_kv_heads) * c.group * D;
    std::vector<float> q = normal(size_t(c.n) * row);
    std::vector<f16> q_half;
    for (float& x : q) {
      q_half.push_back(f16_from_f32(x));
      x = f32_from_f16(q_half.back());
    }
    const size_t elements = pages.n_pages() * shape.page_elements();
    const DeviceBuffer d_kv = upload(std::vector<f16>(pages.k(0), pages.k(0) + 2 * elements));
    table.resize(size_t(n_tokens + 15) / 16);
    const DeviceBuffer d_q = upload(q_half), d_table = upload(table);
    const DeviceBuffer d_out = room(q.size() * 2);
    PrefillAttentionParams p;
    p.n = c.n;
    p.head_dim = D;
    p.n_q_heads = c.n_kv_heads * c.group;
    p.n_kv_heads = c.n_kv_heads;
    p.first_position = c.first;
    p.q = d_q.as<__half>();
    p.k = d_kv.as<__half>();
    p.v = p.k + elements;
    p.pages = d_table.as<uint32_t>();
    p.n_pages = int(pages.n_pages());
    p.out = d_out.as<__half>();
    ASSERT_EQ(launch_prefill_attention(p, GetParam(), stream_), cudaSuccess);
    const auto got = download<f16>(d_out, q.size());
    const KvLayer layer{pages.k(0), pages.v(0), table.data(), c.n_kv_heads, D};
    std::vector<float> expected(q.size());
    for (int h = 0; h < c.n_kv_heads; ++h) {
      reference::prefill_attend(layer, h, q.data(), row, c.group, c.first, 0, c.n, expected.data(),
                                row);
    }
    for (size_t i = 0; i < q.size(); ++i) {
      ASSERT_NEAR(f32_from_f16(got[i]), expected[i], 3e-3)  // f16 weights
          << "row " << i / row << ", head " << i % row / D << ", " << i % D;
    }
  }

 private:
  // What is not a token's is not a number, so that reading it shows.
  void fill(KvPages& pages, const std::vector<PageId>& table, int n_tokens) {
    const KvShape& shape = pages.shape();
    const size_t page_elements = shape.page_elements();
    const f16 nothing = f16_from_f32(NAN);
    std::fill_n(pages.k(0), 2 * pages.n_pages() * page_elements, nothing);
    const std::vector<float> kv = normal(2 * size_t(n_tokens) * shape.n_kv_heads * shape.head_dim);
    const float* from = kv.data();
    for (int t = 0; t < n_tokens; ++t) {
      for (int h = 0; h < shape.n_kv_heads; ++h) {
        const size_t at = size_t(table[size_t(t) / 16]) * page_elements +
                          (size_t(h) * 16 + size_t(t) % 16) * size_t(shape.head_dim);
        for (int d = 0; d < shape.head_dim; ++d) {
          pages.k(0)[at + size_t(d)] = f16_from_f32(*from++);
          pages.v(0)[at + size_t(d)] = f16_from_f32(*from++);
        }
      }
    }
  }
};

TEST_P(CudaPrefillAttention, AtEveryBoundary) {
  for (const int D : {64, 128}) {
    for (const auto& [first, n] : {std::pair{0, 1}, {0, 15}, {0, 16}, {0, 17}, {0, 63}, {0, 64},
                                   {0, 65}, {0, 127}, {0, 128}, {0, 129}, {0, 300}, {1, 1},
                                   {15, 1}, {16, 1}, {63, 1}, {64, 64}, {127, 1}, {127, 2},
                                   {128, 1}, {128, 128}, {100, 130}, {333, 63}, {517, 260}}) {
      check({D, 2, 3, first, n});
    }
  }
}

TEST_P(CudaPrefillAttention, EveryGroup) {
  for (const int group : {1, 4, 7, 8}) {
    check({64, 3, group, 70, 140});
    check({128, 2, group, 70, 140});
  }
}

TEST_P(CudaPrefillAttention, LongHistory) { check({128, 2, 2, 9999, 3}); }

TEST_P(CudaPrefillAttention, Small) {
  check({64, 2, 3, 70, 33});
  check({128, 1, 4, 130, 70});
}

INSTANTIATE_TEST_SUITE_P(Kernels, CudaPrefillAttention,
                         ::testing::Values(PrefillKernel::kAnyGpu, PrefillKernel::kHopper),
                         [](const auto& info) {
                           return info.param == PrefillKernel::kHopper ? "Hopper" : "AnyGpu";
                         });

TEST_F(CudaKernels, Gate) {
  for (const bool has_pairs : {false, true}) {
    for (const auto& [n, n_ff] : {std::pair{1, 32}, {3, 96}, {130, 1056}}) {
      const size_t size = size_t(n) * n_ff;
      const std::vector<float> from = normal(2 * size, 4);
      std::vector<f16> x;
      for (const float value : from) x.push_back(f16_from_f32(value));
      const DeviceBuffer d_x = upload(x), d_out = room(size * 2);
      const __half* gate = d_x.as<__half>();
      const GateParams p{gate, has_pairs ? nullptr : gate + size, n, n_ff, d_out.as<__half>()};
      ASSERT_EQ(launch_gate(p, stream_), cudaSuccess);
      const auto got = download<f16>(d_out, size);
      for (size_t i = 0; i < size; ++i) {
        const double g = f32_from_f16(x[has_pairs ? 2 * i : i]);
        const double up = f32_from_f16(x[has_pairs ? 2 * i + 1 : size + i]);
        const double expected = g / (1 + std::exp(-g)) * up;
        ASSERT_NEAR(f32_from_f16(got[i]), expected, 1e-4 + 6e-4 * std::abs(expected)) << "at " << i;
      }
    }
  }
}

}  // namespace
}  // namespace scholia::test
