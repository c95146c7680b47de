// The same tokens give the same bits, however a sequence came about: forked, truncated, saved and
// restored, stopped and continued. On the real small model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <map>
#include <random>

#include "engine/decode/compare_logits.h"
#include "models.h"

namespace scholia::test {
namespace {

constexpr int kChunk = 64;
constexpr int kDocument = 1300;  // a whole run on disk, and a shorter one; ends inside a KV page
constexpr int kQuestion = 21;
constexpr int kAnswer = 6;
constexpr DecodeOptions kSparse{Mode::kAbSparse, 320, false};

using Logits = std::vector<std::vector<float>>;

class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "scholia_XXXXXX").string();
    path_ = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() { std::filesystem::remove_all(path_); }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

HeadProfile random_profile(const Engine& engine, uint32_t seed) {
  std::mt19937 random(seed);
  HeadProfile profile =
      HeadProfile::uniform(engine.model().n_layers, engine.model().n_kv_heads);
  float sum = 0;
  for (size_t h = 0; h < profile.block_tokens.size(); ++h) {
    profile.block_tokens[h] = static_cast<uint16_t>(kBlockSizes[random() % 4]);
    profile.budget_share[h] = 0.25F + static_cast<float>(random() % 8) / 4;
    sum += profile.budget_share[h];
  }
  for (float& share : profile.budget_share) {
    share *= static_cast<float>(profile.budget_share.size()) / sum;
  }
  return profile;
}

class PipelineTest : public ::testing::Test {
 protected:
  std::unique_ptr<Engine> open(const std::string& store = "", int step_tokens = kChunk) {
    auto engine = open_engine(kSmall, {.n_threads = 1, .chunk_tokens = kChunk,
                                       .prefill_step_tokens = step_tokens, .store_dir = store});
    EXPECT_NE(engine, nullptr);
    EXPECT_TRUE(engine->set_profile(random_profile(*engine, 7)).ok());
    if (tokens_.empty()) tokens_ = real_tokens(*engine, 2400);
    return engine;
  }

  std::span<const Token> document() const { return std::span(tokens_).first(kDocument); }
  std::span<const Token> question() const { return std::span(tokens_).subspan(1500, kQuestion); }

  static std::vector<float> current(const Engine& engine) {
    return {engine.logits().begin(), engine.logits().end()};
  }

  PrefillProgress read(Engine& engine, SequenceId sequence, std::span<const Token> tokens,
                       PrefillOptions options = {}) {
    auto progress = engine.prefill(sequence, tokens, options, {}, nullptr);
    EXPECT_TRUE(progress.ok()) << progress.error().message;
    return progress.ok() ? progress.value() : PrefillProgress{};
  }

  // Asks on top of a read document: the logits after the question and after each decoded token.
  Logits ask(Engine& engine, SequenceId sequence) {
    read(engine, sequence, question());
    Logits logits{current(engine)};
    for (int i = 0; i < kAnswer; ++i) {
      const auto step = engine.decode(sequence, tokens_[1600 + static_cast<size_t>(i)], kSparse);
      EXPECT_TRUE(step.ok());
      logits.push_back(current(engine));
    }
    return logits;
  }

  // Equal but for their rounding. (Steps of other sizes gave the same bits on the processors tried;
  // ggml promises that for none.)
  static void expect_near(const Logits& logits, const Logits& truth) {
    ASSERT_EQ(logits.size(), truth.size());
    for (size_t row = 0; row < truth.size(); ++row) {
      double difference = 0, length = 0;
      for (size_t i = 0; i < truth[row].size(); ++i) {
        difference += std::pow(double(logits[row][i]) - double(truth[row][i]), 2);
        length += std::pow(double(truth[row][i]), 2);
      }
      EXPECT_LE(std::sqrt(difference), 0.05 * std::sqrt(length)) << "row " << row;
    }
  }

  Logits straight(Engine& engine) {
    const SequenceId sequence = engine.create_sequence();
    read(engine, sequence, document());
    Logits logits = ask(engine, sequence);
    engine.release(sequence);
    return logits;
  }

  std::vector<Token> tokens_;
};

TEST_F(PipelineTest, ForkAndTruncateGiveTheBitsOfAStraightRun) {
  const auto straight_engine = open();
  const Logits truth = straight(*straight_engine);

  const auto engine = open();
  const SequenceId sequence = engine->create_sequence();
  read(*engine, sequence, document());
  const auto fork = engine->fork(sequence);
  ASSERT_TRUE(fork.ok());
  EXPECT_EQ(ask(*engine, fork.value()), truth);
  EXPECT_EQ(ask(*engine, sequence), truth) << "after a fork wrote behind the same page";

  const auto kept = engine->truncate(sequence, kDocument);
  ASSERT_TRUE(kept.ok());
  ASSERT_EQ(kept.value(), kDocument);
  EXPECT_EQ(ask(*engine, sequence), truth) << "after truncating to the document's end";

  const auto middle = engine->truncate(sequence, 777);
  ASSERT_TRUE(middle.ok());
  ASSERT_EQ(middle.value(), 768) << "a prompt is cut at a chunk boundary";
  read(*engine, sequence, document().subspan(768));
  EXPECT_EQ(ask(*engine, sequence), truth) << "after truncating inside the document";
}

TEST_F(PipelineTest, ASecondReadingIsFoundInMemory) {
  const auto engine = open();
  const Logits truth = straight(*engine);
  const SequenceId again = engine->create_sequence();
  const PrefillProgress progress = read(*engine, again, document(), {.want_logits = false});
  EXPECT_EQ(progress.memory_tokens, kDocument);
  EXPECT_EQ(progress.seconds, 0);
  EXPECT_EQ(ask(*engine, again), truth);
}

TEST_F(PipelineTest, ASavedReadingIsRestoredBitForBit) {
  const TemporaryFolder folder;
  Logits truth;
  {
    const auto engine = open(folder.path());
    const SequenceId sequence = engine->create_sequence();
    const auto progress = read(*engine, sequence, document(), {.persist = true});
    ASSERT_FALSE(progress.store_error.has_value());
    truth = ask(*engine, sequence);
  }
  const auto engine = open(folder.path());
  EXPECT_EQ(engine->cached_tokens(document()), kDocument);
  const SequenceId sequence = engine->create_sequence();
  const auto progress = read(*engine, sequence, document(), {.want_logits = false});
  EXPECT_EQ(progress.disk_tokens, kDocument);
  EXPECT_EQ(ask(*engine, sequence), truth);
}

TEST_F(PipelineTest, ADamagedFileIsReadAgainNotBelieved) {
  const TemporaryFolder folder;
  Logits truth;
  {
    const auto engine = open(folder.path());
    const SequenceId sequence = engine->create_sequence();
    read(*engine, sequence, document(), {.persist = true});
    const auto runs = engine->stored_runs(sequence);
    ASSERT_TRUE(runs.ok());
    ASSERT_EQ(runs.value().size(), 2U);
    truth = ask(*engine, sequence);
    std::filesystem::path file = runs.value()[1];
    if (file.is_relative()) file = folder.path() / file;
    std::fstream damaged(file, std::ios::in | std::ios::out | std::ios::binary);
    damaged.seekg(-1000, std::ios::end);
    const auto at = damaged.tellg();
    const char byte = static_cast<char>(damaged.get() ^ 1);
    damaged.seekp(at);
    damaged.put(byte);
    ASSERT_TRUE(damaged.good());
  }
  const auto engine = open(folder.path());
  const SequenceId sequence = engine->create_sequence();
  const auto progress = read(*engine, sequence, document());
  EXPECT_EQ(progress.disk_tokens, 1024) << "the whole run before the damaged one";
  EXPECT_EQ(ask(*engine, sequence), truth);
}

TEST_F(PipelineTest, AStoppedReadingContinues) {
  const auto straight_engine = open();
  const Logits truth = straight(*straight_engine);

  const auto engine = open();
  CancelFlag stop = false;
  const SequenceId stopped = engine->create_sequence();
  const auto result = engine->prefill(
      stopped, document(), {},
      [&](const PrefillProgress& progress) { stop = progress.done_tokens >= 500; }, &stop);
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code, ErrorCode::kCancelled);
  engine->release(stopped);

  const SequenceId sequence = engine->create_sequence();
  const auto progress = read(*engine, sequence, document());
  EXPECT_EQ(progress.memory_tokens, 512) << "whole chunks are kept";
  EXPECT_EQ(ask(*engine, sequence), truth);
}

// What a device does that computes many chunks at once, shown on the one that is everywhere.
TEST_F(PipelineTest, AReadingIsStoppedAndContinuedWithStepsOfAnotherSize) {
  const Logits truth = straight(*open());
  const std::pair<int, int> sizes[] = {{kChunk, 4 * kChunk}, {4 * kChunk, kChunk}};
  for (const auto& [first, then] : sizes) {
    SCOPED_TRACE(std::to_string(first) + ", then " + std::to_string(then));
    const TemporaryFolder folder;
    {
      const auto engine = open(folder.path(), first);
      CancelFlag stop = false;
      const auto stopped = engine->prefill(
          engine->create_sequence(), document(), {.persist = true},
          [&](const PrefillProgress& progress) { stop = progress.done_tokens >= 1100; }, &stop);
      ASSERT_FALSE(stopped.ok());
    }
    const auto engine = open(folder.path(), then);
    const SequenceId sequence = engine->create_sequence();
    std::vector<int> done;
    const auto progress = engine->prefill(
        sequence, document(), {.persist = true},
        [&](const PrefillProgress& now) { done.push_back(now.done_tokens); }, nullptr);
    ASSERT_TRUE(progress.ok());
    EXPECT_EQ(progress.value().disk_tokens, 1024) << "whole runs were saved";
    const std::vector<int> steps = then == kChunk ? std::vector{1024, 1088, 1152, 1216, 1280, 1300}
                                                  : std::vector{1024, 1280, 1300};
    EXPECT_EQ(done, steps) << "a step ends at a multiple of its size";
    EXPECT_EQ(engine->cached_tokens(document()), kDocument);
    expect_near(ask(*engine, sequence), truth);
  }
}

TEST_F(PipelineTest, StepsOfSeveralChunksRepeatTheirBits) {
  constexpr int kStep = 4 * kChunk;
  const Logits truth = straight(*open("", kStep));

  const auto engine = open("", kStep);
  CancelFlag stop = false;
  const auto stopped = engine->prefill(
      engine->create_sequence(), document(), {},
      [&](const PrefillProgress& progress) { stop = progress.done_tokens >= 500; }, &stop);
  ASSERT_FALSE(stopped.ok());
  const SequenceId sequence = engine->create_sequence();
  EXPECT_EQ(read(*engine, sequence, document()).memory_tokens, 512) << "whole steps are kept";
  EXPECT_EQ(ask(*engine, sequence), truth);
}

TEST_F(PipelineTest, DecodingAcrossGroupAndBlockBoundariesRepeats) {
  const auto engine = open();
  constexpr int kStart = 2030;  // the first digest group closes at 2,048
  const SequenceId sequence = engine->create_sequence();
  read(*engine, sequence, std::span(tokens_).first(kStart));
  const auto run = [&] {
    Logits logits;
    for (int i = 0; i < 24; ++i) {
      const auto step = engine->decode(sequence, tokens_[kStart + static_cast<size_t>(i)], kSparse);
      EXPECT_TRUE(step.ok());
      logits.push_back(current(*engine));
    }
    return logits;
  };
  const Logits first = run();
  for (const int back : {kStart, kStart + 17, kStart + 18, kStart + 19}) {
    const auto kept = engine->truncate(sequence, back);
    ASSERT_TRUE(kept.ok());
    ASSERT_EQ(kept.value(), back) << "generated text is cut anywhere";
    for (int i = back - kStart; i < 24; ++i) {
      ASSERT_TRUE(
          engine->decode(sequence, tokens_[kStart + static_cast<size_t>(i)], kSparse).ok());
      ASSERT_EQ(current(*engine), first[static_cast<size_t>(i)]) << "back to " << back << ", " << i;
    }
  }
}

TEST_F(PipelineTest, RandomProfilesWithFullBudgetEqualDense) {
  const auto engine = open();
  const SequenceId document_read = engine->create_sequence();
  read(*engine, document_read, document());
  const auto decode = [&](const DecodeOptions& options) {
    const auto fork = engine->fork(document_read);
    EXPECT_TRUE(fork.ok());
    Logits logits;
    for (int i = 0; i < 4; ++i) {
      EXPECT_TRUE(
          engine->decode(fork.value(), tokens_[1600 + static_cast<size_t>(i)], options).ok());
      logits.push_back(current(*engine));
    }
    engine->release(fork.value());
    return logits;
  };
  const Logits dense = decode({Mode::kDense, 0 + 1, false});
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    ASSERT_TRUE(engine->set_profile(random_profile(*engine, seed)).ok());
    EXPECT_EQ(decode({Mode::kAbSparse, 2000, false}), dense) << "profile seed " << seed;
    EXPECT_NE(decode({Mode::kAbSparse, 300, false}), dense) << "profile seed " << seed;
  }
}

TEST_F(PipelineTest, OneHeadsBlockSizeDoesNotTouchAnotherHead) {
  const auto engine = open();
  const SequenceId document_read = engine->create_sequence();
  read(*engine, document_read, document());
  const auto first_layer = [&](int block_tokens_of_head_1, int budget_tokens) {
    HeadProfile profile =
        HeadProfile::uniform(engine->model().n_layers, engine->model().n_kv_heads);
    profile.block_tokens[1] = static_cast<uint16_t>(block_tokens_of_head_1);
    EXPECT_TRUE(engine->set_profile(profile).ok());
    const auto fork = engine->fork(document_read);
    const auto step = engine->decode(fork.value(), tokens_[1600],
                                     {Mode::kAbSparse, budget_tokens, /*trace_mass=*/true});
    EXPECT_TRUE(step.ok());
    engine->release(fork.value());
    return step.value();
  };
  // What head 1 cannot use goes to the others, so look for a budget at which they get the same.
  StepTrace a, b;
  for (int budget = 500; budget < 600; budget += 8) {
    a = first_layer(32, budget);
    b = first_layer(128, budget);
    if (a.tokens_read[0] == b.tokens_read[0] && a.tokens_read[2] == b.tokens_read[2]) break;
  }
  ASSERT_EQ(a.tokens_read[0], b.tokens_read[0]);
  ASSERT_EQ(a.tokens_read[2], b.tokens_read[2]);
  for (const size_t head : {size_t{0}, size_t{2}}) {  // neighbours in the first layer
    const auto blocks = [head](const StepTrace& trace) {
      return std::vector<uint32_t>(trace.block_idx.begin() + trace.block_offset[head],
                                   trace.block_idx.begin() + trace.block_offset[head + 1]);
    };
    const auto masses = [head](const StepTrace& trace) {
      return std::vector<float>(trace.mass.begin() + trace.block_offset[head],
                                trace.mass.begin() + trace.block_offset[head + 1]);
    };
    EXPECT_EQ(blocks(a), blocks(b));
    EXPECT_EQ(masses(a), masses(b));
    EXPECT_FALSE(blocks(a).empty());
  }
  double sum = 0;
  for (uint32_t i = a.block_offset[0]; i < a.block_offset[1]; ++i) sum += a.mass[i];
  EXPECT_NEAR(sum, 1, 1e-4) << "a head's masses are shares of its attention";
}

TEST_F(PipelineTest, TellsItsMemoryWhileAPromptIsRead) {
  const auto engine = open();
  std::vector<MemoryReport> told;
  engine->on_memory([&](const MemoryReport& report) { told.push_back(report); });
  ASSERT_EQ(told.size(), 1U);
  EXPECT_EQ(told[0].kv_bytes, 0U);
  const SequenceId sequence = engine->create_sequence();
  read(*engine, sequence, document());
  ASSERT_GT(told.size(), 2U) << "the read takes longer than a few reports are apart";
  EXPECT_GT(told.back().kv_bytes, told[1].kv_bytes);
  const uint64_t page_bytes = engine->memory().kv_bytes / ((kDocument + 15) / 16);
  EXPECT_EQ(engine->memory().kv_kept_bytes, 0U);
  engine->release(sequence);
  EXPECT_EQ(engine->memory().kv_bytes, 0U);
  EXPECT_EQ(engine->memory().kv_kept_bytes, page_bytes * ((kDocument + 15) / 16))
      << "what was read is found again";
}

TEST_F(PipelineTest, MassKeptIsTheDenseMassOfWhatWasRead) {
  const auto engine = open();
  const SequenceId sparse = engine->create_sequence();
  read(*engine, sparse, document());
  const SequenceId dense = engine->fork(sparse).value();
  DecodeOptions kept = kSparse;
  kept.trace_mass = kept.trace_kept = true;
  const auto some = engine->decode(sparse, tokens_[1600], kept);
  ASSERT_TRUE(some.ok());
  const auto all = engine->decode(dense, tokens_[1600], {Mode::kDense, 1, true, true});
  ASSERT_TRUE(all.ok());
  const size_t n_heads = engine->profile().block_tokens.size();
  ASSERT_EQ(some.value().mass_kept.size(), n_heads);
  EXPECT_EQ(all.value().mass_kept, std::vector<float>(n_heads, 1)) << "dense keeps everything";
  // Both steps have the same queries in the first layer only.
  int n_less = 0;
  for (int head = 0; head < engine->model().n_kv_heads; ++head) {
    std::map<uint32_t, double> mass;
    for (auto i = all.value().block_offset[head]; i < all.value().block_offset[head + 1]; ++i) {
      mass[all.value().block_idx[i]] = all.value().mass[i];
    }
    double sum = 0;
    for (auto i = some.value().block_offset[head]; i < some.value().block_offset[head + 1]; ++i) {
      sum += mass.at(some.value().block_idx[i]);
    }
    EXPECT_NEAR(some.value().mass_kept[head], sum, 1e-4);
    n_less += sum < 0.999;
  }
  EXPECT_GT(n_less, 0) << "this test sees no head that leaves something out";
  for (const float share : some.value().mass_kept) {
    EXPECT_GT(share, 0);
    EXPECT_LE(share, 1);
  }
  const auto plain = engine->decode(sparse, tokens_[1601], kSparse);
  EXPECT_TRUE(plain.value().mass_kept.empty()) << "measured on request only";
}

TEST_F(PipelineTest, TimingStepsLeavesTheSequenceAsItWas) {
  const auto engine = open();
  const Logits truth = straight(*engine);
  const SequenceId sequence = engine->create_sequence();
  read(*engine, sequence, document());
  const uint64_t kv_bytes = engine->memory().kv_bytes;
  const auto timing = engine->time_steps(sequence, kSparse, 3);
  ASSERT_TRUE(timing.ok()) << timing.error().message;
  EXPECT_EQ(engine->memory().kv_bytes, kv_bytes);
  EXPECT_EQ(timing.value().depth_tokens, kDocument + 4) << "three steps and one to warm up";
  EXPECT_GT(timing.value().bytes_per_second, 0);

  const auto& stages = timing.value().stages;
  ASSERT_EQ(stages.size(), 2 + 4 * size_t(engine->model().n_layers));
  EXPECT_EQ(stages.front().stage, DecodeStage::kEmbed);
  EXPECT_EQ(stages.back().stage, DecodeStage::kLogits);
  uint64_t attend_bytes = 0, weights_bytes = 0;
  for (const StageTime& stage : stages) {
    EXPECT_GT(stage.seconds, 0);
    (stage.stage == DecodeStage::kAttend ? attend_bytes : weights_bytes) += stage.bytes;
  }
  EXPECT_LE(weights_bytes, engine->memory().weights_bytes);
  EXPECT_GT(weights_bytes, engine->memory().weights_bytes / 2);

  EXPECT_EQ(ask(*engine, sequence), truth) << "the sequence is as it was";
  ASSERT_TRUE(engine->truncate(sequence, kDocument).ok());
  uint64_t read_bytes = 0;
  for (int i = 0; i < 4; ++i) {
    const auto step = engine->decode(sequence, tokens_[1600], kSparse);
    read_bytes = step.value().kv_bytes + step.value().digest_bytes;
  }
  EXPECT_EQ(attend_bytes, read_bytes) << "of a step at the same depth";

  EXPECT_FALSE(engine->time_steps(engine->create_sequence(), kSparse, 1).ok());
  EXPECT_FALSE(engine->time_steps(sequence, kSparse, 0).ok());
}

// What compare_tail says is what decode and its logits say, step by step, also past the end of the
// first piece whose logits it holds.
TEST_F(PipelineTest, ATailIsComparedAsDecodeReadsIt) {
  const auto engine = open();
  const SequenceId sequence = engine->create_sequence();
  read(*engine, sequence, document());
  const int n_vocab = engine->model().n_vocab;
  const auto tail = std::span<const Token>(tokens_).subspan(1600, 256 + 35);
  const HeadProfile own = engine->profile();
  const std::vector<TailMode> modes = {{random_profile(*engine, 8), kSparse}};
  std::vector<int> done;
  const auto compared = engine->compare_tail(sequence, tail, modes,
                                             [&](int n) { done.push_back(n); }, nullptr);
  ASSERT_TRUE(compared.ok()) << compared.error().message;
  ASSERT_EQ(compared.value().size(), modes.size());
  EXPECT_EQ(done, (std::vector<int>{256, 291}));
  EXPECT_EQ(engine->profile().block_tokens, own.block_tokens) << "the profile is as it was";

  const SequenceId dense = engine->fork(sequence).value();
  const SequenceId sparse = engine->fork(sequence).value();
  ASSERT_TRUE(engine->set_profile(modes[0].profile).ok());
  std::vector<float> truth, rows;
  TailComparison expected;
  for (const Token token : tail) {
    ASSERT_TRUE(engine->decode(dense, token, {Mode::kDense}).ok());
    truth.insert(truth.end(), engine->logits().begin(), engine->logits().end());
    const auto step = engine->decode(sparse, token, kSparse);
    ASSERT_TRUE(step.ok());
    rows.insert(rows.end(), engine->logits().begin(), engine->logits().end());
    for (const uint32_t n : step.value().n_blocks) expected.n_blocks += n;
    expected.kv_bytes += step.value().kv_bytes;
    expected.digest_bytes += step.value().digest_bytes;
    expected.dense_bytes += step.value().dense_bytes;
  }
  ASSERT_TRUE(compare_rows(truth, rows, n_vocab, tail.subspan(1), 1, expected).ok());
  const TailComparison& found = compared.value()[0];
  EXPECT_EQ(found.kl, expected.kl);
  EXPECT_EQ(found.same_top, expected.same_top);
  EXPECT_EQ(found.loss_increase, expected.loss_increase);
  EXPECT_EQ(found.n_blocks, expected.n_blocks);
  EXPECT_EQ(found.kv_bytes, expected.kv_bytes);
  EXPECT_EQ(found.digest_bytes, expected.digest_bytes);
  EXPECT_EQ(found.dense_bytes, expected.dense_bytes);
  EXPECT_GT(*std::ranges::max_element(found.kl), 0);
}

TEST_F(PipelineTest, ATailThatCannotBeComparedLeavesNothingBehind) {
  const auto engine = open();
  const SequenceId sequence = engine->create_sequence();
  read(*engine, sequence, document());
  const std::vector<Token> tail(tokens_.begin() + 1600, tokens_.begin() + 1640);
  const HeadProfile own = engine->profile();
  const uint64_t kv_bytes = engine->memory().kv_bytes;
  const auto code = [&](std::vector<TailMode> modes, std::span<const Token> tokens,
                        const CancelFlag* cancel, SequenceId of) {
    const auto compared = engine->compare_tail(of, tokens, modes, {}, cancel);
    return compared.ok() ? std::string_view("ok") : error_code_name(compared.error().code);
  };
  const TailMode sound{random_profile(*engine, 8), kSparse};
  const CancelFlag cancelled{true};
  const Token absurd = engine->model().n_vocab;
  EXPECT_EQ(code({sound}, tail, &cancelled, sequence), "cancelled");
  EXPECT_EQ(code({sound, {HeadProfile::uniform(3, 3), kSparse}}, tail, nullptr, sequence),
            "profile_mismatch");
  EXPECT_EQ(code({{own, {Mode::kAbSparse, 0}}}, tail, nullptr, sequence), "invalid_argument");
  EXPECT_EQ(code({sound}, {}, nullptr, sequence), "invalid_argument");
  EXPECT_EQ(code({sound}, {&absurd, 1}, nullptr, sequence), "invalid_argument");
  EXPECT_EQ(code({sound}, tail, nullptr, 99), "invalid_argument");
  EXPECT_EQ(engine->profile().block_tokens, own.block_tokens);
  EXPECT_EQ(engine->memory().kv_bytes, kv_bytes);
  EXPECT_EQ(engine->sequence_tokens(sequence).value().size(), size_t(kDocument));
}

TEST_F(PipelineTest, BadCallsAreErrorsWithCodes) {
  const auto engine = open();
  const auto code = [](const auto& result) {
    return result.ok() ? std::string_view("ok") : error_code_name(result.error().code);
  };
  for (const auto& [chunk, step] : {std::pair{0, 0}, {17, 0}, {kChunk, -kChunk}, {kChunk, kChunk / 2}}) {
    EXPECT_EQ(code(Engine::open({.model_path = model_path(kSmall), .chunk_tokens = chunk,
                                 .prefill_step_tokens = step})),
              "invalid_argument")
        << chunk << " and " << step;
  }
  const SequenceId sequence = engine->create_sequence();
  const Token absurd = engine->model().n_vocab;
  const std::vector<Token> long_prompt(static_cast<size_t>(engine->model().context_tokens) + 1, 1);
  EXPECT_EQ(code(engine->prefill(99, document(), {}, {}, nullptr)), "invalid_argument");
  EXPECT_EQ(code(engine->prefill(sequence, {}, {}, {}, nullptr)), "invalid_argument");
  EXPECT_EQ(code(engine->prefill(sequence, {&absurd, 1}, {}, {}, nullptr)), "invalid_argument");
  EXPECT_EQ(code(engine->prefill(sequence, long_prompt, {}, {}, nullptr)), "context_exceeded");
  EXPECT_EQ(code(engine->decode(sequence, 1, {Mode::kAbSparse, 0, false})), "invalid_argument");
  HeadProfile foreign = HeadProfile::uniform(3, 3);
  EXPECT_EQ(code(engine->set_profile(foreign)), "profile_mismatch");
  foreign = HeadProfile::uniform(engine->model().n_layers, engine->model().n_kv_heads);
  foreign.model_fingerprint = "another";
  EXPECT_EQ(code(engine->set_profile(foreign)), "profile_mismatch");
}

TEST(OpenModel, RefusesWhatIsNoModel) {
  load_libraries();
  const TemporaryFolder folder;
  const auto code_of = [&](const std::string& bytes) {
    const std::string path = folder.path() + "/model.gguf";
    std::ofstream(path, std::ios::binary) << bytes;
    const auto engine = Engine::open({.model_path = path});
    return engine.ok() ? std::string("ok") : std::string(error_code_name(engine.error().code));
  };
  EXPECT_EQ(code_of(""), "model_broken");
  EXPECT_EQ(code_of("GGUF"), "model_broken");
  EXPECT_EQ(code_of(std::string(100000, 'x')), "model_broken");
  std::ifstream whole(model_path(kSmall), std::ios::binary);
  std::string half(40 << 20, '\0');
  whole.read(half.data(), static_cast<std::streamsize>(half.size()));
  EXPECT_EQ(code_of(half), "model_broken") << "a model cut in half";
  EXPECT_EQ(code_of(half.substr(0, 1 << 20)), "model_broken") << "cut inside its header";
  const auto missing = Engine::open({.model_path = folder.path() + "/none.gguf"});
  ASSERT_FALSE(missing.ok());
  EXPECT_EQ(missing.error().code, ErrorCode::kModelNotFound);
}

}  // namespace
}  // namespace scholia::test
