// Plain C++ values → JS values. Arrays are copied: external buffers are not allowed in Electron.
// The shapes are described in host/engine/addon.ts.
#pragma once

#include <napi.h>

#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "bench/bench.h"
#include "engine/engine.h"

namespace scholia {

// What JS gets to know of an Engine when it opens.
struct EngineInfo {
  ModelInfo model;
  std::string device;
  Token bos_token = 0;
};

// A line that says what was just measured.
struct BenchProgress {
  std::string message;
};

// So many tokens of a tail were compared.
struct TailProgress {
  int done_tokens = 0;
};

struct LoadProgress {
  double fraction = 0;
};

// A step's trace, without its masses when they were not asked for.
struct TraceValue {
  StepTrace trace;
  bool with_mass = false;
};

// A token of a running answer, owning what GeneratedToken only points to.
struct TokenValue {
  Token token = 0;
  std::string text;
  std::optional<TraceValue> trace;
};

Napi::Value to_js(Napi::Env env, std::monostate);  // undefined
Napi::Value to_js(Napi::Env env, bool value);
Napi::Value to_js(Napi::Env env, int value);
Napi::Value to_js(Napi::Env env, const std::string& value);
Napi::Value to_js(Napi::Env env, const std::vector<std::string>& value);
Napi::Value to_js(Napi::Env env, const std::vector<int32_t>& value);
Napi::Value to_js(Napi::Env env, const std::vector<float>& value);
Napi::Value to_js(Napi::Env env, const std::vector<double>& value);
Napi::Value to_js(Napi::Env env, const ModelInfo& value);
Napi::Value to_js(Napi::Env env, const EngineInfo& value);
Napi::Value to_js(Napi::Env env, const MemoryReport& value);
Napi::Value to_js(Napi::Env env, const HeadProfile& value);
Napi::Value to_js(Napi::Env env, const LoadProgress& value);
Napi::Value to_js(Napi::Env env, const PrefillProgress& value);
Napi::Value to_js(Napi::Env env, const std::optional<TraceValue>& value);  // null without one
Napi::Value to_js(Napi::Env env, const TokenValue& value);
Napi::Value to_js(Napi::Env env, const GenerateReport& value);
Napi::Value to_js(Napi::Env env, const StepTiming& value);
Napi::Value to_js(Napi::Env env, const HeadErrors& value);
Napi::Value to_js(Napi::Env env, const TailProgress& value);
Napi::Value to_js(Napi::Env env, const std::vector<TailComparison>& value);
Napi::Value to_js(Napi::Env env, const BenchProgress& value);
Napi::Value to_js(Napi::Env env, const std::vector<BenchRow>& value);

}  // namespace scholia
