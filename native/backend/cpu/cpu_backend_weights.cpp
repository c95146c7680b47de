#include "backend/cpu/cpu_backend_weights.h"

#include <array>
#include <thread>

namespace scholia {
namespace {

constexpr size_t kMaxTensorsPerLayer = 16;

// Does the device multiply a matrix of this type when it lies in this buffer type?
bool multiplies(const GgmlCpu& cpu, ggml_backend_buffer_type_t buffer_type,
                const WeightView& weight) {
  const ggml_init_params params{ggml_tensor_overhead() * 4, nullptr, /*no_alloc=*/true};
  ggml_context* context = ggml_init(params);
  ggml_tensor* matrix =
      ggml_new_tensor_2d(context, weight.type, weight.shape[0], weight.shape[1]);
  ggml_tensor* columns = ggml_new_tensor_2d(context, GGML_TYPE_F32, weight.shape[0], 512);
  ggml_tensor* product = ggml_mul_mat(context, matrix, columns);
  matrix->buffer = ggml_backend_buft_alloc_buffer(buffer_type, 0);
  const bool supported = ggml_backend_dev_supports_op(cpu.device(), product);
  ggml_backend_buffer_free(matrix->buffer);
  ggml_free(context);
  return supported;
}

// A matrix of the file and the packed one to fill.
struct Packing {
  PackedMatrix* matrix;
  const WeightView* weight;
};

// Fills the panels of all matrices on several threads.
void pack_all(const std::vector<Packing>& packings, int n_threads) {
  const auto work = [&](int thread) {
    for (const Packing& packing : packings) {
      const int n = packing.matrix->n_panels();
      packing.matrix->pack(*packing.weight, n * thread / n_threads, n * (thread + 1) / n_threads);
    }
  };
  std::vector<std::thread> threads;
  for (int thread = 1; thread < n_threads; ++thread) threads.emplace_back(work, thread);
  work(0);
  for (std::thread& thread : threads) thread.join();
}

const char* const kMatrices[] = {"attn_q",   "attn_k", "attn_v",  "attn_output",
                                 "ffn_gate", "ffn_up", "ffn_down"};

std::string layer_weight(int layer, const std::string& name) {
  return "blk." + std::to_string(layer) + "." + name + ".weight";
}

const WeightView* output_weight(const GgufModel& model) {
  // Models with tied embeddings have no output matrix of their own.
  const WeightView* output = model.find("output.weight");
  return output != nullptr ? output : model.find("token_embd.weight");
}

}  // namespace

bool CpuWeights::all_fit(const GgufModel& model) {
  const auto fits = [](const WeightView* weight) {
    return weight != nullptr && PackedMatrix::fits(*weight);
  };
  if (!packed_matmul_available() || !fits(output_weight(model))) return false;
  const auto activations = [&](int layer, const char* name) {
    return packed_format(model.find(layer_weight(layer, name))->type)->activations;
  };
  for (int layer = 0; layer < model.hyperparameters().n_layers; ++layer) {
    for (const char* name : kMatrices) {
      if (!fits(model.find(layer_weight(layer, name)))) return false;
    }
    // Products of the same activations are one node, so they must want them quantised alike.
    if (activations(layer, "attn_q") != activations(layer, "attn_k") ||
        activations(layer, "attn_q") != activations(layer, "attn_v") ||
        activations(layer, "ffn_gate") != activations(layer, "ffn_up")) {
      return false;
    }
  }
  return true;
}

Status CpuWeights::pack(const GgufModel& model, int n_threads) {
  const Hyperparameters& hp = model.hyperparameters();
  const int64_t n_q = int64_t(hp.n_q_heads) * hp.head_dim;
  const int64_t n_kv = int64_t(hp.n_kv_heads) * hp.head_dim;
  const std::array<int64_t, 2> shapes[] = {
      {hp.n_embd, n_q},      {hp.n_embd, n_kv}, {hp.n_embd, n_kv}, {n_q, hp.n_embd},
      {hp.n_embd, hp.n_ff},  {hp.n_embd, hp.n_ff}, {hp.n_ff, hp.n_embd}};
  std::vector<Packing> packings;
  packed_layers.reserve(static_cast<size_t>(hp.n_layers));
  for (int layer = 0; layer < hp.n_layers; ++layer) {
    std::array<const WeightView*, std::size(kMatrices)> weights;
    for (size_t i = 0; i < weights.size(); ++i) {
      const auto weight = model.require(layer_weight(layer, kMatrices[i]), shapes[i]);
      if (!weight.ok()) return weight.error();
      weights[i] = weight.value();
    }
    packed_layers.push_back({PackedMatrix(*weights[0]), PackedMatrix(*weights[1]),
                             PackedMatrix(*weights[2]), PackedMatrix(*weights[3]),
                             PackedMatrix(*weights[4]), PackedMatrix(*weights[5]),
                             PackedMatrix(*weights[6])});
    PackedLayer& packed = packed_layers.back();
    PackedMatrix* const matrices[] = {&packed.wq,       &packed.wk,     &packed.wv,      &packed.wo,
                                      &packed.ffn_gate, &packed.ffn_up, &packed.ffn_down};
    for (size_t i = 0; i < weights.size(); ++i) packings.push_back({matrices[i], weights[i]});
  }
  const auto output = model.require(output_weight(model)->name, {hp.n_embd, hp.n_vocab});
  if (!output.ok()) return output.error();
  packed_output.emplace(*output.value());
  packings.push_back({&*packed_output, output.value()});
  pack_all(packings, n_threads);
  for (const Packing& packing : packings) bytes_ += packing.matrix->bytes();
  return {};
}

ggml_tensor* CpuWeights::in_place(const WeightView& weight) {
  ggml_tensor* tensor =
      ggml_new_tensor_2d(context_.get(), weight.type, weight.shape[0], weight.shape[1]);
  ggml_set_name(tensor, weight.name.c_str());
  ggml_backend_tensor_alloc(file_buffer_.get(), tensor, const_cast<void*>(weight.data));
  bytes_ += weight.bytes;
  return tensor;
}

Result<ggml_tensor*> CpuWeights::vector(const GgufModel& model, const std::string& name,
                                        int64_t n) {
  const auto weight = model.require(name, {n, 1});
  if (!weight.ok()) return weight.error();
  if (weight.value()->type != GGML_TYPE_F32) {
    return Error{ErrorCode::kModelUnsupported, "The tensor " + name + " is not of type f32."};
  }
  return in_place(*weight.value());
}

ggml_tensor* CpuWeights::optional_vector(const GgufModel& model, const std::string& name,
                                         int64_t n) {
  if (model.find(name) == nullptr) return nullptr;
  const auto tensor = vector(model, name, n);
  return tensor.ok() ? tensor.value() : nullptr;
}

Result<ggml_tensor*> CpuWeights::rows(const GgufModel& model, const std::string& name, int64_t n_in,
                                      int64_t n_out) {
  const auto weight = model.require(name, {n_in, n_out});
  if (!weight.ok()) return weight.error();
  return in_place(*weight.value());
}

Result<ggml_tensor*> CpuWeights::matrix(const GgufModel& model, const GgmlCpu& cpu,
                                        const std::string& name, int64_t n_in, int64_t n_out) {
  const auto found = model.require(name, {n_in, n_out});
  if (!found.ok()) return found.error();
  const WeightView& weight = *found.value();
  for (ggml_backend_buffer_type_t type : cpu.repacking_buffer_types()) {
    if (!multiplies(cpu, type, weight)) continue;
    ggml_tensor* tensor = ggml_new_tensor_2d(context_.get(), weight.type, n_in, n_out);
    ggml_set_name(tensor, name.c_str());
    Buffer buffer(
        ggml_backend_buft_alloc_buffer(type, ggml_backend_buft_get_alloc_size(type, tensor)));
    if (!buffer) {
      return Error{ErrorCode::kOutOfMemory, "Not enough memory for the model's weights."};
    }
    ggml_backend_tensor_alloc(buffer.get(), tensor, ggml_backend_buffer_get_base(buffer.get()));
    ggml_backend_tensor_set(tensor, weight.data, 0, weight.bytes);
    repacked_buffers_.push_back(std::move(buffer));
    bytes_ += weight.bytes;
    return tensor;
  }
  if (!multiplies(cpu, cpu.buffer_type(), weight)) {
    return Error{ErrorCode::kModelUnsupported, std::string("The tensor ") + name + " is of type " +
                                                   ggml_type_name(weight.type) +
                                                   ", which the CPU cannot multiply."};
  }
  // Tied embeddings: one tensor serves both ends.
  if (token_embedding != nullptr && token_embedding->data == weight.data) return token_embedding;
  return in_place(weight);
}

Result<CpuWeights> CpuWeights::load(const GgufModel& model, const GgmlCpu& cpu) {
  const Hyperparameters& hp = model.hyperparameters();
  CpuWeights weights;
  const size_t n_tensors = kMaxTensorsPerLayer * hp.n_layers + 8;
  weights.context_.reset(ggml_init({ggml_tensor_overhead() * n_tensors, nullptr, true}));
  weights.file_buffer_.reset(ggml_backend_cpu_buffer_from_ptr(
      const_cast<uint8_t*>(model.mapped_file().data()), model.mapped_file().size()));

  Error error{};
  bool failed = false;
  const auto take = [&](Result<ggml_tensor*> result) -> ggml_tensor* {
    if (result.ok()) return result.value();
    if (!failed) error = result.error();
    failed = true;
    return nullptr;
  };
  const int64_t n_q = int64_t(hp.n_q_heads) * hp.head_dim;
  const int64_t n_kv = int64_t(hp.n_kv_heads) * hp.head_dim;

  const bool packed = all_fit(model);
  if (packed) {
    if (Status status = weights.pack(model, cpu.n_threads()); !status.ok()) return status.error();
  }
  const auto take_matrix = [&](const std::string& name, int64_t n_in, int64_t n_out) {
    return packed ? nullptr : take(weights.matrix(model, cpu, name, n_in, n_out));
  };

  weights.token_embedding = take(weights.rows(model, "token_embd.weight", hp.n_embd, hp.n_vocab));
  weights.output_norm = take(weights.vector(model, "output_norm.weight", hp.n_embd));
  if (weights.token_embedding != nullptr) {
    weights.output = take_matrix(output_weight(model)->name, hp.n_embd, hp.n_vocab);
  }
  if (model.find("rope_freqs.weight") != nullptr) {
    weights.rope_factors =
        take(weights.vector(model, "rope_freqs.weight", hp.rope.n_dims / 2));
  }
  for (int layer = 0; layer < hp.n_layers && !failed; ++layer) {
    const std::string prefix = "blk." + std::to_string(layer) + ".";
    const bool qk_norm = hp.architecture == Architecture::kQwen3;
    CpuLayer l{};
    l.attn_norm = take(weights.vector(model, prefix + "attn_norm.weight", hp.n_embd));
    l.wq = take_matrix(prefix + "attn_q.weight", hp.n_embd, n_q);
    l.wk = take_matrix(prefix + "attn_k.weight", hp.n_embd, n_kv);
    l.wv = take_matrix(prefix + "attn_v.weight", hp.n_embd, n_kv);
    l.bq = weights.optional_vector(model, prefix + "attn_q.bias", n_q);
    l.bk = weights.optional_vector(model, prefix + "attn_k.bias", n_kv);
    l.bv = weights.optional_vector(model, prefix + "attn_v.bias", n_kv);
    if (qk_norm) {
      l.q_norm = take(weights.vector(model, prefix + "attn_q_norm.weight", hp.head_dim));
      l.k_norm = take(weights.vector(model, prefix + "attn_k_norm.weight", hp.head_dim));
    }
    l.wo = take_matrix(prefix + "attn_output.weight", n_q, hp.n_embd);
    l.bo = weights.optional_vector(model, prefix + "attn_output.bias", hp.n_embd);
    l.ffn_norm = take(weights.vector(model, prefix + "ffn_norm.weight", hp.n_embd));
    l.ffn_gate = take_matrix(prefix + "ffn_gate.weight", hp.n_embd, hp.n_ff);
    l.ffn_up = take_matrix(prefix + "ffn_up.weight", hp.n_embd, hp.n_ff);
    l.ffn_down = take_matrix(prefix + "ffn_down.weight", hp.n_ff, hp.n_embd);
    weights.layers.push_back(l);
  }
  if (failed) return error;
  return weights;
}

uint64_t CpuWeights::stage_bytes(DecodeStage stage, int layer) const {
  const CpuLayer& w = layers[layer];
  if (is_packed()) {
    const PackedLayer& packed = packed_layers[layer];
    switch (stage) {
      case DecodeStage::kAttentionIn:
        return packed.wq.bytes() + packed.wk.bytes() + packed.wv.bytes();
      case DecodeStage::kAttentionOut: return packed.wo.bytes();
      case DecodeStage::kFeedForward:
        return packed.ffn_gate.bytes() + packed.ffn_up.bytes() + packed.ffn_down.bytes();
      case DecodeStage::kLogits: return packed_output->bytes();
      case DecodeStage::kEmbed:
      case DecodeStage::kAttend: return 0;
    }
  }
  switch (stage) {
    case DecodeStage::kAttentionIn:
      return ggml_nbytes(w.wq) + ggml_nbytes(w.wk) + ggml_nbytes(w.wv);
    case DecodeStage::kAttentionOut: return ggml_nbytes(w.wo);
    case DecodeStage::kFeedForward:
      return ggml_nbytes(w.ffn_gate) + ggml_nbytes(w.ffn_up) + ggml_nbytes(w.ffn_down);
    case DecodeStage::kLogits: return ggml_nbytes(output);
    case DecodeStage::kEmbed:
    case DecodeStage::kAttend: return 0;
  }
  return 0;
}

}  // namespace scholia
