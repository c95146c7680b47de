#include "backend/cpu/cpu_backend_products.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "backend/cpu/cpu_ops.h"

namespace scholia {
namespace {

constexpr int kRows = 16;             // of a panel
constexpr int kPartsPerThread = 8;    // of a product: small enough to end together
constexpr int kMaxSources = 3;

float* floats(ggml_tensor* tensor) { return static_cast<float*>(tensor->data); }
const float* floats(const ggml_tensor* tensor) { return static_cast<const float*>(tensor->data); }
uint8_t* bytes(ggml_tensor* tensor) { return static_cast<uint8_t*>(tensor->data); }

const float* column(const ggml_tensor* tensor, int64_t c) {
  return reinterpret_cast<const float*>(static_cast<const uint8_t*>(tensor->data) +
                                        size_t(c) * tensor->nb[1]);
}

// Eight partial sums, so that additions need not wait for each other. n is a multiple of 8.
double sum_of_squares(const float* x, size_t n) {
  double partial[8] = {};
  for (size_t i = 0; i < n; i += 8) {
    for (size_t lane = 0; lane < 8; ++lane) partial[lane] += double(x[i + lane]) * x[i + lane];
  }
  double sum = 0;
  for (const double p : partial) sum += p;
  return sum;
}

// Columns of this thread in a node that goes column by column.
template <typename Function>
void for_my_columns(const ggml_tensor* dst, int ith, int nth, Function run) {
  for (int64_t c = dst->ne[1] * ith / nth; c < dst->ne[1] * (ith + 1) / nth; ++c) run(c);
}

ggml_tensor* custom(ggml_context* context, ggml_type type, int64_t ne0, int64_t ne1,
                    std::array<ggml_tensor*, kMaxSources> sources, ggml_custom_op_t run,
                    void* node) {
  const auto n = std::find(sources.begin(), sources.end(), nullptr) - sources.begin();
  return ggml_custom_4d(context, type, ne0, ne1, 1, 1, sources.data(), static_cast<int>(n), run,
                        GGML_N_TASKS_MAX, node);
}

}  // namespace

ggml_tensor* CpuProducts::quantise(ggml_context* context, ActivationKind kind, ggml_tensor* x) {
  Node& node = add_node();
  node.kind = kind;
  return custom(context, GGML_TYPE_I8, static_cast<int64_t>(activation_bytes(x->ne[0])), x->ne[1],
                {x}, run_quantise, &node);
}

void CpuProducts::run_quantise(ggml_tensor* dst, int ith, int nth, void* node) {
  const ActivationKind kind = static_cast<Node*>(node)->kind;
  const ggml_tensor* x = dst->src[0];
  for_my_columns(dst, ith, nth, [&](int64_t c) {
    quantise_activations(kind, column(x, c), x->ne[0], bytes(dst) + c * dst->ne[0]);
  });
}

ggml_tensor* CpuProducts::norm_and_quantise(ggml_context* context, ActivationKind kind,
                                            ggml_tensor* x, ggml_tensor* weight, float eps) {
  Node& node = add_node();
  node.kind = kind;
  node.eps = eps;
  return custom(context, GGML_TYPE_I8, static_cast<int64_t>(activation_bytes(x->ne[0])), x->ne[1],
                {x, weight}, run_norm_and_quantise, &node);
}

void CpuProducts::run_norm_and_quantise(ggml_tensor* dst, int ith, int nth, void* node_pointer) {
  const Node& node = *static_cast<Node*>(node_pointer);
  const ggml_tensor* x = dst->src[0];
  const float* weight = floats(dst->src[1]);
  const auto n = static_cast<size_t>(x->ne[0]);
  std::vector<float> normed(n);
  for_my_columns(dst, ith, nth, [&](int64_t c) {
    const float* values = column(x, c);
    const float mean = static_cast<float>(sum_of_squares(values, n) / static_cast<double>(n));
    const float scale = 1 / std::sqrt(mean + node.eps);
    for (size_t i = 0; i < n; ++i) normed[i] = values[i] * scale * weight[i];
    quantise_activations(node.kind, normed.data(), x->ne[0], bytes(dst) + c * dst->ne[0]);
  });
}

ggml_tensor* CpuProducts::multiply(ggml_context* context, std::vector<Product> products,
                                   ggml_tensor* records, ggml_tensor* residual) {
  int64_t n_out = 0;
  for (const Product& product : products) n_out += product.matrix->n_out();
  Node& node = add_node();
  node.products = std::move(products);
  return custom(context, GGML_TYPE_F32, n_out, records->ne[1], {records, residual}, run_multiply,
                &node);
}

void CpuProducts::run_multiply(ggml_tensor* dst, int /*ith*/, int nth, void* node_pointer) {
  Node& node = *static_cast<Node*>(node_pointer);
  const ggml_tensor* residual = dst->src[1];
  const auto n_out = static_cast<size_t>(dst->ne[0]);
  const int n_columns = static_cast<int>(dst->ne[1]);
  const int n_panels = static_cast<int>(n_out / kRows);
  const int part = std::max(1, n_panels / (nth * kPartsPerThread));
  for (;;) {
    const int begin = node.next.fetch_add(part, std::memory_order_relaxed);
    if (begin >= n_panels) return;
    const int end = std::min(begin + part, n_panels);
    // The part's panels may lie in several matrices.
    int first = 0;  // panel of dst at which the matrix begins
    for (const Product& product : node.products) {
      const int last = first + product.matrix->n_panels();
      const int from = std::max(begin, first), to = std::min(end, last);
      if (from < to) {
        float* out = floats(dst) + size_t(from) * kRows;
        product.matrix->multiply(bytes(dst->src[0]), n_columns, from - first, to - first, out,
                                 n_out);
        if (product.bias != nullptr) {
          const float* bias = floats(product.bias) + size_t(from - first) * kRows;
          for (int c = 0; c < n_columns; ++c) {
            for (int row = 0; row < (to - from) * kRows; ++row) out[c * n_out + row] += bias[row];
          }
        }
      }
      first = last;
    }
    if (residual == nullptr) continue;
    for (int c = 0; c < n_columns; ++c) {
      const float* add = column(residual, c);
      float* out = floats(dst) + c * n_out;
      for (int row = begin * kRows; row < end * kRows; ++row) out[row] += add[row];
    }
  }
}

ggml_tensor* CpuProducts::gated(ggml_context* context, const PackedMatrix& gate,
                                const PackedMatrix& up, ggml_tensor* records) {
  Node& node = add_node();
  node.products = {{&gate, nullptr}, {&up, nullptr}};
  return custom(context, GGML_TYPE_F32, gate.n_out(), records->ne[1], {records}, run_gated, &node);
}

void CpuProducts::run_gated(ggml_tensor* dst, int /*ith*/, int nth, void* node_pointer) {
  Node& node = *static_cast<Node*>(node_pointer);
  const auto n_out = static_cast<size_t>(dst->ne[0]);
  const int n_columns = static_cast<int>(dst->ne[1]);
  const int n_panels = static_cast<int>(n_out / kRows);
  const int part = std::max(1, n_panels / (nth * kPartsPerThread));
  const int n_rows = part * kRows;
  std::vector<float> gate(size_t(n_rows) * n_columns), minus(n_rows), exponential(n_rows);
  for (;;) {
    const int begin = node.next.fetch_add(part, std::memory_order_relaxed);
    if (begin >= n_panels) return;
    const int end = std::min(begin + part, n_panels);
    const int rows = (end - begin) * kRows;
    node.products[0].matrix->multiply(bytes(dst->src[0]), n_columns, begin, end, gate.data(),
                                      n_rows);
    node.products[1].matrix->multiply(bytes(dst->src[0]), n_columns, begin, end,
                                      floats(dst) + size_t(begin) * kRows, n_out);
    for (int c = 0; c < n_columns; ++c) {
      const float* g = gate.data() + size_t(c) * n_rows;
      float* out = floats(dst) + c * n_out + size_t(begin) * kRows;
      for (int r = 0; r < rows; ++r) minus[r] = -g[r];
      exp_f32(minus.data(), exponential.data(), rows);
      for (int r = 0; r < rows; ++r) out[r] *= g[r] / (1 + exponential[r]);
    }
  }
}

void CpuProducts::reset() {
  for (Node& node : nodes_) node.next.store(0, std::memory_order_relaxed);
}

}  // namespace scholia
