// What an Engine is opened with, and what it tells about the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace scholia {

using Token = int32_t;
using SequenceId = int32_t;

// KV is kept in pages of this many tokens; one page table per sequence serves all layers and heads.
inline constexpr int kKvPageTokens = 16;

enum class Device : uint8_t { kAuto, kCpu, kCuda };
enum class Mode : uint8_t { kDense, kAbSparse };

struct EngineConfig {
  std::string model_path = "";
  Device device = Device::kAuto;
  int n_threads = 0;           // 0: the machine's cores
  // Prompts are named, cut, saved and found in chunks of this many tokens: part of a read's identity.
  int chunk_tokens = 512;
  // Prompt tokens that are computed at once, a multiple of chunk_tokens; 0: what suits the device.
  // Not part of a read's identity: the numbers differ in their rounding, as between devices.
  int prefill_step_tokens = 0;
  size_t kv_pool_bytes = 0;    // 0: enough for one full context, bounded by half of the free memory
  std::string store_dir = "";      // where reads are saved; empty: they are not
};

struct ModelInfo {
  std::string path;
  std::string fingerprint;     // hex, 64 digits; identifies header and weights (not the file's name)
  std::string name;
  std::string architecture;    // "llama", "qwen2", "qwen3"
  std::string quantisation;    // of most bytes of the file, e.g. "q5_0"
  std::string chat_template;   // Jinja source, empty when the file has none
  std::string bos_piece, eos_piece;
  bool adds_bos = false;
  int n_layers = 0, n_q_heads = 0, n_kv_heads = 0, head_dim = 0, n_vocab = 0;
  int context_tokens = 0;      // the longest the model was trained for
  uint64_t file_bytes = 0, n_parameters = 0;
};

struct MemoryReport {
  uint64_t weights_bytes = 0;   // weights as held, after conversion
  uint64_t kv_bytes = 0;        // KV pages in use (shared ones once)
  uint64_t kv_kept_bytes = 0;   // KV pages of past reads: in no use, but filled, and found again
  uint64_t kv_pool_bytes = 0;   // what the pool may grow to
  uint64_t digest_bytes = 0;
  uint64_t workspace_bytes = 0; // compute buffers
  uint64_t free_bytes = 0;      // of the machine or the device
};

}  // namespace scholia
