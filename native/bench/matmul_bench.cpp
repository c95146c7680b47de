// Speed of matrix products on the CPU: ours (cpu_matmul.h) beside ggml's, on the weights of a real
// model, through the same thread pool. Prints a Markdown table.
//
//   matmul_bench MODEL.gguf [threads...]
//
// A measurement multiplies every layer's matrix of one name and type in turn, so the weights come
// from memory as they do in decode. Both sides quantise the activations each time. The fastest of
// 11 interleaved runs counts, because a busy machine only ever adds time.
#include <ggml-alloc.h>
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "backend/cpu/cpu_backend_ggml.h"
#include "backend/cpu/cpu_backend_products.h"
#include "engine/engine.h"
#include "engine/model/gguf_model.h"

namespace scholia {
namespace {

constexpr int kRepetitions = 11;

struct ContextCloser {
  void operator()(ggml_context* context) const { ggml_free(context); }
};
struct BufferCloser {
  void operator()(ggml_backend_buffer_t buffer) const { ggml_backend_buffer_free(buffer); }
};
struct AllocatorCloser {
  void operator()(ggml_gallocr_t allocator) const { ggml_gallocr_free(allocator); }
};
using Context = std::unique_ptr<ggml_context, ContextCloser>;
using Buffer = std::unique_ptr<ggml_backend_buffer, BufferCloser>;

Context new_context() { return Context(ggml_init({size_t(1) << 20, nullptr, true})); }

// The layers' matrices of one name and type.
using Weights = std::vector<const WeightView*>;

// ggml's weights: in the buffer type that multiplies fastest, as libllama chooses it.
struct GgmlWeights {
  GgmlWeights(const GgmlCpu& cpu, const Weights& weights) : context(new_context()) {
    for (const WeightView* weight : weights) {
      ggml_tensor* tensor =
          ggml_new_tensor_2d(context.get(), weight->type, weight->shape[0], weight->shape[1]);
      ggml_backend_buffer_type_t chosen = cpu.buffer_type();
      for (ggml_backend_buffer_type_t type : cpu.repacking_buffer_types()) {
        Context trial = new_context();
        ggml_tensor* columns =
            ggml_new_tensor_2d(trial.get(), GGML_TYPE_F32, weight->shape[0], 512);
        Buffer none(ggml_backend_buft_alloc_buffer(type, 0));
        tensor->buffer = none.get();
        const bool fits =
            ggml_backend_dev_supports_op(cpu.device(), ggml_mul_mat(trial.get(), tensor, columns));
        tensor->buffer = nullptr;
        if (fits) {
          chosen = type;
          repacked = true;
          break;
        }
      }
      Buffer buffer(
          ggml_backend_buft_alloc_buffer(chosen, ggml_backend_buft_get_alloc_size(chosen, tensor)));
      ggml_backend_tensor_alloc(buffer.get(), tensor, ggml_backend_buffer_get_base(buffer.get()));
      ggml_backend_tensor_set(tensor, weight->data, 0, weight->bytes);
      buffers.push_back(std::move(buffer));
      tensors.push_back(tensor);
    }
  }
  Context context;
  std::vector<Buffer> buffers;
  std::vector<ggml_tensor*> tensors;
  bool repacked = false;
};

// Of all threads, which spin while they wait: what they would need on a machine of their own.
double processor_seconds() {
  timespec t;
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

// A graph with its input and its memory.
class Products {
 public:
  Products(GgmlCpu& cpu, int64_t n_in, int n_columns) : cpu_(cpu), context_(new_context()) {
    x_ = ggml_new_tensor_2d(context_.get(), GGML_TYPE_F32, n_in, n_columns);
    ggml_set_input(x_);
    graph_ = ggml_new_graph(context_.get());
  }
  ggml_context* context() const { return context_.get(); }
  ggml_tensor* x() const { return x_; }
  CpuProducts& packed() { return packed_; }
  void add(ggml_tensor* product) { ggml_build_forward_expand(graph_, product); }
  void allocate() {
    allocator_.reset(ggml_gallocr_new(cpu_.buffer_type()));
    ggml_gallocr_alloc_graph(allocator_.get(), graph_);
    std::vector<float> values(ggml_nelements(x_));
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    for (float& value : values) value = normal(random);
    std::memcpy(x_->data, values.data(), values.size() * sizeof(float));
  }
  double seconds() {
    packed_.reset();
    const double start = processor_seconds();
    if (!cpu_.compute(graph_, nullptr).ok()) std::abort();
    return (processor_seconds() - start) / cpu_.n_threads();
  }

 private:
  GgmlCpu& cpu_;
  Context context_;
  ggml_tensor* x_;
  ggml_cgraph* graph_;
  std::unique_ptr<ggml_gallocr, AllocatorCloser> allocator_;
  CpuProducts packed_;
};

double fastest(const std::vector<double>& times) {
  return *std::min_element(times.begin(), times.end());
}

struct Rate {
  double gflops, gbytes;  // bytes of the weights as the file has them
};

void bench(GgmlCpu& cpu, const std::string& name, const Weights& weights, int n_columns) {
  const WeightView& one = *weights.front();
  const GgmlWeights ggml_weights(cpu, weights);
  std::vector<PackedMatrix> matrices;
  for (const WeightView* weight : weights) {
    matrices.emplace_back(*weight);
    matrices.back().pack(*weight, 0, matrices.back().n_panels());
  }
  Products ours(cpu, one.shape[0], n_columns), theirs(cpu, one.shape[0], n_columns);
  for (const PackedMatrix& matrix : matrices) {
    ggml_tensor* records = ours.packed().quantise(ours.context(), matrix.activations(), ours.x());
    ours.add(ours.packed().multiply(ours.context(), {{&matrix, nullptr}}, records));
  }
  for (ggml_tensor* tensor : ggml_weights.tensors) {
    theirs.add(ggml_mul_mat(theirs.context(), tensor, theirs.x()));
  }
  ours.allocate();
  theirs.allocate();
  ours.seconds(), theirs.seconds();
  std::vector<double> our_times, their_times;
  for (int i = 0; i < kRepetitions; i++) {  // interleaved: a busy moment hits both
    our_times.push_back(ours.seconds());
    their_times.push_back(theirs.seconds());
  }
  const auto rate = [&](double seconds) {
    const double n = double(weights.size());
    return Rate{2 * n * double(one.shape[0] * one.shape[1]) * n_columns / seconds / 1e9,
                n * double(one.bytes) / seconds / 1e9};
  };
  const double our_time = fastest(our_times), their_time = fastest(their_times);
  const Rate our_rate = rate(our_time), their_rate = rate(their_time);
  std::printf("| %s %s%s | %d × %d | %d | %d | %.0f | %.1f | %.0f | %.1f | %.2f |\n", name.c_str(),
              ggml_type_name(one.type), ggml_weights.repacked ? ", repacked by ggml" : "",
              int(one.shape[0]), int(one.shape[1]), n_columns, cpu.n_threads(), their_rate.gflops,
              their_rate.gbytes, our_rate.gflops, our_rate.gbytes, their_time / our_time);
  std::fflush(stdout);
}

int run(int argc, char** argv) {
  if (argc < 2) {
    std::fprintf(stderr, "Usage: matmul_bench MODEL.gguf [threads...]\n");
    return 2;
  }
  initialise_libraries(SCHOLIA_LIBRARY_DIR, [](int, std::string_view) {});
  auto model = GgufModel::open(argv[1]);
  if (!model.ok()) {
    std::fprintf(stderr, "%s\n", model.error().message.c_str());
    return 1;
  }
  std::map<std::string, Weights> groups;  // by name and type
  const auto take = [&](const std::string& group, const std::string& name) {
    const WeightView* weight = model.value()->find(name);
    if (weight == nullptr) return;
    if (!PackedMatrix::fits(*weight)) {
      std::printf("%s: type %s is left to ggml\n", name.c_str(), ggml_type_name(weight->type));
      return;
    }
    groups[group + " " + ggml_type_name(weight->type)].push_back(weight);
  };
  for (int layer = 0; layer < model.value()->hyperparameters().n_layers; layer++) {
    for (const char* name : {"attn_q", "attn_k", "attn_v", "ffn_up", "ffn_down"}) {
      take(name, "blk." + std::to_string(layer) + "." + name + ".weight");
    }
  }
  take("output", "output.weight");
  if (model.value()->find("output.weight") == nullptr) take("output", "token_embd.weight");

  std::vector<int> threads;
  for (int i = 2; i < argc; i++) threads.push_back(std::max(1, std::atoi(argv[i])));
  if (threads.empty()) threads = {1, 2};
  std::printf(
      "| weights | shape | columns | threads | ggml GFLOP/s | ggml GB/s | ours GFLOP/s | ours GB/s "
      "| speed-up |\n| --- | --- | --- | --- | --- | --- | --- | --- | --- |\n");
  for (int n_threads : threads) {
    auto cpu = GgmlCpu::open(n_threads);
    if (!cpu.ok()) {
      std::fprintf(stderr, "%s\n", cpu.error().message.c_str());
      return 1;
    }
    for (int n_columns : {1, 512}) {
      for (const auto& [group, weights] : groups) {
        if (n_columns > 1 && weights.front()->shape[1] > 100000) continue;  // never in prefill
        bench(cpu.value(), group.substr(0, group.find(' ')), weights, n_columns);
      }
    }
  }
  return 0;
}

}  // namespace
}  // namespace scholia

int main(int argc, char** argv) { return scholia::run(argc, argv); }
