#include "addon/js_values.h"

#include <cstring>
#include <string_view>

namespace scholia {
namespace {

// A JS object in the making.
class Fields {
 public:
  explicit Fields(Napi::Env env) : env_(env), object_(Napi::Object::New(env)) {}

  template <typename T>
    requires std::is_arithmetic_v<T>
  Fields& number(const char* name, T value) {
    return set(name, Napi::Number::New(env_, double(value)));
  }
  // A number that there may not be: null.
  Fields& number_or_null(const char* name, bool there, double value) {
    return there ? number(name, value) : set(name, env_.Null());
  }
  Fields& boolean(const char* name, bool value) {
    return set(name, Napi::Boolean::New(env_, value));
  }
  Fields& text(const char* name, std::string_view value) {
    return set(name, Napi::String::New(env_, value.data(), value.size()));
  }
  Fields& set(const char* name, Napi::Value value) {
    object_.Set(name, value);
    return *this;
  }
  Napi::Object object() const { return object_; }

 private:
  Napi::Env env_;
  Napi::Object object_;
};

template <typename Array, typename Element>
Napi::Value copy(Napi::Env env, const std::vector<Element>& values) {
  auto array = Array::New(env, values.size());
  if (!values.empty()) std::memcpy(array.Data(), values.data(), values.size() * sizeof(Element));
  return array;
}

// Lays arrays one after the other in one ArrayBuffer, wide elements first so that each is aligned.
class PackedArrays {
 public:
  PackedArrays(Napi::Env env, size_t n_bytes) : buffer_(Napi::ArrayBuffer::New(env, n_bytes)) {}

  template <typename Array, typename Element>
  Napi::Value add(const std::vector<Element>& values) {
    const size_t n_bytes = values.size() * sizeof(Element);
    if (n_bytes > 0) {
      std::memcpy(static_cast<char*>(buffer_.Data()) + offset_, values.data(), n_bytes);
    }
    const auto array = Array::New(buffer_.Env(), values.size(), buffer_, offset_);
    offset_ += n_bytes;
    return array;
  }

 private:
  Napi::ArrayBuffer buffer_;
  size_t offset_ = 0;
};

template <typename... Elements>
size_t bytes_of(const std::vector<Elements>&... arrays) {
  return ((arrays.size() * sizeof(Elements)) + ...);
}

std::string_view stop_word(StopReason stop) {
  switch (stop) {
    case StopReason::kEndOfTurn:
      return "end_of_turn";
    case StopReason::kMaxTokens:
      return "max_tokens";
    case StopReason::kContextFull:
      return "context_full";
    case StopReason::kCancelled:
      return "cancelled";
  }
  return "";
}

std::string_view stage_word(DecodeStage stage) {
  switch (stage) {
    case DecodeStage::kEmbed:
      return "embed";
    case DecodeStage::kAttentionIn:
      return "attention_in";
    case DecodeStage::kAttend:
      return "attend";
    case DecodeStage::kAttentionOut:
      return "attention_out";
    case DecodeStage::kFeedForward:
      return "feed_forward";
    case DecodeStage::kLogits:
      return "logits";
  }
  return "";
}

std::string_view mode_word(Mode mode) { return mode == Mode::kDense ? "dense" : "ab-sparse"; }

std::string_view digest_word(DigestKind digest) {
  switch (digest) {
    case DigestKind::kMeanStd:
      return "mean_std";
    case DigestKind::kQuest:
      return "quest";
    case DigestKind::kArkVale:
      return "arkvale";
    case DigestKind::kMean:
      return "mean";
    case DigestKind::kCentroids:
      return "centroids";
  }
  return "";
}

Napi::Value error_value(Napi::Env env, const std::optional<Error>& error) {
  if (!error) return env.Null();
  return Fields(env)
      .text("code", error_code_name(error->code))
      .text("message", error->message)
      .object();
}

Napi::Value bench_row(Napi::Env env, const BenchRow& row) {
  const bool with_peer = row.peer_tokens_per_second > 0;
  return Fields(env)
      .text("what", row.is_prefill ? "prefill" : "decode")
      .text("mode", mode_word(row.mode))
      .number("depth", row.depth)
      .number("tokensPerSecond", row.tokens_per_second)
      .number_or_null("peerTokensPerSecond", with_peer, row.peer_tokens_per_second)
      .number_or_null("ratio", with_peer, row.tokens_per_second / row.peer_tokens_per_second)
      .number_or_null("bytesPerToken", !row.is_prefill, row.bytes_per_token)
      .number("repetitions", row.repetitions)
      .object();
}

Napi::Value tail_comparison(Napi::Env env, const TailComparison& value) {
  return Fields(env)
      .set("kl", copy<Napi::Float64Array>(env, value.kl))
      .set("sameTop", copy<Napi::Uint8Array>(env, value.same_top))
      .set("lossIncrease", copy<Napi::Float64Array>(env, value.loss_increase))
      .number("blocks", value.n_blocks)
      .number("kvBytes", value.kv_bytes)
      .number("digestBytes", value.digest_bytes)
      .number("denseBytes", value.dense_bytes)
      .object();
}

Napi::Object trace_object(Napi::Env env, const StepTrace& trace, bool with_mass) {
  size_t n_bytes = bytes_of(trace.n_blocks, trace.tokens_read, trace.block_tokens);
  const bool with_kept = !trace.mass_kept.empty();
  if (with_mass) n_bytes += bytes_of(trace.block_offset, trace.block_idx, trace.mass);
  if (with_kept) n_bytes += bytes_of(trace.mass_kept);
  PackedArrays arrays(env, n_bytes);
  Fields fields(env);
  fields.number("depthTokens", trace.depth_tokens)
      .number("kvBytes", trace.kv_bytes)
      .number("digestBytes", trace.digest_bytes)
      .number("denseBytes", trace.dense_bytes)
      .set("blocks", arrays.add<Napi::Uint32Array>(trace.n_blocks))
      .set("tokensRead", arrays.add<Napi::Uint32Array>(trace.tokens_read));
  if (with_mass) {
    fields.set("blockOffset", arrays.add<Napi::Uint32Array>(trace.block_offset))
        .set("blockIndex", arrays.add<Napi::Uint32Array>(trace.block_idx))
        .set("mass", arrays.add<Napi::Float32Array>(trace.mass));
  }
  fields.set("massKept", with_kept ? arrays.add<Napi::Float32Array>(trace.mass_kept) : env.Null());
  fields.set("blockTokens", arrays.add<Napi::Uint16Array>(trace.block_tokens));
  return fields.object();
}

}  // namespace

Napi::Value to_js(Napi::Env env, std::monostate) { return env.Undefined(); }

Napi::Value to_js(Napi::Env env, bool value) { return Napi::Boolean::New(env, value); }

Napi::Value to_js(Napi::Env env, int value) { return Napi::Number::New(env, value); }

Napi::Value to_js(Napi::Env env, const std::string& value) { return Napi::String::New(env, value); }

Napi::Value to_js(Napi::Env env, const std::vector<std::string>& value) {
  auto array = Napi::Array::New(env, value.size());
  for (uint32_t i = 0; i < value.size(); ++i) array.Set(i, value[i]);
  return array;
}

Napi::Value to_js(Napi::Env env, const std::vector<int32_t>& value) {
  return copy<Napi::Int32Array>(env, value);
}

Napi::Value to_js(Napi::Env env, const std::vector<float>& value) {
  return copy<Napi::Float32Array>(env, value);
}

Napi::Value to_js(Napi::Env env, const std::vector<double>& value) {
  return copy<Napi::Float64Array>(env, value);
}

Napi::Value to_js(Napi::Env env, const ModelInfo& value) {
  return Fields(env)
      .text("path", value.path)
      .text("fingerprint", value.fingerprint)
      .text("name", value.name)
      .text("architecture", value.architecture)
      .text("quantisation", value.quantisation)
      .text("chatTemplate", value.chat_template)
      .text("bosPiece", value.bos_piece)
      .text("eosPiece", value.eos_piece)
      .boolean("addsBos", value.adds_bos)
      .number("layers", value.n_layers)
      .number("queryHeads", value.n_q_heads)
      .number("kvHeads", value.n_kv_heads)
      .number("headDim", value.head_dim)
      .number("vocabulary", value.n_vocab)
      .number("contextTokens", value.context_tokens)
      .number("fileBytes", value.file_bytes)
      .number("parameters", value.n_parameters)
      .object();
}

Napi::Value to_js(Napi::Env env, const EngineInfo& value) {
  return Fields(env)
      .set("model", to_js(env, value.model))
      .text("device", value.device)
      .number("bosToken", value.bos_token)
      .object();
}

Napi::Value to_js(Napi::Env env, const MemoryReport& value) {
  return Fields(env)
      .number("weightsBytes", value.weights_bytes)
      .number("kvBytes", value.kv_bytes)
      .number("kvKeptBytes", value.kv_kept_bytes)
      .number("kvPoolBytes", value.kv_pool_bytes)
      .number("digestBytes", value.digest_bytes)
      .number("workspaceBytes", value.workspace_bytes)
      .number("freeBytes", value.free_bytes)
      .object();
}

Napi::Value to_js(Napi::Env env, const HeadProfile& value) {
  return Fields(env)
      .text("modelFingerprint", value.model_fingerprint)
      .text("digest", digest_word(value.digest.kind))
      .number("digestBits", value.digest.bits)
      .set("blockTokens", copy<Napi::Uint16Array>(env, value.block_tokens))
      .set("budgetShare", copy<Napi::Float32Array>(env, value.budget_share))
      .object();
}

Napi::Value to_js(Napi::Env env, const LoadProgress& value) {
  return Fields(env).number("fraction", value.fraction).object();
}

Napi::Value to_js(Napi::Env env, const PrefillProgress& value) {
  return Fields(env)
      .number("doneTokens", value.done_tokens)
      .number("totalTokens", value.total_tokens)
      .number("memoryTokens", value.memory_tokens)
      .number("diskTokens", value.disk_tokens)
      .number("brokenTokens", value.broken_tokens)
      .number("depthTokens", value.depth_tokens)
      .number("seconds", value.seconds)
      .number("tokensPerSecond", value.tokens_per_second)
      .set("storeError", error_value(env, value.store_error))
      .object();
}

Napi::Value to_js(Napi::Env env, const std::optional<TraceValue>& value) {
  if (!value) return env.Null();
  return trace_object(env, value->trace, value->with_mass);
}

Napi::Value to_js(Napi::Env env, const TokenValue& value) {
  return Fields(env)
      .number("token", value.token)
      .text("text", value.text)
      .set("trace", to_js(env, value.trace))
      .object();
}

Napi::Value to_js(Napi::Env env, const GenerateReport& value) {
  return Fields(env)
      .set("tokens", to_js(env, value.tokens))
      .text("text", value.text)
      .text("stop", stop_word(value.stop))
      .number("seconds", value.seconds)
      .number("steps", value.n_steps)
      .number("kvBytes", value.kv_bytes)
      .number("digestBytes", value.digest_bytes)
      .number("denseBytes", value.dense_bytes)
      .object();
}

Napi::Value to_js(Napi::Env env, const StepTiming& value) {
  auto stages = Napi::Array::New(env, value.stages.size());
  for (uint32_t i = 0; i < value.stages.size(); ++i) {
    const StageTime& stage = value.stages[i];
    stages.Set(i, Fields(env)
                      .text("stage", stage_word(stage.stage))
                      .number("layer", stage.layer)
                      .number("seconds", stage.seconds)
                      .number("bytes", stage.bytes)
                      .object());
  }
  return Fields(env)
      .number("depthTokens", value.depth_tokens)
      .number("steps", value.n_steps)
      .set("stages", stages)
      .number_or_null("bytesPerSecond", value.bytes_per_second > 0, value.bytes_per_second)
      .object();
}

Napi::Value to_js(Napi::Env env, const HeadErrors& value) {
  return Fields(env)
      .set("blockTokens", to_js(env, value.block_tokens))
      .set("budgetTokens", to_js(env, value.budget_tokens))
      .set("outputError", copy<Napi::Float64Array>(env, value.output_error))
      .set("recall", copy<Napi::Float64Array>(env, value.recall))
      .number("queries", value.n_queries)
      .object();
}

Napi::Value to_js(Napi::Env env, const TailProgress& value) {
  return Fields(env).number("doneTokens", value.done_tokens).object();
}

Napi::Value to_js(Napi::Env env, const std::vector<TailComparison>& value) {
  auto array = Napi::Array::New(env, value.size());
  for (uint32_t i = 0; i < value.size(); ++i) array.Set(i, tail_comparison(env, value[i]));
  return array;
}

Napi::Value to_js(Napi::Env env, const BenchProgress& value) {
  return Fields(env).text("message", value.message).object();
}

Napi::Value to_js(Napi::Env env, const std::vector<BenchRow>& value) {
  auto array = Napi::Array::New(env, value.size());
  for (uint32_t i = 0; i < value.size(); ++i) array.Set(i, bench_row(env, value[i]));
  return array;
}

}  // namespace scholia
