// What the tests of the CUDA backend share: small models of random weights, and a way to say that
// there is no GPU.
#pragma once

#include <ggml.h>
#include <gguf.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backend/cuda/cuda_device.h"
#include "backend/cuda/kernels/device_matrix.h"
#include "engine/model/gguf_model.h"

namespace scholia::test {

// Skips the test with the reason where no GPU can be used.
#define SCHOLIA_NEEDS_GPU()                                                       \
  do {                                                                            \
    const auto device = find_cuda_device();                                       \
    if (!device.ok()) GTEST_SKIP() << "no GPU here: " << device.error().message; \
  } while (false)

// The types of weights that the GPU takes.
struct Format {
  ggml_type type;
  cuda::WeightFormat format;
};
inline constexpr Format kFormats[] = {
    {GGML_TYPE_F32, cuda::WeightFormat::kF32},   {GGML_TYPE_F16, cuda::WeightFormat::kF16},
    {GGML_TYPE_BF16, cuda::WeightFormat::kBf16}, {GGML_TYPE_Q8_0, cuda::WeightFormat::kQ8_0},
    {GGML_TYPE_Q4_0, cuda::WeightFormat::kQ4_0}, {GGML_TYPE_Q4_1, cuda::WeightFormat::kQ4_1},
    {GGML_TYPE_Q5_0, cuda::WeightFormat::kQ5_0}, {GGML_TYPE_Q5_1, cuda::WeightFormat::kQ5_1},
    {GGML_TYPE_Q4_K, cuda::WeightFormat::kQ4_K}, {GGML_TYPE_Q5_K, cuda::WeightFormat::kQ5_K},
    {GGML_TYPE_Q6_K, cuda::WeightFormat::kQ6_K}};

struct ModelShape {
  const char* architecture = "llama";
  int n_layers = 2, n_embd = 256, n_ff = 512, n_q_heads = 4, n_kv_heads = 4, head_dim = 64;
  int n_vocab = 1000, context = 8192;
  ggml_type type = GGML_TYPE_Q8_0;         // of the matrices
  ggml_type other_type = GGML_TYPE_COUNT;  // of V and down; COUNT: the same
  bool has_bias = false, has_qk_norm = false, has_yarn = false, has_rope_factors = false;
  bool ties_embedding = false;
};

// A GGUF of random weights in a temporary file, which goes with it.
class RandomModel {
 public:
  explicit RandomModel(const ModelShape& shape, uint32_t seed = 1) : random_(seed) {
    path_ = (std::filesystem::temp_directory_path() /
             ("scholia_random_" + std::to_string(getpid()) + "_" +
              std::to_string(reinterpret_cast<uintptr_t>(this)) + ".gguf"))
                .string();
    write(shape);
  }
  ~RandomModel() { std::filesystem::remove(path_); }
  RandomModel(const RandomModel&) = delete;
  RandomModel& operator=(const RandomModel&) = delete;
  const std::string& path() const { return path_; }

  std::unique_ptr<GgufModel> open() const {
    auto model = GgufModel::open(path_);
    EXPECT_TRUE(model.ok()) << (model.ok() ? "" : model.error().message);
    return model.ok() ? std::move(model.value()) : nullptr;
  }

 private:
  void write(const ModelShape& s) {
    const int n_q = s.n_q_heads * s.head_dim, n_kv = s.n_kv_heads * s.head_dim;
    context_ = ggml_init({size_t(1) << 20, nullptr, true});
    gguf_ = gguf_init_empty();
    const std::string arch = s.architecture;
    gguf_set_val_str(gguf_, "general.architecture", s.architecture);
    gguf_set_val_str(gguf_, "general.name", "random");
    gguf_set_val_str(gguf_, "tokenizer.ggml.model", "none");
    const auto number = [&](const char* key, int value) {
      gguf_set_val_u32(gguf_, (arch + key).c_str(), uint32_t(value));
    };
    number(".block_count", s.n_layers);
    number(".embedding_length", s.n_embd);
    number(".feed_forward_length", s.n_ff);
    number(".attention.head_count", s.n_q_heads);
    number(".attention.head_count_kv", s.n_kv_heads);
    number(".attention.key_length", s.head_dim);
    number(".attention.value_length", s.head_dim);
    number(".context_length", s.context);
    number(".vocab_size", s.n_vocab);
    number(".rope.dimension_count", s.head_dim);
    gguf_set_val_f32(gguf_, (arch + ".attention.layer_norm_rms_epsilon").c_str(), 1e-5F);
    gguf_set_val_f32(gguf_, (arch + ".rope.freq_base").c_str(), 500000);
    if (s.has_yarn) {
      gguf_set_val_str(gguf_, (arch + ".rope.scaling.type").c_str(), "yarn");
      gguf_set_val_f32(gguf_, (arch + ".rope.scaling.factor").c_str(), 4);
      number(".rope.scaling.original_context_length", s.context / 4);
    }
    const ggml_type other = s.other_type == GGML_TYPE_COUNT ? s.type : s.other_type;
    matrix("token_embd.weight", s.type, s.n_embd, s.n_vocab, 1);
    vector("output_norm.weight", s.n_embd, 1, 0.1F);
    if (!s.ties_embedding) matrix("output.weight", s.type, s.n_embd, s.n_vocab);
    if (s.has_rope_factors) vector("rope_freqs.weight", s.head_dim / 2, 2, 0.5F);
    for (int i = 0; i < s.n_layers; ++i) {
      const std::string b = "blk." + std::to_string(i) + ".";
      vector(b + "attn_norm.weight", s.n_embd, 1, 0.1F);
      vector(b + "ffn_norm.weight", s.n_embd, 1, 0.1F);
      // Queries and keys larger than usual, so that attention has something to select.
      matrix(b + "attn_q.weight", s.type, s.n_embd, n_q, 2 / std::sqrt(float(s.n_embd)));
      matrix(b + "attn_k.weight", s.type, s.n_embd, n_kv, 2 / std::sqrt(float(s.n_embd)));
      matrix(b + "attn_v.weight", other, s.n_embd, n_kv);
      matrix(b + "attn_output.weight", s.type, n_q, s.n_embd);
      matrix(b + "ffn_gate.weight", s.type, s.n_embd, s.n_ff);
      matrix(b + "ffn_up.weight", s.type, s.n_embd, s.n_ff);
      matrix(b + "ffn_down.weight", other, s.n_ff, s.n_embd);
      if (s.has_bias) {
        vector(b + "attn_q.bias", n_q, 0, 0.5F);
        vector(b + "attn_k.bias", n_kv, 0, 0.5F);
        vector(b + "attn_v.bias", n_kv, 0, 0.5F);
      }
      if (s.has_qk_norm) {
        vector(b + "attn_q_norm.weight", s.head_dim, 2, 0.1F);
        vector(b + "attn_k_norm.weight", s.head_dim, 1, 0.1F);
      }
    }
    ASSERT_TRUE(gguf_write_to_file(gguf_, path_.c_str(), false));
    gguf_free(gguf_);
    ggml_free(context_);
    data_.clear();
  }

  std::vector<float> normal(size_t n, float mean, float deviation) {
    std::normal_distribution<float> distribution(mean, deviation);
    std::vector<float> values(n);
    for (float& x : values) x = distribution(random_);
    return values;
  }

  void add(const std::string& name, ggml_type type, int n_in, int n_out,
           const std::vector<float>& values) {
    ggml_tensor* tensor = n_out == 1 ? ggml_new_tensor_1d(context_, type, n_in)
                                     : ggml_new_tensor_2d(context_, type, n_in, n_out);
    ggml_set_name(tensor, name.c_str());
    data_.emplace_back(ggml_nbytes(tensor));
    tensor->data = data_.back().data();
    ggml_quantize_chunk(type, values.data(), tensor->data, 0, n_out, n_in, nullptr);
    gguf_add_tensor(gguf_, tensor);
  }
  void matrix(const std::string& name, ggml_type type, int n_in, int n_out, float deviation = 0) {
    if (deviation == 0) deviation = 1 / std::sqrt(float(n_in));
    add(name, type, n_in, n_out, normal(size_t(n_in) * n_out, 0, deviation));
  }
  void vector(const std::string& name, int n, float mean, float deviation) {
    add(name, GGML_TYPE_F32, n, 1, normal(size_t(n), mean, deviation));
  }

  std::mt19937 random_;
  std::string path_;
  ggml_context* context_ = nullptr;
  gguf_context* gguf_ = nullptr;
  std::vector<std::vector<uint8_t>> data_;
};

// |a - b| / |b|; infinite where a value is not finite.
inline double relative_distance(std::span<const float> a, std::span<const float> b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < b.size(); ++i) {
    if (!std::isfinite(a[i]) || !std::isfinite(b[i])) return INFINITY;
    difference += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    size += double(b[i]) * b[i];
  }
  return std::sqrt(difference / size);
}

inline const char* type_name(ggml_type type) { return ggml_type_name(type); }

}  // namespace scholia::test
