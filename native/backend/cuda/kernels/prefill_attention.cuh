#pragma once
#include "backend/cuda/kernels/prefill.cuh"
namespace scholia::cuda {
struct PrefillVariant { const char* name; cudaError_t (*launch)(const PrefillAttentionParams&, int, cudaStream_t); int variant; };
cudaError_t launch_prefill_attention_portable(const PrefillAttentionParams& params, int variant, cudaStream_t stream);
cudaError_t launch_prefill_attention_hopper(const PrefillAttentionParams& params, int variant, cudaStream_t stream);
inline constexpr PrefillVariant kPrefillVariants[] = {
  {"portable 16 rows, 64 keys", launch_prefill_attention_portable, 0},
  {"portable 32 rows, 64 keys", launch_prefill_attention_portable, 1},
  {"portable 32 rows, 32 keys", launch_prefill_attention_portable, 2},
  {"hopper engine, 2 stages, turns", launch_prefill_attention_hopper, 0},
  {"hopper engine, 2 stages, no turns", launch_prefill_attention_hopper, 1},
  {"hopper engine, 3 stages, turns", launch_prefill_attention_hopper, 2},
  {"hopper threads, 2 stages, turns", launch_prefill_attention_hopper, 3},
  {"hopper threads, 3 stages, turns", launch_prefill_attention_hopper, 4},
};
}
