// Packed matrix products (cpu_matmul.h) as nodes of a ggml graph, each with what comes before or
// after it: norm and quantise; product, bias and residual; gate, up and SwiGLU.
#pragma once

#include <ggml.h>

#include <atomic>
#include <deque>
#include <vector>

#include "backend/cpu/cpu_matmul.h"

namespace scholia {

// A packed matrix and its bias ([n_out] f32, or null).
struct Product {
  const PackedMatrix* matrix;
  const ggml_tensor* bias;
};

// The nodes of one graph. Every node hands its work out through a counter: reset() before each run.
class CpuProducts {
 public:
  // x [n, columns] f32 → records of activations.
  ggml_tensor* quantise(ggml_context* context, ActivationKind kind, ggml_tensor* x);
  // RMS norm over each column, times weight [n], then quantise.
  ggml_tensor* norm_and_quantise(ggml_context* context, ActivationKind kind, ggml_tensor* x,
                                 ggml_tensor* weight, float eps);
  // Products of the same activations, one below the other: [sum of n_out, columns]; plus residual
  // (same shape) when it is not null.
  ggml_tensor* multiply(ggml_context* context, std::vector<Product> products, ggml_tensor* records,
                        ggml_tensor* residual = nullptr);
  // silu(gate) * up: [n_out, columns]
  ggml_tensor* gated(ggml_context* context, const PackedMatrix& gate, const PackedMatrix& up,
                     ggml_tensor* records);

  void reset();
  void clear() { nodes_.clear(); }

 private:
  struct Node {
    std::vector<Product> products;
    ActivationKind kind = ActivationKind::kQ8_0;
    float eps = 0;
    std::atomic<int> next{0};
  };
  static void run_quantise(ggml_tensor* dst, int ith, int nth, void* node);
  static void run_norm_and_quantise(ggml_tensor* dst, int ith, int nth, void* node);
  static void run_multiply(ggml_tensor* dst, int ith, int nth, void* node);
  static void run_gated(ggml_tensor* dst, int ith, int nth, void* node);

  Node& add_node() { return nodes_.emplace_back(); }

  std::deque<Node> nodes_;  // addresses stay
};

}  // namespace scholia
