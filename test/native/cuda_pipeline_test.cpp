// The engine on the GPU: reads are saved, restored, forked and cut as on the processor, and open on
// the other device.
#include <algorithm>
#include <filesystem>

#include "cuda_support.h"
#include "models.h"

namespace scholia::test {
namespace {

constexpr int kDocument = 1300;  // a whole run on disk, and a shorter one; ends inside a KV page

class CudaPipeline : public ::testing::Test {
 protected:
  void SetUp() override {
    SCHOLIA_NEEDS_GPU();
    load_libraries();
    folder_ = std::filesystem::temp_directory_path() / ("scholia_cuda_" + std::to_string(getpid()));
    std::filesystem::remove_all(folder_);
    std::mt19937 random(3);
    for (int i = 0; i < 2000; ++i) tokens_.push_back(Token(random() % 1000));
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }

  std::unique_ptr<Engine> open(Device device, bool stores = false, int step_tokens = 0) {
    EngineConfig config{.model_path = model_.path(), .device = device, .n_threads = 4,
                        .chunk_tokens = 64, .prefill_step_tokens = step_tokens,
                        .kv_pool_bytes = size_t(64) << 20,
                        .store_dir = stores ? folder_.string() : ""};
    auto engine = Engine::open(config);
    EXPECT_TRUE(engine.ok()) << (engine.ok() ? "" : engine.error().message);
    return engine.ok() ? std::move(engine.value()) : nullptr;
  }
  std::span<const Token> document() const { return std::span(tokens_).first(kDocument); }

  std::vector<float> answer(Engine& engine, SequenceId sequence, Mode mode = Mode::kAbSparse) {
    std::vector<float> all;
    EXPECT_TRUE(engine.prefill(sequence, std::span(tokens_).subspan(1500, 21), {}, {}, nullptr).ok());
    for (int i = 0; i < 40; ++i) {
      EXPECT_TRUE(engine.decode(sequence, tokens_[size_t(1600 + i)], {mode, 320}).ok());
      all.insert(all.end(), engine.logits().begin(), engine.logits().end());
    }
    return all;
  }

  const ModelShape shape_{.n_layers = 3, .n_embd = 512, .n_ff = 512, .n_q_heads = 8, .n_kv_heads = 2,
                          .head_dim = 64, .context = 4096, .type = GGML_TYPE_Q8_0};
  RandomModel model_{shape_};
  std::filesystem::path folder_;
  std::vector<Token> tokens_;
};

TEST_F(CudaPipeline, SaysWhereItRuns) {
  const auto engine = open(Device::kAuto);
  ASSERT_NE(engine, nullptr);
  EXPECT_EQ(engine->device_name().rfind("cuda (", 0), 0U) << engine->device_name();
  const MemoryReport memory = engine->memory();
  EXPECT_GT(memory.weights_bytes, 0U);
  EXPECT_GT(memory.workspace_bytes, 0U);
  EXPECT_GT(memory.digest_bytes, 0U);
  EXPECT_GT(memory.free_bytes, 0U);
}

TEST_F(CudaPipeline, SavedRestoredForkedAndCutAreTheSameBits) {
  std::vector<float> straight;
  {
    const auto engine = open(Device::kCuda, true);
    ASSERT_NE(engine, nullptr);
    const SequenceId sequence = engine->create_sequence();
    ASSERT_TRUE(engine->prefill(sequence, document(), {.persist = true}, {}, nullptr).ok());
    const auto fork = engine->fork(sequence);
    ASSERT_TRUE(fork.ok());
    straight = answer(*engine, sequence);
    EXPECT_EQ(answer(*engine, fork.value()), straight) << "forked";
    ASSERT_EQ(engine->truncate(sequence, kDocument).value(), kDocument);
    EXPECT_EQ(answer(*engine, sequence), straight) << "cut and asked again";
  }
  const auto engine = open(Device::kCuda, true);
  ASSERT_NE(engine, nullptr);
  const SequenceId sequence = engine->create_sequence();
  const auto restored = engine->prefill(sequence, document(), {.want_logits = false}, {}, nullptr);
  ASSERT_TRUE(restored.ok());
  EXPECT_EQ(restored.value().disk_tokens, kDocument);
  EXPECT_EQ(answer(*engine, sequence), straight) << "restored";
}

TEST_F(CudaPipeline, AReadOpensOnTheOtherDevice) {
  {
    const auto engine = open(Device::kCuda, true);
    ASSERT_NE(engine, nullptr);
    const SequenceId sequence = engine->create_sequence();
    ASSERT_TRUE(engine->prefill(sequence, document(), {.persist = true}, {}, nullptr).ok());
  }
  std::vector<float> on[2];
  for (const Device device : {Device::kCuda, Device::kCpu}) {
    const auto engine = open(device, true);
    ASSERT_NE(engine, nullptr);
    const SequenceId sequence = engine->create_sequence();
    const auto restored = engine->prefill(sequence, document(), {.want_logits = false}, {}, nullptr);
    ASSERT_TRUE(restored.ok());
    EXPECT_EQ(restored.value().disk_tokens, kDocument);
    on[device == Device::kCpu] = answer(*engine, sequence);
  }
  EXPECT_LT(relative_distance(on[0], on[1]), 0.1);
}

// Answered densely: of random weights' blocks many lie so near the threshold that rounding chooses.
TEST_F(CudaPipeline, AReadGoesOnOnTheOtherDevice) {
  std::vector<float> straight;
  {
    const auto engine = open(Device::kCpu);
    ASSERT_NE(engine, nullptr);
    const SequenceId sequence = engine->create_sequence();
    ASSERT_TRUE(engine->prefill(sequence, document(), {}, {}, nullptr).ok());
    straight = answer(*engine, sequence, Mode::kDense);
  }
  for (const auto& [first, then] :
       {std::pair{Device::kCpu, Device::kCuda}, {Device::kCuda, Device::kCpu}}) {
    std::filesystem::remove_all(folder_);
    {
      const auto engine = open(first, true, first == Device::kCuda ? 512 : 0);
      ASSERT_NE(engine, nullptr);
      CancelFlag stop = false;
      const auto stopped = engine->prefill(
          engine->create_sequence(), document(), {.persist = true},
          [&](const PrefillProgress& now) { stop = now.done_tokens >= 1024; }, &stop);
      ASSERT_FALSE(stopped.ok());
    }
    const auto engine = open(then, true);
    ASSERT_NE(engine, nullptr);
    const SequenceId sequence = engine->create_sequence();
    const auto went_on = engine->prefill(sequence, document(), {.persist = true}, {}, nullptr);
    ASSERT_TRUE(went_on.ok());
    EXPECT_EQ(went_on.value().disk_tokens, 1024);
    EXPECT_EQ(engine->cached_tokens(document()), kDocument);
    EXPECT_LT(relative_distance(answer(*engine, sequence, Mode::kDense), straight), 0.1);
  }
}

TEST_F(CudaPipeline, TakesLongStepsOfItsOwnAccord) {
  std::vector<std::vector<float>> answers;
  for (const int step_tokens : {0, 64, 512}) {
    const auto engine = open(Device::kCuda, false, step_tokens);
    ASSERT_NE(engine, nullptr);
    const SequenceId sequence = engine->create_sequence();
    int n_steps = -1;  // progress is told before the first, too
    ASSERT_TRUE(engine->prefill(sequence, document(), {},
                                [&](const PrefillProgress&) { ++n_steps; }, nullptr).ok());
    EXPECT_EQ(n_steps, step_tokens == 0 ? 1 : (kDocument + step_tokens - 1) / step_tokens);
    answers.push_back(answer(*engine, sequence, Mode::kDense));
  }
  EXPECT_LT(relative_distance(answers[1], answers[0]), 0.05);
  EXPECT_LT(relative_distance(answers[2], answers[0]), 0.05);
}

TEST_F(CudaPipeline, MeasuresHeadsAsTheProcessorDoes) {
  const int blocks[] = {16, 64}, budgets[] = {256, 512};
  std::vector<double> errors[2];
  for (const Device device : {Device::kCuda, Device::kCpu}) {
    const auto engine = open(device);
    ASSERT_NE(engine, nullptr);
    const auto measured =
        engine->measure_heads(std::span(tokens_).first(1000), 100, 4, blocks, budgets, {}, nullptr);
    ASSERT_TRUE(measured.ok()) << measured.error().message;
    errors[device == Device::kCpu] = measured.value().output_error;
  }
  ASSERT_EQ(errors[0].size(), errors[1].size());
  // Single blocks near the threshold may be others; on the whole the two agree.
  double difference = 0;
  for (size_t i = 0; i < errors[0].size(); ++i) {
    EXPECT_NEAR(errors[0][i], errors[1][i], 0.3);
    difference += (errors[0][i] - errors[1][i]) / double(errors[0].size());
  }
  EXPECT_NEAR(difference, 0, 0.03);
}

TEST_F(CudaPipeline, MeasuresTheMassKeptAsTheProcessorDoes) {
  std::vector<float> kept[2];
  for (const Device device : {Device::kCuda, Device::kCpu}) {
    const auto engine = open(device);
    ASSERT_NE(engine, nullptr);
    const SequenceId sequence = engine->create_sequence();
    ASSERT_TRUE(engine->prefill(sequence, document(), {}, {}, nullptr).ok());
    const SequenceId plain = engine->fork(sequence).value(), dense = engine->fork(sequence).value();
    const auto measured = engine->decode(sequence, 7, {Mode::kAbSparse, 320, true, true});
    ASSERT_TRUE(measured.ok()) << measured.error().message;
    const std::vector<float> logits(engine->logits().begin(), engine->logits().end());
    const auto unmeasured = engine->decode(plain, 7, {Mode::kAbSparse, 320});
    ASSERT_TRUE(unmeasured.ok());
    EXPECT_TRUE(unmeasured.value().mass_kept.empty()) << "measured on request only";
    EXPECT_TRUE(std::equal(logits.begin(), logits.end(), engine->logits().begin()))
        << "the answer is the same";
    const auto all = engine->decode(dense, 7, {Mode::kDense, 1, false, true});
    ASSERT_TRUE(all.ok());
    kept[device == Device::kCpu] = measured.value().mass_kept;
    EXPECT_EQ(all.value().mass_kept, std::vector<float>(measured.value().mass_kept.size(), 1));
  }
  ASSERT_EQ(kept[0].size(), size_t(shape_.n_layers * shape_.n_kv_heads));
  ASSERT_EQ(kept[0].size(), kept[1].size());
  for (size_t head = 0; head < kept[0].size(); ++head) {
    // The two round a product's input in groups of different sizes, and this model's weights are random.
    EXPECT_NEAR(kept[0][head], kept[1][head], 0.05) << "head " << head;
  }
  EXPECT_LT(*std::min_element(kept[0].begin(), kept[0].end()), 0.9) << "nothing was left out";
}

TEST_F(CudaPipeline, TimesItsStages) {
  const auto engine = open(Device::kCuda);
  ASSERT_NE(engine, nullptr);
  const SequenceId sequence = engine->create_sequence();
  ASSERT_TRUE(engine->prefill(sequence, document(), {}, {}, nullptr).ok());
  const auto timing = engine->time_steps(sequence, {Mode::kAbSparse, 320}, 3);
  ASSERT_TRUE(timing.ok()) << timing.error().message;
  EXPECT_GT(timing.value().bytes_per_second, 1e10);
  ASSERT_EQ(timing.value().stages.size(), 2 + 4 * size_t(shape_.n_layers));
  for (const StageTime& stage : timing.value().stages) {
    EXPECT_GT(stage.seconds, 0);
    EXPECT_LT(stage.seconds, 0.01);
    EXPECT_EQ(stage.bytes == 0, stage.stage == DecodeStage::kEmbed);
  }
}

TEST_F(CudaPipeline, ManyStepsTakeNoMoreMemory) {
  const auto engine = open(Device::kCuda);
  ASSERT_NE(engine, nullptr);
  const SequenceId sequence = engine->create_sequence();
  ASSERT_TRUE(engine->prefill(sequence, document(), {}, {}, nullptr).ok());
  ASSERT_TRUE(engine->decode(sequence, 1, {Mode::kAbSparse, 512}).ok());
  const uint64_t free_bytes = engine->memory().free_bytes;
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(engine->decode(sequence, Token(i), {Mode::kAbSparse, 512}).ok());
  }
  EXPECT_EQ(engine->memory().free_bytes, free_bytes);
}

}  // namespace
}  // namespace scholia::test
