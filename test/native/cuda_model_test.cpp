// Whole models of random weights on the CUDA backend against the CPU backend: every weight type,
// architecture and shape of heads, prompts and answers, dense and sparse.
#include <algorithm>
#include <iostream>
#include <iterator>
#include <numeric>

#include "backend/cpu/cpu_backend.h"
#include "backend/cuda/cuda_backend.h"
#include "cuda_support.h"
#include "models.h"

namespace scholia::test {
namespace {

constexpr int kChunk = 256;

HeadProfile mixed_profile(const Hyperparameters& hp) {
  HeadProfile profile = HeadProfile::uniform(hp.n_layers, hp.n_kv_heads);
  for (size_t h = 0; h < profile.block_tokens.size(); ++h) {
    profile.block_tokens[h] = uint16_t(kBlockSizes[h % 4]);
  }
  return profile;
}

// One sequence on one backend, with pages in an order of its own.
class Sequence {
 public:
  Sequence(Backend& backend, const Hyperparameters& hp, int capacity)
      : backend_(backend), shape_{hp.n_layers, hp.n_kv_heads, hp.head_dim},
        profile_(mixed_profile(hp)), layout_(shape_, profile_) {
    const size_t n_pages = size_t(capacity) / kKvPageTokens + 1;
    auto pages = backend.reserve_pages(shape_, n_pages);
    EXPECT_TRUE(pages.ok()) << (pages.ok() ? "" : pages.error().message);
    pages_.emplace(std::move(pages.value()));
    table_.resize(n_pages);
    std::iota(table_.begin(), table_.end(), PageId{0});
    std::shuffle(table_.begin(), table_.end(), std::mt19937(5));
    EXPECT_TRUE(backend.set_digest_layout(layout_).ok());
  }

  std::vector<float> prefill(std::span<const Token> tokens, LogitRows rows) {
    std::vector<float> logits;
    while (!tokens.empty()) {
      const size_t n = std::min<size_t>(tokens.size(), size_t(kChunk));
      const PrefillStep step{tokens.first(n), {table_.data(), n_tokens_}, rows, {}};
      const auto got = backend_.prefill(step, *pages_, nullptr);
      EXPECT_TRUE(got.ok()) << (got.ok() ? "" : got.error().message);
      if (!got.ok()) return {};
      logits.insert(logits.end(), got.value().begin(), got.value().end());
      n_tokens_ += int(n);
      tokens = tokens.subspan(n);
    }
    return logits;
  }

  std::vector<float> decode(Token token, Mode mode, int budget, StepTrace* trace = nullptr) {
    const KvView view{table_.data(), n_tokens_};
    const DecodePlan plan = make_decode_plan(profile_, shape_, mode, budget, n_tokens_ + 1);
    DecodeStep step;
    step.token = token;
    step.view = view;
    step.lineage = 1;
    step.plan = &plan;
    step.trace = trace;
    step.trace_mass = trace != nullptr;
    if (!plan.reads_all) {
      step.digest_layout = &layout_;
      if (!backend_.keeps_digests()) {
        digests_.update(layout_, *pages_, view);
        step.digests = &digests_;
      }
    }
    const auto got = backend_.decode(step, *pages_);
    EXPECT_TRUE(got.ok()) << (got.ok() ? "" : got.error().message);
    if (!got.ok()) return {};
    n_tokens_ += 1;
    return {got.value().logits.begin(), got.value().logits.end()};
  }

 private:
  Backend& backend_;
  KvShape shape_;
  HeadProfile profile_;
  DigestLayout layout_;
  Digests digests_;
  std::optional<KvPages> pages_;
  std::vector<PageId> table_;
  int n_tokens_ = 0;
};

struct Backends {
  std::unique_ptr<GgufModel> model;
  std::unique_ptr<Backend> cpu;
  std::unique_ptr<CudaBackend> cuda;

  explicit Backends(const RandomModel& random) : model(random.open()) {
    load_libraries();
    const int context = model->hyperparameters().context_tokens;
    auto on_cpu = open_cpu_backend(*model, 8, context);
    EXPECT_TRUE(on_cpu.ok()) << (on_cpu.ok() ? "" : on_cpu.error().message);
    if (on_cpu.ok()) cpu = std::move(on_cpu.value());
    auto on_gpu = open_cuda_backend(*model, context, kChunk);
    EXPECT_TRUE(on_gpu.ok()) << (on_gpu.ok() ? "" : on_gpu.error().message);
    if (on_gpu.ok()) cuda = std::move(on_gpu.value());
  }
  bool are_open() const { return cpu != nullptr && cuda != nullptr; }
};

std::vector<Token> random_tokens(int n, int n_vocab) {
  std::mt19937 random(77);
  std::vector<Token> tokens(static_cast<size_t>(n));
  for (Token& token : tokens) token = Token(random() % uint32_t(n_vocab));
  return tokens;
}

// Whether two steps read the same blocks in every head.
bool read_alike(const StepTrace& a, const StepTrace& b) {
  return a.block_offset == b.block_offset && a.block_idx == b.block_idx;
}

double share_of_other_blocks(const StepTrace& a, const StepTrace& b) {
  size_t n_other = 0;
  for (size_t head = 0; head + 1 < a.block_offset.size(); ++head) {
    const auto blocks = [&](const StepTrace& trace) {
      return std::vector<uint32_t>(trace.block_idx.begin() + trace.block_offset[head],
                                   trace.block_idx.begin() + trace.block_offset[head + 1]);
    };
    const auto of_a = blocks(a), of_b = blocks(b);
    std::vector<uint32_t> other;
    std::set_difference(of_a.begin(), of_a.end(), of_b.begin(), of_b.end(),
                        std::back_inserter(other));
    n_other += other.size();
  }
  return double(n_other) / double(a.block_idx.size());
}

// Compares prompt and answer; prints how far they are apart. Random weights attend to everything
// alike, so many blocks lie near the threshold of selection, and a query that is rounded otherwise
// takes others: logits are compared where both read the same blocks.
void compare(const ModelShape& shape, double tolerance, const std::string& what) {
  const RandomModel random(shape);
  Backends backends(random);
  ASSERT_TRUE(backends.are_open());
  const Hyperparameters& hp = backends.model->hyperparameters();
  const int depth = 1100;
  const auto tokens = random_tokens(depth + 40, shape.n_vocab);
  Sequence cpu(*backends.cpu, hp, depth + 64), cuda(*backends.cuda, hp, depth + 64);
  const auto document = std::span(tokens).first(size_t(depth));
  const auto cpu_prompt = cpu.prefill(document, LogitRows::kAll);
  const auto cuda_prompt = cuda.prefill(document, LogitRows::kAll);
  ASSERT_EQ(cpu_prompt.size(), cuda_prompt.size());
  const double prompt = relative_distance(cuda_prompt, cpu_prompt);
  double dense = 0, sparse = 0, others = 0;
  int n_alike = 0;
  for (int i = 0; i < 20; ++i) {
    const Token token = tokens[size_t(depth + i)];
    const auto a = cpu.decode(token, Mode::kDense, 1), b = cuda.decode(token, Mode::kDense, 1);
    ASSERT_EQ(a.size(), b.size());
    dense = std::max(dense, relative_distance(b, a));
  }
  for (int i = 20; i < 40; ++i) {
    const Token token = tokens[size_t(depth + i)];
    StepTrace on_cpu, on_gpu;
    const auto a = cpu.decode(token, Mode::kAbSparse, 512, &on_cpu);
    const auto b = cuda.decode(token, Mode::kAbSparse, 512, &on_gpu);
    ASSERT_EQ(a.size(), b.size());
    ASSERT_EQ(on_cpu.block_offset, on_gpu.block_offset);
    others += share_of_other_blocks(on_cpu, on_gpu) / 20;
    if (!read_alike(on_cpu, on_gpu)) continue;
    sparse = std::max(sparse, relative_distance(b, a));
    ++n_alike;
  }
  std::cout << what << ": relative distance of logits, prompt " << prompt << ", dense " << dense
            << ", sparse " << sparse << " (" << n_alike << " of 20 steps); other blocks "
            << 100 * others << " %\n";
  EXPECT_LT(prompt, tolerance);
  EXPECT_LT(dense, tolerance);
  EXPECT_LT(sparse, tolerance);
  EXPECT_LT(others, 0.03);
}

class CudaModels : public ::testing::TestWithParam<ggml_type> {
 protected:
  void SetUp() override { SCHOLIA_NEEDS_GPU(); }
};

TEST_P(CudaModels, EveryWeightType) {
  ModelShape shape;
  shape.type = GetParam();
  shape.n_q_heads = 8;
  shape.n_kv_heads = 2;
  shape.n_embd = 512;
  shape.n_ff = 1024;
  // Activations are rounded to 8 bits on both sides, at different places.
  const bool is_float = shape.type == GGML_TYPE_F32 || shape.type == GGML_TYPE_F16 ||
                        shape.type == GGML_TYPE_BF16;
  compare(shape, is_float ? 0.01 : 0.09, ggml_type_name(shape.type));
}

INSTANTIATE_TEST_SUITE_P(All, CudaModels,
                         ::testing::Values(GGML_TYPE_F32, GGML_TYPE_F16, GGML_TYPE_BF16,
                                           GGML_TYPE_Q8_0, GGML_TYPE_Q4_0, GGML_TYPE_Q4_1,
                                           GGML_TYPE_Q5_0, GGML_TYPE_Q5_1, GGML_TYPE_Q4_K,
                                           GGML_TYPE_Q5_K, GGML_TYPE_Q6_K),
                         [](const auto& info) { return std::string(ggml_type_name(info.param)); });

class CudaShapes : public ::testing::Test {
 protected:
  void SetUp() override { SCHOLIA_NEEDS_GPU(); }
};

TEST_F(CudaShapes, LikeSmolLm2) {
  compare({.n_layers = 3, .n_embd = 576, .n_ff = 1536, .n_q_heads = 9, .n_kv_heads = 3,
           .head_dim = 64, .type = GGML_TYPE_Q4_1, .ties_embedding = true},
          0.05, "llama, G 3, D 64, tied");
}

TEST_F(CudaShapes, LikeLlama31) {
  compare({.n_layers = 3, .n_embd = 1024, .n_ff = 2048, .n_q_heads = 8, .n_kv_heads = 2,
           .head_dim = 128, .type = GGML_TYPE_Q4_K, .other_type = GGML_TYPE_Q6_K,
           .has_rope_factors = true},
          // The processor rounds activations in blocks of 256 for these types, the GPU in 32s.
          0.09, "llama, G 4, D 128, Q4_K with Q6_K, rotary factors");
}

// Rows of whole groups of 64 units, which are kept in an order of their own.
TEST_F(CudaShapes, LikeLlama31WithTwins) {
  compare({.n_layers = 2, .n_embd = 2048, .n_ff = 6144, .n_q_heads = 16, .n_kv_heads = 4,
           .head_dim = 128, .type = GGML_TYPE_Q4_K, .other_type = GGML_TYPE_Q6_K},
          0.09, "llama, G 4, D 128, Q4_K with Q6_K, twins");
}

TEST_F(CudaShapes, LikeQwen2) {
  compare({.architecture = "qwen2", .n_layers = 3, .n_embd = 896, .n_ff = 1024, .n_q_heads = 14,
           .n_kv_heads = 2, .head_dim = 64, .type = GGML_TYPE_Q5_0, .other_type = GGML_TYPE_Q8_0,
           .has_bias = true},
          0.05, "qwen2, G 7, D 64, Q5_0 with Q8_0, biases");
}

TEST_F(CudaShapes, LikeQwen3) {
  compare({.architecture = "qwen3", .n_layers = 3, .n_embd = 1024, .n_ff = 1024, .n_q_heads = 16,
           .n_kv_heads = 2, .head_dim = 128, .type = GGML_TYPE_F16, .has_qk_norm = true,
           .has_yarn = true},
          0.01, "qwen3, G 8, D 128, F16, norms of Q and K, YaRN");
}

TEST_F(CudaShapes, OneQueryHeadForEachKvHead) {
  compare({.n_layers = 2, .n_embd = 512, .n_ff = 512, .n_q_heads = 4, .n_kv_heads = 4,
           .head_dim = 128, .type = GGML_TYPE_BF16, .other_type = GGML_TYPE_F32},
          0.01, "llama, G 1, D 128, BF16 with F32");
}

TEST_F(CudaShapes, SameBitsAgainAndAFullBudgetIsDense) {
  const RandomModel random({.n_layers = 3, .n_embd = 512, .n_ff = 1024, .n_q_heads = 8,
                            .n_kv_heads = 2, .head_dim = 128, .type = GGML_TYPE_Q4_K});
  Backends backends(random);
  ASSERT_TRUE(backends.are_open());
  const Hyperparameters& hp = backends.model->hyperparameters();
  const auto tokens = random_tokens(3000, 1000);
  std::vector<std::vector<float>> first;
  for (int run = 0; run < 3; ++run) {
    Sequence sequence(*backends.cuda, hp, 3100);
    std::vector<std::vector<float>> logits;
    logits.push_back(sequence.prefill(std::span(tokens).first(2970), LogitRows::kLast));
    for (int i = 2970; i < 2985; ++i) {
      // The second run asks for all by a budget, the others densely.
      logits.push_back(run == 1 ? sequence.decode(tokens[size_t(i)], Mode::kAbSparse, 4000)
                                : sequence.decode(tokens[size_t(i)], Mode::kDense, 1));
    }
    for (int i = 2985; i < 3000; ++i) {
      StepTrace trace;
      logits.push_back(sequence.decode(tokens[size_t(i)], Mode::kAbSparse, 512,
                                       run == 2 ? &trace : nullptr));
    }
    if (run == 0) first = logits;
    ASSERT_EQ(logits, first) << "run " << run;
  }
}

TEST_F(CudaShapes, SmallPromptAndSteps) {
  const RandomModel random({.n_kv_heads = 2});
  Backends backends(random);
  ASSERT_TRUE(backends.are_open());
  const Hyperparameters& hp = backends.model->hyperparameters();
  const auto tokens = random_tokens(434, 1000);
  Sequence cpu(*backends.cpu, hp, 450), cuda(*backends.cuda, hp, 450);
  for (const LogitRows rows : {LogitRows::kAll, LogitRows::kLast}) {
    const auto part = std::span(tokens).subspan(rows == LogitRows::kAll ? 0 : 30,
                                                rows == LogitRows::kAll ? 30 : 400);
    EXPECT_LT(relative_distance(cuda.prefill(part, rows), cpu.prefill(part, rows)), 0.05);
  }
  for (const Mode mode : {Mode::kDense, Mode::kAbSparse}) {
    for (int i = 0; i < 2; ++i) {
      StepTrace a, b;
      const Token token = tokens[size_t(430 + i)];
      const auto on_cpu = cpu.decode(token, mode, 320, &a), on_gpu = cuda.decode(token, mode, 320, &b);
      ASSERT_EQ(on_gpu.size(), on_cpu.size());
      if (read_alike(a, b)) {
        EXPECT_LT(relative_distance(on_gpu, on_cpu), 0.05);
      }
    }
  }
}

TEST_F(CudaShapes, TraceIsTheProcessors) {
  const RandomModel random({.n_layers = 2, .n_embd = 512, .n_ff = 512, .n_q_heads = 8,
                            .n_kv_heads = 2, .head_dim = 64, .type = GGML_TYPE_F32});
  Backends backends(random);
  ASSERT_TRUE(backends.are_open());
  const Hyperparameters& hp = backends.model->hyperparameters();
  const auto tokens = random_tokens(1502, 1000);
  Sequence cpu(*backends.cpu, hp, 1600), cuda(*backends.cuda, hp, 1600);
  const auto document = std::span(tokens).first(1500);
  cpu.prefill(document, LogitRows::kNone);
  cuda.prefill(document, LogitRows::kNone);
  for (const Mode mode : {Mode::kDense, Mode::kAbSparse}) {
    const Token token = tokens[mode == Mode::kDense ? 1500 : 1501];
    StepTrace a, b;
    cpu.decode(token, mode, 600, &a);
    cuda.decode(token, mode, 600, &b);
    ASSERT_EQ(a.block_offset, b.block_offset);
    size_t n_other = 0;
    for (size_t i = 0; i < a.block_idx.size(); ++i) {
      if (a.block_idx[i] == b.block_idx[i]) {
        EXPECT_NEAR(a.mass[i], b.mass[i], 5e-3);
      } else {
        ++n_other;
      }
    }
    // The queries differ a little, so a block near the threshold may.
    EXPECT_LE(n_other, mode == Mode::kDense ? 0 : a.block_idx.size() / 20);
  }
}

TEST_F(CudaShapes, AnUnknownTypeIsRefusedByName) {
  const RandomModel random({.n_embd = 256, .n_ff = 256, .type = GGML_TYPE_IQ4_NL});
  const auto model = random.open();
  const auto cuda = open_cuda_backend(*model, 1024, 64);
  ASSERT_FALSE(cuda.ok());
  EXPECT_EQ(cuda.error().code, ErrorCode::kModelUnsupported);
  EXPECT_NE(cuda.error().message.find("iq4_nl"), std::string::npos) << cuda.error().message;
}

TEST_F(CudaShapes, PrefillStopsBetweenLayers) {
  const RandomModel random({.n_layers = 4});
  Backends backends(random);
  ASSERT_TRUE(backends.are_open());
  const auto tokens = random_tokens(64, 1000);
  auto pages = backends.cuda->reserve_pages({4, 4, 64}, 8);
  ASSERT_TRUE(pages.ok());
  const std::vector<PageId> table{0, 1, 2, 3};
  const CancelFlag cancel{true};
  const auto got =
      backends.cuda->prefill({tokens, {table.data(), 0}, LogitRows::kLast, {}}, pages.value(), &cancel);
  ASSERT_FALSE(got.ok());
  EXPECT_EQ(got.error().code, ErrorCode::kCancelled);
}

}  // namespace
}  // namespace scholia::test
