#include "engine/model/gguf_model.h"

#include <fcntl.h>
#include <gguf.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

extern "C" {
#include "hash/sha256/sha256.h"
}

namespace scholia {
namespace {

// No model in use is near these; a header beyond them is damaged or hostile.
constexpr int64_t kMaxLayers = 1024;
constexpr int64_t kMaxWidth = 1 << 18;
constexpr int64_t kMaxVocabulary = 1 << 22;
constexpr int64_t kMaxContext = 1 << 28;
constexpr size_t kFingerprintBytes = 4096;  // of each tensor's start

struct GgufCloser {
  void operator()(gguf_context* gguf) const { gguf_free(gguf); }
};
struct GgmlCloser {
  void operator()(ggml_context* context) const { ggml_free(context); }
};

// Typed reads of the header's key-value pairs; a wrong type reads as absent.
class Metadata {
 public:
  explicit Metadata(const gguf_context* gguf) : gguf_(gguf) {}

  int64_t integer(const std::string& key, int64_t otherwise) const {
    const int64_t id = gguf_find_key(gguf_, key.c_str());
    if (id < 0) return otherwise;
    switch (gguf_get_kv_type(gguf_, id)) {
      case GGUF_TYPE_UINT32: return gguf_get_val_u32(gguf_, id);
      case GGUF_TYPE_INT32: return gguf_get_val_i32(gguf_, id);
      case GGUF_TYPE_UINT64: return static_cast<int64_t>(gguf_get_val_u64(gguf_, id));
      case GGUF_TYPE_INT64: return gguf_get_val_i64(gguf_, id);
      case GGUF_TYPE_UINT16: return gguf_get_val_u16(gguf_, id);
      default: return otherwise;
    }
  }

  float real(const std::string& key, float otherwise) const {
    const int64_t id = gguf_find_key(gguf_, key.c_str());
    return id >= 0 && gguf_get_kv_type(gguf_, id) == GGUF_TYPE_FLOAT32 ? gguf_get_val_f32(gguf_, id)
                                                                       : otherwise;
  }

  std::string text(const std::string& key) const {
    const int64_t id = gguf_find_key(gguf_, key.c_str());
    return id >= 0 && gguf_get_kv_type(gguf_, id) == GGUF_TYPE_STRING ? gguf_get_val_str(gguf_, id)
                                                                      : "";
  }

  int64_t array_length(const std::string& key) const {
    const int64_t id = gguf_find_key(gguf_, key.c_str());
    return id >= 0 && gguf_get_kv_type(gguf_, id) == GGUF_TYPE_ARRAY
               ? static_cast<int64_t>(gguf_get_arr_n(gguf_, id))
               : 0;
  }

  bool has(const std::string& key) const { return gguf_find_key(gguf_, key.c_str()) >= 0; }

 private:
  const gguf_context* gguf_;
};

Error broken(const std::string& path, const std::string& why) {
  return {ErrorCode::kModelBroken, "The model file " + path + " is damaged: " + why +
                                       ". Download it again."};
}

Error unsupported(const std::string& why) {
  return {ErrorCode::kModelUnsupported,
          "This model cannot be run: " + why +
              ". Scholia runs dense models of the architectures llama, qwen2 and qwen3."};
}

Status read_rope(const Metadata& metadata, const std::string& arch, Hyperparameters& hp) {
  RopeParams& rope = hp.rope;
  rope.mode = hp.architecture == Architecture::kLlama ? GGML_ROPE_TYPE_NORMAL : GGML_ROPE_TYPE_NEOX;
  rope.n_dims = static_cast<int>(metadata.integer(arch + ".rope.dimension_count", hp.head_dim));
  rope.freq_base = metadata.real(arch + ".rope.freq_base", 10000);
  rope.original_context = static_cast<int>(
      metadata.integer(arch + ".rope.scaling.original_context_length", hp.context_tokens));
  const std::string scaling = metadata.text(arch + ".rope.scaling.type");
  const float factor = metadata.real(arch + ".rope.scaling.factor",
                                     metadata.real(arch + ".rope.scale_linear", 0));
  if (factor > 0 && scaling != "none") rope.freq_scale = 1 / factor;
  if (scaling == "yarn") rope.ext_factor = 1;
  rope.attn_factor = metadata.real(arch + ".rope.scaling.attn_factor", 1);
  rope.beta_fast = metadata.real(arch + ".rope.scaling.yarn_beta_fast", 32);
  rope.beta_slow = metadata.real(arch + ".rope.scaling.yarn_beta_slow", 1);
  if (rope.n_dims <= 0 || rope.n_dims > hp.head_dim || rope.n_dims % 2 != 0 ||
      !std::isfinite(rope.freq_base) || rope.freq_base <= 0 || !std::isfinite(rope.freq_scale)) {
    return unsupported("its rotary embedding has impossible settings");
  }
  return {};
}

Status read_hyperparameters(const Metadata& metadata, const std::string& path,
                            Hyperparameters& hp) {
  const std::string arch = metadata.text("general.architecture");
  if (arch == "llama") {
    hp.architecture = Architecture::kLlama;
  } else if (arch == "qwen2") {
    hp.architecture = Architecture::kQwen2;
  } else if (arch == "qwen3") {
    hp.architecture = Architecture::kQwen3;
  } else {
    return unsupported("its architecture is \"" + arch + "\"");
  }
  if (metadata.integer(arch + ".expert_count", 0) > 0) {
    return unsupported("it is a mixture of experts");
  }
  if (metadata.real(arch + ".attention.scale", 0) != 0) {
    return unsupported("it scales attention in a way of its own");
  }

  const auto read = [&](const char* key, int64_t otherwise, int64_t limit, int& out) {
    const int64_t value = metadata.integer(arch + key, otherwise);
    out = value > 0 && value <= limit ? static_cast<int>(value) : 0;
    return out != 0;
  };
  const int64_t n_vocab =
      std::max(metadata.array_length("tokenizer.ggml.tokens"), metadata.integer(arch + ".vocab_size", 0));
  if (!read(".block_count", 0, kMaxLayers, hp.n_layers) ||
      !read(".embedding_length", 0, kMaxWidth, hp.n_embd) ||
      !read(".feed_forward_length", 0, kMaxWidth, hp.n_ff) ||
      !read(".attention.head_count", 0, kMaxWidth, hp.n_q_heads) ||
      !read(".attention.head_count_kv", hp.n_q_heads, kMaxWidth, hp.n_kv_heads) ||
      !read(".context_length", 0, kMaxContext, hp.context_tokens) ||
      !read(".attention.key_length", hp.n_embd / std::max(hp.n_q_heads, 1), kMaxWidth,
            hp.head_dim) ||
      n_vocab <= 0 || n_vocab > kMaxVocabulary) {
    return broken(path, "its header lacks a size or has one that cannot be");
  }
  hp.n_vocab = static_cast<int>(n_vocab);
  hp.rms_eps = metadata.real(arch + ".attention.layer_norm_rms_epsilon", 1e-5F);
  // ggml asserts on it in the middle of a prefill.
  if (!std::isfinite(hp.rms_eps) || hp.rms_eps < 0) {
    return broken(path, "the epsilon of its norms cannot be");
  }
  if (metadata.integer(arch + ".attention.value_length", hp.head_dim) != hp.head_dim) {
    return unsupported("its keys and values differ in size");
  }
  if (hp.n_q_heads % hp.n_kv_heads != 0 || hp.head_dim % 16 != 0 || hp.head_dim > 256) {
    return unsupported("its attention heads have an unusual shape (" +
                       std::to_string(hp.n_q_heads) + " query heads, " +
                       std::to_string(hp.n_kv_heads) + " KV heads of " +
                       std::to_string(hp.head_dim) + ")");
  }
  return read_rope(metadata, arch, hp);
}

std::string hex(const uint8_t* bytes, size_t n) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string out;
  for (size_t i = 0; i < n; ++i) {
    out += kDigits[bytes[i] >> 4];
    out += kDigits[bytes[i] & 15];
  }
  return out;
}

// Identifies the model: the whole header and the start of every tensor.
std::string fingerprint(const uint8_t* file, size_t header_bytes,
                        const std::vector<const WeightView*>& weights) {
  sha256_t sha;
  sha256_init(&sha);
  sha256_update(&sha, file, header_bytes);
  for (const WeightView* weight : weights) {
    sha256_update(&sha, static_cast<const uint8_t*>(weight->data),
                  std::min(weight->bytes, kFingerprintBytes));
  }
  uint8_t digest[32];
  sha256_final(&sha, digest);
  return hex(digest, sizeof digest);
}

}  // namespace

Result<std::unique_ptr<GgufModel>> GgufModel::open(const std::string& path) {
  std::unique_ptr<GgufModel> model(new GgufModel);
  if (Status status = model->map_file(path); !status.ok()) return status.error();
  if (Status status = model->read_header(path); !status.ok()) return status.error();
  return model;
}

GgufModel::~GgufModel() {
  if (map_ != nullptr) munmap(const_cast<uint8_t*>(map_), map_bytes_);
}

Status GgufModel::map_file(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) {
    return Error{ErrorCode::kModelNotFound,
                 "Cannot open the model file " + path + ": " + std::strerror(errno) + "."};
  }
  struct stat stat{};
  void* map = MAP_FAILED;
  if (fstat(file, &stat) == 0 && S_ISREG(stat.st_mode) && stat.st_size > 0) {
    map = mmap(nullptr, static_cast<size_t>(stat.st_size), PROT_READ, MAP_PRIVATE, file, 0);
  }
  ::close(file);
  if (map == MAP_FAILED) return broken(path, "it is empty or not a regular file");
  map_ = static_cast<const uint8_t*>(map);
  map_bytes_ = static_cast<size_t>(stat.st_size);
  return {};
}

Status GgufModel::read_header(const std::string& path) {
  if (map_bytes_ < 4 || std::memcmp(map_, "GGUF", 4) != 0) return broken(path, "it is not a GGUF");
  ggml_context* tensors_raw = nullptr;
  const gguf_init_params params{/*no_alloc=*/true, &tensors_raw};
  const std::unique_ptr<gguf_context, GgufCloser> gguf(
      gguf_init_from_file(path.c_str(), params));
  const std::unique_ptr<ggml_context, GgmlCloser> tensors(tensors_raw);
  if (!gguf || !tensors) return broken(path, "its header cannot be read");

  const Metadata metadata(gguf.get());
  if (Status status = read_hyperparameters(metadata, path, hyperparameters_); !status.ok()) {
    return status;
  }

  const size_t data_offset = gguf_get_data_offset(gguf.get());
  if (data_offset > map_bytes_) return broken(path, "it ends inside its header");
  std::vector<const WeightView*> in_order;
  std::map<std::string, uint64_t> bytes_by_type;
  for (int64_t i = 0; i < gguf_get_n_tensors(gguf.get()); ++i) {
    const char* name = gguf_get_tensor_name(gguf.get(), i);
    const ggml_tensor* tensor = ggml_get_tensor(tensors.get(), name);
    const size_t offset = gguf_get_tensor_offset(gguf.get(), i);
    const size_t bytes = ggml_nbytes(tensor);
    if (bytes > map_bytes_ || offset > map_bytes_ || data_offset + offset > map_bytes_ - bytes) {
      return broken(path, std::string("it is cut short, tensor ") + name + " is not all there");
    }
    WeightView view{name, tensor->type, {}, map_ + data_offset + offset, bytes};
    std::copy_n(tensor->ne, 4, view.shape.begin());
    info_.n_parameters += static_cast<uint64_t>(ggml_nelements(tensor));
    bytes_by_type[ggml_type_name(tensor->type)] += bytes;
    in_order.push_back(&weights_.emplace(name, std::move(view)).first->second);
  }

  info_.path = path;
  info_.file_bytes = map_bytes_;
  info_.fingerprint = fingerprint(map_, data_offset, in_order);
  info_.name = metadata.text("general.name");
  info_.architecture = metadata.text("general.architecture");
  info_.chat_template = metadata.text("tokenizer.chat_template");
  const auto largest = std::max_element(
      bytes_by_type.begin(), bytes_by_type.end(),
      [](const auto& a, const auto& b) { return a.second < b.second; });
  if (largest != bytes_by_type.end()) info_.quantisation = largest->first;
  info_.n_layers = hyperparameters_.n_layers;
  info_.n_q_heads = hyperparameters_.n_q_heads;
  info_.n_kv_heads = hyperparameters_.n_kv_heads;
  info_.head_dim = hyperparameters_.head_dim;
  info_.n_vocab = hyperparameters_.n_vocab;
  info_.context_tokens = hyperparameters_.context_tokens;
  return {};
}

const WeightView* GgufModel::find(const std::string& name) const {
  const auto it = weights_.find(name);
  return it == weights_.end() ? nullptr : &it->second;
}

Result<const WeightView*> GgufModel::require(const std::string& name,
                                             std::array<int64_t, 2> shape) const {
  const WeightView* weight = find(name);
  if (weight == nullptr) return broken(info_.path, "the tensor " + name + " is missing");
  if (weight->shape[0] != shape[0] || weight->shape[1] != shape[1] || weight->shape[2] != 1 ||
      weight->shape[3] != 1) {
    return broken(info_.path, "the tensor " + name + " has shape " +
                                  std::to_string(weight->shape[0]) + " x " +
                                  std::to_string(weight->shape[1]) + ", expected " +
                                  std::to_string(shape[0]) + " x " + std::to_string(shape[1]));
  }
  return weight;
}

}  // namespace scholia
