// Prefill: causal attention of a chunk's rows.
#include "cpu_ops_support.h"

namespace scholia {
namespace {

class CpuPrefill : public CpuOps {};
INSTANTIATE_CPU_OPS(CpuPrefill);

constexpr double kAtol = 2e-5, kRtol = 2e-5;

// out [rows][n_q_heads][D] of a whole chunk, all KV heads, cut into ranges of `rows_per_call`.
std::vector<float> attend_chunk(const KvLayer& kv, const std::vector<float>& q, int n_heads,
                                int first_position, int n_rows, int rows_per_call) {
  const size_t stride = size_t(kv.n_kv_heads) * n_heads * kv.head_dim;
  Guarded out(n_rows * stride), workspace(prefill_workspace_floats(n_heads, kv.head_dim));
  for (int kv_head = 0; kv_head < kv.n_kv_heads; kv_head++) {
    for (int row = 0; row < n_rows; row += rows_per_call) {
      prefill_attend(kv, kv_head, q.data(), stride, n_heads, first_position, row,
                     std::min(row + rows_per_call, n_rows), out.data(), stride, workspace.data());
    }
  }
  out.expect_intact("out"), workspace.expect_intact("workspace");
  return out.values();
}

TEST_P(CpuPrefill, AttendsLikeTheReference) {
  uint32_t seed = 2000;
  for (int head_dim : {64, 128, 16, 48, 80, 256}) {
    for (int n_heads : {1, 3, 4, 6, 7, 8, 32}) {
      for (int first_position : {0, 1, 15, 16, 63, 64, 200}) {
        for (int n_rows : {1, 15, 16, 17, 31, 32, 33, 65, 97}) {
          // The scalar reference is slow: everything for the groups that models have.
          const bool usual = (head_dim == 64 && (n_heads == 3 || n_heads == 7)) ||
                             (head_dim == 128 && (n_heads == 4 || n_heads == 6));
          if (!usual && (n_rows > 17 || first_position > 16)) continue;
          if (usual && first_position == 200 && n_rows > 1 && n_rows < 65) continue;
          SCOPED_TRACE(testing::Message() << "D " << head_dim << ", G " << n_heads << ", position "
                                          << first_position << ", rows " << n_rows);
          Random random(seed++);
          PagedKv kv(random, 1, head_dim, first_position + n_rows);
          const size_t stride = size_t(n_heads) * head_dim;
          const std::vector<float> q = random.normals(n_rows * stride, 2);
          const std::vector<float> got =
              attend_chunk(kv.layer(), q, n_heads, first_position, n_rows, n_rows);
          std::vector<float> want(got.size());
          reference::prefill_attend(kv.layer(), 0, q.data(), stride, n_heads, first_position, 0,
                                    n_rows, want.data(), stride);
          ASSERT_TRUE(close(got, want, kAtol, kRtol));
        }
      }
    }
  }
}

TEST_P(CpuPrefill, SeveralKvHeadsKeepToTheirOwn) {
  Random random(3000);
  PagedKv kv(random, 3, 64, 150);
  const size_t stride = 3 * 4 * 64;
  const std::vector<float> q = random.normals(70 * stride, 2);
  const std::vector<float> got = attend_chunk(kv.layer(), q, 4, 80, 70, 32);
  std::vector<float> want(got.size());
  for (int kv_head = 0; kv_head < 3; kv_head++) {
    reference::prefill_attend(kv.layer(), kv_head, q.data(), stride, 4, 80, 0, 70, want.data(),
                              stride);
  }
  EXPECT_TRUE(close(got, want, kAtol, kRtol));
}

// A row's bits depend on its query and its past alone: not on how the chunk is dealt out, and not
// on where the chunk begins.
TEST_P(CpuPrefill, NeitherTilesNorChunksChangeABit) {
  uint32_t seed = 3100;
  for (int n_heads : {1, 3, 7, 8}) {
    for (int head_dim : {64, 128}) {
      Random random(seed++);
      const int n = 210;
      PagedKv kv(random, 2, head_dim, n);
      const size_t stride = size_t(2) * n_heads * head_dim;
      const std::vector<float> q = random.normals(n * stride, 2);
      const std::vector<float> whole = attend_chunk(kv.layer(), q, n_heads, 0, n, n);
      for (int rows_per_call : {1, 7, 32, 100}) {
        ASSERT_TRUE(same_bits(attend_chunk(kv.layer(), q, n_heads, 0, n, rows_per_call), whole))
            << rows_per_call << " rows per call";
      }
      for (int begin : {1, 16, 63, 64, 65, 150}) {
        const std::vector<float> tail_q(q.begin() + begin * stride, q.end());
        const std::vector<float> tail(whole.begin() + begin * stride, whole.end());
        ASSERT_TRUE(
            same_bits(attend_chunk(kv.layer(), tail_q, n_heads, begin, n - begin, 32), tail))
            << "chunk from " << begin;
      }
    }
  }
}

// What comes later must not be seen: neither later tokens nor slots that nobody wrote (NaN here).
TEST_P(CpuPrefill, LaterTokensDoNotMatter) {
  Random random(3200);
  const int n = 130;
  PagedKv kv(random, 1, 64, n);
  const std::vector<float> q = random.normals(n * 7 * 64, 2);
  const std::vector<float> whole = attend_chunk(kv.layer(), q, 7, 0, n, n);
  for (int kept : {1, 16, 31, 33, 64, 100}) {
    for (int t = kept; t < n; t++) {
      std::fill_n(kv.k().begin() + kv.at(t, 0), 64, kF16Nan);
      std::fill_n(kv.v().begin() + kv.at(t, 0), 64, kF16Nan);
    }
    const std::vector<float> head(whole.begin(), whole.begin() + kept * 7 * 64);
    ASSERT_TRUE(same_bits(attend_chunk(kv.layer(), q, 7, 0, kept, kept), head)) << kept;
    Random again(3200);
    kv = PagedKv(again, 1, 64, n);
  }
}

TEST_P(CpuPrefill, LargeScoresStayFinite) {
  Random random(3300);
  PagedKv kv(random, 1, 64, 200, 10);
  const std::vector<float> q = random.normals(200 * 7 * 64, 20);
  const std::vector<float> got = attend_chunk(kv.layer(), q, 7, 0, 200, 200);
  std::vector<float> want(got.size());
  reference::prefill_attend(kv.layer(), 0, q.data(), 7 * 64, 7, 0, 0, 200, want.data(), 7 * 64);
  // Scores reach 800, where one f32 rounding is 6e-5 of a weight.
  EXPECT_TRUE(close(got, want, 1e-3, 1e-3));
}

// Prefill and decode see the same context alike.
TEST_P(CpuPrefill, TheLastRowAgreesWithDecode) {
  Random random(3400);
  PagedKv kv(random, 1, 128, 777);
  const std::vector<float> q = random.normals(6 * 128, 2);
  const std::vector<float> prefill = attend_chunk(kv.layer(), q, 6, 776, 1, 1);
  const Attended decode = attend_runs(kv.layer(), 0, q, 6, {{0, 777}});
  EXPECT_TRUE(close(prefill, decode.out, kAtol, kRtol));
}

}  // namespace
}  // namespace scholia
