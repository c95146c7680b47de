// A GGUF file: header checked, hyperparameters read, weights mapped read-only.
// The file is untrusted: every size is checked before it is used.
#pragma once

#include <ggml.h>

#include <array>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/config.h"
#include "engine/status.h"

namespace scholia {

enum class Architecture : uint8_t { kLlama, kQwen2, kQwen3 };

// Rotary embedding as ggml_rope_ext takes it (YaRN included).
struct RopeParams {
  int mode = 0;  // GGML_ROPE_TYPE_NORMAL or GGML_ROPE_TYPE_NEOX
  int n_dims = 0;
  int original_context = 0;
  float freq_base = 10000, freq_scale = 1, ext_factor = 0, attn_factor = 1;
  float beta_fast = 32, beta_slow = 1;
};

struct Hyperparameters {
  Architecture architecture = Architecture::kLlama;
  int n_layers = 0, n_embd = 0, n_ff = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0;
  int n_vocab = 0, context_tokens = 0;
  float rms_eps = 1e-5F;
  RopeParams rope;
  int group() const { return n_q_heads / n_kv_heads; }  // G
};

// One tensor of the file, in place. shape[0] is the row length (ggml's ne order).
struct WeightView {
  std::string name;
  ggml_type type = GGML_TYPE_F32;
  std::array<int64_t, 4> shape{1, 1, 1, 1};
  const void* data = nullptr;
  size_t bytes = 0;
};

class GgufModel {
 public:
  // model_not_found, model_broken, model_unsupported.
  static Result<std::unique_ptr<GgufModel>> open(const std::string& path);
  ~GgufModel();
  GgufModel(const GgufModel&) = delete;
  GgufModel& operator=(const GgufModel&) = delete;

  const Hyperparameters& hyperparameters() const { return hyperparameters_; }
  const ModelInfo& info() const { return info_; }  // without the vocabulary's fields
  std::span<const uint8_t> mapped_file() const { return {map_, map_bytes_}; }
  // The weight of this name and exactly this shape; null when the file has none.
  const WeightView* find(const std::string& name) const;
  // As find, but a missing weight or another shape is model_broken.
  Result<const WeightView*> require(const std::string& name, std::array<int64_t, 2> shape) const;

 private:
  GgufModel() = default;
  Status map_file(const std::string& path);
  Status read_header(const std::string& path);

  Hyperparameters hyperparameters_;
  ModelInfo info_;
  std::unordered_map<std::string, WeightView> weights_;
  const uint8_t* map_ = nullptr;
  size_t map_bytes_ = 0;
};

}  // namespace scholia
