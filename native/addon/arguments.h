// JS values stop here: arguments become plain C++ values on the JS thread. A wrong one throws a JS
// Error with code invalid_argument that names function, parameter, expectation and value.
#pragma once

#include <napi.h>

#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bench/bench.h"
#include "engine/engine.h"

namespace scholia {

inline constexpr int64_t kMaxInt = std::numeric_limits<int32_t>::max();
inline constexpr int64_t kMaxSafeInteger = (int64_t{1} << 53) - 1;  // of a JS number

// A JS value under the name it has in messages, e.g. "Engine.prefill: tokens".
class Argument {
 public:
  Argument(Napi::Value value, std::string name) : value_(value), name_(std::move(name)) {}

  bool given() const { return !value_.IsUndefined() && !value_.IsNull(); }
  const std::string& name() const { return name_; }

  std::string text() const;
  std::string path() const;  // no NUL, which would cut it short in the system's calls
  bool boolean() const;
  int64_t integer(int64_t min, int64_t max) const;
  double number(double min, double max) const;
  std::vector<int32_t> int32s() const;    // from an Int32Array
  std::vector<uint16_t> uint16s() const;  // from a Uint16Array
  std::vector<float> floats() const;      // from a Float32Array
  Napi::Function function() const;
  Napi::FunctionReference optional_function() const;  // empty when not given
  // The value that goes with the word.
  template <typename T>
  T choice(const std::vector<std::pair<std::string_view, T>>& words) const;
  // The values that go with an array of words.
  template <typename T>
  std::vector<T> choices(const std::vector<std::pair<std::string_view, T>>& words) const;
  std::vector<Argument> array() const;

  // With a default for when the argument is not given.
  bool boolean(bool fallback) const { return given() ? boolean() : fallback; }
  int64_t integer(int64_t min, int64_t max, int64_t fallback) const {
    return given() ? integer(min, max) : fallback;
  }
  double number(double min, double max, double fallback) const {
    return given() ? number(min, max) : fallback;
  }
  template <typename T>
  T choice(const std::vector<std::pair<std::string_view, T>>& words, T fallback) const {
    return given() ? choice(words) : fallback;
  }

  [[noreturn]] void refuse(std::string_view expectation) const;
  const Napi::Value& value() const { return value_; }

 private:
  template <typename Array>
  auto elements(napi_typedarray_type type, std::string_view type_name) const;

  Napi::Value value_;
  std::string name_;
};

// The arguments of one call.
class Arguments {
 public:
  Arguments(const Napi::CallbackInfo& info, std::string function)
      : info_(info), function_(std::move(function)) {}
  Argument get(size_t index, std::string_view name) const {
    return {info_[index], function_ + ": " + std::string(name)};
  }

 private:
  const Napi::CallbackInfo& info_;
  std::string function_;
};

// An object of named settings. A name outside `known` is refused: it would be a typing mistake.
class Options {
 public:
  Options(const Argument& argument, std::initializer_list<std::string_view> known);
  Argument get(std::string_view name) const;

 private:
  Napi::Object object_;  // empty when the argument was not given
  std::string name_;
  Napi::Env env_;
};

EngineConfig engine_config(const Argument& argument);
HeadProfile head_profile(const Argument& argument);
PrefillOptions prefill_options(const Argument& argument);

// What of a StepTrace JS wants to see.
enum class TraceDetail : uint8_t { kNone, kCounts, kMass };

struct DecodeRequest {
  DecodeOptions options;
  TraceDetail trace = TraceDetail::kNone;
};
DecodeRequest decode_request(const Argument& argument);

struct GenerateRequest {
  GenerateOptions options;
  TraceDetail trace = TraceDetail::kNone;
};
GenerateRequest generate_request(const Argument& argument);

struct TimingRequest {
  DecodeOptions options;
  int n_steps = 0;
};
TimingRequest timing_request(const Argument& argument);

struct MeasureRequest {
  int tail_tokens = 0, n_queries = 0;
  std::vector<int32_t> block_tokens, budget_tokens;
};
MeasureRequest measure_request(const Argument& argument);
std::vector<CopiedToken> copied_tokens(const Argument& argument);
// Each a head profile's fields and a decode's.
std::vector<TailMode> tail_modes(const Argument& argument);
BenchOptions bench_options(const Argument& argument);

template <typename T>
T Argument::choice(const std::vector<std::pair<std::string_view, T>>& words) const {
  std::string expectation = "one of";
  const std::string word = value_.IsString() ? text() : "";
  for (const auto& [name, value] : words) {
    if (word == name) return value;
    expectation.append(" \"").append(name).append("\"");
  }
  refuse(expectation);
}

template <typename T>
std::vector<T> Argument::choices(const std::vector<std::pair<std::string_view, T>>& words) const {
  std::vector<T> values;
  for (const Argument& element : array()) values.push_back(element.choice(words));
  return values;
}

}  // namespace scholia
