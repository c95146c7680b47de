// Speed of the CUDA backend: decode by stages and as a whole at several depths, dense and sparse,
// against the bytes that must be moved and the copy bandwidth of the same minute; then prefill.
// Prints Markdown. KV at depth is random, since speed does not depend on what it says.
//
//   cuda_bench MODEL.gguf [--depths 64,32768] [--prefill 8192] [--chunk 4096]
//              [--attention 0,126976] [--sweep] [--stages] [--trace] [--sample] [--clock]
// --clock, in builds with -DSCHOLIA_ATTENTION_CLOCK=ON: where a sparse layer's time goes.
#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <numeric>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/cuda_backend.h"
#include "backend/cuda/cuda_bandwidth.h"
#include "backend/cuda/cuda_handles.h"
#include "backend/cuda/device_buffer.h"
#include "backend/cuda/kernels/attention.cuh"
#include "backend/cuda/kernels/prefill_attention.cuh"
#include "backend/cuda/kernels/sampling.cuh"
#include "engine/kv/f16.h"

namespace scholia {
namespace {

constexpr int kRepetitions = 15;

[[noreturn]] void stop(const std::string& why) {
  std::fprintf(stderr, "%s\n", why.c_str());
  std::exit(1);
}

template <typename T>
T take(Result<T> result) {
  if (!result.ok()) stop(result.error().message);
  return std::move(result.value());
}

double microseconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start).count();
}

// Bytes of weights that each stage of a step reads, all layers.
struct StageBytes {
  double qkv = 0, attention_out = 0, gate_up = 0, down = 0, logits = 0;
  double sum() const { return qkv + attention_out + gate_up + down + logits; }
};

StageBytes stage_bytes(const GgufModel& model) {
  StageBytes bytes;
  const auto of = [&](const std::string& name) {
    const WeightView* weight = model.find(name);
    return weight == nullptr ? 0.0 : double(weight->bytes);
  };
  for (int layer = 0; layer < model.hyperparameters().n_layers; ++layer) {
    const std::string b = "blk." + std::to_string(layer) + ".";
    bytes.qkv += of(b + "attn_q.weight") + of(b + "attn_k.weight") + of(b + "attn_v.weight");
    bytes.attention_out += of(b + "attn_output.weight");
    bytes.gate_up += of(b + "ffn_gate.weight") + of(b + "ffn_up.weight");
    bytes.down += of(b + "ffn_down.weight");
  }
  const double output = of("output.weight");
  bytes.logits = output > 0 ? output : of("token_embd.weight");
  return bytes;
}

struct Reading {
  const char* name;
  Mode mode;
  int block_tokens;  // 0: a quarter of the heads each of 16, 32, 64, 128
};
constexpr Reading kReadings[] = {{"dense", Mode::kDense, 32},
                                 {"sparse, mixed", Mode::kAbSparse, 0},
                                 {"sparse, 16", Mode::kAbSparse, 16},
                                 {"sparse, 32", Mode::kAbSparse, 32},
                                 {"sparse, 64", Mode::kAbSparse, 64}};
constexpr int kBudget = 2048;

class Bench {
 public:
  Bench(const std::string& path, int chunk, int max_tokens, const CudaTuning& tuning)
      : model_(take(GgufModel::open(path))), hp_(model_->hyperparameters()), chunk_(chunk),
        max_tokens_(max_tokens), shape_{hp_.n_layers, hp_.n_kv_heads, hp_.head_dim},
        gbps_(take(cuda::copy_bytes_per_second(size_t(2) << 30)) / 1e9) {
    open(tuning);
    std::printf("%s, %s, copy %.0f GB/s (read and written)\n", path.c_str(),
                backend_->device_name().c_str(), gbps_);
    const auto pages = size_t(max_tokens_) / kKvPageTokens + 2;
    pages_.emplace(take(backend_->reserve_pages(shape_, pages)));
    table_.resize(pages);
    std::iota(table_.begin(), table_.end(), PageId{0});
    std::shuffle(table_.begin(), table_.end(), std::mt19937(1));
    fill_pages();
  }

  void decode(const std::vector<int>& depths, bool by_stages) {
    const StageBytes bytes = stage_bytes(*model_);
    std::printf("\n| depth | reading | step µs | tok/s | with host tok/s | GB | share of copy |");
    if (by_stages) std::printf(" QKV | attention | per layer | out | gate+up | down | logits | rest |");
    std::printf("\n|--:|---|--:|--:|--:|--:|--:|");
    if (by_stages) std::printf("--:|--:|--:|--:|--:|--:|--:|--:|");
    std::printf("\n");
    for (const int depth : depths) {
      for (const Reading& reading : kReadings) {
        if (reading.mode == Mode::kAbSparse && depth <= kBudget) continue;
        const double host = run(reading, depth);
        const double step = time(kAllStages);
        const double moved = bytes.sum() + attention_bytes_;
        std::printf("| %d | %s | %.1f | %.1f | %.1f | %.2f | %.0f %% |", depth, reading.name, step,
                    1e6 / step, 1e6 / host, moved / 1e9, 100 * moved / (step * 1e3) / gbps_);
        if (by_stages) print_stages(bytes);
        std::printf("\n");
        std::fflush(stdout);
      }
    }
  }

  // What the trace of attention masses costs a step, with the host.
  void trace(const std::vector<int>& depths) {
    std::printf("\n| depth | reading | µs | traced µs | cost |\n|--:|---|--:|--:|--:|\n");
    for (const int depth : depths) {
      for (const Reading& reading : {kReadings[0], kReadings[1]}) {
        if (reading.mode == Mode::kAbSparse && depth <= kBudget) continue;
        const double plain = run(reading, depth), traced = run(reading, depth, true);
        std::printf("| %d | %s | %.1f | %.1f | %.1f %% |\n", depth, reading.name, plain, traced,
                    100 * (traced / plain - 1));
        std::fflush(stdout);
      }
    }
  }

#ifdef SCHOLIA_ATTENTION_CLOCK
  // Where a sparse layer's time goes: of the last layer, the mean over CTAs and the slowest CTA.
  void clock(const std::vector<int>& depths) {
    std::printf("\n| depth | reading |");
    for (const char* part : {"begin", "wait", "queries", "team", "score", "softmax", "threshold",
                             "list", "attend", "merge"}) {
      std::printf(" %s |", part);
    }
    std::printf(" first start to last end |\n|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n");
    for (const int depth : depths) {
      for (const Reading& reading : kReadings) {
        if (reading.mode == Mode::kDense || depth <= kBudget) continue;
        run(reading, depth);
        time(kStageAttention);
        std::printf("| %d | %s |", depth, reading.name);
        print_parts();
      }
    }
  }

  void print_parts() {
    std::vector<cuda::AttentionMarks> ctas(cuda::kMarkedCtas);
    if (cuda::read_attention_marks(ctas.data()) != cudaSuccess) stop("the clock cannot be read");
    std::erase_if(ctas, [](const auto& cta) { return cta.ns[cuda::kMarkScored] == 0; });
    for (int part = 1; part < cuda::kMarks; ++part) {
      double sum = 0, most = 0;
      for (const auto& cta : ctas) {
        const double us = double(cta.ns[part] - cta.ns[part - 1]) / 1000;
        sum += us;
        most = std::max(most, us);
      }
      std::printf(" %.1f (%.1f) |", sum / double(ctas.size()), most);
    }
    const auto earlier = [](int mark) {
      return [mark](const auto& a, const auto& b) { return a.ns[mark] < b.ns[mark]; };
    };
    const auto first = std::min_element(ctas.begin(), ctas.end(), earlier(cuda::kMarkStart));
    const auto last = std::max_element(ctas.begin(), ctas.end(), earlier(cuda::kMarkEnd));
    std::printf(" %.1f |\n", double(last->ns[cuda::kMarkEnd] - first->ns[cuda::kMarkStart]) / 1000);
    std::fflush(stdout);
  }
#endif

  // What drawing a token costs, one after another in a stream.
  void sample() {
    std::vector<float> logits(static_cast<size_t>(hp_.n_vocab));
    std::normal_distribution<float> normal(0, 3);
    std::mt19937 random(4);
    for (float& x : logits) x = normal(random);
    const std::pair<const char*, cuda::SamplingStep> settings[] = {
        {"greedy", {}},
        {"top-k 40, top-p 0.95, min-p 0.05", {0.5, 0.8F, 40, 0.95F, 0.05F}},
        {"top-p 0.95", {0.5, 0.8F, 0, 0.95F, 0}}};
    cuda::DeviceBuffer d_logits = buffer(logits.size() * sizeof(float));
    cuda::DeviceBuffer d_step = buffer(sizeof(cuda::SamplingStep)), d_token = buffer(sizeof(int));
    cudaMemcpy(d_logits.as<void>(), logits.data(), d_logits.bytes(), cudaMemcpyHostToDevice);
    std::printf("\n| sampling of %d | µs |\n|---|--:|\n", hp_.n_vocab);
    for (const auto& [name, step] : settings) {
      cudaMemcpy(d_step.as<void>(), &step, sizeof step, cudaMemcpyHostToDevice);
      const cuda::SampleParams p{d_logits.as<float>(), hp_.n_vocab, d_step.as<cuda::SamplingStep>(),
                                 d_token.as<int>()};
      std::printf("| %s | %.1f |\n", name, time_launches(100, [&](cudaStream_t stream) {
                    return cuda::launch_sample(p, false, stream);
                  }));
    }
  }

  // Settings one by one, the whole step of the mixture.
  void sweep(int depth) {
    std::printf("\n| CTAs per SM | early | step µs dense at 64 | mixed at %d |\n|--:|---|--:|--:|\n",
                depth);
    const CudaTuning tunings[] = {{2, true}, {2, false}, {1, true}, {1, false}};
    for (const CudaTuning& t : tunings) {
      open(t);
      run(kReadings[0], 64);
      const double shallow = time(kAllStages);
      run(kReadings[1], depth);
      std::printf("| %d | %s | %.1f | %.1f |\n", t.ctas_per_sm, t.early ? "yes" : "no", shallow, time(kAllStages));
      std::fflush(stdout);
    }
    open({});
  }

  // One layer's attention of a prompt's chunk behind each history, by each kernel the device has.
  void prefill_attention(const std::vector<int>& histories) {
    const size_t n_values = size_t(chunk_) * size_t(hp_.n_q_heads) * size_t(hp_.head_dim);
    cuda::DeviceBuffer q = buffer(n_values * sizeof(f16)), out = buffer(n_values * sizeof(f16));
    cuda::DeviceBuffer table = buffer(table_.size() * sizeof(PageId));
    std::vector<f16> queries(n_values);
    std::normal_distribution<float> normal(0, 1);
    std::mt19937 random(5);
    for (f16& x : queries) x = f16_from_f32(normal(random));
    cudaMemcpy(q.as<void>(), queries.data(), q.bytes(), cudaMemcpyHostToDevice);
    cudaMemcpy(table.as<void>(), table_.data(), table.bytes(), cudaMemcpyHostToDevice);
    std::vector<std::pair<const char*, cuda::PrefillKernel>> kernels = {
        {"any GPU", cuda::PrefillKernel::kAnyGpu}};
    if (cuda::choose_prefill_kernel() == cuda::PrefillKernel::kHopper) {
      kernels.emplace_back("Hopper", cuda::PrefillKernel::kHopper);
    }
    std::printf("\n| history | chunk | attention | ms | TFLOP/s |\n|--:|--:|---|--:|--:|\n");
    for (const int history : histories) {
      cuda::PrefillAttentionParams p;
      p.n = chunk_;
      p.head_dim = hp_.head_dim;
      p.n_q_heads = hp_.n_q_heads;
      p.n_kv_heads = hp_.n_kv_heads;
      p.first_position = history;
      p.q = q.as<__half>();
      p.k = reinterpret_cast<const __half*>(pages_->k(0));
      p.v = reinterpret_cast<const __half*>(pages_->v(0));
      p.n_pages = int(pages_->n_pages());
      p.pages = table.as<uint32_t>();
      p.out = out.as<__half>();
      // Two products of 2 D operations for each query and each key that it sees.
      const double keys_seen = double(chunk_) * history + double(chunk_) * (chunk_ + 1) / 2;
      const double operations = 4.0 * hp_.head_dim * hp_.n_q_heads * keys_seen;
      for (const auto& [name, kernel] : kernels) {
        const double us = time_launches(1, [&, kernel = kernel](cudaStream_t stream) {
          return cuda::launch_prefill_attention(p, kernel, stream);
        });
        std::printf("| %d | %d | %s | %.3f | %.0f |\n", history, chunk_, name, us / 1000,
                    operations / (us * 1e6));
        std::fflush(stdout);
      }
    }
  }

  void prefill(const std::vector<int>& lengths) {
    std::printf("\n| prompt | chunk | s | tok/s |\n|--:|--:|--:|--:|\n");
    std::vector<Token> tokens(static_cast<size_t>(chunk_));
    std::mt19937 random(2);
    for (Token& token : tokens) token = Token(random() % uint32_t(hp_.n_vocab));
    for (const int length : lengths) {
      for (int warm = 0; warm < 2; ++warm) {
        const auto start = std::chrono::steady_clock::now();
        const int end = warm == 0 ? std::min(chunk_, length) : length;
        for (int at = 0; at < end; at += chunk_) {
          const size_t n = size_t(std::min(chunk_, end - at));
          take(backend_->prefill({std::span(tokens).first(n), {table_.data(), at},
                                  at + chunk_ >= end ? LogitRows::kLast : LogitRows::kNone, {}},
                                 *pages_, nullptr));
        }
        const double seconds = microseconds_since(start) / 1e6;
        if (warm == 1) std::printf("| %d | %d | %.3f | %.0f |\n", length, chunk_, seconds, length / seconds);
        std::fflush(stdout);
      }
    }
  }

 private:
  cuda::DeviceBuffer buffer(size_t n_bytes) {
    cuda::DeviceBuffer made;
    if (Status status = made.allocate(n_bytes, "the bench"); !status.ok()) {
      stop(status.error().message);
    }
    return made;
  }

  // µs of a launch, of n in a row; the median.
  template <typename Launch>
  double time_launches(int n, Launch launch) {
    const auto begin = take(cuda::make_event()), end = take(cuda::make_event());
    cudaStream_t opened = nullptr;
    cudaStreamCreateWithFlags(&opened, cudaStreamNonBlocking);
    const cuda::Stream stream(opened);
    std::vector<double> times;
    for (int i = 0; i < kRepetitions; ++i) {
      cudaEventRecord(begin.get(), stream.get());
      for (int at = 0; at < n; ++at) {
        if (launch(stream.get()) != cudaSuccess) stop("a launch failed");
      }
      cudaEventRecord(end.get(), stream.get());
      if (cudaEventSynchronize(end.get()) != cudaSuccess) stop("a kernel failed");
      float ms = 0;
      cudaEventElapsedTime(&ms, begin.get(), end.get());
      times.push_back(double(ms) * 1000 / n);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  void open(const CudaTuning& tuning) {
    backend_.reset();
    backend_ = take(open_cuda_backend(*model_, max_tokens_, chunk_, tuning));
  }

  void fill_pages() {
    std::normal_distribution<float> normal(0, 1);
    std::mt19937 random(3);
    std::vector<f16> block(size_t(8) << 20);
    for (f16& x : block) x = f16_from_f32(normal(random));
    const size_t total = shape_.page_bytes() / sizeof(f16) * pages_->n_pages();
    for (size_t at = 0; at < total; at += block.size()) {
      pages_->write(pages_->k(0) + at, std::min(block.size(), total - at), block.data());
    }
  }

  // Decodes some tokens at a depth; µs per token with upload, logits and host. Median.
  double run(const Reading& reading, int depth, bool is_traced = false) {
    HeadProfile profile = HeadProfile::uniform(hp_.n_layers, hp_.n_kv_heads);
    for (size_t h = 0; h < profile.block_tokens.size(); ++h) {
      profile.block_tokens[h] =
          uint16_t(reading.block_tokens != 0 ? reading.block_tokens : kBlockSizes[h % 4]);
    }
    layout_.emplace(shape_, profile);
    if (Status status = backend_->set_digest_layout(*layout_); !status.ok()) {
      stop(status.error().message);
    }
    std::vector<double> times;
    StepTrace step_trace;
    for (int i = 0; i < 20; ++i) {
      const int n = depth - 20 + i;
      const DecodePlan plan = make_decode_plan(profile, shape_, reading.mode, kBudget, n + 1);
      DecodeStep step;
      step.token = Token(i);
      step.view = {table_.data(), n};
      step.lineage = 1;
      step.plan = &plan;
      step.digest_layout = plan.reads_all ? nullptr : &*layout_;
      step.trace = is_traced ? &step_trace : nullptr;
      step.trace_mass = is_traced;
      const auto start = std::chrono::steady_clock::now();
      take(backend_->decode(step, *pages_));
      times.push_back(microseconds_since(start));
      attention_bytes_ = bytes_read(plan);
    }
    std::sort(times.begin(), times.end());
    return times[times.size() / 2];
  }

  double bytes_read(const DecodePlan& plan) const {
    double bytes = 0;
    for (const HeadPlan& head : plan.heads) {
      bytes += double(head.tokens_read(plan.n_tokens)) * double(shape_.token_bytes_per_head());
      if (head.n_selected < head.n_free()) {
        bytes += double(layout_->read_bytes(head.block_tokens, head.sink_blocks,
                                            head.first_local_block, plan.n_tokens));
      }
    }
    return bytes;
  }

  double time(unsigned stages) { return take(backend_->time_stages(stages, kRepetitions, *pages_)); }

  void print_stages(const StageBytes& bytes) {
    const double rest = time(0);
    const auto print = [&](unsigned stage, double moved) {
      const double us = time(stage) - rest;
      std::printf(" %.1f (%.0f %%) |", us, 100 * moved / (us * 1e3) / gbps_);
      return us;
    };
    print(kStageQkv, bytes.qkv);
    const double attention = print(kStageAttention, attention_bytes_);
    std::printf(" %.2f |", attention / hp_.n_layers);
    print(kStageAttentionOut, bytes.attention_out);
    print(kStageGateUp, bytes.gate_up);
    print(kStageDown, bytes.down);
    print(kStageLogits, bytes.logits);
    std::printf(" %.1f |", rest);
  }

  std::unique_ptr<GgufModel> model_;
  const Hyperparameters& hp_;
  int chunk_, max_tokens_;
  KvShape shape_;
  double gbps_;
  std::unique_ptr<CudaBackend> backend_;
  std::optional<KvPages> pages_;
  std::optional<DigestLayout> layout_;
  std::vector<PageId> table_;
  double attention_bytes_ = 0;
};

std::vector<int> numbers(const char* text, int least = 1) {
  std::vector<int> values;
  for (const char* at = text; *at != 0;) {
    char* end = nullptr;
    values.push_back(int(std::strtol(at, &end, 10)));
    at = *end == ',' ? end + 1 : end;
    if (values.back() < least) stop("numbers are expected, not " + std::string(text));
  }
  return values;
}

int run(int argc, char** argv) {
  if (argc < 2) {
    stop("usage: cuda_bench MODEL.gguf [--depths N,N] [--prefill N,N] [--chunk N] [--attention N,N] "
         "[--sweep] [--stages] [--trace] [--sample] [--clock]");
  }
  std::vector<int> depths, lengths, histories;
  int chunk = 4096;
  CudaTuning tuning;
  bool sweeps = false, by_stages = false, traces = false, samples = false, clocks = false;
  for (int i = 2; i < argc; ++i) {
    const std::string argument = argv[i];
    const bool has_value = i + 1 < argc;
    if (argument == "--sweep") sweeps = true;
    else if (argument == "--stages") by_stages = true;
    else if (argument == "--trace") traces = true;
    else if (argument == "--sample") samples = true;
    else if (argument == "--clock") clocks = true;
    else if (argument == "--ctas" && has_value) tuning.ctas_per_sm = numbers(argv[++i]).at(0);
    else if (argument == "--depths" && has_value) depths = numbers(argv[++i]);
    else if (argument == "--prefill" && has_value) lengths = numbers(argv[++i]);
    else if (argument == "--attention" && has_value) histories = numbers(argv[++i], 0);
    else if (argument == "--chunk" && has_value) chunk = numbers(argv[++i]).at(0);
    else stop("unknown argument " + argument);
  }
  int longest = 4096;
  for (const std::vector<int>* values : {&depths, &lengths, &histories}) {
    for (const int n : *values) longest = std::max(longest, n);
  }
  Bench bench(argv[1], chunk, longest + chunk, tuning);
  if (!depths.empty()) bench.decode(depths, by_stages);
#ifdef SCHOLIA_ATTENTION_CLOCK
  if (clocks) bench.clock(depths);
#else
  if (clocks) stop("--clock needs a build with SCHOLIA_ATTENTION_CLOCK");
#endif
  if (traces) bench.trace(depths);
  if (samples) bench.sample();
  if (sweeps) bench.sweep(depths.empty() ? 4096 : depths.back());
  if (!histories.empty()) bench.prefill_attention(histories);
  if (!lengths.empty()) bench.prefill(lengths);
  return 0;
}

}  // namespace
}  // namespace scholia

int main(int argc, char** argv) { return scholia::run(argc, argv); }
