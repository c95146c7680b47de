#include "addon/arguments.h"

#include <algorithm>
#include <cmath>
#include <sstream>
#include <thread>

#include "addon/js_error.h"

namespace scholia {
namespace {

constexpr size_t kShownCharacters = 60;

// A value as a message shows it: short, and never by calling into JS.
std::string describe(const Napi::Value& value) {
  switch (value.Type()) {
    case napi_undefined:
      return "undefined";
    case napi_null:
      return "null";
    case napi_boolean:
      return value.As<Napi::Boolean>().Value() ? "true" : "false";
    case napi_number: {
      std::ostringstream text;
      text.precision(17);
      text << value.As<Napi::Number>().DoubleValue();
      return "the number " + text.str();
    }
    case napi_string: {
      const std::u16string text = value.As<Napi::String>().Utf16Value();
      const auto shown = Napi::String::New(value.Env(), text.substr(0, kShownCharacters));
      const std::string quoted = '"' + shown.Utf8Value();
      return "the string " + quoted + (text.size() > kShownCharacters ? "…\"" : "\"");
    }
    case napi_function:
      return "a function";
    case napi_symbol:
      return "a symbol";
    case napi_bigint:
      return "a bigint";
    default:
      break;
  }
  if (value.IsArray()) return "an array";
  if (value.IsTypedArray()) return "a typed array of another kind";
  return "an object";
}

std::string bounds(double min, double max) {
  std::ostringstream text;
  text.precision(17);
  text << " from " << min << " to " << max;
  return text.str();
}

const std::vector<std::pair<std::string_view, Mode>> kModes = {{"ab-sparse", Mode::kAbSparse},
                                                               {"dense", Mode::kDense}};
const std::vector<std::pair<std::string_view, TraceDetail>> kTraceDetails = {
    {"none", TraceDetail::kNone}, {"counts", TraceDetail::kCounts}, {"mass", TraceDetail::kMass}};
const std::vector<std::pair<std::string_view, Device>> kDevices = {
    {"auto", Device::kAuto}, {"cpu", Device::kCpu}, {"cuda", Device::kCuda}};
const std::vector<std::pair<std::string_view, DigestKind>> kDigests = {
    {"mean_std", DigestKind::kMeanStd},
    {"quest", DigestKind::kQuest},
    {"arkvale", DigestKind::kArkVale},
    {"mean", DigestKind::kMean},
    {"centroids", DigestKind::kCentroids}};

TraceDetail read_decode_options(const Options& from, DecodeOptions& into) {
  into.mode = from.get("mode").choice(kModes, into.mode);
  into.budget_tokens = int(from.get("budgetTokens").integer(1, kMaxInt, into.budget_tokens));
  const auto trace = from.get("trace").choice(kTraceDetails, TraceDetail::kNone);
  into.trace_mass = trace == TraceDetail::kMass;
  return trace;
}

}  // namespace

void Argument::refuse(std::string_view expectation) const {
  throw js_error(value_.Env(),
                 {ErrorCode::kInvalidArgument,
                  name_ + " must be " + std::string(expectation) + ", but is " + describe(value_)});
}

std::string Argument::text() const {
  if (!value_.IsString()) refuse("a string");
  return value_.As<Napi::String>().Utf8Value();
}

std::string Argument::path() const {
  std::string path = text();
  if (path.empty() || path.find('\0') != std::string::npos) refuse("a path");
  return path;
}

bool Argument::boolean() const {
  if (!value_.IsBoolean()) refuse("true or false");
  return value_.As<Napi::Boolean>().Value();
}

int64_t Argument::integer(int64_t min, int64_t max) const {
  const double number = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(number >= double(min) && number <= double(max)) || number != std::floor(number)) {
    refuse("a whole number" + bounds(double(min), double(max)));
  }
  return int64_t(number);
}

double Argument::number(double min, double max) const {
  const double number = value_.IsNumber() ? value_.As<Napi::Number>().DoubleValue() : std::nan("");
  if (!(number >= min && number <= max)) refuse("a number" + bounds(min, max));
  return number;
}

template <typename Array>
auto Argument::elements(napi_typedarray_type type, std::string_view type_name) const {
  if (!value_.IsTypedArray() || value_.As<Napi::TypedArray>().TypedArrayType() != type) {
    refuse(type_name);
  }
  const auto array = value_.As<Array>();
  const auto* data = array.Data();
  return std::vector(data, data + array.ElementLength());
}

std::vector<int32_t> Argument::int32s() const {
  return elements<Napi::Int32Array>(napi_int32_array, "an Int32Array");
}

std::vector<uint16_t> Argument::uint16s() const {
  return elements<Napi::Uint16Array>(napi_uint16_array, "a Uint16Array");
}

std::vector<float> Argument::floats() const {
  return elements<Napi::Float32Array>(napi_float32_array, "a Float32Array");
}

Napi::Function Argument::function() const {
  if (!value_.IsFunction()) refuse("a function");
  return value_.As<Napi::Function>();
}

Napi::FunctionReference Argument::optional_function() const {
  return given() ? Napi::Persistent(function()) : Napi::FunctionReference();
}

std::vector<Argument> Argument::array() const {
  if (!value_.IsArray()) refuse("an array");
  const auto array = value_.As<Napi::Array>();
  std::vector<Argument> elements;
  for (uint32_t i = 0; i < array.Length(); ++i) {
    elements.emplace_back(array.Get(i), name_ + "[" + std::to_string(i) + "]");
  }
  return elements;
}

Options::Options(const Argument& argument, std::initializer_list<std::string_view> known)
    : name_(argument.name()), env_(argument.value().Env()) {
  if (!argument.given()) return;
  if (!argument.value().IsObject() || argument.value().IsArray() || argument.value().IsFunction()) {
    argument.refuse("an object of options");
  }
  object_ = argument.value().As<Napi::Object>();
  const Napi::Array names = object_.GetPropertyNames();
  for (uint32_t i = 0; i < names.Length(); ++i) {
    const std::string name = names.Get(i).As<Napi::String>().Utf8Value();
    if (std::ranges::find(known, name) != known.end()) continue;
    std::string message = name_ + " has no option \"" + name + "\"; it knows";
    for (const auto& word : known) message.append(" ").append(word);
    throw js_error(env_, {ErrorCode::kInvalidArgument, message});
  }
}

Argument Options::get(std::string_view name) const {
  const auto value = object_.IsEmpty() ? env_.Undefined() : object_.Get(std::string(name));
  return {value, name_ + "." + std::string(name)};
}

EngineConfig engine_config(const Argument& argument) {
  const Options from(argument,
                     {"modelPath", "device", "threads", "chunkTokens", "prefillStepTokens",
                      "kvPoolBytes", "storeDir"});
  EngineConfig config;
  config.model_path = from.get("modelPath").path();
  config.device = from.get("device").choice(kDevices, config.device);
  config.n_threads = int(from.get("threads").integer(0, 4096, 0));
  if (config.n_threads == 0)
    config.n_threads = int(std::max(1U, std::thread::hardware_concurrency()));
  config.chunk_tokens = int(from.get("chunkTokens").integer(1, kMaxInt, config.chunk_tokens));
  config.prefill_step_tokens = int(from.get("prefillStepTokens").integer(0, kMaxInt, 0));
  config.kv_pool_bytes = size_t(from.get("kvPoolBytes").integer(0, kMaxSafeInteger, 0));
  if (from.get("storeDir").given()) config.store_dir = from.get("storeDir").path();
  return config;
}

HeadProfile head_profile(const Argument& argument) {
  if (!argument.given()) argument.refuse("a head profile");
  const Options from(argument, {"modelFingerprint", "digest", "digestBits", "blockTokens",
                                "budgetShare"});
  HeadProfile profile;
  profile.model_fingerprint = from.get("modelFingerprint").text();
  profile.digest.kind = from.get("digest").choice(kDigests);
  profile.digest.bits = uint8_t(from.get("digestBits").integer(2, 16, profile.digest.bits));
  profile.block_tokens = from.get("blockTokens").uint16s();
  profile.budget_share = from.get("budgetShare").floats();
  return profile;
}

PrefillOptions prefill_options(const Argument& argument) {
  const Options from(argument, {"persist", "wantLogits"});
  PrefillOptions options;
  options.persist = from.get("persist").boolean(options.persist);
  options.want_logits = from.get("wantLogits").boolean(options.want_logits);
  return options;
}

DecodeRequest decode_request(const Argument& argument) {
  const Options from(argument, {"mode", "budgetTokens", "trace"});
  DecodeRequest request;
  request.trace = read_decode_options(from, request.options);
  return request;
}

GenerateRequest generate_request(const Argument& argument) {
  const Options from(argument, {"mode", "budgetTokens", "trace", "maxTokens", "temperature", "topK",
                                "topP", "minP", "seed", "keptEverySteps"});
  GenerateRequest request;
  request.trace = read_decode_options(from, request.options.decode);
  request.options.max_tokens =
      int(from.get("maxTokens").integer(1, kMaxInt, request.options.max_tokens));
  request.options.kept_every_steps = int(from.get("keptEverySteps").integer(0, kMaxInt, 0));
  SamplingOptions& sampling = request.options.sampling;
  sampling.temperature = float(from.get("temperature").number(0, 100, sampling.temperature));
  sampling.top_k = int(from.get("topK").integer(0, kMaxInt, sampling.top_k));
  sampling.top_p = float(from.get("topP").number(0, 1, sampling.top_p));
  sampling.min_p = float(from.get("minP").number(0, 1, sampling.min_p));
  sampling.seed =
      uint32_t(from.get("seed").integer(0, std::numeric_limits<uint32_t>::max(), sampling.seed));
  return request;
}

TimingRequest timing_request(const Argument& argument) {
  const Options from(argument, {"mode", "budgetTokens", "steps"});
  TimingRequest request;
  request.options.mode = from.get("mode").choice(kModes, request.options.mode);
  request.options.budget_tokens =
      int(from.get("budgetTokens").integer(1, kMaxInt, request.options.budget_tokens));
  request.n_steps = int(from.get("steps").integer(1, 1000, 8));
  return request;
}

std::vector<CopiedToken> copied_tokens(const Argument& argument) {
  if (!argument.given()) argument.refuse("an object of options");
  const Options from(argument, {"positions", "sources"});
  const std::vector<int32_t> positions = from.get("positions").int32s();
  const std::vector<int32_t> sources = from.get("sources").int32s();
  if (positions.size() != sources.size()) argument.refuse("as many sources as positions");
  std::vector<CopiedToken> copies(positions.size());
  for (size_t i = 0; i < copies.size(); ++i) copies[i] = {positions[i], sources[i]};
  return copies;
}

MeasureRequest measure_request(const Argument& argument) {
  if (!argument.given()) argument.refuse("an object of options");
  const Options from(argument, {"tailTokens", "queries", "blockTokens", "budgetTokens"});
  MeasureRequest request;
  request.tail_tokens = int(from.get("tailTokens").integer(1, kMaxInt));
  request.n_queries = int(from.get("queries").integer(1, kMaxInt));
  request.block_tokens = from.get("blockTokens").int32s();
  request.budget_tokens = from.get("budgetTokens").int32s();
  return request;
}

std::vector<TailMode> tail_modes(const Argument& argument) {
  std::vector<TailMode> modes;
  for (const Argument& mode : argument.array()) {
    const Options from(mode, {"profile", "budgetTokens", "onlyHead"});
    TailMode& added = modes.emplace_back();
    added.profile = head_profile(from.get("profile"));
    added.options.budget_tokens = int(from.get("budgetTokens").integer(1, kMaxInt));
    added.options.only_head = int(from.get("onlyHead").integer(0, kMaxInt, added.options.only_head));
  }
  return modes;
}

BenchOptions bench_options(const Argument& argument) {
  if (!argument.given()) argument.refuse("an object of options");
  const Options from(argument, {"depths", "modes", "budgetTokens", "repetitions", "decodeTokens",
                                "peer", "prefill", "decode"});
  BenchOptions options;
  options.depths = from.get("depths").int32s();
  options.modes = from.get("modes").choices(kModes);
  options.budget_tokens = int(from.get("budgetTokens").integer(1, kMaxInt, options.budget_tokens));
  options.repetitions = int(from.get("repetitions").integer(1, 1000, options.repetitions));
  options.decode_tokens = int(from.get("decodeTokens").integer(1, kMaxInt, options.decode_tokens));
  options.peer = from.get("peer").boolean(options.peer);
  options.prefill = from.get("prefill").boolean(options.prefill);
  options.decode = from.get("decode").boolean(options.decode);
  return options;
}

}  // namespace scholia
