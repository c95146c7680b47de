// Errors as values. The codes are the same words in contract/errors.ts; a test compares both lists.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <variant>

namespace scholia {

enum class ErrorCode {
  kInvalidArgument,    // a caller's mistake: the message names parameter, expectation and value
  kModelNotFound,      // no file, or not readable
  kModelBroken,        // not a GGUF, cut short, or with sizes that cannot be
  kModelUnsupported,   // an architecture, a tensor type or a shape the engine does not run
  kProfileMismatch,    // a head profile made for another model, or of another shape
  kContextExceeded,    // more tokens than the model's context holds
  kOutOfMemory,        // the KV pool or the workspace is full
  kDiskFull,           // no room to save
  kReadBroken,         // a saved read does not match its checksum, or is cut short
  kCancelled,          // the caller asked to stop
  kDeviceUnavailable,  // the device asked for is not there
  kEngineLost,         // the device or a library died: the process must be started again
  kInternal,           // a defect of ours
};

// The code's word as TypeScript and users see it, e.g. "out_of_memory".
std::string_view error_code_name(ErrorCode code);

struct Error {
  ErrorCode code;
  std::string message;
};

// A value of type T or an Error. Check ok() before value().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return std::holds_alternative<T>(state_); }
  T& value() { return std::get<T>(state_); }
  const T& value() const { return std::get<T>(state_); }
  const Error& error() const { return std::get<Error>(state_); }

 private:
  std::variant<T, Error> state_;
};

// Success or an Error.
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(Error error) : error_(std::move(error)), ok_(false) {}  // NOLINT(google-explicit-constructor)
  bool ok() const { return ok_; }
  const Error& error() const { return error_; }

 private:
  Error error_{};
  bool ok_ = true;
};

}  // namespace scholia
