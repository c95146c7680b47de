#include "backend/cuda/cuda_weights.h"

#include <algorithm>
#include <array>
#include <optional>

#include "backend/cuda/kernels/weights.cuh"

namespace scholia::cuda {
namespace {

constexpr size_t kStagingBytes = 64 << 20;
constexpr size_t kPlaneAlignment = 256;

std::optional<WeightFormat> format_of(ggml_type type) {
  switch (type) {
    case GGML_TYPE_F32: return WeightFormat::kF32;
    case GGML_TYPE_F16: return WeightFormat::kF16;
    case GGML_TYPE_BF16: return WeightFormat::kBf16;
    case GGML_TYPE_Q8_0: return WeightFormat::kQ8_0;
    case GGML_TYPE_Q4_0: return WeightFormat::kQ4_0;
    case GGML_TYPE_Q4_1: return WeightFormat::kQ4_1;
    case GGML_TYPE_Q5_0: return WeightFormat::kQ5_0;
    case GGML_TYPE_Q5_1: return WeightFormat::kQ5_1;
    case GGML_TYPE_Q4_K: return WeightFormat::kQ4_K;
    case GGML_TYPE_Q5_K: return WeightFormat::kQ5_K;
    case GGML_TYPE_Q6_K: return WeightFormat::kQ6_K;
    default: return std::nullopt;
  }
}

size_t aligned(size_t n) { return (n + kPlaneAlignment - 1) / kPlaneAlignment * kPlaneAlignment; }

}  // namespace

// Takes weights of the file one by one; after the first failure the rest are skipped.
class CudaWeights::Loader {
 public:
  Loader(const GgufModel& model, CudaWeights& weights, cudaStream_t stream)
      : model_(model), weights_(weights), stream_(stream) {
    fail(staging_.allocate(kStagingBytes, "loading weights"));
  }

  const Status& status() const { return status_; }

  DeviceMatrix matrix(const std::string& name, int n_in, int n_out) {
    const WeightView* weight = find(name, n_in, n_out);
    DeviceMatrix matrix;
    if (weight == nullptr || !reserve(*weight, n_out, matrix)) return {};
    fill(*weight, matrix, 0, 1);
    return matrix;
  }

  // Two matrices of one format as one whose rows are theirs in turn; none where formats differ.
  DeviceMatrix pairs(const std::string& first, const std::string& second, int n_in, int n_out) {
    const WeightView* a = find(first, n_in, n_out);
    const WeightView* b = find(second, n_in, n_out);
    DeviceMatrix matrix;
    if (a == nullptr || b == nullptr || a->type != b->type) return {};
    if (!reserve(*a, 2 * n_out, matrix)) return {};
    fill(*a, matrix, 0, 2);
    fill(*b, matrix, 1, 2);
    return matrix;
  }

  const float* vector(const std::string& name, int n) {
    const WeightView* weight = find(name, n, 1);
    if (weight == nullptr) return nullptr;
    if (weight->type != GGML_TYPE_F32) {
      fail(Error{ErrorCode::kModelUnsupported, "The tensor " + name + " is not of type f32."});
      return nullptr;
    }
    uint8_t* to = reserve_bytes(weight->bytes);
    if (to == nullptr) return nullptr;
    fail(check(cudaMemcpy(to, weight->data, weight->bytes, cudaMemcpyHostToDevice),
               "loading weights"));
    return reinterpret_cast<const float*>(to);
  }

  const float* optional_vector(const std::string& name, int n) {
    return model_.find(name) == nullptr ? nullptr : vector(name, n);
  }

 private:
  void fail(const Status& status) {
    if (status_.ok() && !status.ok()) status_ = status;
  }

  const WeightView* find(const std::string& name, int n_in, int n_out) {
    if (!status_.ok()) return nullptr;
    const auto weight = model_.require(name, {n_in, n_out});
    if (weight.ok()) return weight.value();
    fail(weight.error());
    return nullptr;
  }

  uint8_t* reserve_bytes(size_t n) {
    if (!status_.ok()) return nullptr;
    DeviceBuffer buffer;
    fail(buffer.allocate(n, "the model's weights"));
    if (!status_.ok()) return nullptr;
    weights_.buffers_.push_back(std::move(buffer));
    return weights_.buffers_.back().as<uint8_t>();
  }

  // Room for the planes of a matrix of this weight's type.
  bool reserve(const WeightView& weight, int n_rows, DeviceMatrix& matrix) {
    const auto format = format_of(weight.type);
    if (!format || weight.shape[0] % kUnitWeights != 0) {
      fail(Error{ErrorCode::kModelUnsupported,
                 "The tensor " + weight.name + " is of type " + ggml_type_name(weight.type) +
                     " with rows of " + std::to_string(weight.shape[0]) +
                     ", which the GPU cannot multiply. Use --device cpu."});
      return false;
    }
    matrix.format = *format;
    matrix.n_rows = n_rows;
    matrix.n_cols = static_cast<int>(weight.shape[0]);
    const PlaneBytes b = plane_bytes(*format);
    const size_t units = size_t(n_rows) * matrix.n_units(), supers = units / kSuperUnits;
    const size_t codes = aligned(units * b.codes), high = aligned(units * b.high);
    const size_t scales = aligned(units * b.scales);
    uint8_t* at = reserve_bytes(codes + high + scales + aligned(supers * b.supers));
    if (at == nullptr) return false;
    matrix.codes = at;
    matrix.high = at + codes;
    matrix.scales = at + codes + high;
    matrix.supers = at + codes + high + scales;
    return true;
  }

  // Rows of the file to rows first, first + step, … in pieces that the staging room holds.
  void fill(const WeightView& weight, const DeviceMatrix& matrix, int first, int step) {
    const size_t row_bytes = ggml_row_size(weight.type, weight.shape[0]);
    const int n_rows = static_cast<int>(weight.shape[1]);
    const int piece = static_cast<int>(std::min<size_t>(kStagingBytes / row_bytes, n_rows));
    for (int row = 0; row < n_rows && status_.ok(); row += piece) {
      const int n = std::min(piece, n_rows - row);
      const auto* from = static_cast<const uint8_t*>(weight.data) + size_t(row) * row_bytes;
      fail(check(cudaMemcpyAsync(staging_.as<void>(), from, size_t(n) * row_bytes,
                                 cudaMemcpyHostToDevice, stream_),
                 "loading weights"));
      RepackParams repack;
      repack.file_rows = staging_.as<uint8_t>();
      repack.to = matrix;
      repack.n_rows = n;
      repack.first_row = first + row * step;
      repack.row_step = step;
      fail(check(launch_repack(repack, stream_), "loading weights"));
      fail(check(cudaStreamSynchronize(stream_), "loading weights"));
    }
  }

  const GgufModel& model_;
  CudaWeights& weights_;
  cudaStream_t stream_;
  DeviceBuffer staging_;
  Status status_;
};

Result<CudaWeights> CudaWeights::load(const GgufModel& model, cudaStream_t stream) {
  const Hyperparameters& hp = model.hyperparameters();
  const int n_q = hp.n_q_heads * hp.head_dim, n_kv = hp.n_kv_heads * hp.head_dim;
  CudaWeights weights;
  Loader loader(model, weights, stream);
  weights.token_embedding = loader.matrix("token_embd.weight", hp.n_embd, hp.n_vocab);
  weights.output_norm = loader.vector("output_norm.weight", hp.n_embd);
  weights.output = model.find("output.weight") == nullptr
                       ? weights.token_embedding
                       : loader.matrix("output.weight", hp.n_embd, hp.n_vocab);
  weights.rope_factors = loader.optional_vector("rope_freqs.weight", hp.rope.n_dims / 2);
  for (int layer = 0; layer < hp.n_layers && loader.status().ok(); ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const bool has_qk_norm = hp.architecture == Architecture::kQwen3;
    CudaLayer l{};
    l.attn_norm = loader.vector(prefix + "attn_norm.weight", hp.n_embd);
    l.wq = loader.matrix(prefix + "attn_q.weight", hp.n_embd, n_q);
    l.wk = loader.matrix(prefix + "attn_k.weight", hp.n_embd, n_kv);
    l.wv = loader.matrix(prefix + "attn_v.weight", hp.n_embd, n_kv);
    l.bq = loader.optional_vector(prefix + "attn_q.bias", n_q);
    l.bk = loader.optional_vector(prefix + "attn_k.bias", n_kv);
    l.bv = loader.optional_vector(prefix + "attn_v.bias", n_kv);
    if (has_qk_norm) {
      l.q_norm = loader.vector(prefix + "attn_q_norm.weight", hp.head_dim);
      l.k_norm = loader.vector(prefix + "attn_k_norm.weight", hp.head_dim);
    }
    l.wo = loader.matrix(prefix + "attn_output.weight", n_q, hp.n_embd);
    l.bo = loader.optional_vector(prefix + "attn_output.bias", hp.n_embd);
    l.ffn_norm = loader.vector(prefix + "ffn_norm.weight", hp.n_embd);
    l.gate_up = loader.pairs(prefix + "ffn_gate.weight", prefix + "ffn_up.weight", hp.n_embd,
                             hp.n_ff);
    if (!l.has_pairs()) {
      l.gate = loader.matrix(prefix + "ffn_gate.weight", hp.n_embd, hp.n_ff);
      l.up = loader.matrix(prefix + "ffn_up.weight", hp.n_embd, hp.n_ff);
    }
    l.down = loader.matrix(prefix + "ffn_down.weight", hp.n_ff, hp.n_embd);
    weights.layers.push_back(l);
  }
  if (!loader.status().ok()) return loader.status().error();
  return weights;
}

uint64_t CudaWeights::bytes() const {
  uint64_t n = 0;
  for (const DeviceBuffer& buffer : buffers_) n += buffer.bytes();
  return n;
}

uint64_t CudaWeights::stage_bytes(DecodeStage stage, int layer) const {
  const CudaLayer& l = layers[size_t(layer)];
  const auto sum = [](std::initializer_list<const DeviceMatrix*> matrices) {
    uint64_t n = 0;
    for (const DeviceMatrix* m : matrices) n += m->bytes();
    return n;
  };
  switch (stage) {
    case DecodeStage::kAttentionIn: return sum({&l.wq, &l.wk, &l.wv});
    case DecodeStage::kAttentionOut: return sum({&l.wo});
    case DecodeStage::kFeedForward: return sum({&l.gate_up, &l.gate, &l.up, &l.down});
    case DecodeStage::kLogits: return sum({&output});
    case DecodeStage::kEmbed:
    case DecodeStage::kAttend: return 0;
  }
  return 0;
}

size_t CudaWeights::largest_layer_matrix() const {
  size_t most = 0;
  for (const CudaLayer& l : layers) {
    for (const DeviceMatrix* m : {&l.wq, &l.wk, &l.wv, &l.wo, &l.gate_up, &l.gate, &l.up, &l.down}) {
      most = std::max(most, size_t(m->n_rows) * m->n_cols);
    }
  }
  return most;
}

}  // namespace scholia::cuda
