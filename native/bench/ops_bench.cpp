// Speed of the CPU's attention kernels on one core, beside what this core can do: a register-only
// FMA loop and a plain read of memory, both measured here. Prints a Markdown table.
//
//   ops_bench [avx512|avx2|portable]
//
// Data is larger than the caches where decode would find it in memory: each call of a decode kernel
// takes the next of many heads.
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/cpu_ops.h"
#include "engine/kv/digests.h"
#include "engine/kv/f16.h"

namespace scholia {
namespace {

// Processor time of this thread, so that a busy machine distorts little.
double seconds() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// Median of the time of one call, over samples of at least 50 µs for about 0.4 s, at least 5.
double median_seconds(const std::function<void(int call)>& run) {
  int call = 0;
  auto sample = [&](int n) {
    const double start = seconds();
    for (int i = 0; i < n; i++) run(call++);
    return seconds() - start;
  };
  int calls_per_sample = 1;
  while (sample(calls_per_sample) < 50e-6) calls_per_sample *= 2;
  std::vector<double> times;
  const double begin = seconds();
  while (times.size() < 5 || seconds() - begin < 0.4) {
    times.push_back(sample(calls_per_sample) / calls_per_sample);
  }
  std::nth_element(times.begin(), times.begin() + times.size() / 2, times.end());
  return times[times.size() / 2];
}

// --- what the core can do --------------------------------------------------------------------

constexpr int kFmaSteps = 4'000'000;

// Twelve independent chains: enough for two units of latency 4 or 5.
template <class Vector>
[[gnu::always_inline]] inline float fma_loop() {
  Vector acc[12];
  for (int i = 0; i < 12; i++) acc[i] = Vector{} + float(i);
  const Vector x = Vector{} + 0.999F, y = Vector{} + 0.001F;
  for (int step = 0; step < kFmaSteps; step++) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) acc[i] = acc[i] * x + y;
  }
  float sum = 0;
  for (int i = 0; i < 12; i++) sum += acc[i][0];
  return sum;
}
using F4 = float __attribute__((vector_size(16)));
float fma_portable() { return fma_loop<F4>(); }
#if defined(__x86_64__)
using F8 = float __attribute__((vector_size(32)));
using F16 = float __attribute__((vector_size(64)));
__attribute__((target("avx2,fma"))) float fma_avx2() { return fma_loop<F8>(); }
__attribute__((target("avx512f,fma"))) float fma_avx512() { return fma_loop<F16>(); }
#endif

volatile float sink;

double peak_gflops(const std::string& variant) {
  float (*loop)() = fma_portable;
  int lanes = 4;
#if defined(__x86_64__)
  if (variant == "avx2") loop = fma_avx2, lanes = 8;
  if (variant == "avx512") loop = fma_avx512, lanes = 16;
#endif
  return 12.0 * 2 * lanes * kFmaSteps / median_seconds([&](int) { sink = loop(); }) / 1e9;
}

double read_gbytes_per_second() {
  const std::vector<uint64_t> data(size_t(512) << 17, 3);  // 512 MiB
  const double time = median_seconds([&](int) {
    uint64_t sums[8] = {};
    for (size_t i = 0; i < data.size(); i += 8) {
      for (int j = 0; j < 8; j++) sums[j] += data[i + j];
    }
    sink = float(std::accumulate(sums, sums + 8, uint64_t{0}));
  });
  return double(data.size()) * 8 / time / 1e9;
}

// --- data ------------------------------------------------------------------------------------

struct Shape {
  const char* model;
  int head_dim, n_heads;
};
constexpr Shape kShapes[] = {
    {"135M", 64, 3}, {"0.5B", 64, 7}, {"Llama 8B", 128, 4}, {"1.5B", 128, 6}};

std::vector<float> normals(size_t n, float deviation) {
  static std::mt19937 engine(1);
  std::normal_distribution<float> normal(0, deviation);
  std::vector<float> values(n);
  for (float& x : values) x = normal(engine);
  return values;
}

// KV of as many layers, of two KV heads, as fill 256 MiB. A long prompt's KV pages lie in order;
// shuffled ones are what eviction and forks may leave in the end.
struct BenchKv {
  BenchKv(int head_dim, int n_tokens, bool shuffled)
      : n_layers(std::max(1, int((size_t(64) << 20) / (size_t(n_tokens) * 2 * head_dim)))),
        page_table(n_tokens / kKvPageTokens),
        pages(std::move(
            KvPages::reserve({n_layers, 2, head_dim}, n_tokens / kKvPageTokens).value())) {
    const std::vector<float> random = normals(1 << 16, 1);
    const size_t n = page_table.size() * pages.shape().page_elements();
    for (int layer = 0; layer < n_layers; layer++) {
      for (size_t i = 0; i < n; i++) {
        pages.k(layer)[i] = f16_from_f32(random[(i * 7) & 0xFFFF]);
        pages.v(layer)[i] = f16_from_f32(random[(i * 5 + 3) & 0xFFFF]);
      }
    }
    std::iota(page_table.begin(), page_table.end(), 0U);
    if (shuffled) std::shuffle(page_table.begin(), page_table.end(), std::mt19937(2));
  }
  // A head whose K and V were not read by the last calls.
  KvLayer layer(int call) const {
    const int at = call / 2 % n_layers;
    return {pages.k(at), pages.v(at), page_table.data(), 2, pages.shape().head_dim};
  }
  static int kv_head(int call) { return call % 2; }

  int n_layers;
  std::vector<PageId> page_table;
  KvPages pages;
};

// --- the table -------------------------------------------------------------------------------

struct Machine {
  std::string variant;
  double gflops, gbytes;
};

void print_row(const char* op, const Shape& shape, const std::string& size, double time,
               const std::string& rate) {
  std::printf("| %s | D %d, G %d | %s | %.1f | %s |\n", op, shape.head_dim, shape.n_heads,
              size.c_str(), time * 1e6, rate.c_str());
  std::fflush(stdout);
}
std::string flop_rate(const Machine& machine, double flop, double time) {
  char text[80];
  std::snprintf(text, sizeof(text), "%.0f GFLOP/s, %.0f %% of FMA", flop / time / 1e9,
                100 * flop / time / 1e9 / machine.gflops);
  return text;
}
std::string byte_rate(const Machine& machine, double bytes, double time) {
  char text[80];
  std::snprintf(text, sizeof(text), "%.1f GB/s, %.0f %% of read", bytes / time / 1e9,
                100 * bytes / time / 1e9 / machine.gbytes);
  return text;
}

void bench_prefill(const Machine& machine, const Shape& shape) {
  const int D = shape.head_dim, G = shape.n_heads, n_rows = 512;
  for (int first : {0, 7680}) {
    const BenchKv kv(D, 8192, false);
    const size_t stride = size_t(2) * G * D;
    const std::vector<float> q = normals(n_rows * stride, 1);
    std::vector<float> out(q.size()), workspace(prefill_workspace_floats(G, D));
    const double time = median_seconds([&](int call) {
      prefill_attend(kv.layer(call), kv.kv_head(call), q.data(), stride, G, first, 0, n_rows,
                     out.data(), stride, workspace.data());
    });
    const double pairs = n_rows * (first + (n_rows + 1) / 2.0) * G;
    print_row("prefill_attend", shape, "512 rows at " + std::to_string(first), time,
              flop_rate(machine, pairs * 4 * D, time));
  }
}

void bench_decode(const Machine& machine, const Shape& shape, bool shuffled) {
  const int D = shape.head_dim, G = shape.n_heads;
  const std::vector<float> q = normals(size_t(G) * D, 1);
  const BenchKv kv(D, 24576, shuffled);
  for (int n_tokens : {1024, 24576}) {
    // 1,024 tokens: 32 blocks of 32, spread over the context; else all of it.
    std::vector<TokenRun> runs;
    for (int i = 0; i < 32; i++) runs.push_back({i * 768, 32});
    if (n_tokens == 24576) runs = {{0, n_tokens}};
    Pieces pieces;
    pieces.cut(runs.data(), int(runs.size()));
    const size_t n = pieces.count();
    std::vector<float> m(n * G), l(n * G), o(n * G * D), out(size_t(G) * D);
    const double time = median_seconds([&](int call) {
      for (size_t i = 0; i < n; i++) {
        attend_piece(kv.layer(call), kv.kv_head(call), q.data(), G,
                     pieces.runs.data() + pieces.first_run[i],
                     pieces.first_run[i + 1] - pieces.first_run[i],
                     {m.data() + i * G, l.data() + i * G, o.data() + i * G * D}, nullptr);
      }
    });
    print_row(shuffled ? "attend_piece, KV pages shuffled" : "attend_piece", shape,
              std::to_string(n_tokens) + " tokens", time,
              byte_rate(machine, double(n_tokens) * D * 4, time) + "; " +
                  flop_rate(machine, double(n_tokens) * G * D * 4, time));
    if (shuffled) continue;
    const double merge_time = median_seconds([&](int) {
      merge_states(m.data(), l.data(), o.data(), int(n), G, D, out.data(), nullptr);
    });
    print_row("merge_states", shape, std::to_string(n) + " pieces", merge_time, "");
  }
}

void bench_selection(const Machine& machine, const Shape& shape) {
  const int D = shape.head_dim, G = shape.n_heads, n_tokens = 24576;
  const KvShape kv_shape{1, 32, D};
  HeadProfile profile = HeadProfile::uniform(1, 32, 32);
  Result<KvPages> pages = KvPages::reserve(kv_shape, n_tokens / kKvPageTokens);
  std::vector<PageId> table(n_tokens / kKvPageTokens);
  std::iota(table.begin(), table.end(), 0U);
  const std::vector<float> random = normals(1 << 16, 1);
  const size_t n = table.size() * kv_shape.page_elements();
  for (size_t i = 0; i < n; i++) pages.value().k(0)[i] = f16_from_f32(random[(i * 7) & 0xFFFF]);
  for (int block_tokens : {16, 32}) {
    std::fill(profile.block_tokens.begin(), profile.block_tokens.end(), uint16_t(block_tokens));
    const DigestLayout layout(kv_shape, profile);
    Digests digests;
    const std::vector<float> q = normals(size_t(G) * D, 1);
    const int n_all = n_tokens / block_tokens;
    std::vector<float> scores(size_t(G) * n_all), reduced(n_all);
    std::vector<int> selected(n_all), scratch(n_all);
    digests.update(layout, pages.value(), {table.data(), n_tokens});
    const double closed = median_seconds([&](int call) {
      score_kv_blocks(layout, digests, call % 32, q.data(), G, 0, n_all, scores.data(), n_all);
    });
    const std::string size = std::to_string(n_all) + " blocks";
    print_row("score_kv_blocks, INT4", shape, size, closed,
              byte_rate(machine, double(n_all) * D, closed) + "; " +
                  flop_rate(machine, double(n_all) * G * D * 4, closed));
    const double reduce =
        median_seconds([&](int) { reduce_scores(scores.data(), n_all, G, n_all, reduced.data()); });
    print_row("reduce_scores", shape, size, reduce, "");
    const int n_selected = 1024 / block_tokens;
    const double select = median_seconds([&](int) {
      select_kv_blocks(reduced.data(), n_all, n_selected, selected.data(), scratch.data());
    });
    print_row("select_kv_blocks", shape, std::to_string(n_selected) + " of " + size, select, "");

    const int n_open = 2032 / block_tokens;
    digests.update(layout, pages.value(), {table.data(), 2032});
    const double open = median_seconds([&](int call) {
      score_kv_blocks(layout, digests, call % 32, q.data(), G, 0, n_open, scores.data(), n_open);
    });
    print_row("score_kv_blocks, f16", shape, std::to_string(n_open) + " blocks", open,
              byte_rate(machine, double(n_open) * D * 4, open));
  }
}

int run(int argc, char** argv) {
  if (argc > 1 && !force_cpu_ops_variant(argv[1])) {
    std::fprintf(stderr, "This processor has no %s; choose avx512, avx2 or portable.\n", argv[1]);
    return 1;
  }
  const std::string variant = cpu_ops_variant();
  const Machine machine{variant, peak_gflops(variant), read_gbytes_per_second()};
  std::printf("%s: FMA loop %.1f GFLOP/s, memory read %.1f GB/s\n\n", machine.variant.c_str(),
              machine.gflops, machine.gbytes);
  std::printf("| op | shape | size | µs | rate |\n| --- | --- | --- | --- | --- |\n");
  for (const Shape& shape : kShapes) bench_prefill(machine, shape);
  for (const Shape& shape : kShapes) bench_decode(machine, shape, false);
  for (const Shape& shape : kShapes) bench_decode(machine, shape, true);
  for (const Shape& shape : {kShapes[1], kShapes[3]}) bench_selection(machine, shape);
  return 0;
}

}  // namespace
}  // namespace scholia

int main(int argc, char** argv) { return scholia::run(argc, argv); }
