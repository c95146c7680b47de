// A decode step as one CUDA graph: what changes from step to step is uploaded before it, and the
// graph stays.
#pragma once

#include "backend/cuda/cuda_clock.h"
#include "backend/cuda/cuda_context.h"
#include "backend/cuda/cuda_digests.h"
#include "backend/cuda/cuda_trace.h"
#include "backend/cuda/kernels/attention.cuh"

namespace scholia::cuda {

// What is to be seen of a step beside its logits.
struct StepWatch {
  AttentionTrace trace;
  float* dense_lse = nullptr;  // [heads][G]: of attention to everything, computed as well
  CudaClock* clock = nullptr;  // looked at between the stages
  bool draws = false;          // the next token, after the logits
};

class CudaDecode {
 public:
  explicit CudaDecode(CudaContext& context)
      : context_(context), digests_(context), trace_(context) {}

  // How attention is launched on this device; model_unsupported.
  Status choose_attention();
  Status reserve();

  Status set_digest_layout(const DigestLayout& layout);
  Result<Decoded> decode(const DecodeStep& step, KvPages& pages);
  // The same without logits, with a look at the clock between the stages, which costs about a
  // microsecond each.
  Result<std::vector<StageTime>> time_decode(const DecodeStep& step, KvPages& pages);
  Result<double> time_stages(unsigned stages, int n_repeats, KvPages& pages);

  uint64_t digest_bytes() const { return digests_.bytes(); }
  uint64_t workspace_bytes() const;

 private:
  void forget_graphs();
  // Graphs are made for one pool.
  void choose_pool(KvPages& pages);
  // All that a step's graph reads.
  Status upload(const DecodeStep& step, KvPages& pages);
  Status upload_step(const DecodeStep& step);
  cudaError_t fetch_next() const;
  const HeadStep* device_heads() const;
  const int* device_list_pages() const;
  Result<Graph> capture(unsigned stages, const StepWatch& watch, KvPages& pages);
  cudaError_t enqueue_step(unsigned stages, const StepWatch& watch, KvPages& pages);
  cudaError_t enqueue_layer(int layer, unsigned stages, const StepWatch& watch, KvPages& pages);
  // The hidden row as a layer's products read it.
  ProductInput attention_in(const CudaLayer& w) const;
  ProductInput ffn_in(const CudaLayer& w) const;
  cudaError_t enqueue_qkv(const CudaLayer& w);
  cudaError_t enqueue_attention(int layer, const StepWatch& watch, KvPages& pages);
  cudaError_t enqueue_attention_out(const CudaLayer& w);
  cudaError_t enqueue_gate_up(const CudaLayer& w);
  cudaError_t enqueue_down(int layer);

  CudaContext& context_;
  CudaDigests digests_;
  CudaTrace trace_;
  AttentionLaunch attention_[2];  // of steps in which heads select, and in which none does
  DeviceBuffer hidden_, qkv_, gated_, angles_, part_states_, parts_done_, step_, next_;
  InputBuffer attended_input_, gated_input_;
  PinnedBuffer host_step_, host_next_;
  // By whether all is read, masses are traced, the mass kept is measured, a token drawn.
  Graph graphs_[2][2][2][2];
  const f16* graph_pages_ = nullptr;  // the pool that they were made for
  bool last_read_all_ = true;
};

}  // namespace scholia::cuda
